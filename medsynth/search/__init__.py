"""Search for good options with Optuna."""
