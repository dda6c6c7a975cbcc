"""Penalties of the discriminator, on the inputs of its head (images, or features of a frozen backbone) or on logits."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
