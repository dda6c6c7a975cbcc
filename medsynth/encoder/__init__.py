"""Encoders: images -> mean and log variance of the noise that a generator makes them from."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
