"""Checks of options that all augmentations share."""

from __future__ import annotations

from collections.abc import Sequence

from medsynth.contracts import InputError


def chosen(augmentation: str, policy: Sequence[str] | str | None, known: Sequence[str]) -> frozenset[str]:
    """Return the policy as a set of names; a single name may be given as a string.

    Raises:
        InputError: a name is not among the ``known``.
    """
    names = frozenset([policy] if isinstance(policy, str) else policy or ())
    unknown = sorted(names - set(known))
    if unknown:
        raise InputError(
            f"augment.{augmentation}.policy does not know {', '.join(unknown)}: choose from [{','.join(known)}]."
        )
    return names


def checked(augmentation: str, name: str, value: float, largest: float) -> float:
    """Return ``value``.

    Raises:
        InputError: it is not from 0 to ``largest``.
    """
    if not 0 <= value <= largest:
        raise InputError(f"augment.{augmentation}.{name}={value} must be from 0 to {largest:g}.")
    return value
