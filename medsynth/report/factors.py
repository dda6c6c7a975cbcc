"""Factors: the options that differ between runs, as few as distinguish them, named as they were typed."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medsynth.report.option_values import DEFAULT, UNKNOWN, typed_value
from medsynth.report.run import Run
from medsynth.runs.status import DUPLICATE

SEED = "seed"
_WITHOUT_EFFECT = ("logger.", "callbacks.", "objective")  # on the training; a factor only if they were typed


@dataclass(frozen=True)
class Factor:
    """Options that vary together between runs.

    Attributes:
        key: as it was typed, without +: "loss", "generator_optimizer.lr".
        label: the shortest end of the key that no other factor has: "lr".
        values: as text; numbers by size, else in the order of the runs.
        together: other keys that vary one-to-one with this one, so that their effects cannot be separated. Options
            that follow from a choice, as loss._target_ does from loss, are not among them.
        of: folder of a run -> its value.
    """

    key: str
    label: str
    values: tuple[str, ...]
    together: tuple[str, ...] = ()
    of: Mapping[Path, str] = field(default_factory=dict, compare=False, repr=False)


def factors(runs: Sequence[Run]) -> list[Factor]:
    """Return the factors of ``runs``, without duplicates; the seed is one only if nothing else varies.

    The keys of the sweep and keys that were typed differently come first. Options that differ and do not follow from
    these are found by their values: options that split the runs in the same way are one factor.
    """
    return list(_factors(tuple(runs)))


@functools.lru_cache(maxsize=16)  # a report asks for the same few selections of runs many times
def _factors(runs: tuple[Run, ...]) -> tuple[Factor, ...]:
    compared = [run for run in runs if run.status != DUPLICATE]
    typed = {key: [typed_value(run, key, compared) for run in compared] for key in _typed_keys(compared)}
    found = typed | _not_typed(compared, typed)
    found = {key: values for key, values in found.items() if len({*values} - {UNKNOWN}) > 1}
    groups = _groups({key: values for key, values in found.items() if key != SEED})
    if not groups and SEED in found:
        groups = {SEED: []}
    labels = _labels(list(groups))
    of = {key: {run.folder: typed_value(run, key, runs) for run in runs} for key in groups}
    return tuple(Factor(key, labels[key], _ordered(found[key]), tuple(groups[key]), of[key]) for key in groups)


def value_of(run: Run, factor: Factor) -> str:
    """Return the factor's value in ``run``; "unknown" if the run's configuration was never written."""
    return factor.of.get(run.folder) or typed_value(run, factor.key)


def split_of(values: Sequence[Hashable]) -> tuple[int, ...]:
    """Replace values by the number of their first occurrence, to compare splits: ["b", "a", "b"] -> (0, 1, 0)."""
    first: dict[Hashable, int] = {}
    return tuple(first.setdefault(value, len(first)) for value in values)


def _typed_keys(runs: Sequence[Run]) -> list[str]:
    swept = [key for run in runs for key in run.swept]
    typed = [key for run in runs for key in run.choices]
    return list(dict.fromkeys([*swept, *typed]))


def _not_typed(runs: Sequence[Run], typed: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the options that differ and do not follow from the typed ones; one for each split of the runs."""
    known = [number for number, run in enumerate(runs) if run.options]
    choices = {key: [values[number] for number in known] for key, values in typed.items()}
    together = split_of(list(zip(*choices.values(), strict=True))) if choices else (0,) * len(known)
    found: dict[tuple[int, ...], list[str]] = {}
    for key in dict.fromkeys(name for number in known for name in runs[number].options):
        split = split_of([runs[number].options.get(key, DEFAULT) for number in known])
        if len(set(split)) > 1 and not _follows(split, together) and not key.startswith(_WITHOUT_EFFECT):
            found.setdefault(split, []).append(key)
    keys = [_representative(names) for names in found.values()]
    return {key: [typed_value(run, key) for run in runs] for key in keys}


def _follows(split: Sequence[int], cause: Sequence[int]) -> bool:
    """Tell whether runs that are equal in ``cause`` are also equal in ``split``."""
    return len(set(zip(cause, split, strict=True))) == len(set(cause))


def _representative(keys: Sequence[str]) -> str:
    """Return one of ``keys`` that vary together: the seed, else a component, else the key with the fewest dots."""
    own = [key for key in keys if not key.startswith("task.")] or list(keys)
    targets = [key.removesuffix("._target_") for key in own if key.endswith("._target_")]
    if SEED in own:
        return SEED
    return min(targets or own, key=lambda key: (key.count("."), own.index(key) if key in own else 0))


def _groups(found: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Group keys that vary one-to-one: the first key -> the others."""
    first: dict[tuple[int, ...], str] = {}
    groups: dict[str, list[str]] = {}
    for key, values in found.items():
        leader = first.setdefault(split_of(values), key)
        if leader == key:
            groups[key] = []
        else:
            groups[leader].append(key)
    return groups


def _labels(keys: Sequence[str]) -> dict[str, str]:
    ends = {key: list(_ends(key)) for key in keys}
    return {
        key: next((end for end in ends[key] if all(end not in ends[other] for other in keys if other != key)), key)
        for key in keys
    }


def _ends(key: str) -> Iterator[str]:
    """Yield the ends of a key from the shortest: "lr", "generator_optimizer.lr"."""
    steps = key.rpartition("@")[2].split(".")
    yield from (".".join(steps[-count:]) for count in range(1, len(steps) + 1))


def _ordered(values: Sequence[str]) -> tuple[str, ...]:
    distinct = list(dict.fromkeys(values))

    def rank(value: str) -> tuple[Any, ...]:
        try:
            return (value == UNKNOWN, float(value))
        except ValueError:
            return (True, float(distinct.index(value)))

    numbers = all(rank(value)[0] is False for value in distinct if value != UNKNOWN)
    return tuple(sorted(distinct, key=rank) if numbers else distinct)
