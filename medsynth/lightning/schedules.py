"""The quantities of a training that schedules can change, by the names of their options."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch.optim import Optimizer

from medsynth.contracts import (
    Augmentation,
    GeneratorPenalty,
    InputError,
    Penalty,
    ReconstructionTerm,
    Schedule,
    check_contract,
    contract_members,
)
from medsynth.generator.ema import EMA

Setter = Callable[[float], None]
_CONTRACTS: Mapping[str, type] = {
    "penalty": Penalty,
    "generator_penalty": GeneratorPenalty,
    "reconstruction": ReconstructionTerm,
    "augment": Augmentation,
}


class Schedules:
    """Sets each scheduled quantity to its value before a step.

    Args:
        schedules: by the quantity's name, nested like the configuration: ``{"generator_optimizer": {"lr": schedule}}``.
        quantities: what can be scheduled: a function that sets the value, by name.

    Raises:
        InputError: a name is not one of ``quantities``, or a schedule is none.
    """

    def __init__(self, schedules: Mapping[str, Any], quantities: Mapping[str, Setter]):
        named = dict(_flat(schedules))
        for name, schedule in named.items():
            if name not in quantities:
                raise InputError(f"schedules.{name} cannot be scheduled: choose of {', '.join(quantities)}.")
            if isinstance(schedule, int | float | str):
                raise InputError(
                    f"schedules.{name}={schedule} is not a schedule: choose one by +schedule@schedules.{name}=cosine, "
                    f"or set {name} for a constant value."
                )
            check_contract(schedule, Schedule, f"schedules.{name}")
        self._scheduled: list[tuple[str, Schedule, Setter]] = [
            (name, schedule, quantities[name]) for name, schedule in named.items()
        ]

    def apply(self, images_seen: int) -> dict[str, float]:
        """Set the values that belong to ``images_seen``; return them by name."""
        values: dict[str, float] = {}
        for name, schedule, setter in self._scheduled:
            values[name] = float(schedule(images_seen))
            setter(values[name])
        return values


def schedulable(
    optimizers: Mapping[str, Optimizer], components: Mapping[str, Mapping[str, object]], ema: EMA
) -> dict[str, Setter]:
    """Return what can be scheduled, as functions that set a value, by name.

    These are the learning rate and Adam's betas of each optimizer, every public number of a penalty or an augmentation
    that its contract does not define (``gamma``, ``weight``, ``strength``), and the half-life of the EMA.

    Args:
        optimizers: of each network, by its name.
        components: by group ("penalty", "generator_penalty", "augment") and name.
        ema: of the generator.
    """
    quantities: dict[str, Setter] = {}
    for name, optimizer in optimizers.items():
        quantities[f"{name}_optimizer.lr"] = functools.partial(_set_learning_rate, optimizer)
        for position in range(len(optimizer.defaults.get("betas", ()))):
            quantities[f"{name}_optimizer.beta{position + 1}"] = functools.partial(_set_beta, optimizer, position)
    for group, named in components.items():
        for name, component in named.items():
            for attribute in _numbers(component, _CONTRACTS[group]):
                quantities[f"{group}.{name}.{attribute}"] = functools.partial(setattr, component, attribute)
    quantities["task.ema_half_life"] = functools.partial(setattr, ema, "half_life")
    return quantities


def _set_learning_rate(optimizer: Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("lr_factor", 1.0)


def _set_beta(optimizer: Optimizer, position: int, value: float) -> None:
    for group in optimizer.param_groups:
        betas = list(group["betas"])
        betas[position] = value
        group["betas"] = tuple(betas)


def _numbers(component: object, contract: type) -> list[str]:
    taken = contract_members(contract)
    return [
        name
        for name, value in vars(component).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not name.startswith("_")
        if name not in taken
    ]


def _flat(schedules: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in schedules.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
