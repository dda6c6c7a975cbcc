"""Measure by how much the best of several generators looks better on the images on which it was selected than it is.

    uv run scripts/measure_selection_bias.py [--runs 2] [--checkpoints 12] [--trials 50]

Small phantom trainings keep the averaged generator of each validation. A trial draws N held-out images and N noise
vectors, selects the generator with the lowest ``fd_mini`` on them, as a training does, and measures the same generator
on N other held-out images with N other noise vectors. The control measures the last generator, which nothing selects.
The table says how much lower the value is on the images of the selection.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from pathlib import Path

import hydra
import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

import medsynth
from medsynth.cli.compose import register_resolvers
from medsynth.configuration.compose import conf_folder
from medsynth.contracts import noise
from medsynth.data.phantom import Phantoms
from medsynth.metrics.frechet import frechet_distance, gaussian

SIZES = (100, 300, 1000)
IMAGE_SIZE = 16
EVERY = 1000  # images seen between two validations
POOL = 2500  # held-out images, and images of each generator, from which trials draw
BATCH = 250


class KeepGenerators(pl.Callback):
    """Keep the averaged generator of each validation in ``folder``, by images seen."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights."""
        path = self.folder / f"{pl_module.images_seen:08}.pt"  # pyright: ignore[reportArgumentType]
        torch.save(pl_module.ema_generator.module.state_dict(), path)  # pyright: ignore


def options(checkpoints: int) -> list[str]:
    """Return the options of the trainings."""
    return [
        f"data.image_size={IMAGE_SIZE}",
        "data.source.num_images=1000",
        "data.source.num_val=100",
        "generator.width=16",
        "discriminator.width=16",
        f"max_images={EVERY * checkpoints}",
        f"val_every_images={EVERY}",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "report=false",
    ]


def trained(seed: int, typed: list[str], folder: Path) -> list[Path]:
    """Train with ``seed`` and return the weights of all validations, in order."""
    kept = folder / f"kept{seed}"
    kept.mkdir()
    keep = ["+callbacks.keep._target_=measure_selection_bias.KeepGenerators", f"+callbacks.keep.folder={kept}"]
    with contextlib.redirect_stderr(io.StringIO()):
        medsynth.train(*typed, *keep, folder=folder / f"run{seed}", seed=seed)
    return sorted(kept.iterdir())


@torch.inference_mode()
def features_of(config: DictConfig, paths: list[Path]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the features of real images and of the images of each generator, in turn from the same noise."""
    extractor = instantiate(config.extractor.mini, _convert_="all").eval()
    held_out = Phantoms(image_size=IMAGE_SIZE, num_images=1, num_val=2, num_test=POOL).datasets().test
    assert held_out is not None
    real = [extractor(torch.stack([held_out[i]["image"] for i in range(s, s + BATCH)])) for s in range(0, POOL, BATCH)]
    generator = instantiate(config.generator, _convert_="all").eval()
    z = noise(POOL, generator.latent_dim, seed=0)
    fakes = []
    for path in paths:
        generator.load_state_dict(torch.load(path, weights_only=True))
        fakes.append(torch.cat([extractor(generator(part)) for part in z.split(BATCH)]).double().numpy())
    return torch.cat(real).double().numpy(), fakes


def trials(real: np.ndarray, fakes: list[np.ndarray], size: int, count: int, seed: int) -> np.ndarray:
    """Return ``(count, 4)``: the selected generator's value there and on other images, and the last generator's."""
    rows = []
    for trial in range(count):
        random = np.random.default_rng([seed, size, trial])
        chosen, drawn = random.permutation(POOL), random.permutation(POOL)
        here, there = gaussian(real[chosen[:size]]), gaussian(real[chosen[size : 2 * size]])
        values = [frechet_distance(here, gaussian(fake[drawn[:size]])) for fake in fakes]
        fresh = drawn[size : 2 * size]
        best = int(np.argmin(values))
        again = [frechet_distance(there, gaussian(fakes[number][fresh])) for number in (best, -1)]
        rows.append((values[best], again[0], values[-1], again[1]))
    return np.array(rows)


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2, help="trainings, with seeds from 0")
    parser.add_argument("--checkpoints", type=int, default=12, help="validations of each")
    parser.add_argument("--trials", type=int, default=50, help="selections for each training and N")
    given = parser.parse_args()
    typed = options(given.checkpoints)
    found: dict[int, list[np.ndarray]] = {size: [] for size in SIZES}
    with tempfile.TemporaryDirectory() as folder:
        register_resolvers()
        for seed in range(given.runs):
            paths = trained(seed, typed, Path(folder))
            with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
                config = hydra.compose("train", overrides=[*typed, "+extractor=mini", "run_dir=unused"])
            real, fakes = features_of(config, paths)
            for size in SIZES:
                found[size].append(trials(real, fakes, size, given.trials, seed))
    print("| N | value elsewhere | here - elsewhere | in % | 2.5 % to 97.5 % of trials | last one: here - elsewhere |")
    print("|---|---|---|---|---|---|")
    for size, runs in found.items():
        values = np.concatenate(runs)
        difference, control = values[:, 0] - values[:, 1], values[:, 2] - values[:, 3]
        low, high = np.quantile(difference, (0.025, 0.975))
        value = values[:, 1].mean()
        cells = [f"{size:,}", f"{value:.2f}", _mean(difference), f"{100 * difference.mean() / value:+.1f} %"]
        print("| " + " | ".join([*cells, f"{low:+.2f} to {high:+.2f}", _mean(control)]) + " |")


def _mean(values: np.ndarray) -> str:
    return f"{values.mean():+.3f} ± {1.96 * values.std(ddof=1) / len(values) ** 0.5:.3f}"


if __name__ == "__main__":
    main()
