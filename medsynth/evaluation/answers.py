"""Answers to questions about a generator: their words, and the correction for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

YES, NO, NOT_SHOWN = "yes", "no", "not shown"


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), in the given order."""
    order = np.argsort(p_values)
    corrected, largest = [1.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        corrected[position] = largest
    return corrected
