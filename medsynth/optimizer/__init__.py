"""Optimizers that PyTorch does not have: parameters and gradients -> updates."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
