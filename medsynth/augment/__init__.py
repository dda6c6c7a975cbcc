"""Differentiable augmentations inside the step, the same for real and generated images; not transforms of the data."""
