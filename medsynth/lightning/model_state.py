"""State of a model in a checkpoint beside its weights, and the check whether a model can take a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from medsynth.contracts import Adaptive, AdaptiveGeneratorPenalty, InputError

CHECKPOINT_FORMAT = 2  # 1 had no state of adaptive components, and fingerprinted data in another way


def model_state(
    counters: Mapping[str, int], adaptive: Mapping[str, Adaptive | AdaptiveGeneratorPenalty]
) -> dict[str, Any]:
    """Return the checkpoint's entry ``medsynth``: format, counters and the state of adaptive components."""
    states = {name: component.state_dict() for name, component in adaptive.items()}
    return {"format": CHECKPOINT_FORMAT, **counters, "adaptive": states}


def checked_format(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checkpoint's entry ``medsynth``, if this version reads its format.

    Raises:
        InputError: the checkpoint is not of medsynth, or of another format.
    """
    state = checkpoint.get("medsynth")
    if state is None or state.get("format") not in (1, CHECKPOINT_FORMAT):
        found = "not written by medsynth" if state is None else f"of format {state.get('format')}"
        raise InputError(
            f"The checkpoint is {found}; this version of medsynth reads format {CHECKPOINT_FORMAT}, and format 1: "
            "resume the run with the version that wrote it."
        )
    return state


def check_model_state(
    checkpoint: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    adaptive: Mapping[str, Adaptive | AdaptiveGeneratorPenalty],
) -> None:
    """Check that a model with these weights and adaptive components can take the checkpoint.

    Raises:
        InputError: says how they differ.
    """
    _check_architecture(weights, checkpoint["state_dict"])
    state = checkpoint["medsynth"]
    states = state.get("adaptive", {})
    if state["format"] > 1 and states.keys() != adaptive.keys():
        raise InputError(
            f"The checkpoint is of a training with [{','.join(states)}] where this one has [{','.join(adaptive)}]; "
            "resume with the configuration that it was trained with."
        )


def _check_architecture(weights: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    own = {name: tuple(value.shape) for name, value in weights.items()}
    found = {name: tuple(value.shape) for name, value in saved.items()}
    different = sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name))
    if different:
        raise InputError(
            f"The checkpoint is of another architecture: {len(different)} of its {len(found)} tensors do not fit, "
            f"the first being {different[0]} (here {own.get(different[0])}, there {found.get(different[0])}); "
            "resume with the configuration, and the version of medsynth, that it was trained with."
        )
