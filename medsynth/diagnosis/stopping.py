"""The decision to end a training before its time."""

from __future__ import annotations

from collections.abc import Sequence

from medsynth.diagnosis.rules import Row

_PATIENCE = 0.2  # of the images seen, without a better validation
_RISE = 0.1  # log2 of the objective for each doubling of the images, from which on it rises
_FEWEST = 7  # validations before a training may be ended


def worth_continuing(rows: Sequence[Row]) -> bool:
    """Tell whether more images are likely to improve the monitored objective.

    They are not where the best validation lies further back than 20 % of the images seen, and the line through the
    second half of the validations (``history.doubling``) rises.
    """
    if len(rows) < _FEWEST:
        return True
    signals = rows[-1]["signals"]
    return signals.get("history.since_best", 0.0) < _PATIENCE or signals.get("history.doubling", 0.0) > -_RISE
