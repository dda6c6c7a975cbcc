"""Several metrics that are computed side by side and logged as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor

from medsynth.configuration.objectives import logged_measures
from medsynth.contracts import Better, HasFeatures, InputError, Metrics


class MonitoredMetrics(Metrics, Protocol):
    """Metrics that name the value to be monitored."""

    objective: str | None


class MetricCollection:
    """Metrics side by side on the same images (``contracts.Metrics``); values of the same name are equal.

    Args:
        parts: metrics by name.
        objective: the value that is monitored, one of the objectives of ``parts``.

    Raises:
        InputError: ``objective`` is none of theirs.
    """

    def __init__(self, *, parts: Mapping[str, MonitoredMetrics], objective: str):
        self.parts = dict(parts)
        objectives = [part.objective for part in self.parts.values() if part.objective is not None]
        if objective not in objectives:
            raise InputError(f"metrics.objective={objective} is not computed: choose {' or '.join(objectives)}.")
        self.objective = objective

    @staticmethod
    def logged_measures(config: Mapping[str, Any]) -> dict[str, Better]:
        """Return what all ``parts`` of a configuration log; empty where the measures of one are not known.

        Raises:
            InputError: ``parts`` is no mapping, as in a damaged configuration.
        """
        parts = config.get("parts")
        if not isinstance(parts, Mapping):
            raise InputError(f"metrics.parts={parts} is no set of metrics: choose metrics=mini or metrics=inception.")
        measures = [logged_measures(part) for part in cast(Mapping[str, Any], parts).values()]
        return {name: better for of_part in measures for name, better in of_part.items()} if all(measures) else {}

    @property
    def has_real(self) -> bool:
        """Tell whether every part has the statistics of the real images."""
        return all(part.has_real for part in self.parts.values())

    def to(self, device: torch.device | str) -> Self:
        """Move all parts to ``device``."""
        for part in self.parts.values():
            part.to(device)
        return self

    @property
    def with_features(self) -> HasFeatures | None:
        """The part that gives features, that of the monitored objective if it does; None where none does."""
        parts = sorted(self.parts.values(), key=lambda part: part.objective != self.objective)
        return next((part for part in parts if isinstance(part, HasFeatures)), None)

    def update(self, images: Tensor, *, real: bool) -> None:
        """Take in images ``(N, C, H, W)`` in [-1, 1]."""
        for part in self.parts.values():
            part.update(images, real=real)

    def compute(self) -> dict[str, float]:
        """Return the values of all parts by name."""
        return {name: value for part in self.parts.values() for name, value in part.compute().items()}

    def reset(self) -> None:
        """Forget the generated images; the real ones stay."""
        for part in self.parts.values():
            part.reset()
