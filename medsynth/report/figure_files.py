"""The figures in ``report/`` of a run's folder: their files, read as a stranger's, and their charts in the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsynth.report.evaluation import read_evaluation
from medsynth.report.run_files import finite, text
from medsynth.runs.records import read_json
from medsynth.untrusted_files import UnreadableFile, load_table

FOLDER, INDEX, MEASURES = "report", "figures.json", "measures.json"
TITLES = {  # by the name of the files, in the order of the page; names of others are not read
    "samples": "Samples for a paper",
    "nearest": "Nearest training images",
    "interpolation": "Paths between images",
    "embedding": "Real and generated images in the plane (PCA)",
    "embedding_umap": "Real and generated images in the plane (UMAP)",
    "intensities": "Intensities",
    "spectrum": "Power over spatial frequencies",
    "classes": "Precision and recall by class",
}
ENDINGS = ("svg", "pdf", "csv")
_CHARTS = ("embedding", "embedding_umap", "intensities", "spectrum", "classes")


@dataclass(frozen=True)
class FigureFiles:
    """One figure of a run.

    Attributes:
        name: one of ``TITLES``.
        caption: what it shows, with numbers.
        folder: of its files.
        endings: of the files that there are.
        picture: PNG of the page; None: the page draws it from the table.
        table: the rows of its CSV, for those that the page draws.
    """

    name: str
    caption: str
    folder: Path
    endings: tuple[str, ...]
    picture: Path | None
    table: tuple[Mapping[str, str], ...] = ()

    @property
    def title(self) -> str:
        """The heading."""
        return TITLES[self.name]


def read_figures(run: Path) -> tuple[FigureFiles, ...]:
    """Return the figures in the run's folder, of which all files are there; none while they are written."""
    folder = run / FOLDER
    listed = read_json(folder / INDEX).get("figures")
    described: dict[str, Mapping[str, Any]] = {}
    for row in listed if isinstance(listed, list) else ():
        name = text(row.get("name")) if isinstance(row, Mapping) else None
        if name in TITLES:
            described[name] = row
    found = (_read(folder, name, described[name]) for name in TITLES if name in described)
    return tuple(figure for figure in found if figure.endings)


def read_measures(run: Path) -> dict[str, Any] | None:
    """Return the measures that came with the figures, as a record of an evaluation; None: there are none."""
    record = read_evaluation(run / FOLDER / MEASURES)
    return None if record is None else {**record, "file": f"{FOLDER}/{MEASURES}"}


def seconds_taken(run: Path) -> float | None:
    """Return the time that the figures took."""
    return finite(read_json(run / FOLDER / INDEX).get("seconds"))


def _read(folder: Path, name: str, row: Mapping[str, Any]) -> FigureFiles:
    endings = tuple(ending for ending in ENDINGS if (folder / f"{name}.{ending}").is_file())
    picture = folder / f"{name}.png"
    table = _table(folder / f"{name}.csv") if name in _CHARTS else ()
    return FigureFiles(
        name, text(row.get("caption")) or "", folder, endings, picture if picture.is_file() else None, table
    )


def _table(path: Path) -> tuple[Mapping[str, str], ...]:
    try:
        lines = load_table(path)
    except (OSError, UnreadableFile):
        return ()
    return tuple(dict(zip(lines[0], line, strict=False)) for line in lines[1:]) if lines else ()
