"""medsynth from Python: ``medsynth.train``, the counterpart of the command line."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medsynth.cli.compose import register_resolvers
from medsynth.configuration.checked_composition import compose_checked
from medsynth.configuration.input_errors import input_errors
from medsynth.configuration.override_text import override, quoted
from medsynth.figures.completion import complete_report
from medsynth.runs.placement import choose_folder, make_folder, remove_unused
from medsynth.runs.run_folder import Launch, RunResult
from medsynth.runs.successor import link, successor_of
from medsynth.training import train as _train


def train(
    *overrides: str, folder: str | Path | None = None, config_dir: str | Path | None = None, **options: Any
) -> RunResult:
    """Train a GAN as ``python train.py`` does, and return where the run landed and what it measured.

    With ``doctor.act=true``, where the doctor ended the run, that is the run which follows it.

    The process is left as it was found: random numbers, warnings, levels of loggers, environment and signal handlers.

    Args:
        overrides: options as typed on the command line: ``"data=image_folder"``, ``"generator.width=16"``.
        folder: where the run lands; None: a new folder in outputs/, named by date and time.
        config_dir: a folder with choices of your own.
        options: options whose names have no dot: ``max_images=20_000, seed=1``.

    Raises:
        InputError: an option is unknown or unsuitable, the data cannot be read, or the training diverged or was
            stopped; the message is one sentence, ``code`` says which.
    """
    typed = [*overrides, *(override(name, value) for name, value in options.items())]
    searched = [] if config_dir is None else [f"hydra.searchpath=[{quoted(f'file://{_absolute(config_dir)}')}]"]
    with unchanged_process(), input_errors("train", [*typed, *searched]):
        register_resolvers()
        config = compose_checked("train", [*typed, *searched])
        try:
            if folder is None:
                place = _absolute(choose_folder(config.resume, "outputs", time.strftime("%Y-%m-%d/%H-%M-%S"), typed))
            else:
                place = make_folder(_absolute(folder))
            result = _train(config, Launch(place, tuple(typed), folder_named=folder is not None))
            result = complete_report(result)
        finally:
            remove_unused()
    successor = successor_of(result, typed)
    if successor is None:
        return result
    link(result, successor)
    return train(*successor.typed, folder=successor.folder, config_dir=config_dir)


@contextlib.contextmanager
def unchanged_process() -> Iterator[None]:
    """Restore the state of this process that a training changes."""
    environment, states = dict(os.environ), (random.getstate(), np.random.get_state())
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "timm")]
    levels = [logger.level for logger in loggers]
    in_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in _stop_signals()} if in_main_thread else {}
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


def _stop_signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
