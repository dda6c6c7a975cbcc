"""Measure the cost of a training step, side by side in one process on this machine.

    uv run scripts/benchmark_step.py reference [--width 0.35]   ours against the loop of the reference system
    uv run scripts/benchmark_step.py lightning                  ours under Lightning against a bare PyTorch loop
    uv run scripts/benchmark_step.py translation                pix2pix, U-Net and patches, against a bare loop
    uv run scripts/benchmark_step.py memory                     peak memory by discriminator.unfreeze
    uv run scripts/benchmark_step.py formats                    channels_last, bf16, torch.compile
    uv run scripts/benchmark_step.py                            all of them

The first three take turns step by step; medians, and in brackets the quartiles. On a GPU where there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import softplus

from medsynth.cli.compose import register_resolvers
from medsynth.configuration.compose import conf_folder
from medsynth.contracts import Batch
from medsynth.generator.ema import EMA
from medsynth.lightning.precision import best_precision

REFERENCE = (
    "generator=tomsk",
    "backbone=xception",
    "backbone.weights=random",
    "data.image_size=128",
    "data.batch_size=16",
    "data.source.num_images=64",
    "data.source.num_val=2",
)
DCGAN = ("penalty=none", "data.image_size=64", "data.batch_size=64", "data.source.num_images=1024")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
QUIET = {"limit_val_batches": 0, "num_sanity_val_steps": 0, "enable_checkpointing": False, "logger": False}
PLAIN = {"enable_model_summary": False, "enable_progress_bar": False, "use_distributed_sampler": False}


# ---- one fit, timed -------------------------------------------------------------------------------------------------


class Turns(pl.Callback):
    """Time each step of a fit, all that Lightning does around it included; after each, ``other`` takes its turn."""

    def __init__(self, other: Callable[[Batch], None] | None = None, warm_up: int = 2):
        self.other, self.warm_up = other, warm_up
        self.own_seconds: list[float] = []
        self.other_seconds: list[float] = []
        self.losses: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self.since = now()

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx) -> None:
        end = now()
        self.own_seconds.append(end - self.since)
        self.losses.append(outputs["discriminator_loss"].item())
        if self.other is not None:
            self.other(batch)
            self.other_seconds.append(now() - end)
        self.since = now()

    def medians(self) -> tuple[float, float]:
        return tuple(statistics.median(s[self.warm_up :]) for s in (self.own_seconds, self.other_seconds))


def now() -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def compose(*overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return hydra.compose("train", overrides=[*overrides, "num_classes=0"])


def fit(config: DictConfig, turns: Turns, precision: str, prepare: Callable[[Any], None] = lambda model: None) -> Any:
    """Train by ``config`` with ``turns`` as a callback; ``prepare`` is called with the model before the start."""
    pl.seed_everything(0, verbose=False)
    data = instantiate(config.data, _convert_="all")
    data.prepare()
    model = instantiate(config.task, _convert_="all")
    prepare(model)
    trainer = pl.Trainer(max_epochs=-1, precision=precision, devices=1, callbacks=[turns], **QUIET, **PLAIN)
    trainer.fit(model, data)
    return model


# ---- ours against the reference loop --------------------------------------------------------------------------------


class ReferenceLoop:
    """The loop of tutorials, with a backbone: the update of each network makes all passes of its own.

    The frozen weights take no gradients. ``frugal`` uses the images made for the discriminator again in the generator's
    update; the backbone still sees them twice.
    """

    def __init__(self, generator, discriminator, precision: str, *, frugal: bool):
        self.generator, self.discriminator, self.frugal = generator, discriminator, frugal
        self.autocast = lambda: torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16-mixed")
        trained = [p for p in discriminator.parameters() if p.requires_grad]
        self.generator_optimizer = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
        self.discriminator_optimizer = torch.optim.Adam(trained, 2e-4, (0.5, 0.999))

    def __call__(self, batch: Batch) -> None:
        real = batch["image"]
        z = torch.randn(len(real), self.generator.latent_dim, device=real.device)
        with self.autocast():
            with torch.set_grad_enabled(self.frugal):
                fake = self.generator(z)
            loss = softplus(-self.discriminator(real)).mean() + softplus(self.discriminator(fake.detach())).mean()
        loss.backward()
        self.discriminator_optimizer.step()
        self.discriminator_optimizer.zero_grad()
        with self.autocast():
            loss = softplus(-self.discriminator(fake if self.frugal else self.generator(z))).mean()
        loss.backward()
        self.generator_optimizer.step()
        self.generator_optimizer.zero_grad()
        self.discriminator_optimizer.zero_grad()


def reference(arguments: argparse.Namespace) -> None:
    precision = arguments.precision or best_precision("auto")
    for width in (arguments.width, 1.0):
        for cache, frugal in itertools.product((True, False), (False, True)):
            steps = arguments.steps if width < 1 else max(4, arguments.steps // 3)
            against_reference(width, cache, frugal, steps, precision)


def against_reference(width: float, cache: bool, frugal: bool, steps: int, precision: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        choices = (f"generator.width={width}", f"max_images={16 * steps}", f"task.feature_cache.enabled={cache}")
        config = compose(*REFERENCE, *choices, f"run_dir={folder}")
        turns = Turns()

        def prepare(model: Any) -> None:
            networks = [copy.deepcopy(network).to(DEVICE) for network in (model.generator, model.discriminator)]
            turns.other = ReferenceLoop(*networks, precision, frugal=frugal)
            if not cache:
                print(f"generator.width={width}, {precision}: {costs(*networks, precision)}")

        fit(config, turns, precision, prepare)
    cached, loop = "with" if cache else "without", "reusing its images" if frugal else "as is"
    name = f"width {width}, {cached} cache, reference {loop}"
    print(f"  {name:58} {ratio(turns)}", flush=True)


def costs(generator, discriminator, precision: str) -> str:
    """Describe the time of a forward and backward pass of both, to show which dominates."""
    z = torch.randn(16, generator.latent_dim, device=DEVICE)
    images = torch.randn(16, 1, 128, 128, device=DEVICE, requires_grad=True)

    def seconds(run: Callable[[], Tensor]) -> float:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16-mixed"):
            times = []
            for _ in range(4):
                start = now()
                run().float().sum().backward()
                times.append(now() - start)
        return statistics.median(times[1:])

    made, seen = seconds(lambda: generator(z)), seconds(lambda: discriminator(images))
    generator.zero_grad()
    discriminator.zero_grad()
    return f"a pass and back takes {made:.2f} s through the generator, {seen:.2f} s through the backbone"


def ratio(turns: Turns) -> str:
    own, other = turns.medians()
    spread = [o / s for s, o in zip(turns.own_seconds, turns.other_seconds, strict=True)][turns.warm_up :]
    low, _, high = statistics.quantiles(spread, n=4)
    return f"{other / own:5.2f}x [{low:.2f}, {high:.2f}]   {own * 1e3:8.1f} ms a step against {other * 1e3:8.1f}"


# ---- Lightning's share ----------------------------------------------------------------------------------------------


class BareLoop:
    """The mathematics of our step and nothing else: no Lightning, no loader, no record, no check of norms."""

    def __init__(self, generator, discriminator):
        self.generator, self.discriminator = generator, discriminator
        self.average = EMA(generator, half_life=10_000, rampup=0.05)
        self.generator_optimizer = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
        self.discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999))
        self.seen = 0

    def __call__(self, batch: Batch) -> None:
        real = batch["image"]
        fake = self.generator(torch.randn(len(real), self.generator.latent_dim, device=real.device))
        loss = softplus(-self.discriminator(real)).mean() + softplus(self.discriminator(fake.detach())).mean()
        loss.backward()
        self.discriminator_optimizer.step()
        self.discriminator_optimizer.zero_grad()
        self.discriminator.requires_grad_(False)
        softplus(-self.discriminator(fake)).mean().backward()
        self.discriminator.requires_grad_(True)
        self.generator_optimizer.step()
        self.generator_optimizer.zero_grad()
        self.seen += len(real)
        self.average.update(self.generator, self.seen)


def lightning(arguments: argparse.Namespace) -> None:
    turns = Turns(warm_up=20)  # the phantoms are made in the first epoch

    def prepare(model: Any) -> None:
        turns.other = BareLoop(*(copy.deepcopy(p).to(DEVICE) for p in (model.generator, model.discriminator)))

    steps = 10 * arguments.steps
    fit(compose(*DCGAN, f"max_images={64 * steps}", "run_dir=unused"), turns, "32-true", prepare)
    print(f"under Lightning against a bare loop, dcgan, 64 px, batch 64: {ratio(turns)}", flush=True)


class BareTranslation(BareLoop):
    """The mathematics of pix2pix's step, without a mask, and nothing else."""

    def __call__(self, batch: Batch) -> None:
        source, target = batch["image"], batch["target"]
        fake = self.generator(source)

        def logits(images: Tensor) -> Tensor:
            return self.discriminator(torch.cat([images, source], dim=1))

        loss = softplus(-logits(target)).mean() + softplus(logits(fake.detach())).mean()
        loss.backward()
        self.discriminator_optimizer.step()
        self.discriminator_optimizer.zero_grad()
        self.discriminator.requires_grad_(False)
        (softplus(-logits(fake)).mean() + 100 * (fake - target).abs().mean()).backward()
        self.discriminator.requires_grad_(True)
        self.generator_optimizer.step()
        self.generator_optimizer.zero_grad()
        self.seen += len(source)
        self.average.update(self.generator, self.seen)


def translation(arguments: argparse.Namespace) -> None:
    turns, size = Turns(warm_up=4), arguments.image_size

    def prepare(model: Any) -> None:
        networks = (copy.deepcopy(network).to(DEVICE) for network in (model.generator, model.discriminator))
        turns.other = BareTranslation(*networks)

    options = ("task=paired_translation", "data=phantom_pairs", "data.source.masks=false", "data.batch_size=4")
    filled_in = ("source_channels=1", "discriminator_channels=2", "task.conditional_on_source=true")
    images = (f"data.image_size={size}", "data.source.num_images=16", "data.source.num_val=2", "data.source.num_test=0")
    duration = f"max_images={4 * arguments.steps}"
    fit(compose(*options, *filled_in, *images, duration, "run_dir=unused"), turns, "32-true", prepare)
    print(f"pix2pix under Lightning against a bare loop, U-Net, {size} px, batch 4: {ratio(turns)}", flush=True)


# ---- memory ---------------------------------------------------------------------------------------------------------


def memory(arguments: argparse.Namespace) -> None:
    for unfreeze in ("none", "2", "all"):
        command = [sys.executable, __file__, "peak", "--unfreeze", unfreeze, "--width", str(arguments.width)]
        gib = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
        print(f"peak memory with discriminator.unfreeze={unfreeze:4}: {gib:.2f} GiB", flush=True)


def peak(arguments: argparse.Namespace) -> None:
    """Print the peak of one short training, less the memory before it; called in a process of its own."""
    choices = (f"discriminator.unfreeze={arguments.unfreeze}", f"generator.width={arguments.width}", "max_images=48")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        fit(compose(*REFERENCE, *choices, f"run_dir={folder}"), Turns(), best_precision("auto"))
    if DEVICE == "cuda":
        print(torch.cuda.max_memory_allocated() / 2**30)
    else:
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)


# ---- formats --------------------------------------------------------------------------------------------------------

FORMATS = {  # name: precision, channels_last, compile
    "float32": ("32-true", False, False),
    "channels_last": ("32-true", True, False),
    "bf16-mixed": ("bf16-mixed", False, False),
    "bf16-mixed, channels_last": ("bf16-mixed", True, False),
    "bf16-mixed, channels_last, compile": ("bf16-mixed", True, True),
}


def formats(arguments: argparse.Namespace) -> None:
    compositions = {
        "dcgan, 64 px, batch 64": (DCGAN, 64, 2 * arguments.steps),
        f"tomsk of width {arguments.width} on Xception, 128 px, batch 16": (
            (*REFERENCE, f"generator.width={arguments.width}"),
            16,
            max(4, arguments.steps // 3),
        ),
    }
    for title, (overrides, batch, steps) in compositions.items():
        runs: dict[str, list[Turns]] = {name: [] for name in FORMATS}
        for _ in range(arguments.rounds):
            for name, turns in runs.items():
                turns.append(formatted(overrides, f"max_images={batch * (steps + 2)}", *FORMATS[name]))
        print(f"{title}: speed relative to float32; difference of the first loss, and of the fifth")
        first = runs["float32"]
        base = statistics.median(s for turns in first for s in turns.own_seconds[2:])
        for name, turns in runs.items():
            seconds = statistics.median(s for t in turns for s in t.own_seconds[2:])
            away = [abs(turns[0].losses[step] - first[0].losses[step]) for step in (0, 4)]
            started = turns[0].own_seconds[0]
            print(f"  {name:36} {base / seconds:5.2f}x   {away[0]:.1e}, {away[1]:.1e}   first step {started:.1f} s")
        sys.stdout.flush()


def formatted(overrides, duration: str, precision: str, channels_last: bool, compile: bool) -> Turns:
    turns = Turns()
    choices = (duration, f"task.channels_last={channels_last}", f"task.compile={compile}")
    with tempfile.TemporaryDirectory() as folder:
        fit(compose(*overrides, *choices, f"run_dir={folder}"), turns, precision)
    return turns


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def main() -> None:
    parts = {
        "reference": reference,
        "lightning": lightning,
        "translation": translation,
        "memory": memory,
        "formats": formats,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=[*parts, "peak"])
    parser.add_argument("--width", type=float, default=0.75, help="of the Tomsk generator, beside full width")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=256, help="of the translation")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", help="of the comparison with the reference; default: the best of this machine")
    parser.add_argument("--unfreeze", default="none", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    register_resolvers()
    os.environ["TQDM_DISABLE"] = "1"
    with quiet():
        if arguments.part == "peak":
            return peak(arguments)
        device = torch.cuda.get_device_name() if DEVICE == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        print(f"{device}, torch {torch.__version__}")
        for part in [parts[arguments.part]] if arguments.part else parts.values():
            part(arguments)


if __name__ == "__main__":
    main()
