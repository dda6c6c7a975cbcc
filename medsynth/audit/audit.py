"""The audit of generated images against the training images they may leak, on sets of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from medsynth.audit.copies import find_copies
from medsynth.audit.linkage import LEAST_PATIENTS, linkage, same_size
from medsynth.audit.measures import AuditMeasure
from medsynth.audit.membership import Groups, attack
from medsynth.audit.planted import planted
from medsynth.audit.result import QUESTIONS, AuditResult, Limits, smallest_auc
from medsynth.audit.spaces import PIXELS, Nearness, Spaces
from medsynth.contracts import InputError, counter_seed
from medsynth.metrics.extractor_module import ExtractorModule
from medsynth.metrics.feature_store import FeatureStore
from medsynth.metrics.image_set import ImageSet

PAIRS = 24  # closest pairs that are listed and drawn
_IDENTICAL = 1e-6  # distances below are rounding
LEAST_HELD_OUT = 20  # images: fewer calibrate nothing
Logits = Callable[[ImageSet, ImageSet], tuple[np.ndarray, np.ndarray]]  # of training and of held-out images


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Options of an audit.

    Attributes:
        planted: copies of training images that are changed and have to be found.
        max_members: training images that are attacked, a random sample; all are searched for copies.
        seed: of choices and resampling.
        limits: what is tolerated and what has to be seen.
    """

    planted: int = 200
    max_members: int = 2000
    seed: int = 0
    limits: Limits = dataclasses.field(default_factory=Limits)


def audit(
    training: ImageSet,
    held_out: ImageSet,
    fake: ImageSet,
    *,
    store: FeatureStore,
    extractors: Mapping[str, ExtractorModule],
    logits: Logits | None = None,
    options: AuditOptions | None = None,
    untold: Mapping[str, str] | None = None,
    **described: Any,
) -> AuditResult:
    """Look for copies, attack membership and link patients, each against its control.

    Args:
        training: the images that the generator was trained on.
        held_out: real images of the same source that it was not trained on.
        fake: generated images.
        store: computes and keeps features.
        extractors: networks by a text that differs for different options.
        logits: training images, held-out images -> their mean logits of the trained discriminator; None: there is none.
        options: None: the defaults.
        untold: questions that cannot be answered, and why.
        described: ``sources``, ``notes``, ``extractor_options`` of the result.

    Raises:
        InputError: fewer than 20 held-out images.
    """
    if held_out.count < LEAST_HELD_OUT:
        raise InputError(
            f"{held_out.count} held-out images are too few to calibrate an audit: hold out {LEAST_HELD_OUT} or more."
        )
    questions = _Questions(training, held_out, fake, Spaces(store, extractors, training), options or AuditOptions())
    return questions.answered(logits, dict(untold or {}), described)


@dataclasses.dataclass(frozen=True)
class _Questions:
    """The questions of an audit about three sets of images, and how each is answered."""

    training: ImageSet
    held_out: ImageSet
    fake: ImageSet
    spaces: Spaces
    options: AuditOptions

    def answered(self, logits: Logits | None, untold: dict[str, str], described: Mapping[str, Any]) -> AuditResult:
        """Return the answers; ``untold`` gets the questions that these sets do not answer."""
        training, held_out, fake, spaces, options = self.training, self.held_out, self.fake, self.spaces, self.options
        members = _members(training, options)
        groups = members.groups, held_out.groups
        of_fake, of_held_out = spaces.nearest(fake, training), spaces.nearest(held_out, training)
        of_planted = spaces.nearest(planted(training, options.planted, seed=options.seed), training)
        level = options.limits.level / len(QUESTIONS)
        copies = find_copies(of_fake, of_held_out, of_planted, groups=held_out.groups, level=level, seed=options.seed)
        measures = [
            copies.measure,
            *_distance_attack(spaces, members, held_out, fake, groups, options.seed),
            *self._discriminator_attack(logits, members, groups, untold),
            *self._linkage(untold),
        ]
        units = [_independent(images) for images in (members, held_out)]
        return AuditResult(
            sources=described.get("sources") or {s.name: (s.name, s.count) for s in (training, held_out, fake)},
            copies=copies,
            measures=tuple(measures),
            smallest_auc=smallest_auc(units, 2 * len(spaces.names), level),
            limits=options.limits,
            untold=untold,
            pairs=closest_pairs(of_fake),
            patients=training.groups is not None and held_out.groups is not None,
            notes=(*described.get("notes", ()), *_notes(of_held_out, groups)),
            seed=options.seed,
            extractors=described.get("extractor_options", {}),
        )

    def _discriminator_attack(
        self, logits: Logits | None, members: ImageSet, groups: Groups, untold: dict[str, str]
    ) -> list[AuditMeasure]:
        question = "attack_discriminator"
        if logits is None:
            untold.setdefault(question, "no discriminator is given")
            return []
        return attack({"": logits(members, self.held_out)}, question=question, groups=groups, seed=self.options.seed)

    def _linkage(self, untold: dict[str, str]) -> list[AuditMeasure]:
        sides = same_size(self.training, self.held_out, self.options.seed)
        if sides is None:
            untold["linkage"] = (
                f"it needs {LEAST_PATIENTS} patients with two images or more among training and held-out images each"
            )
            return []
        return linkage(self.spaces, *sides, self.fake, seed=self.options.seed)


def _members(training: ImageSet, options: AuditOptions) -> ImageSet:
    """Return the training images that are attacked, with a name of their own: the store tells sets by names."""
    random = np.random.default_rng(counter_seed("attacked", options.seed))
    members = training.subset(np.sort(random.permutation(training.count)[: options.max_members]))
    return dataclasses.replace(members, name=f"attacked {training.name}")


def _independent(images: ImageSet) -> int:
    return images.count if images.groups is None else len(np.unique(images.groups))


def _distance_attack(
    spaces: Spaces, members: ImageSet, held_out: ImageSet, fake: ImageSet, groups: Groups, seed: int
) -> list[AuditMeasure]:
    nearness = [spaces.nearest(images, fake, mirrored=False) for images in (members, held_out)]
    scores = {name: (-nearness[0][name].score, -nearness[1][name].score) for name in spaces.names}
    return attack(scores, question="attack_distance", groups=groups, seed=seed)


def closest_pairs(of_fake: Mapping[str, Nearness]) -> tuple[tuple[int, int, float], ...]:
    """Return the generated and training images that are closest in the aligned pixels, each training image once."""
    nearness = of_fake[PIXELS]
    order = np.argsort(nearness.score, kind="stable")
    _, first = np.unique(nearness.row[order], return_index=True)
    chosen = order[np.sort(first)][:PAIRS]
    return tuple((int(n), int(nearness.row[n]), float(nearness.score[n])) for n in chosen)


def _notes(of_held_out: Mapping[str, Nearness], groups: Groups) -> Iterator[str]:
    """Yield sentences about images and patients that are on both sides."""
    identical = int((of_held_out[PIXELS].distance < _IDENTICAL).sum())
    if identical:
        yield (
            f"{identical:,} held-out images are copies of training images themselves, which hides copies among the "
            "generated ones: hold out images of other patients, or remove duplicates (data.drop_duplicates=true)."
        )
    first, second = (set(() if side is None else side.tolist()) for side in groups)
    shared = len(first & second)
    if shared:
        yield (
            f"{shared:,} patients have both training and held-out images, which hides what leaks of them: hold out "
            "images of other patients (data.split_by=patient)."
        )
