"""Generators: noise (N, latent_dim) [+ labels (N,)] -> images (N, C, H, W) in [-1, 1]."""
