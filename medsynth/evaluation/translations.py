"""Translations of a run against their targets: errors with intervals by patient, beside the source copied unchanged."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from medsynth.configuration.objectives import PAIRED_MEASURES
from medsynth.contracts import InputError, Translator, counter_seed, noise
from medsynth.data.module import ImageDataModule
from medsynth.data.phantom import PhantomPairs
from medsynth.evaluation.image_sets import groups_of, parts_of, read_batch
from medsynth.metrics.cluster_bootstrap import cluster_mean
from medsynth.metrics.image_set import ImageSet
from medsynth.metrics.interval import share_interval
from medsynth.metrics.paired import copied, paired_measures

FORMAT = 1
RADII = (4.0, 6.0, 9.0)  # mm between the sizes of lesions
FOUND = 0.5  # of a lesion's contrast in the target without noise, from which on it is found in a translation
FEW_PATIENTS = 10  # below which the bootstrap over them is too narrow
KNOWN_IMAGES: tuple[str, ...] = ("target", "conditional mean", "source copied")  # beside translations
RULE = (
    "Means over all pairs; 95 % intervals by the bootstrap over patients (2,000 draws of all pairs of a patient "
    "together), or over images where no patients are known. Differences are of the same pairs. Errors are measured in "
    "the mask where there is one. A lesion is found where its contrast is half of that in the target without noise."
)


def is_translation(config: DictConfig) -> bool:
    """Return whether a run's configuration is of a translation task."""
    return bool(config.get("source_channels", 0))


def task_of(config: DictConfig) -> str:
    """Return the choice of ``task=`` of a run's configuration: the name of its class's module."""
    return str(config.task["_target_"]).rpartition(".")[0].rpartition(".")[2]


def translations(
    network: nn.Module, data: ImageDataModule, split: str, *, seed: int, count: int | None = None
) -> ImageSet:
    """Return the translations of the sources of a split, in their order; ``count`` of them, evenly spaced."""
    parts = list(parts_of(data, split).values())
    total = sum(map(len, parts))
    labels = [getattr(part, "labels", None) for part in parts]
    known = None if any(label is None for label in labels) else np.concatenate([np.asarray(each) for each in labels])
    make = functools.partial(_translate, cast(Translator, network), seed)

    def read(numbers: Sequence[int]) -> Tensor:
        batch = read_batch(parts, numbers)
        return make(batch["image"], numbers)

    images = ImageSet("generated", total, read, known if data.class_names else None)
    return images if count is None or count >= total else images.subset(np.arange(count) * total // count)


@torch.inference_mode()
def _translate(network: Translator, seed: int, source: Tensor, numbers: Sequence[int]) -> Tensor:
    device, width = next(cast(nn.Module, network).parameters()).device, network.latent_dim
    z = None
    if width:
        each = [noise(1, width, seed=counter_seed("generate", seed), start=int(number)) for number in numbers]
        z = torch.cat(each).to(device)
    return network(source.to(device), z).float().clamp(-1, 1).cpu()


@dataclasses.dataclass(frozen=True)
class PairedResult:
    """Errors of translations against their targets.

    Attributes:
        split: of the run's data.
        count: number of pairs.
        patients: that they are of; None: not known.
        unit: of ``mae``.
        masked: errors are those in a mask.
        measures: of the translations, of the source copied unchanged, and their differences.
        against: the same of other runs: their name and task, and differences of this run from them.
        lesions: recall by size, of phantoms.
        notes: sentences about what the numbers do not show.
    """

    split: str
    count: int
    patients: int | None
    unit: str
    masked: bool
    measures: list[dict[str, Any]]
    against: list[dict[str, Any]]
    lesions: list[dict[str, Any]]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: the fields, "format" and "rule"."""
        return {"format": FORMAT, "rule": RULE, **dataclasses.asdict(self), "notes": list(self.notes)}


class PairedEvaluation:
    """Measures networks on the pairs of a split.

    Args:
        data: prepared.
        split: its name.
        seed: of noise and intervals.
        batch_size: pairs at a time.
    """

    def __init__(self, data: ImageDataModule, split: str, *, seed: int, batch_size: int) -> None:
        self.data, self.split, self.seed, self.batch_size = data, split, seed, batch_size
        parts = parts_of(data, split)
        self.parts, self.groups = list(parts.values()), groups_of(data, list(parts))
        self.count = sum(map(len, self.parts))

    def __call__(self, network: nn.Module, others: Mapping[str, nn.Module]) -> PairedResult:
        """Measure the network, the source copied unchanged, and other networks of the same data."""
        own, copy = self._values(network), self._values(None)
        measures = [self._compared(name, own[name], "copy", copy[name]) for name in own]
        against = []
        for name, other in others.items():
            values = self._values(other)
            rows = [self._compared(key, own[key], "other", values[key]) for key in own]
            against.append({"run": name, "measures": rows})
        patients = None if self.groups is None else len(np.unique(self.groups))
        return PairedResult(
            split=self.split,
            count=self.count,
            patients=patients,
            unit=self.data.intensity.unit,
            masked=self.data.masked,
            measures=measures,
            against=against,
            lesions=self._lesions({"translation": network, **others}),
            notes=tuple(self._notes(patients)),
        )

    def _values(self, network: nn.Module | None) -> dict[str, np.ndarray]:
        """Return each measure (N,) of all pairs; None: of the source copied unchanged."""
        found: dict[str, list[np.ndarray]] = {}
        intensity = self.data.intensity
        for numbers, batch in self._batches():
            target, source = batch["target"], batch["image"]
            if network is None:
                output = self._copied(batch)
            else:
                output = _translate(cast(Translator, network), self.seed, source, numbers)
            for name, values in paired_measures(output, target, batch.get("mask"), intensity).items():
                found.setdefault(name, []).append(values.numpy())
        return {name: np.concatenate(values) for name, values in found.items()}

    def _batches(self) -> Iterator[tuple[Sequence[int], dict[str, Tensor]]]:
        for start in range(0, self.count, self.batch_size):
            numbers = range(start, min(start + self.batch_size, self.count))
            yield numbers, read_batch(self.parts, numbers)

    def _compared(self, name: str, own: np.ndarray, kind: str, other: np.ndarray) -> dict[str, Any]:
        """Return a measure, that of another kind of image, and their difference, with intervals."""
        row: dict[str, Any] = {"name": name, "better": PAIRED_MEASURES[name]}
        for prefix, values in (("", own), (f"{kind}_", other), ("difference_", own - other)):
            estimate = cluster_mean(values, self.groups, seed=self.seed)
            row |= {f"{prefix}{end}": getattr(estimate, end) for end in ("value", "low", "high")}
        return row

    def _notes(self, patients: int | None) -> Iterator[str]:
        if patients is None:
            yield "No patients are known: intervals are over images, as if each were of another patient."
        elif patients < FEW_PATIENTS:
            yield (
                f"The pairs are of {patients} patient{'s' * (patients > 1)}: intervals over so few are too narrow, and "
                "there is none over one."
            )

    def _lesions(self, networks: Mapping[str, nn.Module]) -> list[dict[str, Any]]:
        """Return the recall of the lesions of phantoms by size: of networks, and of what they are compared with.

        These are the targets with their noise, the best prediction from the source and the anatomy, and the source.
        """
        source = self.data.source
        if not isinstance(source, PhantomPairs):
            return []
        rows: dict[str, list[tuple[int, float, bool]]] = {name: [] for name in (*KNOWN_IMAGES, *networks)}
        for numbers, batch in self._batches():
            known = (batch["target"], self._best(source, numbers), self._copied(batch))
            images = dict(zip(KNOWN_IMAGES, known, strict=True))
            for name, network in networks.items():
                images[name] = _translate(cast(Translator, network), self.seed, batch["image"], numbers)
            for place, number in enumerate(numbers):
                lesions = source.lesion_maps(self.split, number)
                true = source.mean_image(self.split, number) if lesions else None
                for lesion in lesions:
                    for name, made in images.items():
                        contrast = _contrast(made[place, 0].numpy(), lesion) / _contrast(cast(Any, true), lesion)
                        rows[name].append((number, lesion.radius, contrast >= FOUND))
        return [row for name, found in rows.items() for row in self._recall(name, found)]

    def _copied(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the sources of a batch as if they were their own translations."""
        channels, own = batch["target"].shape[1], self.data.source_intensity
        return copied(batch["image"], channels=channels, source_intensity=own, intensity=self.data.intensity)

    def _best(self, source: PhantomPairs, numbers: Sequence[int]) -> Tensor:
        """Return the best predictions of the targets of phantoms (N, 1, H, W)."""
        images = [torch.from_numpy(source.conditional_mean(self.split, number)) for number in numbers]
        return torch.stack(images)[:, None]

    def _recall(self, name: str, found: list[tuple[int, float, bool]]) -> Iterator[dict[str, Any]]:
        for low, high in zip((0.0, *RADII), (*RADII, math.inf), strict=True):
            own = [(number, hit) for number, radius, hit in found if low <= radius < high]
            if own:
                images, hits = np.array([number for number, _ in own]), np.array([hit for _, hit in own], float)
                estimate = cluster_mean(hits, images, seed=self.seed)
                if estimate.low == estimate.high:  # all are found, or none: no draw shows that others may be
                    estimate = share_interval(estimate.value, len(set(images.tolist())), 0.0)
                yield {
                    "of": name,
                    "smallest_radius": low,
                    "largest_radius": None if math.isinf(high) else high,
                    "lesions": len(own),
                    **dataclasses.asdict(estimate),
                }


def _contrast(image: np.ndarray, lesion: Any) -> float:
    """Return the weighted mean in a lesion's core less that around it."""
    core, ring = ((image * weight).sum() / max(float(weight.sum()), 1e-9) for weight in (lesion.core, lesion.ring))
    return float(core - ring)


def check_same_pairs(data: ImageDataModule, other: ImageDataModule, name: str) -> None:
    """Refuse another run whose pairs are not those of this one.

    Raises:
        InputError: names the run.
    """
    same = (data.content, data.intensity, data.source_intensity, data.source_channels, data.image_size)
    if same != (other.content, other.intensity, other.source_intensity, other.source_channels, other.image_size):
        raise InputError(
            f"against={name} was trained on other data: its pairs, sizes or intensities are not those of run=, so that "
            "errors cannot be compared pair by pair; name a run of the same data."
        )


def name_of(folder: str, taken: Sequence[str]) -> str:
    """Return the name of a run's folder that tells it from others."""
    name = Path(folder).name
    return name if name not in taken else folder
