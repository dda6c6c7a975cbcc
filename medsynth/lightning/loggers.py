"""Loggers of a run: told its options when it starts, and closed however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import Logger

from medsynth.lightning.trainer_access import ClosableLogger
from medsynth.runs.run_end import end_of
from medsynth.runs.status import COMPLETED


@contextlib.contextmanager
def open_loggers(loggers: Sequence[Logger], options: Mapping[str, Any]) -> Iterator[None]:
    """Log the run's ``options``; close every logger at the end, or the next job of a sweep would write into it."""
    status = COMPLETED
    try:
        for logger in loggers:
            logger.log_hyperparams(dict(options))
        yield
    except BaseException as error:
        status = end_of(error).status
        raise
    finally:
        for logger in loggers:
            if isinstance(logger, ClosableLogger):
                logger.close(failed=status != COMPLETED, status=status)
