"""Generators: noise (N, latent_dim) [+ labels (N,)] -> images (N, C, H, W) in [-1, 1]."""

from medsynth.exports import lazy_classes

__getattr__ = lazy_classes(__name__)
