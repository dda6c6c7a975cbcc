"""Discriminators: a frozen part (features) and a trained part (head): images -> features -> logits (N, K)."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
