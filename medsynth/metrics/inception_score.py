"""The inception score: confidence of a classifier on each image, and diversity of classes over all images."""

from __future__ import annotations

import itertools

import numpy as np

from medsynth.contracts import counter_seed
from medsynth.metrics.interval import Estimate, Z

RESAMPLES = 200


def inception_score_of_splits(logits: np.ndarray, *, splits: int, seed: int) -> tuple[float, float]:
    """Compute mean and standard deviation over random splits of the images (Salimans et al. 2016).

    exp(mean KL(p(y|x) || p(y))), from 1 to the number of classes. Logits are (N, classes); there are
    no more splits than images.
    """
    log_probabilities = _log_softmax(logits)
    order = np.random.default_rng(counter_seed("inception_score", seed)).permutation(len(logits))
    splits = min(splits, len(logits))
    bounds = [number * len(logits) // splits for number in range(splits + 1)]  # as torch-fidelity divides them
    scores = [_score(log_probabilities[order[low:high]]) for low, high in itertools.pairwise(bounds)]
    return float(np.mean(scores)), float(np.std(scores))


def inception_score(logits: np.ndarray, *, splits: int, seed: int) -> Estimate:
    """Compute the mean over splits, with an interval by the bootstrap of the score of all images."""
    value, _ = inception_score_of_splits(logits, splits=splits, seed=seed)
    log_probabilities = _log_softmax(logits)
    probabilities = np.exp(log_probabilities)
    count, entropies = len(logits), (probabilities * log_probabilities).sum(1)
    rng = np.random.default_rng(counter_seed("inception_score_bootstrap", seed))
    # How often each image is drawn, instead of the draws: one product for all resamples.
    weights = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
    means = weights @ probabilities
    scores = np.exp(weights @ entropies - (means * np.log(means.clip(1e-300))).sum(1))
    error = float(np.std(scores, ddof=1))
    return Estimate(value, max(value - Z * error, 1.0), value + Z * error)


def _score(log_probabilities: np.ndarray) -> float:
    probabilities = np.exp(log_probabilities)
    mean = probabilities.mean(0)
    entropy = (probabilities * log_probabilities).sum(1).mean()
    return float(np.exp(entropy - (mean * np.log(mean.clip(1e-300))).sum()))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
