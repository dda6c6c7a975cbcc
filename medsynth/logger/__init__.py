"""Where a run's numbers go, beside the run's own folder: the only code that knows W&B, TensorBoard and MLflow."""
