"""Arguments of ``medsynth search``: options of the search itself, and those of its trainings."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.types import Quote, QuotedString

_WITH_VALUE = (
    "--config-dir",
    "-cd",
    "--config-path",
    "-cp",
    "--config-name",
    "-cn",
    "--package",
    "-p",
    "--experimental-rerun",
)
_OWN = ("search.", "+search.", "++search.", "~search.", "hydra.", "hydra/", "+hydra", "-")


def fold(arguments: Sequence[str]) -> list[str]:
    """Gather the overrides of the trainings in one option, ``search.train=["loss=hinge,non_saturating",...]``.

    Hydra then composes conf/search.yaml alone, and the space is typed as in a sweep, without brackets. Folding twice
    gives the same as folding once.

    >>> fold(["loss=hinge,non_saturating", "search.trials=5"])
    ['search.trials=5', 'search.train=["loss=hinge,non_saturating"]']
    """
    own, training, is_value = [], [], False
    for argument in arguments:
        if argument.startswith("trust="):  # as it is typed for all other commands
            argument = f"search.{argument}"
        is_own = is_value or argument.startswith(_OWN)
        (own if is_own else training).append(argument)
        is_value = argument in _WITH_VALUE
    quoted = ",".join(QuotedString(override, Quote.double).with_quotes() for override in training)
    return [*own, f"search.train=[{quoted}]"] if training else own
