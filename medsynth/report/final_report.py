"""The report that a run writes at its end."""

from __future__ import annotations

import logging
from pathlib import Path

from medsynth.errors import sentence_of
from medsynth.runs.layout import REPORT

_log = logging.getLogger(__name__)


def write_final_report(folder: Path, wanted: bool | str, *, in_sweep: bool) -> None:
    """Write report.html of the run in ``folder``; a report that fails is no failure of the training.

    Args:
        folder: of the run.
        wanted: the option ``report``: True, False, or ``auto``, which leaves a sweep's jobs to the sweep's report.
        in_sweep: the run is a job of a sweep.
    """
    if not (wanted is True or (wanted == "auto" and not in_sweep)):
        return
    try:
        from medsynth.report.page import write_report  # here, since its libraries take a second

        write_report([folder], folder / REPORT)
    except Exception as error:
        _log.warning("The report could not be written: %s", sentence_of(error))
