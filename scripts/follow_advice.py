"""Train the corpus's failing runs again with the override that the doctor proposes: how often does it help?

    uv run scripts/follow_advice.py corpus.jsonl --images my/heads my/hands --labelled my/classes --out advised.jsonl
    uv run scripts/follow_advice.py corpus.jsonl --out advised.jsonl --table

Each run with a planted fault that the doctor finds, and that an override can help, is repeated with the same fault,
seed and budget, and the first override that it proposes. One line of JSON for each is appended to ``--out``; what has
a line is not repeated. The table says how often the best validation is better than without the override, for each
finding.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from doctor_corpus import COMPOSITIONS, CONDITIONAL, FAULTS, IMAGES, Planned, train, with_phantoms
from fit_doctor import read_corpus, rows_of, share

from medsynth.diagnosis.advice import InUse
from medsynth.diagnosis.diagnose import diagnose
from medsynth.diagnosis.rules import REMARKS

_WITHOUT_CURE = ("none", "one_mode", "four_modes", "one_mode_late", "within_class")  # the noise itself is replaced
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
    groups: dict[tuple[str, str], list[bool]] = {}
    for line in lines:
        groups.setdefault((line["finding"], line["override"]), []).append(line["with"] < line["without"])
    for (finding, override), better in sorted(groups.items()):
        yield f"| {finding} | `{override}` | {share(sum(better), len(better))} |"
    every = [better for group in groups.values() for better in group]
    yield f"| all | | {share(sum(every), len(every))} |"


def main() -> None:
    """Train the runs again, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--images", nargs="*", type=Path, default=[])
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--out", type=Path, default=Path("advised.jsonl"))
    parser.add_argument("--worker", default="0/1", help="k/n: every n-th run from the k-th on")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    if options.table:
        print("\n".join(table(done)))
        return
    torch.set_num_threads(1)
    worker, workers = map(int, options.worker.split("/"))
    folders = {path.name: path for path in [*options.images, *([options.labelled] if options.labelled else [])]}
    known = {(*(line[name] for name in _NAMES), line["override"]) for line in done}
    corpus = read_corpus(options.corpus)
    with with_phantoms(folders) as places:
        for number, (plan, finding, override, without) in enumerate(proposals(corpus)):
            key = (plan.fault, plan.composition, plan.images, plan.seed, override)
            if number % workers != worker or key in known:
                continue
            again = train(plan, places[plan.images].absolute(), override)
            if again["error"] == "interrupted":
                return
            values = [value for value in again["signals"].get("objective", []) if value is not None]
            line = {
                **dict(zip(_NAMES, key, strict=False)),
                "finding": finding,
                "override": override,
                "without": without,
            }
            with options.out.open("a") as file:
                file.write(json.dumps({**line, "with": min(values, default=float("inf"))}) + "\n")


if __name__ == "__main__":
    main()
