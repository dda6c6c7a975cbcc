"""Evaluation of generated images against real ones, for Python programs and for ``medsynth evaluate``."""
