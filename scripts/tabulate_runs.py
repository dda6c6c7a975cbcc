"""Print finished runs as a Markdown table, in the order of their first metric.

    uv run scripts/tabulate_runs.py outputs/2026-01-31 [more folders ...] [--metrics fd_mini fd_pixels is_mini] [--cost]

Reads the summary.json of every run below the folders. Runs that differ by their seed alone share a row: the mean at the
end of training and, in brackets, lowest and highest. --cost adds the discriminator's parameters, how many of them are
trained, and the peak memory.
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
    parser.add_argument("--metrics", nargs="+", default=["fd_mini", "fd_pixels", "is_mini"])
    parser.add_argument("--cost", action="store_true")
    arguments = parser.parse_args()
    groups: dict[str, list[dict]] = {}
    for folder in arguments.folders:
        for path in sorted(folder.rglob("summary.json")):
            typed = OmegaConf.load(path.with_name("config.yaml")).overrides
            name = " ".join(word for word in typed if not word.startswith(("seed=", "hydra.")))
            groups.setdefault(name, []).append(json.loads(path.read_text()))
    columns = ["overrides", *arguments.metrics, "N", "images", "s per 1,000 images", "runs"]
    columns += ["parameters", "trained", "memory, GiB"] if arguments.cost else []
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    rows = [_row(name, runs, arguments.metrics, cost=arguments.cost) for name, runs in groups.items()]
    for row in sorted(rows, key=lambda row: row[0]):
        print(f"| {' | '.join(row[1])} |")


def _row(name: str, runs: list[dict], metrics: list[str], *, cost: bool) -> tuple[float, list[str]]:
    done = [run for run in runs if run["status"] == "completed"]
    count = f"{len(done)}" if len(done) == len(runs) else f"{len(done)} of {len(runs)}"
    if not done:
        return float("inf"), [f"`{name}`", *["failed"] * len(metrics), "", "", "", count, *[""] * 3 * cost]
    values = [[run["metrics"][f"val/{metric}"] for run in done] for metric in metrics]
    number = f"{done[0]['metrics']['val/num_fake']:.0f}"
    seconds = f"{statistics.median(1000 / run['images_per_second'] for run in done):.2g}"
    cells = [f"`{name}`", *map(_spread, values), number, f"{done[0]['images_seen']:,}", seconds, count]
    return statistics.mean(values[0]), cells + (_cost(done) if cost else [])


def _cost(runs: list[dict]) -> list[str]:
    parameters = runs[0].get("parameters") or runs[0]["weights"]  # the second in runs of version 0.1.0
    memory = statistics.median(run["peak_memory_gib"] for run in runs)
    return [f"{parameters['discriminator']:,}", f"{parameters['discriminator_trained']:,}", f"{memory:.1f}"]


def _spread(values: list[float]) -> str:
    interval = f" [{min(values):.3g}, {max(values):.3g}]" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3g}{interval}"


if __name__ == "__main__":
    main()
