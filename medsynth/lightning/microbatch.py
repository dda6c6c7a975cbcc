"""The pieces in which a process computes its share of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor


@dataclasses.dataclass
class DrawnMicrobatch:
    """The data of one of the ``accumulate`` pieces that a process computes one after the other.

    ``z`` is noise, a row for each image; ``weight`` is the fraction of the share. ``source`` and ``mask`` are those of
    a translation (``contracts.Batch``), whose ``real`` images are the targets; None: there are none.
    """

    real: Tensor
    labels: Tensor | None
    index: Tensor
    z: Tensor
    weight: float
    source: Tensor | None = dataclasses.field(default=None, kw_only=True)
    mask: Tensor | None = dataclasses.field(default=None, kw_only=True)

    @property
    def images(self) -> int:
        """Number of real images."""
        return len(self.real)


def add_terms(values: dict[str, Tensor], terms: Mapping[str, Tensor], *, weight: float) -> None:
    """Add the terms of a microbatch, detached and weighted, to the values that the step logs."""
    for name, term in terms.items():
        values[name] = values.get(name, 0.0) + term.detach() * weight
