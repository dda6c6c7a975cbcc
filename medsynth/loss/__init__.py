"""Adversarial losses: logits -> scalar, for each player. Every class has the same two methods."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
