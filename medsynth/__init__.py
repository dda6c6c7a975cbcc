"""medsynth: config-driven training of GANs that synthesize medical images."""

__version__ = "0.1.0"
