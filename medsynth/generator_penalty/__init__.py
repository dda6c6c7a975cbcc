"""Penalties of the generator: terms of its loss beside that of the discriminator's logits."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
