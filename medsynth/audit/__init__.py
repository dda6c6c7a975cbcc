"""Privacy of a generator: copies, membership inference and re-identification of patients, against controls."""
