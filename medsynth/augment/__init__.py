"""Differentiable augmentations of real and generated images inside the training step."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
