"""The folder of a run while it is trained: created or resumed, its status kept, its end recorded."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import medsynth
from medsynth.configuration.plain_names import check_names
from medsynth.configuration.secrets import check_secrets
from medsynth.configuration.trusted_paths import check_links
from medsynth.errors import EndCode, InputError
from medsynth.files import write_json
from medsynth.runs.launcher_environment import rank, requeue, silence
from medsynth.runs.layout import CHECKPOINT, GENERATOR, REPORT, SUMMARY
from medsynth.runs.lock import locked
from medsynth.runs.placement import AUTO, changed_options, is_resumed, shown
from medsynth.runs.records import read_json
from medsynth.runs.resume import Finished, read_composition, refuse_running, save_configuration
from medsynth.runs.run_end import Interrupted, end_of
from medsynth.runs.status import RUNNING, this_process


@dataclasses.dataclass(frozen=True)
class Launch:
    """The way a run is started.

    Attributes:
        folder: where it lands.
        typed: the options that the user gave, as ``key=value``.
        folder_named: the user named the folder by hydra.run.dir.
    """

    folder: Path
    typed: tuple[str, ...] = ()
    folder_named: bool = False


@dataclasses.dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: where it lies.
        code: how it ended.
        summary: what summary.json says; empty in all but the first of several processes.
        config: its configuration: of a resumed run its own, not the one that was composed to resume it.
    """

    folder: Path
    code: EndCode
    summary: dict[str, Any]
    config: DictConfig

    @property
    def best(self) -> float:
        """The lowest value of the objective; NaN where this process knows none."""
        value = self.summary.get("best", {}).get("value")
        return math.nan if value is None else float(value)

    @property
    def metrics(self) -> dict[str, float]:
        """The values of the last validation by name, ``val/...``."""
        return dict(self.summary.get("metrics", {}))

    @property
    def images_seen(self) -> int:
        """Real images that the discriminator has seen."""
        return int(self.summary.get("images_seen", 0))

    @property
    def generator(self) -> Path:
        """The file of the best generator, for ``medsynth.load_generator``."""
        return self.folder / GENERATOR

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint, which ``resume=`` continues from."""
        return self.folder / CHECKPOINT

    @property
    def report(self) -> Path:
        """The page of the run."""
        return self.folder / REPORT


class RunFolder:
    """One run: where it lands, its configuration, and whether it is resumed or already complete.

    Attributes:
        path: the folder.
        config: the configuration as composed, or that of the resumed run; never changed in place.
        resumed: there is a checkpoint to continue from.
        complete: the run was resumed automatically and has nothing left to do.
    """

    def __init__(self, path: Path, config: DictConfig, *, resumed: bool = False, complete: bool = False):
        self.path, self.config, self.resumed, self.complete = path, config, resumed, complete

    @classmethod
    @contextlib.contextmanager
    def open(cls, config: DictConfig, launch: Launch) -> Iterator[RunFolder]:
        """Create the run or read the one to resume; keep its status while it is open, and record how it ended.

        Of several processes the first one records. Where all of them stop alike, the others exit silently.

        Raises:
            InputError: the folder holds another run, or one that is running, or none that can be resumed.
        """
        if rank() > 0:
            silence()
        try:
            with contextlib.ExitStack() as held:
                if rank() == 0:
                    held.enter_context(locked(launch.folder))
                run = _prepared(config, launch)
                if rank() == 0 and not run.complete:
                    held.enter_context(_recorded(run.path))
                yield run
        except InputError as error:
            if rank() > 0 and error.code in (EndCode.INTERRUPTED, EndCode.DIVERGED):
                sys.exit(0)  # a failure would have the launcher end the first process before it has written everything
            if isinstance(error, Interrupted) and error.requeue:  # now that everything is written
                requeue()
            raise

    def save(self, config: DictConfig) -> None:
        """Write the finished configuration of the run; the first of several processes does."""
        if rank() == 0:
            save_configuration(config, self.path)

    def result(self) -> RunResult:
        """Return the run's end as recorded."""
        summary = read_json(self.path / SUMMARY) if rank() == 0 else {}
        code = EndCode.ALREADY_COMPLETE if self.complete else EndCode.COMPLETED
        return RunResult(self.path, code, summary, self.config)


def last_checkpoint(folder: Path) -> str:
    """Say where the last good checkpoint is and how to resume from it."""
    last = folder / CHECKPOINT
    if not last.is_file():
        return "There is no checkpoint yet."
    return f"The last good checkpoint is {shown(last)}; resume={shown(folder)} continues from it."


def _prepared(config: DictConfig, launch: Launch) -> RunFolder:
    folder = launch.folder
    typed = [item for item in launch.typed if not item.startswith("sweep.")]  # those are filled in by a sweep
    in_sweep = config.sweep.folder is not None
    resumed = is_resumed(config.resume, folder, named=launch.folder_named, in_sweep=in_sweep)
    automatic = config.resume in (None, AUTO)
    if resumed:
        try:
            changes = changed_options(folder, typed) if automatic else typed
            check_links(folder, trusted=config.trust)
            config = read_composition(folder, changes, trusted=config.trust, present=config)
        except Finished:
            if automatic:
                return RunFolder(folder, config, complete=True)
            raise
        check_secrets(config)
        check_names(config)
    elif not in_sweep and rank() == 0:
        refuse_running(folder)
    if automatic:  # the loggers look there for whether a run is resumed
        typed = [item for item in typed if not item.startswith("resume=")] + ([f"resume={folder}"] if resumed else [])
    config = copy.deepcopy(config)
    config.run_dir = str(folder)
    config.overrides = [*config.overrides, *typed]
    return RunFolder(folder, config, resumed=resumed)


@contextlib.contextmanager
def _recorded(folder: Path) -> Iterator[None]:
    """Write to summary.json that the run is running and in which process; after an error, how and why it ended."""
    path, process = folder / SUMMARY, {"process": this_process()}
    before = read_json(path)
    write_json(path, {"medsynth": medsynth.__version__, "status": RUNNING, **process})
    try:
        yield
    except BaseException as error:
        found = read_json(path)
        ended = {**found, **end_of(error).record(), **process}
        unchanged = before and found.get("status") == RUNNING  # a resume that failed before its first step
        write_json(path, before if unchanged else ended)
        raise
