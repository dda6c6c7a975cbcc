"""Warnings about the data, collected for commands that print them with their results."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def captured_warnings() -> Iterator[list[logging.LogRecord]]:
    """Collect the warnings that the data package would log at the start of a training."""
    log = logging.getLogger("medsynth.data")
    warnings: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.append(record)

    collector, propagate = Collector(logging.WARNING), log.propagate
    log.addHandler(collector)
    log.propagate = False
    try:
        yield warnings
    finally:
        log.removeHandler(collector)
        log.propagate = propagate
