"""Reconstruction terms: (output, target, mask, source) -> scalar, the distance of a translation from its target."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
