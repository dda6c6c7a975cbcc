"""What augmentations check of their options alike."""

from __future__ import annotations

from collections.abc import Sequence

from medsynth.contracts import InputError


def chosen(part: str, policy: Sequence[str] | str | None, known: Sequence[str]) -> frozenset[str]:
    """The policy as a set; one name may stand alone. Raises InputError: a name that is not ``known``."""
    names = frozenset([policy] if isinstance(policy, str) else policy or ())
    unknown = sorted(names - set(known))
    if unknown:
        raise InputError(f"augment.{part}.policy does not know {', '.join(unknown)}: choose of [{','.join(known)}].")
    return names


def checked(part: str, name: str, value: float, largest: float) -> float:
    """The value. Raises InputError: it is not from 0 to ``largest``."""
    if not 0 <= value <= largest:
        raise InputError(f"augment.{part}.{name}={value} must be from 0 to {largest:g}.")
    return value
