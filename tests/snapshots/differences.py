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
    Difference("generators can end without tanh", new=("*generator.output: clamp",)),
    Difference("the heads on a backbone have spectral normalization", new=("*discriminator.spectral: true",)),
    Difference("a layer that compares the images of a batch can be chosen", new=("*minibatch: {}",)),
    Difference("labels can be smoothed and flipped", new=("*loss.label_smoothing: 0.0", "*loss.label_flipping: 0.0")),
    Difference("the generator can learn from its best images", new=("task.top_k: 1.0",)),
    Difference("dropout can be chosen", new=("*discriminator.dropout: 0.0", "*discriminator.trained.dropout: 0.0")),
    Difference("images can be joined to packs", new=("*discriminator.packing: 1", "*discriminator.trained.packing: 1")),
)
COMMANDS: dict[str, str] = {}  # recorded command -> the one that README has instead
FILES: dict[str, str] = {}  # name of a recorded file -> today's name; "" where it is not written any more
