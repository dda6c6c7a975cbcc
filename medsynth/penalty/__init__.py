"""Penalties of the discriminator, with respect to what its head sees: images, or features of a frozen backbone."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
