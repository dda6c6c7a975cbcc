"""Fréchet distance of two sets of features, as between two Gaussians (Heusel et al. 2017, eq. 6; Dowson, Landau 1982).

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2 S1^1/2)^1/2

The square root's trace is the sum of the roots of eigenvalues: two symmetric eigenvalue problems, and no matrix square
root of a product that is not symmetric, which is slow and may come out complex.
"""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np

from medsynth.metrics.interval import Estimate, distance_interval

_BLOCK = 4096  # rows at a time, so that memory does not grow with their number
_NEGLIGIBLE = 1e-10  # of the largest eigenvalue: below lies what rounding leaves of 0


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Mean (d,) and unbiased covariance (d, d), float64, of ``count`` features."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int


class GaussianSum:
    """Mean and covariance of features that arrive in batches; memory depends on d alone.

    The result depends neither on the batches nor on their order, up to rounding in float64.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean, self._scatter = np.zeros(()), np.zeros(())

    def update(self, features: np.ndarray) -> None:
        """Take in features (N, d)."""
        features = np.asarray(features, dtype=np.float64)
        if not len(features):
            return
        mean = features.mean(0)
        centered = features - mean
        self._add(len(features), mean, centered.T @ centered)

    def merge(self, other: Self) -> None:
        """Take in the features of another sum."""
        if other.count:
            self._add(other.count, other._mean, other._scatter)

    def result(self) -> Gaussian:
        """Return mean and covariance; at least two features are needed."""
        assert self.count >= 2
        return Gaussian(self._mean, self._scatter / (self.count - 1), self.count)

    def _add(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if not self.count:
            self.count, self._mean, self._scatter = count, mean.copy(), scatter.copy()
            return
        # Chan, Golub, LeVeque 1979: sums of squares around the common mean, without the loss of digits of raw moments.
        total, apart = self.count + count, mean - self._mean
        self._scatter += scatter + np.outer(apart, apart) * (self.count * count / total)
        self._mean = self._mean + apart * (count / total)
        self.count = total


def gaussian(features: np.ndarray) -> Gaussian:
    """Compute mean and covariance of features (N, d), which may be mapped from a file."""
    total = GaussianSum()
    for start in range(0, len(features), _BLOCK):
        total.update(features[start : start + _BLOCK])
    return total.result()


def frechet_distance(real: Gaussian, fake: Gaussian) -> float:
    """Compute the squared distance, as in FID; never negative."""
    eigenvalues, vectors = np.linalg.eigh(real.covariance)
    root = (vectors * np.sqrt(eigenvalues.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ fake.covariance @ root).clip(0)).sum()
    return _distance(real, fake, cross)


def frechet(real: np.ndarray, fake: np.ndarray) -> Estimate:
    """Compute the distance of features (N, d) and (M, d), with an interval for its mean at these N and M.

    The interval is that of the infinitesimal jackknife (Jaeckel 1972), to which the bootstrap's standard error tends
    (Efron 2014): the variance of the images' influences on the distance. It says nothing of the bias by small
    N, which is why distances compare at the same N alone.

    Where there are fewer images than features, all is done in the space that the images span, which is exact.
    """
    real, fake = _in_span(real, fake)
    one, two = gaussian(real), gaussian(fake)
    forward, backward, cross = _transport(one.covariance, two.covariance)
    value = _distance(one, two, cross)
    variance = _variance(real, one, two.mean, forward) + _variance(fake, two, one.mean, backward)
    interval = distance_interval(value, variance, growing=variance)
    return Estimate(value, max(interval.low, 0.0), interval.high)


def frechet_value(real: np.ndarray, fake: np.ndarray) -> float:
    """Compute the distance of features (N, d) and (M, d) without an interval, which takes less time.

    The trace of the root is the sum of the singular values of the cross products of the centered features, the smaller
    problem where one side has fewer images than features.
    """
    if min(len(real), len(fake)) >= real.shape[1]:
        return frechet_distance(gaussian(real), gaussian(fake))
    x, y = (np.asarray(rows, dtype=np.float64) for rows in (real, fake))
    apart = x.mean(0) - y.mean(0)
    x, y = x - x.mean(0), y - y.mean(0)
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum() / ((len(x) - 1) * (len(y) - 1)) ** 0.5
    traces = np.square(x).sum() / (len(x) - 1) + np.square(y).sum() / (len(y) - 1)
    return max(float(apart @ apart + traces - 2 * cross), 0.0)


def _distance(real: Gaussian, fake: Gaussian, cross: float) -> float:
    """Compute the squared distance; ``cross`` is the trace of the square root."""
    apart = real.mean - fake.mean
    return max(float(apart @ apart + np.trace(real.covariance) + np.trace(fake.covariance) - 2 * cross), 0.0)


def _transport(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Compute the optimal linear maps from N(0, first) to N(0, second) and back (Olkin, Pukelsheim 1982).

    The third result is the trace of (first^1/2 second first^1/2)^1/2.
    """
    eigenvalues, vectors = np.linalg.eigh(first)
    roots = np.sqrt(eigenvalues.clip(0))
    inverse = np.where(eigenvalues > _NEGLIGIBLE * eigenvalues.max(initial=0), 1 / np.where(roots > 0, roots, 1), 0)
    root = (vectors * roots) @ vectors.T
    inverse_root = (vectors * inverse) @ vectors.T
    middle_values, middle = np.linalg.eigh(root @ second @ root)
    middle_roots = np.sqrt(middle_values.clip(0))
    large = middle_values > _NEGLIGIBLE * middle_values.max(initial=0)
    middle_inverse = np.where(large, 1 / np.where(middle_roots > 0, middle_roots, 1), 0)
    forward = inverse_root @ (middle * middle_roots) @ middle.T @ inverse_root
    backward = root @ (middle * middle_inverse) @ middle.T @ root
    return forward, backward, float(middle_roots.sum())


def _variance(features: np.ndarray, own: Gaussian, other_mean: np.ndarray, transport: np.ndarray) -> float:
    """Compute the variance of the distance by the sampling of this side.

    The distance's derivative is 2 (m1 - m2) with respect to the mean and 1 - T with respect to the covariance, with T
    the transport to the other side.
    """
    gradient = np.eye(len(transport)) - transport
    influences = np.empty(len(features))
    for start in range(0, len(features), _BLOCK):
        centered = np.asarray(features[start : start + _BLOCK], dtype=np.float64) - own.mean
        quadratic = np.einsum("nd,nd->n", centered @ gradient, centered)
        influences[start : start + _BLOCK] = quadratic + 2 * centered @ (own.mean - other_mean)
    return float(influences.var(ddof=1) / len(features))


def _in_span(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project on an orthonormal basis of the space that the images span, if they are fewer than the features."""
    if len(real) + len(fake) >= real.shape[1]:
        return real, fake
    rows = np.concatenate([real, fake]).astype(np.float64)
    rows -= rows.mean(0)
    basis = np.linalg.qr(rows.T)[0]
    coordinates = rows @ basis
    return coordinates[: len(real)], coordinates[len(real) :]
