"""What README's commands do otherwise than the record in ``readme.json`` says, each with its reason.

Renamed classes and options (``medsynth.configuration.moved``) need no line here. ``python -m tests.snapshots.update``
records today's state; then this list is emptied.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Difference:
    """Lines ``key: value`` that a composition has no longer, and those that it has instead, as shell patterns."""

    reason: str
    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


COMPOSITIONS: tuple[Difference, ...] = (
    Difference(
        "tasks of translation have sources and reconstruction terms",
        new=("discriminator_channels: *", "reconstruction: {}", "source_channels: 0"),
    ),
    Difference("trainings of medsynth utility can be divided over several machines", new=("part: None",)),
    Difference("contiguous blocks of slices have a gap between them", new=("data.block_gap: 2",)),
    Difference("a translation is compared with those of other runs", new=("against: None",)),
)
COMMANDS: dict[str, str] = {}  # recorded command -> the one that README has instead
FILES: dict[str, str] = {}  # name of a recorded file -> today's name; "" where it is not written any more
