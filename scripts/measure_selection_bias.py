"""Measure by how much the best of several generators looks better on the images on which it was selected than it is.

    uv run scripts/measure_selection_bias.py [--runs 2] [--repetitions 120]

Small phantom trainings keep the averaged generator of each of 12 validations. Features of a large pool of held-out
images and of images of each generator are computed once. A repetition draws N of each with replacement, the same for
all generators as in a training, and selects the generator with the lowest ``fd_mini``. The bias is that value less the
same generator's mean at this N. The limit of equally good generators is the last one, 12 times with noise of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import hydra
import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate

import medsynth
from medsynth.cli.compose import register_resolvers
from medsynth.configuration.compose import conf_folder
from medsynth.contracts import noise
from medsynth.data.phantom import Phantoms
from medsynth.metrics.frechet import frechet, frechet_value

SIZES = (100, 300, 1000)
IMAGE_SIZE = 16
VALIDATIONS = 12
CHAINS = ("improving", "equally good")
EVERY = 1024  # images seen between two validations; a multiple of the batch
POOL = 4000  # held-out images, and images of each generator
BATCH = 250
INTERVALS = 10  # repetitions whose interval of the selected value is computed
TRAINING = [
    f"data.image_size={IMAGE_SIZE}",
    "data.source.num_images=1000",
    "data.source.num_val=100",
    "generator.width=16",
    "discriminator.width=16",
    f"max_images={EVERY * VALIDATIONS}",
    f"val_every_images={EVERY}",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "report=false",
]


class KeepGenerators(pl.Callback):
    """Keep the averaged generator of each validation in ``folder``, by images seen."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights."""
        path = self.folder / f"{pl_module.images_seen:08}.pt"  # pyright: ignore[reportArgumentType]
        torch.save(pl_module.ema_generator.module.state_dict(), path)  # pyright: ignore


def train(seed: int, folder: Path) -> list[Path]:
    """Train with ``seed`` and return the weights of all validations, in order."""
    kept = folder / "kept"
    kept.mkdir()
    keep = ["+callbacks.keep._target_=measure_selection_bias.KeepGenerators", f"+callbacks.keep.folder={kept}"]
    with contextlib.redirect_stderr(io.StringIO()):
        medsynth.train(*TRAINING, *keep, folder=folder / "run", seed=seed)
    return sorted(kept.iterdir())


@torch.inference_mode()
def features(paths: list[Path]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the features of the held-out images and of the images of each generator, all from the same noise."""
    register_resolvers()
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = hydra.compose("train", overrides=[*TRAINING, "+extractor=mini", "run_dir=unused"])
    extractor = instantiate(config.extractor.mini, _convert_="all").eval()
    held_out = Phantoms(image_size=IMAGE_SIZE, num_images=1, num_val=2, num_test=POOL).datasets().test
    assert held_out is not None
    images = torch.stack([held_out[row]["image"] for row in range(POOL)])
    real = torch.cat([extractor(batch) for batch in images.split(BATCH)]).double().numpy()
    generator = instantiate(config.generator, _convert_="all").eval()
    z = noise(POOL, generator.latent_dim, seed=0)
    fakes = []
    for path in paths:
        generator.load_state_dict(torch.load(path, weights_only=True))
        fakes.append(torch.cat([extractor(generator(batch)) for batch in z.split(BATCH)]).double().numpy())
    return real, fakes


def measure(repetitions: int, seed: int) -> dict[tuple[int, str], tuple[np.ndarray, float, float]]:
    """Train with ``seed``; return the biases, the mean value and its interval's half width, for each N and chain."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        real, fakes = features(train(seed, Path(folder)))
    result = {}
    for size in SIZES:
        draws = np.random.default_rng([seed, size]).integers(0, POOL, (repetitions, 2, size))
        own_noise = np.random.default_rng([seed, size, 1]).integers(0, POOL, (repetitions, VALIDATIONS, size))
        improving = np.array([[frechet_value(real[one], fake[two]) for fake in fakes] for one, two in draws])
        equal = np.array(
            [
                [frechet_value(real[one], fakes[-1][two]) for two in own]
                for (one, _), own in zip(draws, own_noise, strict=True)
            ]
        )
        best = improving.argmin(1)
        intervals = [frechet(real[one], fakes[best[i]][two]) for i, (one, two) in enumerate(draws[:INTERVALS])]
        half_width = float(np.mean([(interval.high - interval.low) / 2 for interval in intervals]))
        for chain, values in zip(CHAINS, (improving, equal), strict=True):
            bias, value = selection_bias(values)
            result[size, chain] = bias, value, half_width
    return result


def selection_bias(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the biases of the lowest of values ``(repetitions, generators)``, and the mean value of those selected.

    The chance of the drawn images moves all generators alike. Its mean over generators, weighted by how often each is
    selected, is subtracted: it is 0 on average, and without it the bias is known much better.
    """
    mean = values.mean(0)
    chance, chosen = values - mean, values.argmin(1)
    how_often = np.bincount(chosen, minlength=values.shape[1]) / len(values)
    bias = chance[np.arange(len(values)), chosen] - chance @ how_often
    return bias, float(mean @ how_often)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2, help="trainings, with seeds from 0, each in a process")
    parser.add_argument("--repetitions", type=int, default=120, help="selections for each training and N")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.runs) as pool:
        runs = list(pool.map(partial(measure, given.repetitions), range(given.runs)))
    print("| generators | N | mean value | bias | in % | in half widths of the interval |")
    print("|---|---|---|---|---|---|")
    for chain in CHAINS:
        for size in SIZES:
            biases, values, half_widths = zip(*(run[size, chain] for run in runs), strict=True)
            bias = np.concatenate(biases)
            mean, margin = bias.mean(), 1.96 * bias.std(ddof=1) / len(bias) ** 0.5
            relative = [
                f"{scale * mean:+.{digits}f} ± {scale * margin:.{digits}f}"
                for scale, digits in ((1, 2), (100 / np.mean(values), 2), (1 / np.mean(half_widths), 3))
            ]
            print(f"| {chain} | {size:,} | {np.mean(values):.1f} | " + " | ".join(relative) + " |")


if __name__ == "__main__":
    main()
