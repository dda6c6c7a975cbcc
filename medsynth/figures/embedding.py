"""Features of real and generated images in two dimensions, fitted to both together."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import Any, cast

import numpy as np

PCA, UMAP = "PCA", "UMAP"
_NEIGHBORS = 15  # of a point, umap-learn's default


def methods() -> tuple[str, ...]:
    """Return the methods that can be used: PCA, and UMAP where the package umap-learn is installed."""
    return (PCA, UMAP) if importlib.util.find_spec("umap") else (PCA,)


def embed(real: np.ndarray, fake: np.ndarray, method: str, *, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return coordinates (N, 2) and (M, 2) of features (N, d) and (M, d), and a sentence about the axes.

    Columns are standardized by the real images first, so that no unit of a feature counts more than another.
    """
    both = _standardized(real, fake)
    if both.shape[1] == 0:
        return np.zeros((len(real), 2)), np.zeros((len(fake), 2)), "The features of all real images are equal."
    points, axes = _umap(both, seed) if method == UMAP else _pca(both)
    return points[: len(real)], points[len(real) :], axes


def _standardized(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    mean, spread = real.mean(0, dtype=np.float64), real.std(0, dtype=np.float64)
    varies = spread > 1e-6 * max(float(spread.max()), 1e-12)
    return (np.concatenate([real, fake])[:, varies] - mean[varies]) / spread[varies]


def _pca(rows: np.ndarray) -> tuple[np.ndarray, str]:
    """Project onto the first two principal components; the sign of each is that its largest loading is positive."""
    centered = rows - rows.mean(0)
    _, singular, components = np.linalg.svd(centered, full_matrices=False)
    chosen = np.zeros((2, rows.shape[1]))
    chosen[: len(components[:2])] = components[:2]
    chosen *= np.sign(chosen[np.arange(2), np.abs(chosen).argmax(1)])[:, None]
    power = singular**2 / max(float((singular**2).sum()), 1e-12)
    first, second = (*power[:2], 0.0, 0.0)[:2]
    return centered @ chosen.T, f"The two axes hold {first:.0%} and {second:.0%} of the variance."


def _umap(rows: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # that a part of it, which is not used here, needs Tensorflow
        umap = cast(Any, importlib.import_module("umap"))
    reducer = umap.UMAP(
        n_components=2,
        n_neighbors=min(_NEIGHBORS, len(rows) - 1),
        init="spectral" if len(rows) > _NEIGHBORS else "random",  # of few points there are too few eigenvectors
        random_state=seed,
        n_jobs=1,  # which the seed needs
    )
    points = reducer.fit_transform(rows)
    return np.asarray(points, dtype=np.float64), "Distances between far points and the axes have no meaning."
