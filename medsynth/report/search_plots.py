"""Plots of a search, which ``medsynth.search`` draws and the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medsynth.report.figures import Figure
from medsynth.report.run import Run
from medsynth.runs.placement import shown

STUDY = "study.db"  # Optuna's file in the folder of a search
PARALLEL = "parallel"
_REMARKS = {
    "history": "A point is a trial; the line is the best so far.",
    "importance": "Share of the objective's spread that an option explains, by PED-ANOVA (Watanabe et al. 2023).",
    "slice": "A point is a trial; its color goes with its number.",
    PARALLEL: "A line is a trial, from the objective to its options; darker lines are better.",
}


@dataclass(frozen=True)
class SearchPlot:
    """One plot.

    Attributes:
        kind: history, importance, slice or ``PARALLEL``.
        title: heading.
        figure: data and layout.
    """

    kind: str
    title: str
    figure: Figure

    @property
    def remark(self) -> str:
        """Sentence on how to read it."""
        return _REMARKS.get(self.kind, "")


def search_folder(runs: Sequence[Run]) -> Path | None:
    """Return the folder of the search that all ``runs`` are trials of; None: they are not."""
    parents = {run.folder.parent for run in runs}
    folder = parents.pop() if len(parents) == 1 else None
    return folder if folder is not None and (folder / STUDY).is_file() else None


def dashboard_command(folder: Path) -> str:
    """Return the command that opens Optuna's dashboard on the study of a search."""
    return f"optuna-dashboard sqlite:///{shown(folder / STUDY)}"
