"""Finished runs as a Markdown table, best first.

uv run scripts/tabulate_runs.py multirun/2026-01-31/12-00-00 [more folders ...]

Reads the summary.json of every run below the folders. Runs that differ by their seed alone share a row: mean and, in
brackets, lowest and highest of the objective at the end of training.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from omegaconf import OmegaConf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    groups: dict[str, list[dict]] = {}
    for folder in parser.parse_args().folders:
        for path in sorted(folder.rglob("summary.json")):
            summary = json.loads(path.read_text())
            summary["overrides"] = OmegaConf.load(path.with_name("config.yaml")).overrides
            name = " ".join(word for word in summary["overrides"] if not word.startswith(("seed=", "hydra.")))
            groups.setdefault(name, []).append(summary)
    rows = sorted((_row(name, runs) for name, runs in groups.items()), key=lambda row: row[0])
    print("| overrides | runs | objective | best | images | images/s |\n|---|---|---|---|---|---|")
    for _, row in rows:
        print("| " + " | ".join(row) + " |")


def _row(name: str, runs: list[dict]) -> tuple[float, list[str]]:
    done = [run for run in runs if run["status"] == "completed"]
    if not done:
        return float("inf"), [f"`{name}`", f"0 of {len(runs)}", "failed", "", "", ""]
    objective = done[0]["best"]["objective"]
    last = [run["metrics"][objective] for run in done]
    best = statistics.mean(run["best"]["value"] for run in done)
    spread = f" [{min(last):.3g}, {max(last):.3g}]" if len(last) > 1 else ""
    speed = statistics.median(run["images_per_second"] for run in done)
    mean = statistics.mean(last)
    count = f"{len(done)}" if len(done) == len(runs) else f"{len(done)} of {len(runs)}"
    value = f"{objective} {mean:.3g}{spread}"
    return mean, [f"`{name}`", count, value, f"{best:.3g}", f"{done[0]['images_seen']:,}", f"{speed:.0f}"]


if __name__ == "__main__":
    main()
