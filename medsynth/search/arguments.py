"""Arguments of ``medsynth search``: options of the search itself, and those of its trainings."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.types import Quote, QuotedString

_OWN = ("search.", "+search.", "++search.", "~search.", "hydra.", "hydra/", "+hydra")


def fold(arguments: Sequence[str]) -> list[str]:
    """Gather the overrides of the trainings in one option, ``search.train=["loss=hinge,non_saturating",...]``.

    Hydra then composes conf/search.yaml alone, and the space is typed as in a sweep, without brackets. Folding twice
    gives the same as folding once. Flags have their values in the same word, as of ``configuration.flags``; they stay
    at the end, where alone Hydra's parser takes them.

    >>> fold(["loss=hinge,non_saturating", "search.trials=5", "--config-dir=my/conf"])
    ['search.trials=5', 'search.train=["loss=hinge,non_saturating"]', '--config-dir=my/conf']
    """
    own, training = [], []
    flags = [argument for argument in arguments if argument.startswith("-")]
    for argument in (argument for argument in arguments if not argument.startswith("-")):
        if argument.startswith("trust="):  # as it is typed for all other commands
            argument = f"search.{argument}"
        (own if argument.startswith(_OWN) else training).append(argument)
    quoted = ",".join(QuotedString(override, Quote.double).with_quotes() for override in training)
    return [*own, *([f"search.train=[{quoted}]"] if training else []), *flags]
