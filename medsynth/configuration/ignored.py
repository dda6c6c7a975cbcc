"""Refusal of typed options that a training would ignore."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from medsynth.configuration.choices import choices_with
from medsynth.configuration.combinations import discriminator_of
from medsynth.errors import InputError

_OURS = {"gradient_clip_val": "task.gradient_clip_norm", "accumulate_grad_batches": "task.accumulate"}


def refuse_ignored(config: DictConfig, typed: Sequence[str]) -> None:
    """Refuse options of a training that have no effect.

    Args:
        config: composed.
        typed: the options as typed.

    Raises:
        InputError: names the option and what to type instead.
    """
    for theirs, ours in _OURS.items():
        if theirs in config.trainer:
            raise InputError(f"trainer.{theirs} cannot serve two optimizers: set {ours} instead.")
    parts = [override.partition("=") for override in typed]
    if any(key == "run_dir" for key, _, _ in parts):
        raise InputError("run_dir= is filled in: name the run's folder by hydra.run.dir=/path/to/folder.")
    for group, slot in (("backbone", "backbone"), ("backbone@second_backbone", "second_backbone")):
        name = next((value for key, _, value in parts if key == group), "null")
        if name != "null" and slot not in discriminator_of(config):
            suitable = " or ".join(choices_with("discriminator", slot))
            lacking = "this discriminator" if config.get("discriminator") else "a task without a discriminator"
            raise InputError(f"{group}={name} has no effect on {lacking}: choose discriminator={suitable}.")
