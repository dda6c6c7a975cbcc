"""Search for the nearest rows of another set by cosine, in blocks whose memory does not grow with the sets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

_BLOCK = 1024  # rows and columns of a matrix of cosines at a time
_REFINED = 64  # rows at a time whose distances are computed again in float64
_SPARE = 3  # candidates beyond those asked for, since float32 may order near ones wrongly


def nearest(features: np.ndarray, others: np.ndarray, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``count`` rows of ``others`` (M, d) with the least cosine distance 1 - abs(cos) to each row.

    Rows of zeros are at distance 1. The search is in float32, the distances of what it finds are in float64.

    Args:
        features: (N, d).
        others: (M, d); fewer than ``count`` give as many as there are.
        count: how many.

    Returns:
        Distances float64 (N, count), ascending, and row numbers int64 (N, count).
    """
    count = min(count, len(others))
    distances, rows = np.empty((len(features), count)), np.empty((len(features), count), dtype=np.int64)
    for part, x in _blocks(features, torch.float32):
        found = _candidates(x, others, min(count + _SPARE, len(others)))
        for first in range(0, len(found), _REFINED):
            chosen = slice(first, first + _REFINED)
            inside = slice(part.start + first, min(part.start + first + _REFINED, part.stop))
            exact = _distances(features[inside], others, found[chosen])
            order = np.argsort(exact, axis=1, kind="stable")[:, :count]
            distances[inside] = np.take_along_axis(exact, order, 1)
            rows[inside] = np.take_along_axis(found[chosen], order, 1)
    return distances, rows


def _candidates(x: Tensor, others: np.ndarray, count: int) -> np.ndarray:
    """Return the rows with the greatest abs(cos) to each of ``x`` (n, d), by float32: int64 (n, count)."""
    best, rows = torch.full((len(x), 0), -1.0), torch.zeros((len(x), 0), dtype=torch.int64)
    for part, y in _blocks(others, torch.float32):
        cosines = (x @ y.T).abs_()
        values, found = cosines.topk(min(count, cosines.shape[1]), dim=1)
        best, rows = torch.cat([best, values], 1), torch.cat([rows, found + part.start], 1)
        best, kept = best.topk(min(count, best.shape[1]), dim=1)
        rows = rows.gather(1, kept)
    return rows.numpy()


def _distances(features: np.ndarray, others: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the distances float64 (n, k) of features (n, d) to the rows (n, k) of ``others``."""
    x = normalize(torch.as_tensor(np.array(features, dtype=np.float64)), dim=1, eps=1e-300)
    y = normalize(torch.as_tensor(np.array(others[rows], dtype=np.float64)), dim=2, eps=1e-300)
    return 1 - (y @ x[:, :, None]).squeeze(2).abs_().clamp_(max=1).numpy()


def _blocks(features: np.ndarray, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of rows, and these rows scaled to length 1."""
    for first in range(0, len(features), _BLOCK):
        rows = slice(first, min(first + _BLOCK, len(features)))
        block = torch.as_tensor(np.array(features[rows], dtype=np.float64))
        yield rows, normalize(block, dim=1, eps=1e-300).to(dtype)
