"""Check of study.db, the SQLite file of a search, which may be a stranger's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from optuna.trial import FrozenTrial

from medsynth.errors import InputError
from medsynth.search.study import OVERRIDES, REASON

_PLAIN = ("table", "index")  # what Optuna creates; triggers and views would be run with its own statements
_LARGEST = 2**30  # bytes


def check_study(path: Path) -> None:
    """Refuse a file that is no SQLite file, is very large, or holds more than tables with their indices.

    Raises:
        InputError: names the file and what was found.
    """
    if path.stat().st_size > _LARGEST:
        raise InputError(
            f"{path} is larger than the {_LARGEST / 2**30:g} GiB of a study that are read: give another search.folder."
        )
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise InputError(f"{path} cannot be read as the study of a search: give another search.folder.") from error
    for kind, name, statement in found:
        if kind not in _PLAIN or str(statement or "").upper().startswith("CREATE VIRTUAL"):
            raise InputError(
                f"{path} has the {kind} {str(name)[:40]!r}, which Optuna does not make and which could change what is "
                "read: search.trust=true if it is your own."
            )


def check_trials(trials: Sequence[FrozenTrial], keys: Sequence[str], source: Path) -> None:
    """Refuse trials whose recorded options are others than those that are searched: they are printed to be repeated.

    Raises:
        InputError: names the trial.
    """
    for trial in trials:
        overrides, reason = trial.user_attrs.get(OVERRIDES, []), trial.user_attrs.get(REASON, "")
        texts = isinstance(overrides, list) and all(isinstance(item, str) for item in overrides)
        if not texts or not isinstance(reason, str) or any(item.partition("=")[0] not in keys for item in overrides):
            raise InputError(
                f"{source} has other options in trial {trial.number} than those that are searched: search.trust=true "
                "if it is your own."
            )
