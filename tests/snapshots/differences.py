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
    Difference("self-attention can be chosen", new=("*.attention: None",)),
    Difference("the discriminator's lead can be limited", new=("task.discriminator_margin: None",)),
    Difference("windows of clahe have a size", new=("data.clahe_window: None",)),
    Difference("the discriminator can be unrolled", new=("task.unrolled_steps: 0", "task.unrolled_lr: 0.1")),
)
COMMANDS: dict[str, str] = {}  # recorded command -> the one that README has instead
FILES: dict[str, str] = {}  # name of a recorded file -> today's name; "" where it is not written any more
