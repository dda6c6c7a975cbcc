"""The doctor: signals of images, features, logits and of the course of a training, and the findings that follow."""
