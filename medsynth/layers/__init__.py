"""Layers that generators and discriminators share."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
