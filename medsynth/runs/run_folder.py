"""Where a run lands, the same folder for all of its processes; and whether it goes on there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

from omegaconf import OmegaConf
from yaml import YAMLError

from medsynth.errors import InputError
from medsynth.runs.launcher_environment import rank, slurm_name, started_again, started_by_launcher
from medsynth.runs.layout import CHECKPOINT, COMPOSITION, CONFIGURATION, SWEEP, older_ones

AUTO = "auto"  # resume=auto: go on with the run in hydra.run.dir, if there is one
_PATIENCE = 120  # seconds that processes wait for the first one's word
_OF_THE_START = ("resume", "trust")  # options that say how a run is started, not what it is
_made: list[Path] = []  # folders of runs; OmegaConf asks for one also where another is given, or nothing is run


def run_folder(resume: str | None, root: str, name: str, typed: Sequence[str] = ()) -> str:
    """The folder of this run: the one to go on with, or ``root/name``, made unique if another run has just taken it.

    A job of SLURM has one named by the job; when it was put back into the queue, it finds that of the same options
    again. Processes of torchrun take what the first of them takes.

    Raises:
        InputError: ``resume`` is not the folder of a run.
    """
    if resume and resume != AUTO:
        if not (Path(resume) / CONFIGURATION).is_file():
            raise InputError(f"resume={resume} is not the folder of a run: {_what_it_is(Path(resume))}.")
        return resume
    named = slurm_name()
    if named is None:
        fresh = f"{root}/{name}"
        return _common(fresh) if started_by_launcher() else _unique(fresh)
    fresh = f"{root}/{named}"
    if started_again():
        folders = [fresh, *sorted(map(str, Path(root).glob(f"{named}-*")))]
        found = next((folder for folder in folders if _given(Path(folder)) == _by_key(typed)), None)
        if found:
            return found
    return fresh if started_by_launcher() else _unique(fresh)


def goes_on(resume: str | None, folder: Path, *, named: bool, in_sweep: bool) -> bool:
    """Whether the run in ``folder`` is to go on: as asked for, or since SLURM has started its job again.

    ``named``: the user has named the folder, by hydra.run.dir.

    Raises:
        InputError: a new run would write over one that is there, or ``auto`` without a folder to look into.
    """
    if resume and resume != AUTO:
        return True
    if in_sweep:  # which says itself what its jobs are to do
        return False
    if resume and not (named or slurm_name()):
        raise InputError(f"resume={AUTO} needs hydra.run.dir=outputs/name, the folder to look into.")
    there = bool(older_ones(folder / CHECKPOINT))
    if resume == AUTO or started_again():
        return there
    if there:
        raise InputError(
            f"{shown(folder)} holds a run already: go on with it by resume={shown(folder)}, do so whenever there is "
            f"one by resume={AUTO}, or name another folder by hydra.run.dir=."
        )
    return False


def changed(folder: Path, typed: Iterable[str]) -> list[str]:
    """Of the options ``typed``, those that the run in ``folder`` was not given."""
    given = _given(folder) or {}
    return [item for key, item in _by_key(typed).items() if given.get(key) != item or key == "resume_data"]


def shown(path: Path) -> str:
    """Relative to where the user stands, if below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def remove_unused() -> None:
    """Folders that were made and not used, and those above that are then empty."""
    while _made:
        with contextlib.suppress(OSError):  # it is not empty: a run
            os.removedirs(_made.pop())


def _what_it_is(path: Path) -> str:
    above = next((folder for folder in path.parents if (folder / CONFIGURATION).is_file()), None)
    if not path.exists():
        return "it does not exist"
    if (path / SWEEP).is_file():
        return f"it is a sweep, which `medsynth sweep resume={path}` goes on with"
    return f"it is a part of one, resume={above}" if above else "it holds no config.yaml"


def _given(folder: Path) -> dict[str, str] | None:
    """The options that the run in ``folder`` was given; None: there is no run."""
    try:
        return _by_key(OmegaConf.load(folder / COMPOSITION).overrides)
    except (OSError, YAMLError, AttributeError):
        return None


def _by_key(options: Iterable[str]) -> dict[str, str]:
    """The last of each key: it is the one that counts."""
    named = {item.partition("=")[0]: item for item in options}
    return {key: item for key, item in named.items() if not (key in _OF_THE_START or key.startswith("sweep."))}


def _unique(fresh: str) -> str:
    folder, number = fresh, 1
    while True:
        try:
            Path(folder).mkdir(parents=True)  # so that no other run takes it, started in the same second
            _made.append(Path(folder))
            return folder
        except FileExistsError:
            number += 1
            folder = f"{fresh}-{number}"


def _common(fresh: str) -> str:
    """What the first process takes, told by the store that torchrun keeps for its processes."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise InputError("These processes have no common store to agree on a folder: give hydra.run.dir=outputs/name.")
    from torch.distributed import DistError, TCPStore  # here, since it takes a second

    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    key = f"medsynth/run_folder/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    try:
        store = TCPStore(*place, timeout=timedelta(seconds=_PATIENCE), wait_for_workers=False)
        if rank() == 0:
            store.set(key, _unique(fresh))
        return store.get(key).decode()
    except DistError as error:
        raise InputError(
            "The first process did not say where the run lands: give hydra.run.dir=outputs/name."
        ) from error
