"""Golden runs: the first 20 steps of every experiment, tiny, as numbers that a change of the mathematics moves.

Store today's numbers after a change that is meant, all or those of some experiments:

    uv run python -m tests.snapshots.golden_runs
    uv run python -m tests.snapshots.golden_runs r3gan tomsk
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from medsynth.cli.compose import register_resolvers
from medsynth.configuration.compose import conf_folder
from medsynth.contracts import noise
from medsynth.finalize import finalize
from medsynth.training import build_data, build_model

SNAPSHOT = Path(__file__).with_suffix(".json")
STEPS = (1, 5, 20)
TOLERANCE = 2e-3  # relative; sums in another order move the numbers by less, a change of the mathematics by more
_BY_NUMBER = ("small_data", "medium_data", "large_data")  # presets by number of images
_AMPLIFYING = (*_BY_NUMBER, "projected_small_data", "sagan", "style", "tomsk_plus", "vision_aided")
LATE = dict.fromkeys(_AMPLIFYING, 0.15)
"""Tolerance of step 20 and of the images, where rounding grows: in a deep random backbone, with large steps."""
MIDDLE = dict.fromkeys((*_BY_NUMBER, "vision_aided"), 0.05)
"""Tolerance of step 5: two processors differ by 0.0006 in the first gradient of this generator, and by 0.025 there."""

_SMALL = (
    "data=phantom",
    "data.image_size=16",
    "data.batch_size=4",
    "data.source.num_images=80",
    "data.source.num_val=16",
    f"max_images={4 * STEPS[-1]}",
    "max_epochs=null",
    "trainer.accelerator=cpu",
    "trainer.devices=1",
    "trainer.precision=32-true",
    # Some gradients are zero but for rounding, as of biases before batch normalization: Adam would make steps of them.
    "+generator_optimizer.eps=1e-3",
    "+discriminator_optimizer.eps=1e-3",
)
_BACKBONE = ("backbone.model_name=test_resnet", "backbone.weights=random", "data.image_size=32")
SHRUNK: dict[str, tuple[str, ...]] = {  # what makes an experiment tiny
    "projected_small_data": (*_BACKBONE, "generator.width=1", "discriminator.width=4"),
    "r3gan": ("generator.width=4", "discriminator.width=4", "discriminator.group_width=4"),
    "sagan": (
        "data.image_size=32",
        "generator.width=4",
        "generator.attention=16",
        "discriminator.width=4",
        "discriminator.attention=16",
    ),
    "size_128": ("generator.width=4", "discriminator.width=4"),
    "size_256": ("generator.width=4", "discriminator.width=4"),
    **dict.fromkeys(
        _BY_NUMBER, (*_BACKBONE, "generator.width=4", "discriminator.trained.width=4", "discriminator.width=4")
    ),
    "style": (
        "generator.width=4",
        "generator.max_width=8",
        "generator.style_dim=8",
        "discriminator.width=4",
        "discriminator.max_width=8",
    ),
    "tomsk": (*_BACKBONE, "generator.width=0.05", "generator.levels=null"),
    "tomsk_plus": (*_BACKBONE, "generator.width=0.05", "discriminator.width=4"),
    "tomsk_small": ("generator.width=0.05", "generator.levels=null", "backbone.weights=embedded", "data.image_size=32"),
    "vision_aided": (*_BACKBONE, "generator.width=4", "discriminator.trained.width=4", "discriminator.width=4"),
}


class _Steps(pl.Callback):
    """Keeps the logged values of some steps."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, float]] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.steps in STEPS:
            self.values[str(pl_module.steps)] = {name: value.item() for name, value in sorted(outputs.items())}


def composed(experiment: str, folder: str, *overrides: str) -> DictConfig:
    """Compose an experiment in its small size; ``overrides`` come last."""
    GlobalHydra.instance().clear()
    register_resolvers()
    arguments = [f"experiment={experiment}", f"run_dir={folder}", *_SMALL, *SHRUNK[experiment], *overrides]
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return hydra.compose("train", overrides=arguments)


def run(experiment: str, *overrides: str) -> dict[str, dict[str, float]]:
    """Return the logged values of steps 1, 5 and 20 of an experiment, and statistics of the EMA's images after them."""
    steps = _Steps()
    with tempfile.TemporaryDirectory() as folder:
        config = OmegaConf.create(OmegaConf.to_container(composed(experiment, folder, *overrides)))
        data = build_data(config)
        config = finalize(config, data)
        model = build_model(config)
        trainer = pl.Trainer(
            accelerator="cpu",
            callbacks=[steps],
            max_epochs=-1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(model, data)
    images = model.eval().sample(noise(16, model.generator.latent_dim, seed=0)).double()
    pattern = torch.arange(images[0].numel(), dtype=torch.float64).cos().view_as(images[0])
    samples = {"mean": images.mean(), "std": images.std(), "pattern": (images * pattern).mean(dim=0).norm()}
    return steps.values | {"samples": {name: value.item() for name, value in samples.items()}}


def differences(
    found: dict[str, dict[str, float]],
    stored: dict[str, dict[str, float]],
    *,
    middle: float = TOLERANCE,
    late: float = TOLERANCE,
) -> list[str]:
    """Return the numbers that are not the stored ones within the tolerance, and those that only one side has.

    ``middle`` is the tolerance of step 5, ``late`` that of the last step and of the images after it.
    """
    lines = []
    for group in sorted(stored.keys() | found.keys()):
        before, now = stored.get(group, {}), found.get(group, {})
        tolerance = {str(STEPS[0]): TOLERANCE, str(STEPS[1]): middle}.get(group, late)
        for name in sorted(before.keys() | now.keys()):
            one, other = before.get(name), now.get(name)
            if one is None or other is None or abs(one - other) > tolerance * max(abs(one), 0.01):
                lines.append(f"{group} {name}: {one} -> {other}")
    return lines


def _main(experiments: Sequence[str]) -> None:
    stored = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}
    for experiment in experiments or SHRUNK:
        rounded = {
            group: {name: float(f"{value:.6g}") for name, value in values.items()}
            for group, values in run(experiment).items()
        }
        stored[experiment] = rounded
    SNAPSHOT.write_text(json.dumps({name: stored[name] for name in SHRUNK}, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    _main(sys.argv[1:])
