"""Damage each file of a run, a sweep and a search in each way, and count how each command ends that reads it.

    uv run scripts/damage_trials.py                          all combinations, about an hour
    uv run scripts/damage_trials.py --trials 200             as many at random
    uv run scripts/damage_trials.py --minutes 8              as many at random as fit the time
    uv run scripts/damage_trials.py --only summary.json      those of one file

Each command is a process of its own, forked from this one, which has imported everything. "used": it ended with exit
code 0 from what is whole. "said": it ended in one sentence, with exit code 1. "lost": a traceback, several lines,
another exit code, or no end within ten minutes; these are printed. Exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import itertools
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

# What a command imports, so that the forked processes need not.
import medsynth.cli.evaluate
import medsynth.cli.generate
import medsynth.cli.report
import medsynth.cli.search
import medsynth.cli.sweep
import medsynth.cli.train
import medsynth.report.page
import medsynth.sweep.hydra_job  # noqa: F401
from medsynth.cli import main as medsynth_main

LONGEST = 600  # seconds; a process that imports everything takes long where the processors are busy
TINY = (
    *("data.image_size=16", "data.batch_size=8", "generator.width=8", "max_images=48", "val_every_images=24"),
    *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.log_every_n_steps=1", "report=false"),
    *("data.source.num_images=48", "data.source.num_val=16"),
)
EVALUATE = ("extractor=pixels", "num_samples=16", "pairs=4", "cache=false", "device=cpu")
SWEEP = ("-m", *TINY, "seed=0,1", "sweep.processes=false", "hydra.sweep.dir=sweep")
SEARCH = ("search.folder=search", "search.trials=1", "generator_optimizer.lr=tag(log,interval(1e-5,1e-3))")

Damages = dict[str, bytes | None]  # name -> the content of the damaged file; None: there is none


class Folder(NamedTuple):
    """A folder that a command has written, and the commands that read it."""

    files: tuple[str, ...]
    commands: dict[str, tuple[str, ...]]  # name -> command and arguments


JOB_FILES = ("config.yaml", "composition.yaml", "summary.json", "metrics.csv", "checkpoints/last.ckpt")
FOLDERS = {
    "run": Folder(
        (
            *(*JOB_FILES, "train.log", "loggers.json", "generator.safetensors", "checkpoints/last-1.ckpt"),
            *("checkpoints/best.ckpt", "evaluation/generator.json", "samples/latest.png", ".lock"),
        ),
        {
            "resume": ("train", "resume=run", "max_images=56"),
            "resume=auto": ("train", *TINY, "max_images=56", "hydra.run.dir=run", "resume=auto"),
            "report": ("report", "run"),
            "evaluate": ("evaluate", "run=run", *EVALUATE),
            "evaluate last": ("evaluate", "run=run", "checkpoint=last", *EVALUATE),
            "generate": ("generate", "run=run", "num_samples=2", "out=made"),
        },
    ),
    "sweep": Folder(
        ("sweep.json", *(f"0/{name}" for name in (*JOB_FILES, "job.json")), ".lock"),
        {
            "resume": ("train", *SWEEP, "sweep.resume=sweep"),
            "sweep resume=": ("sweep", "resume=sweep"),  # starts another process, which takes some seconds
            "report": ("report", "sweep"),
        },
    ),
    "search": Folder(
        ("sweep.json", "study.db", "0/job.json", "0/summary.json", "0/metrics.csv", ".search.lock"),
        {"resume": ("search", "search.resume=search"), "report": ("report", "search")},
    ),
}


def damages(path: Path) -> Damages:
    """Return the contents that the damaged file is given, by the name of the damage."""
    content = path.read_bytes()
    found: Damages = {
        "missing": None,
        "empty": b"",
        "cut": content[: len(content) // 2],
        "cut at its end": content[:-3],
        "zeros": bytes(len(content)),
        "text": b"This is no file of medsynth.\n",
        "binary": random.Random(0).randbytes(4096),
        "a folder": b"folder",
    }
    if path.suffix == ".json":
        found |= {name: text.encode() for name, text in damaged_json(json.loads(content))}
    elif path.suffix == ".yaml":
        found |= {name: text.encode() for name, text in damaged_yaml(yaml.safe_load(content))}
    elif path.suffix == ".csv":
        found |= {name: text.encode() for name, text in damaged_table(content.decode())}
    else:
        changed = bytearray(content)
        changed[len(content) // 3 : len(content) // 3 + 8] = b"medsynth"
        found["changed"] = bytes(changed)
    return found


WRONG = {"null": None, "text": "x", "a number": -1e300, "a list": [[1]], "a mapping": {"x": [1]}, "empty": {}}


def damaged_json(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield JSON of other types than the record's, and with each of its values of another type."""
    yield from {"a list": "[1]", "a number": "3", "null": "null", "no keys": "{}", "nested": "[" * 2000}.items()
    yield from ((name, json.dumps(node)) for name, node in damaged_nodes(record))


def damaged_yaml(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield YAML of other types than a configuration's, with tags, and with each of its values of another type."""
    yield from {
        "a list": "- 1\n",
        "a number": "3\n",
        "null": "null\n",
        "no keys": "{}\n",
        "a tab": "a:\n\t- b\n",
    }.items()
    yield "a tag", 'seed: !!python/object/apply:os.system ["echo harmed"]\n'
    yield "an unknown tag", "seed: !medsynth 3\n"
    yield "an interpolation", "seed: ${nowhere}\nrun_dir: ${oc.env:HOME}\n"
    yield "its own interpolation", "seed: ${seed}\n"
    names = "abcdefghijklmnopqrstuvwxyz"
    yield "aliases", "a: &a [1]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in itertools.pairwise(names))
    yield from ((name, yaml.safe_dump(node)) for name, node in damaged_nodes(config))


def damaged_nodes(record: dict[str, Any], above: str = "", depth: int = 2) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the record without each of its keys, and with each of its values of another type; two levels of it."""
    for key, value in record.items():
        yield f"without {above}{key}", {k: v for k, v in record.items() if k != key}
        for kind, wrong in WRONG.items():
            yield f"{above}{key} is {kind}", record | {key: wrong}
        if isinstance(value, dict) and depth > 1:
            for name, node in damaged_nodes(value, f"{above}{key}.", depth - 1):
                yield name, record | {key: node}


def damaged_table(text: str) -> Iterator[tuple[str, str]]:
    """Yield metrics.csv without its header, columns, numbers or ends of lines."""
    header, *rows = text.splitlines(keepends=True)
    body = "".join(rows)
    yield "without a header", body
    yield "a header alone", header
    yield "half a header", header[: len(header) // 2]
    yield "another header", header.replace("step", "row") + body
    yield "a header twice", header + body + header + body
    yield "columns twice", header.replace("\n", "," + header) + body
    yield "no numbers", header + "".join("many" + row[row.index(",") :] for row in rows)
    yield (
        "texts for values",
        header + "".join(f"{row.split(',')[0]},{','.join('x' for _ in row.split(',')[1:])}\n" for row in rows),
    )
    yield "fractions of images", header + "".join("8.5" + row[row.index(",") :] for row in rows)
    yield "huge numbers of images", header + "".join("9" * 30 + row[row.index(",") :] for row in rows)
    yield "negative numbers of images", header + "".join("-" + row for row in rows)
    yield "longer rows", header + "".join(row.replace("\n", ",1,2,3\n") for row in rows)
    yield "short rows", header + "".join(row.split(",")[0] + "\n" for row in rows)
    yield "not finite", header + "".join(f"{row.split(',')[0]},{','.join(('nan', 'inf') * 40)}\n" for row in rows)
    yield "a null byte", header + body.replace(",", ",\0", 3)
    yield "an open quote", header + '"' + body
    yield "a long cell", header + "8," + "1" * 200_000 + "\n" + body
    yield "a cut line", text[:-7]
    yield "spaces for commas", text.replace(",", " ")
    output = io.StringIO()
    csv.writer(output).writerows([row[1:] for row in csv.reader(text.splitlines())])
    yield "without steps", output.getvalue()


class Ended(NamedTuple):
    """The end of a command."""

    code: int | None  # None: it was stopped after LONGEST
    out: str
    err: str

    @property
    def kind(self) -> str:
        errors = [line for line in self.err.splitlines() if line.startswith("medsynth ") and ": error: " in line]
        if self.code == 0 and "Traceback" not in self.out + self.err:
            return "used"
        if self.code == 1 and len(errors) == 1 and "Traceback" not in self.out + self.err:
            return "said" if self.err.rstrip().endswith(errors[0]) else "lost"
        return "lost"


def run(place: Path, *arguments: str) -> Ended:
    """Run ``medsynth ARGUMENTS`` in a forked process in the folder ``place``."""
    pid = os.fork()
    if pid == 0:
        os._exit(_command(place, arguments))
    end, status = time.monotonic() + LONGEST, None
    while status is None and time.monotonic() < end:
        found, raw = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(raw) if found else None
        time.sleep(0.01)
    if status is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return Ended(status, *((place / name).read_text(errors="replace") for name in ("out.txt", "err.txt")))


def _command(place: Path, arguments: tuple[str, ...]) -> int:
    os.chdir(place)
    os.environ |= {"XDG_CACHE_HOME": str(place / "cache"), "MEDSYNTH_RUN_END": ""}
    with open("out.txt", "w", buffering=1) as out, open("err.txt", "w", buffering=1) as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr, sys.argv = out, err, ["medsynth", *arguments]
        try:
            medsynth_main()
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        except BaseException as error:
            print(f"Traceback of {type(error).__name__}: {error}", file=err)
            traceback.print_exc(file=err)
            return 2
    return 0


def prepare(place: Path) -> None:
    """Write the folders that are damaged."""
    for arguments in (
        ("train", *TINY, "hydra.run.dir=run", "logger=[csv,wandb]", "logger.wandb.mode=offline"),
        ("evaluate", "run=run", *EVALUATE),
        ("train", *SWEEP),
        ("search", *SEARCH, *TINY),
    ):
        ended = run(place, *arguments)
        if ended.code:
            sys.exit(f"{' '.join(arguments)} failed: {ended.err}")
    shutil.rmtree(place / "sweep" / "1")  # so that something is left to do


def trial(place: Path, name: str, file: str, content: bytes | None, command: tuple[str, ...]) -> Ended:
    """Damage a file of a copy of the folder ``name``, run a command on it, and restore it."""
    folder = place / name
    path = folder / file
    kept = place / "kept"
    shutil.copytree(folder, kept, symlinks=True)
    try:
        path.unlink(missing_ok=True)
        if content == b"folder":
            path.mkdir()
            (path / "file").write_bytes(b"")
        elif content is not None:
            path.write_bytes(content)
        return run(place, *command)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        kept.rename(folder)
        shutil.rmtree(place / "made", ignore_errors=True)


def combinations(place: Path, only: str = "") -> list[tuple[str, str, str, bytes | None, str]]:
    """Return folder, file, name and content of the damage, and name of the command, of all trials."""
    return [
        (name, file, damage, content, command)
        for name, folder in FOLDERS.items()
        for file in folder.files
        if only in f"{name}/{file}" and (place / name / file).is_file()
        for damage, content in damages(place / name / file).items()
        for command in folder.commands
    ]


def attempt(
    place: Path,
    trials: int | None,
    chance: random.Random,
    only: str = "",
    minutes: float = math.inf,
) -> Counter[tuple[str, str]]:
    """Try the combinations, at most ``trials`` and as fit the time; return the number of ends by file and kind."""
    end = time.monotonic() + 60 * minutes
    prepare(place)
    chosen = combinations(place, only)
    chance.shuffle(chosen)
    chosen = chosen[:trials]
    counts: Counter[tuple[str, str]] = Counter()
    for name, file, damage, content, command in chosen:
        if time.monotonic() > end:
            break
        ended = trial(place, name, file, content, FOLDERS[name].commands[command])
        counts[f"{name}/{file}", ended.kind] += 1
        if ended.kind == "lost":
            ending = f"exit code {ended.code}: {ended.err.strip()[-300:]}"
            print(f"{name}/{file} {damage}: {command}: {ending}", flush=True)
    return counts


def main() -> None:
    """Try all combinations and print the counts of each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, help="at most, at random")
    parser.add_argument("--only", default="", help="a part of the file's name")
    parser.add_argument("--minutes", type=float, default=math.inf, help="at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="medsynth-damage-") as place:
        counts = attempt(
            Path(place), arguments.trials, random.Random(arguments.seed), arguments.only, arguments.minutes
        )
    print(f"{'file':36} {'trials':>7} {'used':>6} {'said':>6} {'lost':>6}")
    for file in dict.fromkeys(file for file, _ in counts):
        numbers = [counts[file, kind] for kind in ("used", "said", "lost")]
        print(f"{file:36} {sum(numbers):7} {numbers[0]:6} {numbers[1]:6} {numbers[2]:6}")
    sys.exit(1 if any(kind == "lost" for _, kind in counts) else 0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
