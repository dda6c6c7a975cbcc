"""Signals of several validations: the best so far, and the slope of the objective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FEWEST = 4  # validations of a slope


def history_signals(images_seen: int, objective: float, earlier: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Describe the monitored objective, lower is better, over the validations so far.

    * ``history.worse``: log2 of the objective over the best so far: 1 is twice as large;
    * ``history.since_best``: share of the images seen that came after the best;
    * ``history.doubling``: log2 by which the objective falls each time that the images seen double, from a line through
      the second half of the validations (Hestness et al. 2017 found such power laws): what training as long again
      would gain. Negative where the objective rises.

    Args:
        images_seen: by the discriminator, at this validation.
        objective: at this validation.
        earlier: the rows of the validations before.
    """
    points = [(row["images_seen"], row["signals"].get("objective", math.nan)) for row in earlier]
    known = [(x, y) for x, y in [*points, (images_seen, objective)] if math.isfinite(y) and y > 0 and x > 0]
    if not known or not math.isfinite(objective) or objective <= 0:
        return {}
    best_at, best = min(known, key=lambda point: point[1])
    signals = {
        "history.worse": math.log2(objective / best),
        "history.since_best": (images_seen - best_at) / images_seen,
    }
    half = known[len(known) // 2 :] if len(known) >= 2 * _FEWEST else known[-_FEWEST:]
    if len(half) >= _FEWEST:
        x, y = np.log2([point[0] for point in half]), np.log2([point[1] for point in half])
        signals["history.doubling"] = -float(np.polyfit(x, y, 1)[0])
    return signals
