"""Fit the doctor's thresholds to a corpus of runs, and measure them on other compositions and images.

    uv run scripts/fit_doctor.py                          # the tables of docs/diagnosis.md
    uv run scripts/fit_doctor.py corpus.jsonl --write     # thresholds.json, fitted on all runs of another corpus

The corpus is that of ``scripts/doctor_corpus.py``. A run is diagnosed by thresholds that were fitted without any
run of its composition and without any run on its images. Thresholds are those that find most faults while all
healthy runs of the fitted part stay two standard deviations of healthy signals away from showing them.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from doctor_corpus import CONDITIONAL, FAULTS
from shares import share

from medsynth.diagnosis.diagnose import all_findings
from medsynth.diagnosis.rules import NAMES, REMARKS, RULES, Rule
from medsynth.diagnosis.stopping import worth_continuing

CORPUS = Path(__file__).with_name("doctor_corpus.jsonl.gz")
TARGET = Path(__file__).parent.parent / "medsynth" / "diagnosis" / "thresholds.json"
COMPETITIVE = 2.0  # times the best objective on the same set, up to which a run without planted fault counts as healthy
_MUCH = 0.05  # by which an early end may worsen the best objective
MARGIN = 2.0  # standard deviations of healthy signals that healthy runs stay away from showing a fault
ROWS = 20  # validations of the longest run

Run = Mapping[str, Any]


def read_corpus(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a corpus, plain or compressed by gzip."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.decode().splitlines()]


def rows_of(run: Run) -> list[dict[str, Any]]:
    """Return the rows of a run, as the doctor has them."""
    signals = run["signals"]
    return [
        {"images_seen": seen, "signals": {n: v[k] for n, v in signals.items() if v[k] is not None}}
        for k, seen in enumerate(run["images_seen"])
    ]


def ends_worse(run: Run, runs: Sequence[Run]) -> bool:
    """Tell whether a run ends clearly worse than the best one without a planted fault on its images."""
    last = [r["signals"]["objective"][-1] for r in runs if r["images"] == run["images"] and r["fault"] == "none"]
    return bool(run["error"]) or run["signals"]["objective"][-1] > COMPETITIVE * min(last)


def is_healthy(run: Run, runs: Sequence[Run]) -> bool:
    """Tell whether a run without planted fault ends as well as others on the same images."""
    return run["fault"] == "none" and not ends_worse(run, runs)


# ---- thresholds ------------------------------------------------------------------------------------------------------


def fit(runs: Sequence[Run], healthy: Sequence[Run]) -> dict[str, float]:
    """Return thresholds by rule and signal, fitted on ``runs`` with faults and on ``healthy`` ones."""
    thresholds: dict[str, float] = {}
    for rule in RULES:
        if rule.name in REMARKS:
            found = [condition.loosest for condition in rule.conditions]
        else:
            found = best_thresholds(rule, [run for run in runs if rule.name in FAULTS[run["fault"]].shows], healthy)
        thresholds |= {f"{rule.key}.{c.signal}": t for c, t in zip(rule.conditions, found, strict=True)}
    return thresholds


def best_thresholds(rule: Rule, faulty: Sequence[Run], healthy: Sequence[Run]) -> list[float]:
    """Return the thresholds of one rule, none looser than the rule allows.

    They are those that find most of the ``faulty`` runs while all ``healthy`` ones stay ``MARGIN`` spreads away; of
    several the loosest, as what is planted is worse than what happens. Where none finds any, they lie that far
    beyond all healthy runs.
    """
    signs = np.array([1.0 if c.side == "above" else -1.0 for c in rule.conditions])
    loosest = np.array([c.loosest for c in rule.conditions])
    values = np.stack([_values(run, rule) for run in [*faulty, *healthy]])  # (runs, rows, conditions)
    places = range(len(signs))
    of_healthy = [_known(values[len(faulty) :, :, place]) for place in places]
    spreads = np.array([_spread(v) for v in of_healthy])
    levels = np.linspace(0, 1, 60 if len(signs) < 3 else 16)
    candidates: list[np.ndarray] = []
    for place in places:
        known = _known(values[..., place])
        steps = np.quantile(known, levels) if len(known) else loosest[place : place + 1]
        strict = signs[place] * np.maximum(signs[place] * steps, signs[place] * loosest[place])
        candidates.append(np.unique(strict))
    combinations = np.array(list(itertools.product(*candidates)))
    distances = np.stack([_distances(values, chosen, signs, spreads, rule.in_a_row) for chosen in combinations])
    margins = distances[:, len(faulty) :].min(axis=1)
    found = (distances[:, : len(faulty)] < 0).sum(axis=1)
    allowed = np.flatnonzero((margins >= MARGIN) & (found > 0))
    if not len(allowed):
        return [_beyond(of_healthy[p], signs[p], spreads[p], loosest[p]) for p in places]
    best = max(allowed, key=lambda place: (found[place], -margins[place]))
    return [float(f"{value:.4g}") for value in combinations[best]]


def _known(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _spread(values: np.ndarray) -> float:
    """Return the standard deviation by the median absolute deviation, which early validations do not widen."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) + 1e-6 if len(values) else 1.0


def _beyond(healthy: np.ndarray, sign: float, spread: float, loosest: float) -> float:
    """Return a threshold ``MARGIN`` spreads beyond all healthy values, and not looser than ``loosest``."""
    outermost = float((sign * healthy).max(initial=-math.inf)) + MARGIN * spread
    return float(f"{sign * max(outermost, sign * loosest):.4g}")


def _values(run: Run, rule: Rule) -> np.ndarray:
    """Return the signals of a rule's conditions (rows, conditions), in as many rows as the longest run has."""
    table = np.full((ROWS, len(rule.conditions)), np.nan)
    for place, condition in enumerate(rule.conditions):
        known = run["signals"].get(condition.signal, [])[rule.after :][:ROWS]
        table[: len(known), place] = [math.nan if value is None else value for value in known]
    return table


def _distances(
    values: np.ndarray, chosen: np.ndarray, signs: np.ndarray, spreads: np.ndarray, in_a_row: int
) -> np.ndarray:
    """Return how far each run is from showing the rule, in spreads of the signals; below 0 where it shows it."""
    away = (signs * (chosen - values) / spreads).max(axis=2)  # of the condition that holds least
    away = np.where(np.isfinite(away), away, math.inf)
    windows = np.lib.stride_tricks.sliding_window_view(away, in_a_row, axis=1)
    return windows.max(axis=2).min(axis=1)


# ---- measurement -----------------------------------------------------------------------------------------------------


def diagnosed(runs: Sequence[Run]) -> Iterator[tuple[Run, bool, dict[str, Any]]]:
    """Yield each run, whether it is healthy, and its findings by thresholds fitted on other compositions and sets."""
    healthy = {id(run) for run in runs if is_healthy(run, runs)}
    for kind, group in _by_kind(runs).items():
        others = _others(runs, kind)
        thresholds = fit(others, [run for run in others if id(run) in healthy])
        fitted = {"thresholds": thresholds, "confidence": {}, "measured": {}}
        for run in group:
            yield run, id(run) in healthy, all_findings(rows_of(run), fitted)


def _by_kind(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Return the runs by composition and set; the conditional ones, of one composition and set, by seed."""
    kinds: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        kinds.setdefault(_kind(run), []).append(run)
    return kinds


def _kind(run: Run) -> tuple[str, str]:
    return (
        (CONDITIONAL, str(run["seed"] % 2))
        if run["composition"] == CONDITIONAL
        else (run["composition"], run["images"])
    )


def _others(runs: Sequence[Run], kind: tuple[str, str]) -> list[Run]:
    if kind[0] == CONDITIONAL:
        return [run for run in runs if _kind(run) != kind]
    return [run for run in runs if all(a != b for a, b in zip(_kind(run), kind, strict=True))]


def table(results: Sequence[tuple[Run, bool, dict[str, Any]]], runs: Sequence[Run]) -> Iterator[str]:
    """Yield the lines of the table of faults: how many are named, in all and of the harmful ones, and how soon."""
    yield "| planted fault | named | named, of those that end worse | found within 10 % of the run after the onset |"
    yield "|---|---|---|---|"
    for fault, what in FAULTS.items():
        mine = [(run, found) for run, _, found in results if run["fault"] == fault and not run["error"]]
        if fault == "none" or not mine:
            continue
        named = [[f for name, f in found.items() if name in what.shows] for _, found in mine]
        worse = [bool(fs) for (run, _), fs in zip(mine, named, strict=True) if ends_worse(run, runs)]
        soon = sum(
            any(f.last <= what.onset + 0.1 * run["images_seen"][-1] for f in fs)
            for (run, _), fs in zip(mine, named, strict=True)
        )
        late = share(soon, len(mine)) if what.onset else "-"
        yield f"| {fault} | {share(sum(map(bool, named)), len(mine))} | {share(sum(worse), len(worse))} | {late} |"
    healthy = [(run, found) for run, ok, found in results if ok]
    alarms = [(run, [n for n in found if n not in REMARKS]) for run, found in healthy]
    yield f"| none, and as good as others | false alarms: {share(sum(bool(n) for _, n in alarms), len(alarms))} | | |"
    for run, names in alarms:
        if names:
            yield f"<!-- {run['composition']} on {run['images']}, seed {run['seed']}: {', '.join(names)} -->"


def confidence(results: Sequence[tuple[Run, bool, dict[str, Any]]]) -> dict[str, float]:
    """Return for each finding the share of the runs that show it in which a fault of that name was planted."""
    shares: dict[str, float] = {}
    for name in NAMES:
        shown = [run for run, _, found in results if name in found]
        if shown and name not in REMARKS:
            shares[name] = round(sum(name in FAULTS[run["fault"]].shows for run in shown) / len(shown), 2)
    return shares


# ---- baselines -------------------------------------------------------------------------------------------------------


def ranges(run: Run) -> list[float]:
    """Return the losses' medians and the similarity of generated images: loss ranges and MS-SSIM (Saad et al. 2024)."""
    keys = ("course.generator_loss", "course.discriminator_loss", "pixels.similarity")
    return [_last(run, key) for key in keys]


def slopes(run: Run) -> list[float]:
    """Return the slopes of both losses."""
    return [_last(run, "course.generator_slope"), _last(run, "course.discriminator_slope")]


def scores(run: Run) -> list[float]:
    """Return the probabilities of real and of generated images, at best 0.5 (MathWorks' monitor)."""
    return [
        1 / (1 + math.exp(-max(-50.0, min(50.0, _last(run, f"course.{side}_logits"))))) for side in ("real", "fake")
    ]


def _last(run: Run, name: str) -> float:
    known = [value for value in run["signals"].get(name, [])[-3:] if value is not None]
    return float(np.median(known)) if known else 0.0


def baseline(values: Callable[[Run], list[float]], runs: Sequence[Run]) -> tuple[int, int, int, int]:
    """Return faults found of all, and false alarms of all: outside of the range of healthy runs of the fitted part."""
    healthy = {id(run) for run in runs if is_healthy(run, runs)}
    counts = [0, 0, 0, 0]
    for kind, group in _by_kind(runs).items():
        known = [values(run) for run in _others(runs, kind) if id(run) in healthy]
        low, high = np.min(known, axis=0), np.max(known, axis=0)
        for run in group:
            if run["error"] or (id(run) not in healthy and run["fault"] in ("none", *REMARKS)):
                continue
            outside = bool(((np.array(values(run)) < low) | (np.array(values(run)) > high)).any())
            place = 2 if id(run) in healthy else 0
            counts[place] += outside
            counts[place + 1] += 1
    return counts[0], counts[1], counts[2], counts[3]


def early_stops(runs: Sequence[Run]) -> str:
    """Say what ``doctor.stop=early`` would have saved, and what it would have cost in the objective's best value."""
    saved, cost, ended = [], [], 0
    for run in runs:
        rows = rows_of(run)
        if run["error"] or run["fault"] in REMARKS:
            continue
        end = next((k for k in range(1, len(rows) + 1) if not worth_continuing(rows[:k])), len(rows))
        best = [row["signals"]["objective"] for row in rows]
        ended += end < len(rows)
        saved.append(1 - rows[end - 1]["images_seen"] / rows[-1]["images_seen"])
        cost.append(min(best[:end]) / min(best) - 1)
    much = share(sum(c > _MUCH for c in cost), len(cost))
    return (
        f"doctor.stop=early ends {share(ended, len(saved))} runs, which saves {np.mean(saved):.0%} of all images; the "
        f"best objective is worse by {np.mean(cost):.1%} on average, by more than {_MUCH:.0%} in {much}."
    )


def main() -> None:
    """Print the tables, and write the thresholds if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="?", default=CORPUS)
    parser.add_argument("--write", action="store_true", help="write thresholds fitted on all runs")
    options = parser.parse_args()
    runs = read_corpus(options.corpus)
    healthy = [run for run in runs if is_healthy(run, runs)]
    unplanted = sum(run["fault"] == "none" for run in runs)
    print(f"{len(runs)} runs, {unplanted} without a planted fault, of which {len(healthy)} end as well as others.\n")
    results = list(diagnosed(runs))
    print("\n".join(table(results, runs)))
    faults = [(run, found) for run, _, found in results if run["fault"] not in ("none", *REMARKS) and not run["error"]]
    found = sum(any(name not in REMARKS for name in names) for _, names in faults)
    named = sum(any(name in FAULTS[run["fault"]].shows for name in names) for run, names in faults)
    harmful = [names for run, names in faults if ends_worse(run, runs)]
    found_harmful = sum(any(name not in REMARKS for name in names) for names in harmful)
    alarms = [any(n not in REMARKS for n in names) for _, ok, names in results if ok]
    print(
        f"\nNamed: {share(named, len(faults))}. Of faults that end worse, found: {share(found_harmful, len(harmful))}."
    )
    print("\n| method | faults found | false alarms |\n|---|---|---|")
    print(f"| doctor | {share(found, len(faults))} | {share(sum(alarms), len(alarms))} |")
    for name, values in {"loss ranges and MS-SSIM": ranges, "slope of the loss": slopes, "scores": scores}.items():
        hits, of, false, of_healthy = baseline(values, runs)
        print(f"| {name} | {share(hits, of)} | {share(false, of_healthy)} |")
    print(f"\n{early_stops(runs)}")
    if options.write:
        before = json.loads(TARGET.read_text()) if TARGET.is_file() else {"measured": {}}
        content = {"thresholds": fit(runs, healthy), "confidence": confidence(results), "measured": before["measured"]}
        TARGET.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
