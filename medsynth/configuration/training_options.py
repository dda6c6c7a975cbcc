"""The configuration of a training from its options, outside of Hydra's own program."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from omegaconf import DictConfig

from medsynth.configuration.compose import compose
from medsynth.configuration.composition_errors import composition_error
from medsynth.configuration.option_types import with_option_types
from medsynth.configuration.secrets import check_secrets
from medsynth.errors import InputError


def compose_training(overrides: Sequence[str]) -> DictConfig:
    """Compose conf/train.yaml with ``overrides``.

    Raises:
        InputError: they do not compose, a value has another type than its option, or one is a secret.
    """
    with explained(overrides):
        config = compose("train", overrides)
        check_secrets(config)
        return with_option_types(config, "train", overrides)


@contextlib.contextmanager
def explained(overrides: Sequence[str] = ()) -> Iterator[None]:
    """Turn Hydra's errors about a training's options into one sentence.

    Raises:
        InputError: instead of an error of Hydra or OmegaConf.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        sentence = composition_error(error, "train", overrides)
        if sentence is None:
            raise
        raise InputError(sentence) from error
