"""Choice of a run's folder: one for all of its processes, and the same one when the run is resumed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

from medsynth.configuration.trusted_paths import check_links
from medsynth.errors import InputError
from medsynth.runs.launcher_environment import rank, slurm_name, started_again, started_by_launcher
from medsynth.runs.layout import CHECKPOINT, COMPOSITION, CONFIGURATION, SWEEP, older_ones
from medsynth.untrusted_files import UnreadableFile, load_yaml

AUTO = "auto"  # resume=auto: resume the run in hydra.run.dir if there is one, else begin it
_EXAMPLE = "name one such as resume=outputs/2026-01-31/12-00-00"
_PATIENCE = 120  # seconds that processes wait for the first one to name the folder
_START_OPTIONS = ("resume", "trust")  # say how a run is started, not what it trains
_created: list[Path] = []  # folders of runs; OmegaConf asks for one also where another is given, or nothing is run


def choose_folder(resume: str | None, root: str, name: str, typed: Sequence[str] = ()) -> str:
    """Return the folder of this run: the one to resume, or a new ``root/name`` that no other run has.

    A SLURM job gets a folder named after the job; after a requeue it finds the folder of the same options again.
    Processes of torchrun take the folder that the first of them takes.

    Raises:
        InputError: ``resume`` is not the folder of a run, or holds a link to a place outside of it.
    """
    if resume and resume != AUTO:
        if not (Path(resume) / CONFIGURATION).is_file():
            raise InputError(f"resume={resume} is not the folder of a run: {_description(Path(resume))}.")
        check_links(Path(resume), trusted="trust=true" in typed)  # Hydra opens train.log there before anything else
        return resume
    named = slurm_name()
    if named is None:
        fresh = f"{root}/{name}"
        return _agreed(fresh) if started_by_launcher() else _unique(fresh)
    fresh = f"{root}/{named}"
    if started_again():
        folders = [fresh, *sorted(map(str, Path(root).glob(f"{named}-*")))]
        found = next((folder for folder in folders if _given(Path(folder)) == _by_key(typed)), None)
        if found:
            return found
    return fresh if started_by_launcher() else _unique(fresh)


def is_resumed(resume: str | None, folder: Path, *, named: bool, in_sweep: bool) -> bool:
    """Decide whether the run in ``folder`` is resumed: on request, or since SLURM has started its job again.

    Args:
        resume: the option: a folder, ``auto`` or None.
        folder: the run's folder.
        named: the user has named the folder by hydra.run.dir.
        in_sweep: the run is a job of a sweep, which decides by itself.

    Raises:
        InputError: a new run would overwrite an existing one, or ``auto`` has no folder to look into.
    """
    if resume and resume != AUTO:
        return True
    if in_sweep:
        return False
    if resume and not (named or slurm_name()):
        raise InputError(f"resume={AUTO} needs hydra.run.dir=outputs/name, the folder to look into.")
    exists = bool(older_ones(folder / CHECKPOINT))
    if resume == AUTO or started_again():
        return exists
    if exists:
        raise InputError(
            f"{shown(folder)} already holds a run: resume it by resume={shown(folder)}, have it resumed whenever it "
            f"exists by resume={AUTO}, or name another folder by hydra.run.dir=."
        )
    return False


def changed_options(folder: Path, typed: Iterable[str]) -> list[str]:
    """Return those of the options ``typed`` that the run in ``folder`` was not given."""
    given = _given(folder) or {}
    return [item for key, item in _by_key(typed).items() if given.get(key) != item or key == "resume_data"]


def shown(path: Path) -> str:
    """Return ``path`` relative to the current folder if it lies below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def make_folder(folder: Path) -> Path:
    """Create a folder that the user has named, to be deleted by ``remove_unused`` if nothing is written to it."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        _created.append(folder)
    return folder


def remove_unused() -> None:
    """Delete run folders that were created and not used, and folders above them that are then empty."""
    while _created:
        with contextlib.suppress(OSError):  # not empty: a run
            os.removedirs(_created.pop())


def _description(path: Path) -> str:
    above = next((folder for folder in path.parents if (folder / CONFIGURATION).is_file()), None)
    if not path.exists():
        return f"it does not exist; {_EXAMPLE}"
    if (path / SWEEP).is_file():
        return f"it is a sweep, which `medsynth sweep resume={path}` resumes"
    return f"it lies inside one, resume={above}" if above else f"it holds no config.yaml; {_EXAMPLE}"


def _given(folder: Path) -> dict[str, str] | None:
    """Read the options that the run in ``folder`` was given; None: there is no run."""
    try:
        content = load_yaml(folder / COMPOSITION)
    except (OSError, UnreadableFile):
        return None
    overrides = content.get("overrides") if isinstance(content, dict) else None
    return _by_key(item for item in overrides if isinstance(item, str)) if isinstance(overrides, list) else None


def _by_key(options: Iterable[str]) -> dict[str, str]:
    """Map each key to its last option, which is the one that counts."""
    named = {item.partition("=")[0]: item for item in options}
    return {key: item for key, item in named.items() if not (key in _START_OPTIONS or key.startswith("sweep."))}


def _unique(fresh: str) -> str:
    folder, number = fresh, 1
    while True:
        try:
            Path(folder).mkdir(parents=True)  # so that no other run takes it, started in the same second
            _created.append(Path(folder))
            return folder
        except FileExistsError:
            number += 1
            folder = f"{fresh}-{number}"


def _agreed(fresh: str) -> str:
    """Return the folder that the first process takes, through the store that torchrun keeps for its processes."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise InputError("These processes share no store to agree on a folder: give hydra.run.dir=outputs/name.")
    # Here, since it takes a second.
    from torch.distributed import DistError, TCPStore  # pyright: ignore[reportPrivateImportUsage]

    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    key = f"medsynth/run_folder/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    try:
        store = TCPStore(*place, timeout=timedelta(seconds=_PATIENCE), wait_for_workers=False)
        if rank() == 0:
            store.set(key, _unique(fresh))
        return store.get(key).decode()
    except DistError as error:
        raise InputError("The first process did not name the run's folder: give hydra.run.dir=outputs/name.") from error
