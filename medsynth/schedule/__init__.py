"""Schedules: values as functions of the images seen, for learning rates, penalty weights and the like."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
