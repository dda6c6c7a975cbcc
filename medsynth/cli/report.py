"""The command ``medsynth report``: write one HTML page of runs and sweeps."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from omegaconf import DictConfig

from medsynth.configuration.trusted_paths import check_links
from medsynth.contracts import InputError
from medsynth.report.live import serve
from medsynth.report.page import write_report
from medsynth.report.search_plots import STUDY, SearchPlot


def run(config: DictConfig) -> None:
    """Write the page, or with ``watch=true`` serve it until it is interrupted."""
    folders = _folders(config)
    for folder in folders:
        check_links(folder, trusted=config.trust)
    if config.figures:
        _draw_figures(folders, trust=config.trust)
    if config.watch:
        if config.out is not None:
            raise InputError("watch=true writes no file, so that out= cannot be given with it: leave one of them out.")
        serve(folders, metric=config.metric, port=config.port, open_browser=config.open)
        return
    out = write_report(folders, _target(config, folders), metric=config.metric, plots=_search_plots(folders))
    print(f"The report is in {out} ({out.stat().st_size / 1e6:.1f} MB).")
    if config.open:
        webbrowser.open(out.resolve().as_uri())


def _search_plots(folders: list[Path]) -> list[SearchPlot]:
    """Return Optuna's plots where the one folder is that of a search."""
    if len(folders) != 1 or not (folders[0] / STUDY).is_file():
        return []
    from medsynth.search.plots import search_plots  # here, since Optuna takes a second

    return search_plots(folders[0])


def _draw_figures(folders: list[Path], *, trust: bool) -> None:
    if len(folders) != 1:
        raise InputError("figures=true draws those of one run: name one folder.")
    from medsynth.figures.run_figures import write_figures  # here, since torch takes seconds

    out = write_figures(folders[0], trust=trust)
    if out is None:
        raise InputError("figures=true needs images of 8 pixels or more: leave it out.")
    print(f"The figures are in {out}.")


def _folders(config: DictConfig) -> list[Path]:
    named = [config.folders] if isinstance(config.folders, str) else list(config.folders or [])
    return [Path(folder) for folder in named]


def _target(config: DictConfig, folders: list[Path]) -> Path:
    """Return the file to write: by default report.html in the one folder, or in the current folder for several."""
    if config.out is None:
        return folders[0] / "report.html" if len(folders) == 1 else Path("report.html")
    out = Path(config.out)
    if out.suffix not in (".html", ".htm"):
        raise InputError(f"out={out} does not end in .html: name a file such as out=report.html.")
    return out
