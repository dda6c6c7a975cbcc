"""Measure which choices help against mode collapse, on problems whose modes are known: each one against the plain GAN.

    uv run scripts/benchmark_modes.py --out modes.jsonl                    # all that is missing; may be interrupted
    uv run scripts/benchmark_modes.py --out modes.jsonl --problems ring --methods plain packing_4 --seeds 0 1 2
    uv run scripts/benchmark_modes.py --out modes.jsonl --table            # what there is so far, in Markdown

A run trains a small fully connected pair for a number of steps that is the same for all methods of a problem, in this
process, on one thread, and counts the modes of 2,500 images of the last generator and of its moving average (EMA). One
line of JSON for each run is appended to ``--out``; runs that have a line there are not repeated.

The table has means and standard deviations over the seeds. Effective modes are the number of equally frequent ones with
the entropy of the good images', K exp(-KL). ``overlap`` is 1 minus the total variation ``modes_tv``: the part of the
data's modes that is matched, 1 for a perfect generator, 1/K where it makes good images of one of K modes only.
Differences are from the plain GAN of the same seeds, with 95 % intervals (Student's, paired over seeds). A method helps
(hurts) if the interval of the difference is above (below) 0; it does not help if the interval excludes a gain worth
having; else it is undecided: once for the last generator, once for the EMA. On ``ring`` and ``grid`` the overlap
decides, and 0.05 is worth having; on ``stacked``, where few of 216 modes are met and good images are few, effective
modes do, and 5 are. Of twenty intervals, one misses the truth by chance.
"""

from __future__ import annotations

import argparse
import functools
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from row_file import append_rows, read_rows
from scipy import stats

from medsynth.cli.compose import register_resolvers
from medsynth.configuration.checked_composition import compose_checked
from medsynth.contracts import noise
from medsynth.data.module import ImageDataModule
from medsynth.errors import InputError
from medsynth.finalize import finalize
from medsynth.metrics.modes import ModeMetrics
from medsynth.python_api import unchanged_process
from medsynth.training import build_data, build_model

PLAIN = "plain"
SAMPLES = 2500
DECIDING = {"ring": ("overlap", 0.05), "grid": ("overlap", 0.05), "stacked": ("effective", 5.0)}  # less is no help
NAMES = {"modes_caught": "modes caught", "effective": "effective modes", "good_images": "good images"}
MODES = {"ring": 8, "grid": 25, "stacked": 216}
Options = dict[str, str]

COMMON: Options = {
    "generator": "mlp",
    "discriminator": "mlp",
    "metrics": "modes",
    "trainer": "cpu",
    "trainer.precision": "32-true",
    "penalty": "none",
    "optimizer@generator_optimizer": "adam",
    "optimizer@discriminator_optimizer": "adam",
    "generator_optimizer.betas": "[0.5,0.999]",
    "discriminator_optimizer.betas": "[0.5,0.999]",
    "generator_optimizer.lr": "1e-3",
    "discriminator_optimizer.lr": "1e-3",
    "task.feature_cache.enabled": "false",
}
POINTS: Options = {"generator.latent_dim": "2", "generator.widths": "[128,128]", "discriminator.widths": "[128,128]"}
SLICES: Options = {"generator.latent_dim": "32", "generator.widths": "[256,256]", "discriminator.widths": "[256,256]"}
PROBLEMS: dict[str, tuple[int, Options]] = {  # steps, and options
    "ring": (800, {"data": "gaussian_ring", **POINTS}),
    "grid": (3000, {"data": "gaussian_grid", **POINTS}),
    "stacked": (800, {"data": "stacked_phantoms", **SLICES}),
}


def _both(option: str, value: str) -> Options:
    """Return the option of both optimizers."""
    return {option.format(network): value for network in ("generator", "discriminator")}


METHODS: dict[str, Options] = {
    PLAIN: {},
    "minimax": {"loss": "minimax"},
    "packing_2": {"discriminator.packing": "2"},
    "packing_4": {"discriminator.packing": "4"},
    "minibatch_std": {"minibatch": "std"},
    "minibatch_discrimination": {  # 100 kernels take most of the time of so small a pair
        "minibatch": "discrimination",
        "minibatch.kernels": "10",
        "minibatch.dimensions": "3",
    },
    "unrolled_5": {"task.unrolled_steps": "5"},
    "r1": {"penalty": "r1", "penalty.r1.gamma": "0.1"},
    "dragan": {"penalty": "dragan"},
    "wasserstein_gp": {"loss": "wasserstein", "penalty": "wasserstein_gp"},
    "ttur": {"discriminator_optimizer.lr": "4e-3"},
    "mode_seeking": {"generator_penalty": "mode_seeking"},
    "feature_matching": {"generator_penalty": "feature_matching"},
    "relativistic_pairing": {"loss": "relativistic_pairing"},
    "dual_contrastive": {"loss": "dual_contrastive"},
    "optimistic_adam": _both("optimizer@{}_optimizer", "optimistic_adam"),
    "extragradient": _both("optimizer@{}_optimizer", "extragradient"),
    "historical_averaging": _both("optimizer@{}_optimizer", "historical_averaging"),
    "instance_noise": {
        "augment": "instance_noise",
        "+schedule@schedules.augment.instance_noise.sigma": "linear",
        "schedules.augment.instance_noise.sigma.start": "0.1",
        "schedules.augment.instance_noise.sigma.end": "0.0",
    },
    "consistency": {  # a translation would change nothing of one pixel
        "penalty": "consistency",
        "augment@penalty.consistency.augmentations": "instance_noise",
        "penalty.consistency.augmentations.instance_noise.sigma": "0.02",
    },
    "top_k": {
        "+schedule@schedules.task.top_k": "linear",
        "schedules.task.top_k.start": "1.0",
        "schedules.task.top_k.end": "0.5",
    },
    "label_smoothing": {"loss.label_smoothing": "0.1"},
    "label_flipping": {"loss.label_flipping": "0.05"},
    "dropout": {"discriminator.dropout": "0.2"},
    "drift": {"penalty": "drift"},
}


def overrides(problem: str, method: str, seed: int) -> list[str]:
    """Return the options of a run as typed on the command line."""
    steps, own = PROBLEMS[problem]
    options = {**COMMON, **own, **METHODS[method], "seed": str(seed), "max_images": str(128 * steps)}
    if "adam" in options["optimizer@generator_optimizer"].split("_")[:1]:
        options |= _both("+{}_optimizer.fused", "true")  # the same mathematics, faster
    return [f"{key}={value}" for key, value in options.items()]


def measure(problem: str, method: str, seed: int) -> dict[str, Any]:
    """Train one run in this process; return its row. One that diverges has no values."""
    start = time.process_time()
    row: dict[str, Any] = {"problem": problem, "method": method, "seed": seed, "steps": PROBLEMS[problem][0]}
    with unchanged_process():
        data = _data(problem)
        data.seed = seed  # of the order
        config = compose_checked("train", overrides(problem, method, seed))
        config.run_dir = "."  # nothing is written
        model = build_model(finalize(config, data))
        options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=-1, limit_val_batches=0, enable_model_summary=False, **options
        )
        begun = time.process_time()
        try:
            trainer.fit(model, data)
            row |= _values(model, data)
        except InputError as error:
            row["ended"] = error.code.value
    seconds = {"seconds": time.process_time() - start, "step_ms": 1e3 * (time.process_time() - begun) / row["steps"]}
    return {**row, **{name: round(value, 2) for name, value in seconds.items()}, "torch": torch.__version__}


@functools.cache
def _data(problem: str) -> ImageDataModule:
    """Return the data of a problem, whose images are the same for all runs and drawn once."""
    return build_data(compose_checked("train", overrides(problem, PLAIN, seed=0)))


@torch.no_grad()
def _values(model: Any, data: ImageDataModule) -> dict[str, dict[str, float]]:
    """Return the measures of the last generator, of its moving average and of real images."""
    found: dict[str, dict[str, float]] = {}
    z = noise(SAMPLES, model.generator.latent_dim, seed=1)
    for name, generator in (("last", model.generator), ("ema", model.ema_generator.module)):
        images = generator.eval()(z, None)
        metrics = ModeMetrics(reader=data.source)  # pyright: ignore[reportArgumentType]
        metrics.update(data.val_batch(SAMPLES)["image"], real=True)
        metrics.update(images, real=False)
        values = metrics.compute()
        names = [name for name in values if f"real_{name}" in values]
        found[name] = {name: round(values[name], 5) for name in names}
        found["real"] = {name: round(values[f"real_{name}"], 5) for name in names}
    return found


# ---- the table -------------------------------------------------------------------------------------------------------


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval by Student's distribution; infinite for less than two values."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return float(values.mean()) if len(values) else math.nan, -math.inf, math.inf
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()), float(values.mean()) - half, float(values.mean()) + half


def verdict(low: float, high: float, gain: float) -> str:
    """Return the word for an interval of a difference from the plain GAN, of which ``gain`` is worth having."""
    if low > 0:
        return "helps"
    if high < 0:
        return "hurts"
    return "does not help" if high < gain else "is undecided"


def overlap(values: dict[str, float]) -> float:
    """Return 1 minus the total variation."""
    return 1 - values["modes_tv"]


def with_effective(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose measures have the effective modes too: K exp(-KL), the number of equally frequent ones."""
    modes = MODES[row["problem"]]
    return {
        key: {**values, "effective": modes * math.exp(-values["modes_kl"])}
        if key in ("last", "ema", "real")
        else values
        for key, values in row.items()
    }


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the tables and sentences of all problems, in Markdown."""
    for problem, (steps, _) in PROBLEMS.items():
        own = [with_effective(row) for row in rows if row["problem"] == problem and row["steps"] == steps]
        if own:
            yield from (f"**{problem}**, {steps:,} steps", "", *_of_problem(own), "")


def _of_problem(rows: list[dict[str, Any]]) -> Iterator[str]:
    plain = {row["seed"]: row for row in rows if row["method"] == PLAIN and "last" in row}
    heads = ["method", "seeds", *NAMES.values(), "overlap", "EMA: effective modes", "good images", "overlap"]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    real = next(row["real"] for row in rows if "real" in row)
    yield f"| real images | | {' | '.join(f'{real[name]:.3g}' for name in NAMES)} | {overlap(real):.3g} | | | |"
    sentences: list[str] = []
    for method in METHODS:
        runs = {row["seed"]: row for row in rows if row["method"] == method and "last" in row}
        if not runs:
            continue
        yield _row(method, list(runs.values()))
        seeds = [seed for seed in runs if seed in plain and method != PLAIN]
        if seeds:
            sentences.append(_sentence(method, [runs[seed] for seed in seeds], [plain[seed] for seed in seeds]))
    yield ""
    measure, gain = DECIDING[rows[0]["problem"]]
    averaged = interval([_value(row, "ema", measure) - _value(row, "last", measure) for row in plain.values()])
    word = verdict(*averaged[1:], gain)
    sentences.append(f"* EMA of the plain GAN, against its last generator: {word} ({measure} {_difference(averaged)}).")
    yield from sentences
    ended = [f"{row['method']} (seed {row['seed']}: {row['ended']})" for row in rows if "ended" in row]
    if ended:
        yield f"* Without values: {', '.join(ended)}."


def _row(method: str, runs: list[dict[str, Any]]) -> str:
    cells = [method, str(len(runs))]
    for key, names in (("last", [*NAMES]), ("ema", [*NAMES][1:])):
        of_runs = [{**run[key], "overlap": overlap(run[key])} for run in runs]
        for name in (*names, "overlap"):
            cells.append(_spread([values[name] for values in of_runs], 2 if name in ("good_images", "overlap") else 1))
    return f"| {' | '.join(cells)} |"


def _spread(values: Sequence[float], digits: int) -> str:
    """Return the mean and the standard deviation over seeds."""
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def _difference(estimate: tuple[float, float, float], digits: int = 2) -> str:
    mean, low, high = estimate
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _sentence(method: str, runs: list[dict[str, Any]], plain: list[dict[str, Any]]) -> str:
    pairs = list(zip(runs, plain, strict=True))
    deciding, gain = DECIDING[runs[0]["problem"]]
    words, texts = [], []
    for key in ("last", "ema"):
        found = {
            name: interval([_value(run, key, name) - _value(other, key, name) for run, other in pairs])
            for name in ("overlap", "effective")
        }
        words.append(verdict(*found[deciding][1:], gain))
        texts.append(f"overlap {_difference(found['overlap'])}, effective modes {_difference(found['effective'], 1)}")
    return f"* {method} {words[0]}: {texts[0]}; with the EMA it {words[1]}: {texts[1]}."


def _value(row: dict[str, Any], key: str, name: str) -> float:
    return overlap(row[key]) if name == "overlap" else row[key][name]


def main() -> None:
    """Measure the runs that are missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of rows, one JSON object a line")
    parser.add_argument("--problems", nargs="+", default=[*PROBLEMS], choices=[*PROBLEMS])
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=[*METHODS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--table", action="store_true", help="print the table of the rows that there are")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table(read_rows(options.out))))
        return
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # PyTorch looks for GPUs in each step of an optimizer otherwise
    torch.set_num_threads(1)
    register_resolvers()
    for problem in options.problems:
        for method in options.methods:
            for seed in options.seeds:
                done = {(row["problem"], row["method"], row["seed"], row["steps"]) for row in read_rows(options.out)}
                if (problem, method, seed, PROBLEMS[problem][0]) not in done:
                    row = measure(problem, method, seed)
                    append_rows(options.out, row)
                    print({key: row[key] for key in row if key not in ("ema", "real", "torch")}, flush=True)


if __name__ == "__main__":
    main()
