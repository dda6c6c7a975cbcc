"""Membership inference: attacks that tell training images from held-out ones, by generated images or by logits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medsynth.audit.measures import AuditMeasure
from medsynth.audit.statistics import (
    FALSE_POSITIVES,
    attack_estimates,
    auc,
    excess_below,
    halves,
    permutation_p,
    true_positive_rate,
)
from medsynth.contracts import counter_seed
from medsynth.metrics.interval import Estimate

_REPEATS = 100  # of the members-only control
Groups = tuple[np.ndarray | None, np.ndarray | None]
_RULES = {
    "attack_distance": "Members are to be nearer to a generated image than held-out images are",
    "attack_discriminator": "Members are to have higher logits of the trained discriminator than held-out images have",
}
_CONTROL = (
    "control: the same attack between two random halves of the members. It counts where it exceeds what 95 % of the "
    "controls have, and what exchangeable images (patients where known) would have."
)


def attack(
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]], *, question: str, groups: Groups, seed: int
) -> list[AuditMeasure]:
    """Measure an attack by its area under the curve and its true positive rate at 1 % false positives.

    Args:
        scores: by name, those of members (N,) and of held-out images (M,), higher for members.
        question: attack_distance or attack_discriminator.
        groups: patients of members and of held-out images; None: not known.
        seed: of resampling.
    """
    measures: list[AuditMeasure] = []
    for name, (members, others) in scores.items():
        area, rate = attack_estimates(members, others, groups=groups, seed=seed)
        area_control, rate_control, size = _members_only(members, len(others), groups[0], seed)
        tests = 2 * len(scores)
        p_area = permutation_p(members, others, groups=groups, seed=seed)
        p_rate = _p_of_rate(members, others, groups)
        for kind, estimate, control, p in (
            ("auc", area, area_control, p_area),
            ("tpr", rate, rate_control, p_rate),
        ):
            counts = estimate.value > control.high
            measures.append(
                AuditMeasure(
                    f"{question}_{kind}_{name}" if name else f"{question}_{kind}",
                    estimate,
                    control,
                    len(members) + len(others),
                    size,
                    min(1.0, tests * p) if counts else 1.0,
                    question,
                    f"{_RULES[question]}; {_CONTROL}",
                )
            )
    return measures


def _p_of_rate(members: np.ndarray, others: np.ndarray, groups: Groups) -> float:
    """Return the probability of so many members above the highest scores of 1 % of the others."""
    if groups[0] is not None or groups[1] is not None:  # each patient once, by the highest score
        members, others = (_highest(*pair) for pair in zip((members, others), groups, strict=True))
    rank = max(int(FALSE_POSITIVES * (len(others) + 1)), 1)
    return excess_below(-members, -others, rank).p


def _highest(scores: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    if groups is None:
        return scores
    numbers = np.unique(groups, return_inverse=True)[1]
    highest = np.full(int(numbers.max()) + 1, -np.inf)
    np.maximum.at(highest, numbers, scores)
    return highest


def _members_only(
    members: np.ndarray, num_others: int, groups: np.ndarray | None, seed: int
) -> tuple[Estimate, Estimate, int]:
    """Return the area and the rate between random halves of the members, and the number of images of a control.

    The second half has no more images than there are held-out ones.
    """
    random = np.random.default_rng(counter_seed("members", seed))
    areas, rates, size = list[float](), list[float](), 0
    for _ in range(_REPEATS):
        first, second = halves(len(members), groups, random)
        if not len(first) or not len(second):
            continue
        second = random.permutation(second)[:num_others]
        pair = members[first], members[second]
        areas.append(auc(*pair))
        rates.append(true_positive_rate(*pair))
        size = len(first) + len(second)
    return _spread(areas), _spread(rates), size


def _spread(values: list[float]) -> Estimate:
    if not values:
        return Estimate(float("nan"))
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(float(np.mean(values)), float(low), float(high))
