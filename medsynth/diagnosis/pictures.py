"""Pictures that show a finding: the images beside which its numbers are believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor
from torch.fft import fftshift, rfft2  # pyright: ignore[reportUnknownVariableType] (without types in PyTorch)
from torch.nn import functional

from medsynth.diagnosis.signals import Observation

Panels = Mapping[str, Tensor]  # images (N, C, H, W) in [-1, 1] by title, from left to right
_PAIRS = 8
_SHOWN = 16  # images of a panel
_COARSE = 8  # pixels of a side of the images that are compared where there are no features


def evidence(name: str, observation: Observation) -> Panels:
    """Return the images that show the finding ``name``, in panels; empty where a picture tells nothing.

    * one or few modes: the generated images that are most alike, in pairs, and the most similar real ones of as many;
    * textures and checkerboards: images, their mean, and the logarithm of their mean power spectrum;
    * leaking augmentations: real, augmented and generated images;
    * oscillation: the average of the generator and its last state, of the same noise;
    * labels: generated and real images, a class in each row;
    * copies: generated images, each with the nearest training image.
    """
    panels = _PANELS.get(name)
    return {} if panels is None else panels(observation)


def nearest_training(observation: Observation) -> list[tuple[int, int]]:
    """Return the numbers of the generated images nearest to a training image, and of that image; nearest first."""
    features = observation.features
    if features is None:
        return []
    known, made = (functional.normalize(side.double().cpu(), dim=1) for side in (features.training, features.fake))
    cosine, of_training = (made @ known.T).max(dim=1)
    chosen = cosine.argsort(descending=True)[:_PAIRS]
    return [(int(number), int(of_training[number])) for number in chosen]


def closest_pairs(rows: Tensor, labels: Tensor | None = None) -> list[int]:
    """Return the numbers of up to 8 pairs of ``rows`` (N, d) one after the other, the closest pair first.

    No row is in two pairs. Where there are ``labels`` (N,), both rows of a pair have the same one.
    """
    rows = rows.double().cpu()
    distances = torch.cdist(rows, rows).fill_diagonal_(torch.inf)
    if labels is not None:
        distances[labels[:, None] != labels[None]] = torch.inf
    chosen: list[int] = []
    for _ in range(_PAIRS):
        one, other = divmod(int(distances.argmin()), len(rows))
        if not torch.isfinite(distances[one, other]):
            break
        chosen += [one, other]
        distances[[one, other]] = torch.inf
        distances[:, [one, other]] = torch.inf
    return chosen


def _pairs(observation: Observation) -> Panels:
    return _closest(observation, None)


def _pairs_of_class(observation: Observation) -> Panels:
    return _closest(observation, observation.labels)


def _closest(observation: Observation, labels: Tensor | None) -> Panels:
    features = observation.features
    sides = {"generated": observation.fake, "real": observation.real}
    count = min(len(images) for images in sides.values())
    if labels is not None:
        count, labels = min(count, len(labels)), labels[:count].cpu()
    found: dict[str, Tensor] = {}
    for title, images in sides.items():
        rows = functional.adaptive_avg_pool2d(images.float(), _COARSE).flatten(1)
        if features is not None:
            rows = features.fake if title == "generated" else features.real
        found[f"{title} pairs"] = images[closest_pairs(rows[:count], labels)]
    return found


def _spectra(observation: Observation) -> Panels:
    fake, real = observation.fake.float(), observation.real.float()
    spectra = torch.stack([_spectrum(real), _spectrum(fake)])
    low, high = spectra.amin(), spectra.amax()
    means = torch.stack([real.mean(dim=0), fake.mean(dim=0)])
    return {
        "real": real[:_SHOWN],
        "generated": fake[:_SHOWN],
        "means": means,
        "spectra": 2 * (spectra - low) / (high - low).clamp(min=1e-6) - 1,
    }


def _spectrum(images: Tensor) -> Tensor:
    """Return the logarithm of the mean power (C, H, W // 2 + 1), frequency 0 at the left of the middle row."""
    centered = images - images.mean(dim=(-2, -1), keepdim=True)
    power = cast(Tensor, rfft2(centered)).abs().square().mean(dim=0)
    return fftshift(power + 1e-6, dim=-2).log()


def _augmented(observation: Observation) -> Panels:
    if observation.augmented is None:
        return {}
    shown = {"real": observation.real, "augmented": observation.augmented, "generated": observation.fake}
    return {title: images[:_SHOWN] for title, images in shown.items()}


def _average(observation: Observation) -> Panels:
    if observation.raw is None:
        return {}
    return {"average": observation.fake[:_SHOWN], "last": observation.raw[:_SHOWN]}


def _classes(observation: Observation) -> Panels:
    labels = observation.labels
    if labels is None:
        return {}
    classes = labels.unique()[:4]
    rows = [torch.nonzero(labels == c)[:4, 0] for c in classes]
    each = min(len(row) for row in rows)
    chosen = torch.cat([row[:each] for row in rows])
    return {"real": observation.real[chosen], "generated": observation.fake[chosen]}


_PANELS: dict[str, Callable[[Observation], Panels]] = {
    "mode_collapse": _pairs,
    "within_class_collapse": _pairs_of_class,
    "texture": _spectra,
    "checkerboard": _spectra,
    "augmentation_leak": _augmented,
    "oscillation": _average,
    "uninformative_labels": _classes,
    "ignored_labels": _classes,
}
