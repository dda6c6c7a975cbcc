"""Options of pairs: the intensities of the sources, which have a map to [-1, 1] of their own, and the registration."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from medsynth.data.errors import check_choice
from medsynth.data.intensity import Normalization
from medsynth.errors import InputError

MOST_NEIGHBORS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceNormalization(Normalization):
    """The map of the sources' values to [-1, 1]; its options begin with ``source_``."""

    prefix: ClassVar[str] = "source_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairOptions:
    """Options of data with sources and targets; ``source_...`` that are None are as for the targets.

    The fields are options of data=; conf/data/base/pairs.yaml describes them.

    Raises:
        InputError: an option has an impossible value.
    """

    source_window: str | Sequence[float] | None = None
    source_intensity_range: Sequence[float] | None = None
    source_normalize: str | None = None
    source_normalize_per: str | None = None
    source_percentiles: Sequence[float] | None = None
    source_unit: str | None = None
    unregistered: str = "raise"
    neighbors: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.neighbors, int) or not 0 <= self.neighbors <= MOST_NEIGHBORS:
            raise InputError(
                f"data.neighbors={self.neighbors} is not possible: 0, or the number of slices on either side, up to "
                f"{MOST_NEIGHBORS}."
            )
        check_choice("data.unregistered", self.unregistered, ("raise", "skip", "allow"))

    def normalization(self, of_targets: Normalization) -> SourceNormalization:
        """Return the map of the sources; with options that are None it chooses as that of the targets does.

        Each side finds its own lowest and highest values. A window or a range replaces both of the targets'.
        """
        options = {field.name: getattr(of_targets, field.name) for field in dataclasses.fields(of_targets)}
        given = {name: value for name, value in vars(self).items() if name.startswith("source_") and value is not None}
        own = {name.removeprefix("source_"): value for name, value in given.items()}
        if own.keys() & {"window", "intensity_range", "normalize"}:
            options |= {"window": None, "intensity_range": None}
        return SourceNormalization(**options | own)
