"""Train the corpus's failing runs again with the override that the doctor proposes: how often does it help?

    uv run scripts/follow_advice.py corpus.jsonl --images my/heads my/hands --labelled my/classes --out advised.jsonl
    uv run scripts/follow_advice.py corpus.jsonl --out advised.jsonl --table

Each run with a planted fault that the doctor finds, and that an override can help, is repeated with the same fault,
seed and budget, and the first override that it proposes; with ``--seeds 3`` with two further seeds, too, each with and
without the override. One line of JSON for each is appended to ``--out``; what has a line is not repeated. The cases are
taken in a fixed random order. The table says for how many cases of each finding the best validation is better than
without the override, in the geometric mean over the seeds that were run.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from doctor_corpus import COMPOSITIONS, CONDITIONAL, FAULTS, IMAGES, Planned, train, with_phantoms
from fit_doctor import read_corpus, rows_of
from row_file import append_rows, read_rows
from shares import share

from medsynth.contracts import counter_seed
from medsynth.diagnosis.advice import InUse
from medsynth.diagnosis.diagnose import diagnose
from medsynth.diagnosis.rules import REMARKS

_WITHOUT_CURE = (  # noise, labels or images themselves are replaced
    *("none", "one_mode", "four_modes", "one_mode_late", "within_class"),
    *("checkerboard", "copies", "ignored_labels"),
)
_NAMES = ("fault", "composition", "images", "seed")
_DEFAULTS = {
    "generator": "resnet",
    "discriminator": "dcgan",
    "loss": "non_saturating",
    "penalty": "r1",
    "augment": "none",
}


def in_use(line: Mapping[str, Any]) -> InUse:
    """Return the choices of a run of the corpus."""
    composition = "default" if line["composition"] == CONDITIONAL else line["composition"]
    typed = dict(_DEFAULTS)
    for text in (*COMPOSITIONS[composition], *FAULTS[line["fault"]].overrides):
        key, _, value = text.partition("=")
        typed[key] = value or "none"
    choices = {name: tuple(typed[name].strip("[]").split(",")) for name in _DEFAULTS}
    slow = typed.get("optimizer@generator_optimizer") == "adam"
    rate = 2e-4 if slow else 1e-3
    return InUse(choices, {"generator": rate, "discriminator": rate}, IMAGES)


def proposals(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Planned, str, str, float]]:
    """Yield each run with a named fault, its first finding, the first override proposed, and its best objective."""
    for line in lines:
        if line["fault"] in _WITHOUT_CURE or line["error"]:
            continue
        found = [f for f in diagnose(rows_of(line), in_use=in_use(line)) if f.name not in REMARKS and f.advice]
        if found:
            best = min(value for value in line["signals"]["objective"] if value is not None)
            yield Planned(**{name: line[name] for name in _NAMES}), found[0].name, found[0].advice[0], best


def table(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each finding and override: in how many runs the override was better."""
    yield "| finding | override | better with it |"
    yield "|---|---|---|"
    cases: dict[tuple[str, ...], list[float]] = {}
    for line in lines:
        case = (line["finding"], line["override"], line["fault"], line["composition"], line["images"])
        first = str(line.get("case", line["seed"]))  # the seed of the run that the proposal is of
        cases.setdefault((*case, first), []).append(math.log(line["with"] / line["without"]))
    groups: dict[tuple[str, str], list[bool]] = {}
    for (finding, override, *_), ratios in cases.items():
        groups.setdefault((finding, override), []).append(sum(ratios) < 0)
    counts = [len(ratios) for ratios in cases.values()]
    for (finding, override), better in sorted(groups.items()):
        yield f"| {finding} | `{override}` | {share(sum(better), len(better))} |"
    every = [better for group in groups.values() for better in group]
    yield f"| all | | {share(sum(every), len(every))} |"
    yield f"\nSeeds of a case: {min(counts, default=0)} to {max(counts, default=0)}."


def main() -> None:
    """Train the runs again, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--images", nargs="*", type=Path, default=[])
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--out", type=Path, default=Path("advised.jsonl"))
    parser.add_argument("--worker", default="0/1", help="k/n: every n-th case from the k-th on")
    parser.add_argument("--seeds", type=int, default=1, help="of each case, 1 or more")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    done = read_rows(options.out)
    if options.table:
        print("\n".join(table(done)))
        return
    torch.set_num_threads(1)
    worker, workers = map(int, options.worker.split("/"))
    folders = {path.name: path for path in [*options.images, *([options.labelled] if options.labelled else [])]}
    known = {(*(line[name] for name in _NAMES), line["override"]) for line in done}
    cases = sorted(proposals(read_corpus(options.corpus)), key=lambda case: counter_seed("advice", str(case[0])))
    with with_phantoms(folders) as places:
        for number, (plan, finding, override, without) in enumerate(cases):
            if number % workers != worker:
                continue
            for further in range(options.seeds):
                again = dataclasses.replace(plan, seed=plan.seed + 100 * further)
                if (*dataclasses.astuple(again), override) in known:
                    continue
                place = places[plan.images].absolute()
                value = without if not further else best(train(again, place))
                line = {**dataclasses.asdict(again), "case": plan.seed, "finding": finding, "override": override}
                line |= {"without": value, "with": best(train(again, place, override))}
                append_rows(options.out, line)
                print(line, flush=True)


def best(line: Mapping[str, Any]) -> float:
    """Return the best objective of a run; infinite where it has none.

    Raises:
        KeyboardInterrupt: the run was interrupted.
    """
    if line["error"] == "interrupted":
        raise KeyboardInterrupt
    values = [value for value in line["signals"].get("objective", []) if value is not None]
    return min(values, default=math.inf)


if __name__ == "__main__":
    main()
