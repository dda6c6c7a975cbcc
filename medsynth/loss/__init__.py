"""Adversarial losses: logits (N, K) -> scalar, with one method for each of the two networks."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
