"""Percentiles of more values than are to be in memory at the same time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

_HALF = 16  # bits of a float32's upper and lower half


def percentiles(parts: Callable[[], Iterable[np.ndarray]], count: int, percents: Sequence[float]) -> list[float]:
    """Return percentiles as ``np.percentile`` does, in two passes over the values and 1 MiB of memory.

    The bits of float32, read as an integer, are in the order of the values (negative ones reversed). So a histogram of
    their upper halves finds the half of each wanted value, and one of the lower halves below it finds the other.

    Args:
        parts: returns all values anew: finite, float32, in arrays of any shape.
        count: number of all values.
        percents: from 0 to 100.
    """
    places = [(count - 1) * percent / 100 for percent in percents]
    ranks = sorted({rank for place in places for rank in (math.floor(place), math.ceil(place))})
    upper = np.zeros(2**_HALF, np.int64)
    for keys in map(_keys, parts()):
        upper += np.bincount(keys >> _HALF, minlength=2**_HALF)
    cumulative = np.cumsum(upper)
    half_of = {rank: int(np.searchsorted(cumulative, rank, side="right")) for rank in ranks}
    lower = {half: np.zeros(2**_HALF, np.int64) for half in half_of.values()}
    for keys in map(_keys, parts()):
        for half, counts in lower.items():
            counts += np.bincount(keys[keys >> _HALF == half] & (2**_HALF - 1), minlength=2**_HALF)
    values = {}
    for rank, half in half_of.items():
        before = int(cumulative[half] - upper[half])
        rest = int(np.searchsorted(np.cumsum(lower[half]), rank - before, side="right"))
        values[rank] = _value(half << _HALF | rest)
    return [_between(values[math.floor(place)], values[math.ceil(place)], place % 1) for place in places]


def _keys(values: np.ndarray) -> np.ndarray:
    """Return integers (N,) in the order of the values: all bits reversed for negative ones, else the first one."""
    bits = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)
    return bits ^ np.where(bits >> 31, np.uint32(2**32 - 1), np.uint32(2**31))


def _value(key: int) -> float:
    bits = key ^ (2**31 if key >> 31 else 2**32 - 1)
    return float(np.array(bits, np.uint32).view(np.float32))


def _between(low: float, high: float, part: float) -> float:
    return low + (high - low) * part
