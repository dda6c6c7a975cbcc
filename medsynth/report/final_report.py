"""The page of a run: written at its end, and again when something more was measured of it."""

from __future__ import annotations

import logging
from pathlib import Path

from medsynth.errors import sentence_of
from medsynth.files import write_json
from medsynth.runs.layout import REPORT, SUMMARY
from medsynth.runs.placement import shown
from medsynth.runs.records import read_json

_log = logging.getLogger(__name__)


def write_final_report(folder: Path, wanted: bool | str, *, in_sweep: bool) -> None:
    """Write report.html of the run in ``folder``; a report that fails is no failure of the training.

    Args:
        folder: of the run.
        wanted: the option ``report``: True, False, or ``auto``, which leaves a sweep's jobs to the sweep's report.
        in_sweep: the run is a job of a sweep.
    """
    if is_wanted(wanted, in_sweep=in_sweep) and _written(folder):
        record_file(folder, "report", folder / REPORT)


def refresh_report(folder: Path) -> None:
    """Write the page of the run in ``folder`` again, if it has one, and print where it is."""
    if (folder / REPORT).is_file() and _written(folder):
        print(f"The page of the run shows it: {shown(folder / REPORT)}")


def is_wanted(wanted: bool | str, *, in_sweep: bool) -> bool:
    """Tell whether a run writes a page, or figures, at its end."""
    return wanted is True or (wanted == "auto" and not in_sweep)


def record_file(folder: Path, name: str, path: Path) -> None:
    """Add a file to those that the summary of the run in ``folder`` names, for the closing text."""
    summary = read_json(folder / SUMMARY)
    if isinstance(summary.get("files"), dict):
        write_json(folder / SUMMARY, summary | {"files": {**summary["files"], name: shown(path)}})


def _written(folder: Path) -> bool:
    try:
        from medsynth.report.page import write_report  # here, since its libraries take a second

        write_report([folder], folder / REPORT)
    except Exception as error:
        _log.warning("The report could not be written: %s", sentence_of(error))
        return False
    return True
