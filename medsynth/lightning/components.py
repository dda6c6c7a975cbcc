"""Checks of the components that a GAN is built of, and of the options of its step."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TypeVar

from torch import nn

from medsynth.contracts import (
    Adaptive,
    AdaptiveGeneratorPenalty,
    Augmentation,
    Discriminator,
    Generator,
    GeneratorPenalty,
    ImagePenalty,
    InputError,
    LogitPenalty,
    Loss,
    Metrics,
    Penalty,
    PerturbedPenalty,
    check_contract,
)

_Contract = TypeVar("_Contract")
_PLACES = ("real", "fake", "between", "perturbed", "logits", "images")


def check_components(
    *,
    generator: Generator,
    discriminator: Discriminator,
    loss: Loss,
    penalties: Mapping[str, Penalty | LogitPenalty | ImagePenalty],
    generator_penalties: Mapping[str, GeneratorPenalty],
    augmentations: Mapping[str, Augmentation],
    metrics: Metrics,
) -> None:
    """Check each component against its contract.

    Raises:
        InputError: names the option, the class and the missing member; or two components have the same name.
    """
    check_network(generator, Generator, "generator")
    check_network(discriminator, Discriminator, "discriminator")
    check_contract(loss, Loss, "loss")
    check_contract(metrics, Metrics, "metrics")
    for name, penalty in penalties.items():
        check_contract(penalty, Penalty, f"penalty={name}")
        if penalty.at not in _PLACES:
            raise InputError(
                f"penalty={name}: {type(penalty).__name__}.at is {penalty.at!r}: choose of {', '.join(_PLACES)}."
            )
        if penalty.at == "perturbed":
            check_contract(penalty, PerturbedPenalty, f"penalty={name}")
    for name, penalty in generator_penalties.items():
        check_contract(penalty, GeneratorPenalty, f"generator_penalty={name}")
    for name, augmentation in augmentations.items():
        check_contract(augmentation, Augmentation, f"augment={name}")
    _check_names(penalty=penalties, generator_penalty=generator_penalties, augment=augmentations)


def check_options(
    *,
    discriminator_steps: int,
    discriminator_margin: float | None,
    top_k: float,
    unrolled_steps: int,
    unrolled_lr: float,
) -> None:
    """Check the ranges of the options that ``AdversarialModule`` describes.

    Raises:
        InputError: names the option.
    """
    if discriminator_steps < 1:
        raise InputError(f"task.discriminator_steps={discriminator_steps} must be 1 or more.")
    if discriminator_margin is not None and discriminator_margin <= 0:
        raise InputError(f"task.discriminator_margin={discriminator_margin} must be above 0, or null: no limit.")
    if not 0 < top_k <= 1:
        raise InputError(f"task.top_k={top_k} must be above 0 and at most 1, the fraction of generated images.")
    if unrolled_steps < 0:
        raise InputError(f"task.unrolled_steps={unrolled_steps} must be 0 or more.")
    if unrolled_lr <= 0:
        raise InputError(f"task.unrolled_lr={unrolled_lr} must be above 0.")


def check_network(network: object, contract: type, option: str) -> None:
    """Check that a network is a module and has all members of its contract.

    Raises:
        InputError: names the option, and the class.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"{option}: {type(network).__name__} is not a torch.nn.Module: let it inherit from it.")
    check_contract(network, contract, option)


def _check_names(**components: Mapping[str, object]) -> None:
    """Check that no name is used twice: values are logged, and states kept, by the names alone."""
    for first, second in itertools.combinations(components, 2):
        both = components[first].keys() & components[second].keys()
        if both:
            raise InputError(f"{first} and {second} both have a component named {min(both)}: rename one of them.")


def adaptive_generator_penalties(penalties: Mapping[str, GeneratorPenalty]) -> dict[str, AdaptiveGeneratorPenalty]:
    """Return the penalties of the generator that have ``observe``, by name.

    Raises:
        InputError: one lacks another member of ``contracts.AdaptiveGeneratorPenalty``.
    """
    return _observing(penalties, AdaptiveGeneratorPenalty, "generator_penalty")


def adaptive_components(
    penalties: Mapping[str, Penalty | LogitPenalty | ImagePenalty], augmentations: Mapping[str, Augmentation]
) -> dict[str, Adaptive]:
    """Return the penalties and augmentations that have ``observe``, by name.

    Raises:
        InputError: one lacks another member of ``contracts.Adaptive``.
    """
    return _observing(penalties, Adaptive, "penalty") | _observing(augmentations, Adaptive, "augment")


def _observing(components: Mapping[str, object], contract: type[_Contract], group: str) -> dict[str, _Contract]:
    observing: dict[str, _Contract] = {}
    for name, component in components.items():
        if hasattr(component, "observe"):
            check_contract(component, contract, f"{group}={name}")
            assert isinstance(component, contract)
            observing[name] = component
    return observing
