"""Copies of training images among generated ones, by distances that held-out real images calibrate."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping

import numpy as np

from medsynth.audit.measures import AuditMeasure
from medsynth.audit.spaces import PIXELS, Nearness
from medsynth.audit.statistics import Excess, design_effect, excess_below, halves, stats
from medsynth.contracts import counter_seed
from medsynth.metrics.interval import Estimate, share_interval

FALSE_ALARMS = 0.01  # of held-out images that are flagged, all spaces together
CONFIDENCE = 0.8  # with which no more than these are flagged among new images, whatever the held-out ones are
POWER = 0.8  # probability with which the smallest share of copies that is reported would have been found
_SPLITS = 20  # random halves of the held-out images for the control
_RULE = (
    "Flagged: so near to a training image, in aligned pixels or a feature space, that at most 1 % of new images are, "
    "with confidence 0.8 by held-out images (and patients). Control: held-out images by other held-out images. It "
    "counts where more are flagged than exchangeable images would be (beta-binomial, Bonferroni over spaces)."
)


@dataclasses.dataclass(frozen=True)
class Copies:
    """Copies among the generated images.

    Attributes:
        measure: the share of flagged images, against that of held-out ones.
        of_spaces: the tests in each space, by its name, at the threshold of a single false alarm and at that of 1 %.
        flagged: bool (M,).
        smallest_share: of copies, changed as the planted ones, that would have been found in this number of images
            with a probability of 0.8; above 1: none would.
        recall: the share of planted copies that is flagged.
    """

    measure: AuditMeasure
    of_spaces: dict[str, tuple[Excess, Excess]]
    flagged: np.ndarray
    smallest_share: float
    recall: Estimate


def find_copies(
    fake: Mapping[str, Nearness],
    held_out: Mapping[str, Nearness],
    planted: Mapping[str, Nearness],
    *,
    groups: np.ndarray | None,
    level: float,
    seed: int,
) -> Copies:
    """Flag generated images that are nearer to a training image than held-out ones are.

    Args:
        fake: nearness of generated images to the training images, by space.
        held_out: the same of held-out real images.
        planted: the same of planted copies.
        groups: int64 (n,), patients of the held-out images; None: not known.
        level: error of the test for which the smallest share of copies is computed.
        seed: of the control's random halves.
    """
    names = list(fake)
    controls = {name: held_out[name].score for name in names}
    ranks, effects = _ranks(controls, groups), {name: design_effect(controls[name], groups) for name in names}
    tests = {
        name: (
            _test(fake[name], controls[name], 1, effects[name]),
            _test(fake[name], controls[name], rank, effects[name]),
        )
        for name, rank in ranks.items()
    }
    flagged = _flagged({name: fake[name].score for name in names}, controls, ranks)
    found = _flagged({name: planted[name].score for name in names}, controls, ranks)
    p = min(1.0, 2 * len(names) * min(test.p for pair in tests.values() for test in pair))
    control, num_control = _control(controls, groups, seed)
    estimate = _share_flagged(flagged, fake[PIXELS].row)
    measure = AuditMeasure("copies", estimate, control, len(flagged), num_control, p, "copies", _RULE)
    return Copies(
        measure,
        tests,
        flagged,
        _smallest_share(planted, controls, ranks, effects, count=len(flagged), level=level / (2 * len(names))),
        share_interval(float(found.mean()), len(found), float(found.mean() * (1 - found.mean()) / len(found))),
    )


def _share_flagged(flagged: np.ndarray, rows: np.ndarray) -> Estimate:
    """Return the share of flagged images (M,), with an interval as of one image for each training image in ``rows``."""
    clusters = rows[flagged]
    crowding = len(clusters) / len(np.unique(clusters)) if len(clusters) else 1.0
    share = float(flagged.mean())
    return share_interval(share, len(flagged), crowding * share * (1 - share) / len(flagged))


def _test(fake: Nearness, control: np.ndarray, rank: int, effect: float) -> Excess:
    return excess_below(fake.score, control, rank, clusters=fake.row, control_effect=effect)


def _ranks(controls: Mapping[str, np.ndarray], groups: np.ndarray | None) -> dict[str, int]:
    """Return the ranks of the held-out scores that are the thresholds: half of the false alarms are for the pixels.

    The rank counts patients where they are known: as many of them as are allowed have images below the threshold.
    """
    others = len(controls) - 1
    ranks: dict[str, int] = {}
    for name, scores in controls.items():
        part = FALSE_ALARMS / (2 if name == PIXELS and others else 2 * others if others else 1)
        if groups is None:
            ranks[name] = _rank(part, len(scores))
            continue
        order = np.argsort(scores, kind="stable")
        first = np.sort(np.unique(groups[order], return_index=True)[1])  # ranks of each patient's nearest image
        ranks[name] = min(int(first[_rank(part, len(first)) - 1]) + 1, _rank(part, len(scores)))
    return ranks


def _rank(part: float, count: int) -> int:
    """Return the highest rank among ``count`` scores below which ``part`` of new ones lie at most, with confidence.

    That part is a beta variable (Wilks 1942); the lowest rank is 1, whatever the confidence there is.
    """
    rank = 1
    while rank < count and stats.beta.cdf(part, rank + 1, count - rank) >= CONFIDENCE:
        rank += 1
    return rank


def _flagged(
    scores: Mapping[str, np.ndarray], controls: Mapping[str, np.ndarray], ranks: Mapping[str, int]
) -> np.ndarray:
    """Tell which images lie below the threshold of any space: bool (N,)."""
    below = [scores[name] < np.partition(controls[name], rank - 1)[rank - 1] for name, rank in ranks.items()]
    return np.any(below, axis=0)


def _control(controls: Mapping[str, np.ndarray], groups: np.ndarray | None, seed: int) -> tuple[Estimate, int]:
    """Return the share of one half of the held-out images that a threshold of the other half flags, and the half."""
    random = np.random.default_rng(counter_seed("halves", seed))
    count = len(next(iter(controls.values())))
    shares: list[float] = []
    for _ in range(_SPLITS):
        for own, other in (pair := halves(count, groups, random)), pair[::-1]:
            if not len(own) or not len(other):
                continue
            theirs = {name: scores[other] for name, scores in controls.items()}
            ranks = _ranks(theirs, None if groups is None else groups[other])
            shares.append(float(_flagged({name: s[own] for name, s in controls.items()}, theirs, ranks).mean()))
    if not shares:
        return Estimate(float("nan")), count // 2
    low, high = np.quantile(shares, [0.025, 0.975])
    return Estimate(float(np.mean(shares)), float(low), float(high)), count // 2


def _smallest_share(
    planted: Mapping[str, Nearness],
    controls: Mapping[str, np.ndarray],
    ranks: Mapping[str, int],
    effects: Mapping[str, float],
    *,
    count: int,
    level: float,
) -> float:
    """Return the least share of copies among ``count`` images that any of the tests finds; infinite: none does."""
    return min(
        _share_found(planted[name].score, controls[name], rank, effects[name], count, level)
        for name in ranks
        for rank in {1, ranks[name]}
    )


def _share_found(planted: np.ndarray, control: np.ndarray, rank: int, effect: float, count: int, level: float) -> float:
    a, b = rank / effect, (len(control) + 1 - rank) / effect
    needed = bisect.bisect_left(range(count), -level, key=lambda below: -stats.betabinom.sf(below, count, a, b))
    recall = float((planted < np.partition(control, rank - 1)[rank - 1]).mean())
    if needed == count or not recall:
        return float("inf")
    by_chance = rank / (len(control) + 1)
    shares = np.arange(1, 1001) / 1000
    found = stats.binom.sf(needed, count, np.minimum(shares * recall + (1 - shares) * by_chance, 1))
    enough = np.flatnonzero(found >= POWER)
    return float(shares[enough[0]]) if len(enough) else float("inf")
