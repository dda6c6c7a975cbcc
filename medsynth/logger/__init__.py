"""Loggers of a run's values: metrics.csv, and W&B, TensorBoard and MLflow beside it."""
