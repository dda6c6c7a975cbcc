"""Standardization of features for classifiers that are taught on some images and asked about others."""

from __future__ import annotations

import numpy as np


class Standardization:
    """Features less the mean of known rows, divided by their standard deviation; those that do not vary are left out.

    Args:
        rows: features (N, d).
    """

    def __init__(self, rows: np.ndarray) -> None:
        rows = rows.astype(np.float64)
        mean, spread = rows.mean(axis=0), rows.std(axis=0)
        self._kept = spread > 1e-9 * max(float(spread.max()), 1e-300)
        self._mean, self._spread = mean[self._kept], spread[self._kept]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return standardized features (M, k), float64."""
        return (rows[:, self._kept].astype(np.float64) - self._mean) / self._spread
