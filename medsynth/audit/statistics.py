"""Tests and intervals of an audit: excess counts in a tail, areas under the curve, groups that are not independent."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import stats as scipy_stats  # pyright: ignore[reportMissingTypeStubs]

from medsynth.contracts import counter_seed
from medsynth.metrics.interval import Estimate
from medsynth.metrics.roc import auc

stats: Any = scipy_stats  # without types

RESAMPLES = 400
FALSE_POSITIVES = 0.01  # false positive rate of the true positive rate that is reported
_TAIL = 0.1  # part of the scores of which the dependence within groups is estimated


@dataclasses.dataclass(frozen=True)
class Excess:
    """The number of scores beyond the ``rank``-th most extreme score of a control, and its probability by chance.

    Attributes:
        count: scores strictly below the threshold.
        threshold: the ``rank``-th lowest score of the control.
        expected: the share that lies below it by chance, ``rank / (controls + 1)``.
        p: probability of as many or more if the scores were exchangeable with the control's.
    """

    count: int
    threshold: float
    expected: float
    p: float


def excess_below(
    scores: np.ndarray,
    control: np.ndarray,
    rank: int,
    *,
    clusters: np.ndarray | None = None,
    control_effect: float = 1.0,
) -> Excess:
    """Test whether more ``scores`` than by chance lie below the ``rank``-th lowest score of the control.

    The count of exchangeable scores is beta-binomial (Wilks 1942, on tolerance limits), whatever their distribution:
    the test knows that the threshold itself is a matter of chance. Scores below it that share a cluster count as few as
    their squares say (sum squared over sum of squares), and the control as ``1 / control_effect`` of its number.

    Args:
        scores: (M,).
        control: (n,), at least ``rank``.
        rank: from 1.
        clusters: (M,), equal for scores that are not independent; None: all are.
        control_effect: design effect of the control, 1 for independent scores.
    """
    threshold = float(np.partition(control, rank - 1)[rank - 1])
    below = scores < threshold
    effect = 1.0 if clusters is None or not below.any() else _crowding(clusters[below])
    count, trials = int(below.sum() / effect), max(round(len(scores) / effect), 1)
    a, b = rank / control_effect, (len(control) + 1 - rank) / control_effect
    p = float(stats.betabinom.sf(count - 1, trials, a, b)) if count else 1.0
    return Excess(int(below.sum()), threshold, rank / (len(control) + 1), p)


def _crowding(clusters: np.ndarray) -> float:
    """Return the mean size of the cluster of a member: sum of squared sizes over the number of members."""
    sizes = np.unique(clusters, return_counts=True)[1]
    return float(np.square(sizes).sum() / sizes.sum())


def design_effect(scores: np.ndarray, groups: np.ndarray | None) -> float:
    """Return how many times larger the variance of a share is for dependence within groups, 1 or more.

    The share is that of the lowest tenth of the scores (N,); groups (N,) are patients; None: there are none.
    """
    if groups is None:
        return 1.0
    below = scores <= np.quantile(scores, _TAIL)
    share = below.mean()
    if not 0 < share < 1:
        return 1.0
    number = np.unique(groups, return_inverse=True)[1]
    surplus = np.bincount(number, below - share)
    return max(float(np.square(surplus).sum() / (len(scores) * share * (1 - share))), 1.0)


def true_positive_rate(members: np.ndarray, others: np.ndarray) -> float:
    """Return the share of members above the score that ``FALSE_POSITIVES`` of the others exceed."""
    allowed = int(FALSE_POSITIVES * len(others))
    return float((members > np.sort(others)[len(others) - 1 - allowed]).mean())


def attack_estimates(
    members: np.ndarray,
    others: np.ndarray,
    *,
    groups: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    seed: int,
) -> tuple[Estimate, Estimate]:
    """Return the area under the curve and the true positive rate with bootstrap intervals over groups.

    The interval of the rate is that of the percentiles; at 0 and 1 its other end is that of Clopper and Pearson.
    """
    random = np.random.default_rng(counter_seed("attack", seed))
    resample = [_Resampling(len(own), own_groups) for own, own_groups in zip((members, others), groups, strict=True)]
    drawn = [
        tuple(scores[draw(random)] for scores, draw in zip((members, others), resample, strict=True))
        for _ in range(RESAMPLES)
    ]
    areas, rates = np.array([auc(*pair) for pair in drawn]), np.array([true_positive_rate(*pair) for pair in drawn])
    area, rate = auc(members, others), true_positive_rate(members, others)
    half = 1.96 * float(areas.std())
    low, high = (float(end) for end in np.quantile(rates, [0.025, 0.975]))
    count = resample[0].count
    if rate == 0:
        high = max(high, float(stats.beta.ppf(0.975, 1, count)))
    if rate == 1:
        low = min(low, float(stats.beta.ppf(0.025, count, 1)))
    return (
        Estimate(area, max(area - half, 0.0), min(area + half, 1.0)),
        Estimate(rate, min(low, rate), max(high, rate)),
    )


class _Resampling:
    """Draws of rows with replacement, whole groups at a time."""

    def __init__(self, rows: int, groups: np.ndarray | None) -> None:
        numbers = np.arange(rows) if groups is None else np.unique(groups, return_inverse=True)[1]
        order = np.argsort(numbers, kind="stable")
        self._members = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
        self.count = len(self._members)

    def __call__(self, random: np.random.Generator) -> np.ndarray:
        chosen = random.integers(self.count, size=self.count)
        return np.concatenate([self._members[number] for number in chosen])


def permutation_p(
    members: np.ndarray,
    others: np.ndarray,
    *,
    groups: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    seed: int,
) -> float:
    """Return the probability of so high an area under the curve if members and others were exchangeable.

    Whole groups change sides at random. The p-value is that of the normal distribution with the standard deviation of
    these permutations, which needs fewer of them than their own share would.
    """
    scores = np.concatenate([members, others])
    ranks = stats.rankdata(scores)
    numbers = _joined_groups(len(members), len(others), groups)
    sizes, sums = np.bincount(numbers), np.bincount(numbers, ranks)
    in_members = np.zeros(len(sizes), dtype=bool)
    in_members[numbers[: len(members)]] = True
    random = np.random.default_rng(counter_seed("permutation", seed))
    areas = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        chosen = random.permutation(in_members)
        count = sizes[chosen].sum()
        rest = len(scores) - count
        areas[number] = (sums[chosen].sum() / count - (count + 1) / 2) / rest if count and rest else 0.5
    return float(stats.norm.sf((auc(members, others) - 0.5) / max(float(areas.std()), 1e-12)))


def _joined_groups(members: int, others: int, groups: tuple[np.ndarray | None, np.ndarray | None]) -> np.ndarray:
    """Return numbers from 0 of the groups of members and others, which share none."""
    first = np.arange(members) if groups[0] is None else np.unique(groups[0], return_inverse=True)[1]
    second = np.arange(others) if groups[1] is None else np.unique(groups[1], return_inverse=True)[1]
    return np.concatenate([first, second + first.max() + 1])


def halves(count: int, groups: np.ndarray | None, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of two random halves; a group stays in one."""
    numbers = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    order = random.permutation(int(numbers.max()) + 1)
    size = np.cumsum(np.bincount(numbers)[order])
    first = np.isin(numbers, order[size <= max(count // 2, size[0])])
    return np.flatnonzero(first), np.flatnonzero(~first)
