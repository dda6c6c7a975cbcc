"""The arguments of ``medsynth search``: options of the search, and beside them what is typed for a training."""

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
    """Gather the overrides of the training in one option, ``search.train=["loss=hinge,non_saturating",...]``.

    So Hydra composes conf/search.yaml alone, and a space is written as in a sweep, without brackets. Folding twice is
    the same as once.

    >>> fold(["loss=hinge,non_saturating", "search.trials=5"])
    ['search.trials=5', 'search.train=["loss=hinge,non_saturating"]']
    """
    own, training, is_value = [], [], False
    for argument in arguments:
        is_own = is_value or argument.startswith(_OWN)
        (own if is_own else training).append(argument)
        is_value = argument in _WITH_VALUE
    quoted = ",".join(QuotedString(override, Quote.double).with_quotes() for override in training)
    return [*own, f"search.train=[{quoted}]"] if training else own
