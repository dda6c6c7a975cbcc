"""The checks of components against their contracts, and what components share."""

from __future__ import annotations

from typing import Protocol

from medsynth.contracts.networks import Discriminator, Features, HasActivations
from medsynth.errors import InputError


def contract_members(contract: type) -> list[str]:
    """Return the names of the members that a contract requires, those of the contracts that it extends included."""
    names: dict[str, None] = {}
    for base in reversed(contract.__mro__):
        if getattr(base, "_is_protocol", False) and base is not Protocol:
            declared = [*getattr(base, "__annotations__", ()), *vars(base)]
            names |= dict.fromkeys(name for name in declared if name == "__call__" or not name.startswith("_"))
    return list(names)


def check_contract(component: object, contract: type, option: str) -> None:
    """Check that ``component``, which the configuration's ``option`` has built, has all members of ``contract``.

    Raises:
        InputError: names the class, the missing members and the contract.
    """
    missing = [name for name in contract_members(contract) if not hasattr(component, name)]
    if missing:
        raise InputError(
            f"{option}: {type(component).__name__} has no {' and no '.join(missing)}, which the contract "
            f"{contract.__name__} requires (see medsynth/contracts/): add {'it' if len(missing) == 1 else 'them'} "
            "to the class."
        )


def activations(discriminator: Discriminator, features: Features, option: str) -> Features:
    """Return the values (N, ...) before the logits of ``discriminator``, or its frozen features where it has no others.

    Args:
        discriminator: the network.
        features: its head's input.
        option: the choice that needs them, for the error.

    Raises:
        InputError: the discriminator has neither.
    """
    if isinstance(discriminator, HasActivations):
        return discriminator.activations(features)
    if discriminator.has_frozen_features:
        return features
    raise InputError(
        f"{option} needs the values before the logit, and {type(discriminator).__name__} has no frozen features: add "
        "the method activations to it (see HasActivations in medsynth/contracts/), or choose another discriminator."
    )
