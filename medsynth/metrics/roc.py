"""The area under the receiver operating characteristic (AUC) of scores, and its variance."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats as scipy_stats  # pyright: ignore[reportMissingTypeStubs]

stats: Any = scipy_stats  # without types


def auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Return the probability that a positive has the higher score, ties as one half (Mann and Whitney 1947).

    Args:
        positives: scores (N,).
        negatives: scores (M,).
    """
    ranks = stats.rankdata(np.concatenate([positives, negatives]))
    count = len(positives)
    return float((ranks[:count].sum() / count - (count + 1) / 2) / len(negatives))


def auc_variance(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Return the variance of the AUC by the placements of each score among the other side's (DeLong et al. 1988)."""
    ranks = stats.rankdata(np.concatenate([positives, negatives]))
    of_positives = (ranks[: len(positives)] - stats.rankdata(positives)) / len(negatives)
    of_negatives = (ranks[len(positives) :] - stats.rankdata(negatives)) / len(positives)
    return float(np.var(of_positives, ddof=1) / len(positives) + np.var(of_negatives, ddof=1) / len(negatives))
