"""Folders of runs and sweeps with the files of a training, written in milliseconds, for tests of reports."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

OBJECTIVE = "val/fd_mini"
GROUPS = ("generator", "discriminator", "backbone", "loss", "penalty", "augment", "data")
MAX_IMAGES, VALIDATE_EVERY, LOG_EVERY = 40_000, 10_000, 2_000
NO_PROCESS = 2**22 + 1  # above the largest process number of Linux


def write_run(
    folder: Path,
    *,
    options: dict[str, Any],
    status: str = "completed",
    reason: str | None = None,
    value: float = 10.0,
    curves: dict[str, tuple[list[int], list[float]]] | None = None,
    metrics: dict[str, float] | None = None,
    seconds: float = 60.0,
    job: dict[str, Any] | None = None,
    data: Any = "7,000 images of mednist, 64 px",
    samples: bool = True,
    **summary: Any,
) -> Path:
    """Write the folder of a run with the typed ``options``, ``{"loss": "hinge", "seed": 1}``, and return it.

    The run reaches ``value`` of the objective. ``status`` is one of runs.status.STATUSES; a run that did not complete
    stopped half-way. ``job`` becomes job.json; ``summary`` replaces entries of summary.json. Without ``curves`` losses
    and metrics fall towards ``value``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    complete = status == "completed"
    if job is not None:
        _write_json(folder / "job.json", job)
    if status in ("duplicate", "missing"):
        return folder
    seen = MAX_IMAGES if complete else MAX_IMAGES // 2
    curves = make_curves(value, seen) if curves is None else curves
    metrics = {name: c[1][-1] for name, c in curves.items() if name.startswith("val/")} if metrics is None else metrics
    (folder / "config.yaml").write_text(yaml.safe_dump(_configuration(folder, options), sort_keys=False))
    _write_metrics(folder / "metrics.csv", curves)
    last_line = f"[2026-01-31 12:00:00,000][medsynth][{'INFO' if complete else 'ERROR'}] {reason or 'Done.'}"
    (folder / "train.log").write_text(f"[2026-01-31 12:00:00,000][medsynth][INFO] Training\n{last_line}\n")
    if samples:
        _write_samples(folder / "samples", curves.get(OBJECTIVE, ([seen], [value]))[0])
    record = _summary(options, curves, metrics, seen, seconds) | {"data": data, "process": _process(status, seconds)}
    # A process that was killed could not write its end: its summary still says "running".
    record |= {"status": "running" if status in ("killed", "running") else status, "reason": reason} | summary
    if status in ("killed", "running"):
        record = {name: record[name] for name in ("status", "reason", "process", "medsynth", "data", "device")}
    _write_json(folder / "summary.json", record)
    return folder


def write_sweep(
    folder: Path,
    grid: dict[str, list],
    *,
    value: Any = None,
    failures: dict[int, tuple[str, str | None]] | None = None,
    common: dict[str, Any] | None = None,
    finished: bool = True,
    seconds: Any = None,
    **run: Any,
) -> list[Path]:
    """Write a sweep over every combination of ``grid``, the last key fastest; return the folders of its jobs.

    ``value(options)`` and ``seconds(options)`` are the results of a job. ``failures`` has the status and reason of jobs
    that did not complete, ``{3: ("diverged", "The loss was NaN."), 5: ("duplicate", None)}``; duplicates are of job 0.
    """
    failures, common = failures or {}, common or {}
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    folder.mkdir(parents=True, exist_ok=True)
    for number, swept in enumerate(combinations):
        status, reason = failures.get(number, ("completed", None))
        if status == "missing":
            continue
        options = {**common, **swept}
        took = seconds(options) if seconds else 60.0 + number
        record = _job(number, swept, status, reason, took)
        result = value(options) if value else default_value(options)
        write_run(
            folder / str(number),
            options=options,
            status=status,
            reason=reason,
            value=result,
            seconds=took,
            job=record,
            **run,
        )
    _write_json(
        folder / "sweep.json",
        {
            "arguments": [f"{key}={','.join(map(str, values))}" for key, values in grid.items()],
            "jobs": [[f"{key}={value}" for key, value in {**common, **swept}.items()] for swept in combinations],
            "swept": list(grid),
            "objective": OBJECTIVE,
            "started": time.time() - 3600,
            "finished": time.time() if finished else None,
            "medsynth": "0.1.0",
        },
    )
    return [folder / str(number) for number in range(len(combinations))]


def default_value(options: dict[str, Any]) -> float:
    """Return a number that depends on every option, the same in each process."""
    text = json.dumps({key: value for key, value in options.items() if key != "seed"}, sort_keys=True)
    rng = np.random.default_rng(list(text.encode()))
    noise = np.random.default_rng([int(options.get("seed", 0)), *text.encode()])
    return float(10 + 3 * rng.normal() + 0.3 * noise.normal())


def make_curves(value: float, seen: int = MAX_IMAGES) -> dict[str, tuple[list[int], list[float]]]:
    """Return losses every 2,000 images, and metrics with intervals every 10,000 that fall to ``value`` at 40,000."""
    steps, validated = (
        list(range(LOG_EVERY, seen + 1, LOG_EVERY)),
        list(range(VALIDATE_EVERY, seen + 1, VALIDATE_EVERY)),
    )
    wave = [math.sin(step / 3000 + value) for step in steps]
    distance = [value * (1 + 2 * (1 - step / MAX_IMAGES)) for step in validated]
    return {
        "train/discriminator_loss": (steps, [1.3 - 0.1 * w for w in wave]),
        "train/generator_loss": (steps, [0.9 + 0.2 * w for w in wave]),
        "train/real_logits": (steps, [0.4 + 0.1 * w for w in wave]),
        "train/fake_logits": (steps, [-0.4 + 0.1 * w for w in wave]),
        "train/discriminator_gradient_norm": (steps, [2 + w for w in wave]),
        "train/generator_gradient_norm": (steps, [3 + w for w in wave]),
        "trainer/images_per_second": (steps, [500 + 20 * w for w in wave]),
        OBJECTIVE: (validated, distance),
        f"{OBJECTIVE}_low": (validated, [0.9 * d for d in distance]),
        f"{OBJECTIVE}_high": (validated, [1.1 * d for d in distance]),
        "val/kd_mini": (validated, [d / 50 for d in distance]),
        "val/is_mini": (validated, [1 + 10 / (10 + d) for d in distance]),
        "val/num_real": (validated, [500.0] * len(validated)),
        "val/num_fake": (validated, [500.0] * len(validated)),
    }


def _configuration(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as OmegaConf resolves it, with components at the top and again below ``task``."""
    chosen = {"generator": "dcgan", "discriminator": "dcgan", "loss": "non_saturating", "data": "mednist"} | options
    components = {name: _component(name, str(chosen[name])) for name in GROUPS if name in chosen}
    config = {
        "seed": 0,
        "max_images": MAX_IMAGES,
        "objective": OBJECTIVE,
        "run_dir": str(folder),
        "overrides": [f"{key}={value}" for key, value in options.items()],
        **components,
        "logger": {"csv": {"path": f"{folder}/metrics.csv"}},
        "trainer": {"accelerator": "cpu", "precision": "32-true"},
        "sweep": {"folder": str(folder.parent), "job": folder.name},
    }
    for key, value in options.items():
        if key not in GROUPS:
            *above, name = key.split(".")
            functools.reduce(lambda node, step: node.setdefault(step, {}), above, config)[name] = value
    config["data"]["seed"] = config["seed"]
    copies = {name: options for name, options in components.items() if name != "data"}
    config["task"] = json.loads(json.dumps({"_target_": "medsynth.gan.GAN", **copies, "seed": config["seed"]}))
    return config


def _component(group: str, name: str) -> dict[str, Any]:
    if name == "none":
        return {}
    if group == "backbone":
        return {"_target_": "medsynth.backbone.network.TimmBackbone", "model_name": name, "weights": "published"}
    own = {f"option_of_{name}": 1.0}
    return {"_target_": f"medsynth.{group}.{name}.{name.title().replace('_', '')}", **own, "betas": [0.5, 0.999]}


def _summary(options: dict[str, Any], curves: dict, metrics: dict, seen: int, seconds: float) -> dict[str, Any]:
    steps, values = curves.get(OBJECTIVE, ([], []))
    best = min(range(len(values)), key=values.__getitem__) if values else None
    generator = 1_000_000 if options.get("generator", "dcgan") == "dcgan" else 3_000_000
    return {
        "medsynth": "0.1.0",
        "trained": f"DCGANGenerator against Discriminator, loss {options.get('loss', 'non_saturating')}",
        "images_seen": seen,
        "seconds": seconds,
        "images_per_second": seen / seconds,
        "precision": "32-true",
        "device": "cpu (1 threads)",
        "torch": "2.15.0",
        "peak_memory_gib": 1.5,
        "parameters": {"generator": generator, "discriminator": 2_000_000, "discriminator_trained": 500_000},
        "metrics": metrics,
        "best": {
            "objective": OBJECTIVE,
            "value": None if best is None else values[best],
            "images_seen": None if best is None else steps[best],
        },
        "files": {"samples": "samples/latest.png"},
    }


def _job(number: int, swept: dict[str, Any], status: str, reason: str | None, seconds: float) -> dict[str, Any]:
    overrides = [f"{key}={value}" for key, value in swept.items()]
    return {
        "number": number,
        "name": ",".join(overrides),
        "overrides": overrides,
        "composition": f"{number:08x}",
        "status": status,
        "reason": reason,
        "exit_code": {"completed": 0, "running": None, "killed": -9}.get(status, 1),
        "attempts": 1,
        "started": time.time() - seconds,
        "seconds": seconds,
        "same_as": 0 if status == "duplicate" else None,
        "process": _process(status, seconds),
    }


def _process(status: str, seconds: float) -> dict[str, Any]:
    pid = os.getpid() if status == "running" else NO_PROCESS
    return {"host": socket.gethostname(), "pid": pid, "started": time.time() - seconds}


def _write_metrics(path: Path, curves: dict[str, tuple[list[int], list[float]]]) -> None:
    at = {name: dict(zip(*curve, strict=True)) for name, curve in curves.items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", *curves])
    for step in sorted({step for values in at.values() for step in values}):
        writer.writerow([step, *(at[name].get(step, "") for name in curves)])
    path.write_text(text.getvalue())


def _write_samples(folder: Path, steps: list[int]) -> None:
    """Write pictures of 4 x 4 images of 8 px: a disk with less and less noise, and real.png without noise."""
    folder.mkdir(exist_ok=True)
    y, x = np.mgrid[:8, :8]
    disk = np.tile(200.0 * ((x - 3.5) ** 2 + (y - 3.5) ** 2 < 9), (4, 4))
    noise = np.random.default_rng(0).uniform(0, 255, disk.shape)
    for name, share in {"real": 0.0, **{f"{s:09d}": 1 - s / (2 * MAX_IMAGES) for s in steps}, "latest": 0.5}.items():
        Image.fromarray(((1 - share) * disk + share * noise).astype(np.uint8)).save(folder / f"{name}.png")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
