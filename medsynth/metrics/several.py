"""Several metrics as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from medsynth.contracts import InputError, Metrics


class Several:
    """Metrics side by side on the same images (contracts.Metrics); values that have the same name agree.

    Args:
        parts: metrics by name.
        objective: which of all values is monitored; one of a part's own objectives.

    Raises:
        InputError: ``objective`` is none of the parts'.
    """

    def __init__(self, *, parts: Mapping[str, Metrics], objective: str):
        self.parts = dict(parts)
        objectives = [part.objective for part in self.parts.values()]
        if objective not in objectives:
            raise InputError(f"metrics.objective={objective} is none of these: {', '.join(objectives)}.")
        self.objective = objective

    @property
    def has_real(self) -> bool:
        """Whether statistics of real images are there."""
        return all(part.has_real for part in self.parts.values())

    def to(self, device: torch.device | str) -> Self:
        for part in self.parts.values():
            part.to(device)
        return self

    def update(self, images: Tensor, *, real: bool) -> None:
        for part in self.parts.values():
            part.update(images, real=real)

    def compute(self) -> dict[str, float]:
        return {name: value for part in self.parts.values() for name, value in part.compute().items()}

    def reset(self) -> None:
        for part in self.parts.values():
            part.reset()

    def reset_real(self) -> None:
        for part in self.parts.values():
            part.reset_real()
