"""Layers before a discriminator's logit that compare the images of a batch: features -> features and statistics."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
