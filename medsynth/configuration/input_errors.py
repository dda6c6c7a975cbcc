"""Errors of Hydra and OmegaConf as the InputError behind them, for functions that Python programs call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from medsynth.configuration.compose import folders_of
from medsynth.configuration.composition_errors import composition_error
from medsynth.errors import InputError, causes


@contextlib.contextmanager
def input_errors(command: str, overrides: Sequence[str]) -> Iterator[None]:
    """Raise errors of composing ``command`` with ``overrides`` and of building its objects as ``InputError``."""
    with folders_of(overrides):
        try:
            yield
        except InputError:
            raise
        except (HydraException, OmegaConfBaseException) as error:
            for cause in causes(error):
                if isinstance(cause, InputError):
                    raise InputError(str(cause), code=cause.code) from error
            sentence = composition_error(error, command, overrides)
            if sentence is None:
                raise
            raise InputError(sentence) from error
