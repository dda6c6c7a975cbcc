"""Signals of the course of the training between two validations: losses, logits and gradient norms of the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

_FEWEST = 24  # steps that a course is described from
_FENCE = 3.0  # robust standard deviations beyond which a value is an outlier
_SMOOTH = 5  # steps of a running median
_POINTS = 128  # means over the course that slope and autocorrelation are taken of

STEP_VALUES = (
    "discriminator_loss",
    "generator_loss",
    "discriminator_gradient_norm",
    "generator_gradient_norm",
    "real_logits",
    "fake_logits",
)


def course_signals(steps: Mapping[str, Sequence[float]], earlier: Mapping[str, float]) -> dict[str, float]:
    """Describe the steps since the last validation.

    * ``generator_gradient``, ``discriminator_gradient``: log2 of the median gradient norm over its ``typical`` value;
    * ``gap``: mean of real minus generated logits of the steps;
    * ``gap_variation``: standard deviation of that over the steps, relative to its size and at least 1;
    * ``generator_slope``, ``discriminator_slope``: change of the loss over the course, in standard deviations around
      its line, outliers left out;
    * ``oscillation``: the highest autocorrelation of the generator's loss beyond its first zero, outliers left out and
      the line taken off: near 1 where the networks circle around each other;
    * ``roughness``: standard deviation of the generator's loss around its line, over its median size;
    * ``generator_loss``, ``discriminator_loss``, ``real_logits``, ``fake_logits``: medians.

    Args:
        steps: the values of ``STEP_VALUES``, one for each step.
        earlier: the ``typical`` gradient norms at the beginning of the training.
    """
    known = {name: _without_outliers(np.asarray(steps.get(name, ()), dtype=float)) for name in STEP_VALUES}
    signals: dict[str, float] = {}
    for network in ("generator", "discriminator"):
        norms, loss = known[f"{network}_gradient_norm"], known[f"{network}_loss"]
        before = earlier.get(f"{network}_gradient_norm", 0.0)
        if len(norms) and before > 0:
            signals[f"{network}_gradient"] = float(np.log2((np.median(norms) + 1e-12) / before))
        if len(loss) >= _FEWEST:
            signals[f"{network}_slope"] = _slope(loss)
    for name in ("generator_loss", "discriminator_loss", "real_logits", "fake_logits"):
        if len(known[name]):
            signals[name] = float(np.median(known[name]))
    loss, gap = known["generator_loss"], _gap(steps)
    if len(loss) >= _FEWEST:
        signals["oscillation"] = _oscillation(loss)
        signals["roughness"] = float(_residuals(loss).std() / (np.median(np.abs(loss)) + 1e-3))
    if len(gap) >= _FEWEST:
        signals["gap"] = float(gap.mean())
        signals["gap_variation"] = float(gap.std() / max(abs(float(gap.mean())), 1.0))
    return signals


def typical(steps: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median gradient norms of the steps, with which later ones are compared."""
    names = [name for name in STEP_VALUES if name.endswith("gradient_norm") and len(steps.get(name, ()))]
    return {name: float(np.median(np.asarray(steps[name], dtype=float))) for name in names}


def _gap(steps: Mapping[str, Sequence[float]]) -> np.ndarray:
    real, fake = (np.asarray(steps.get(name, ()), dtype=float) for name in ("real_logits", "fake_logits"))
    return real - fake if len(real) == len(fake) else np.empty(0)


def _without_outliers(values: np.ndarray) -> np.ndarray:
    """Leave out values far from the running median, by the median absolute deviation (Hampel 1974)."""
    values = values[np.isfinite(values)]
    if len(values) < _FEWEST:
        return values
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, _SMOOTH // 2, mode="reflect"), _SMOOTH)
    away = np.abs(values - np.median(windows, axis=1))
    scale = 1.4826 * np.median(np.abs(values - np.median(values)))
    return values[away <= _FENCE * scale] if scale > 0 else values


def _points(values: np.ndarray) -> np.ndarray:
    parts = np.array_split(values, min(len(values), _POINTS))
    return np.array([part.mean() for part in parts])


def _line(values: np.ndarray) -> np.ndarray:
    position = np.arange(len(values))
    return np.polyval(np.polyfit(position, values, 1), position)


def _residuals(values: np.ndarray) -> np.ndarray:
    return values - _line(values)


def _slope(values: np.ndarray) -> float:
    points = _points(values)
    line = _line(points)
    return float((line[-1] - line[0]) / ((points - line).std() + 1e-6))


def _oscillation(values: np.ndarray) -> float:
    residuals = _residuals(_points(values))
    power = float((residuals**2).sum())
    if power <= 0:
        return 0.0
    correlation = np.correlate(residuals, residuals, mode="full")[len(residuals) - 1 :] / power
    beyond = correlation[: len(correlation) // 2 + 1]
    zeros = np.flatnonzero(beyond < 0)
    return float(max(beyond[zeros[0] :].max(), 0.0)) if len(zeros) else 0.0
