"""Backbones: timm, and nothing but timm. Images (N, C, H, W) in [-1, 1] -> pooled features (N, num_features)."""
