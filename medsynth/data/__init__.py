"""Real images: sources, splits, caching and the loaders that feed a run. MONAI lives here."""
