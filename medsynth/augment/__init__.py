"""Differentiable augmentations inside the step, the same for real and generated images; not transforms of the data."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
