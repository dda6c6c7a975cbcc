"""The checked configuration of a command from its options, outside of Hydra's own program."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from medsynth.configuration.combinations import check_combinations
from medsynth.configuration.compose import compose
from medsynth.configuration.input_errors import input_errors
from medsynth.configuration.option_types import with_option_types
from medsynth.configuration.plain_names import check_names
from medsynth.configuration.plain_values import with_quoted_values
from medsynth.configuration.secrets import check_secrets


def compose_checked(command: str, overrides: Sequence[str]) -> DictConfig:
    """Compose conf/<command>.yaml with ``overrides`` and check them as the command line does.

    Raises:
        InputError: they do not compose, a value has another type than its option, one is a secret, a name is not a
            plain word, or two choices exclude each other.
    """
    overrides = with_quoted_values(overrides)
    with input_errors(command, overrides):
        config = compose(command, overrides)
        check_secrets(config)
        check_names(config)
        config = with_option_types(config, command, overrides)
        if command == "train":
            check_combinations(config)
        return config
