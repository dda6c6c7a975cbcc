"""Model card, bundles and exchange formats of a run's generator: what is given away."""
