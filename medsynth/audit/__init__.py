"""Privacy of a generator: copies of training images, membership inference, re-identification of patients, against controls."""
