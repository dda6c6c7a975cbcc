"""The images of an audit: a run's data and generator, or folders; and the logits of a run's discriminator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from medsynth.contracts import InputError, counter_seed
from medsynth.evaluation.evaluation_sets import conversion_notes
from medsynth.evaluation.folders import folder_images, open_folder
from medsynth.evaluation.image_sets import HELD_OUT, generated, shuffled, split_of
from medsynth.evaluation.opened_run import OpenedRun, checkpoint_path, open_run, with_weights
from medsynth.metrics.image_set import ImageSet

FOLDERS = ("real", "held_out", "fake")
LEAST_SAMPLES = 1000  # images that are generated unless num_samples= says otherwise
DISCRIMINATOR = "discriminator."  # in a checkpoint
Logits = Callable[[ImageSet, ImageSet], tuple[np.ndarray, np.ndarray]]


class AuditSets(NamedTuple):
    """Images of an audit, all of one size.

    Attributes:
        training: the images that the generator was trained on.
        held_out: real images that it was not trained on.
        fake: generated images.
        sources: descriptions of training, held-out and generated images, with their numbers.
        image_size: height and width in pixels.
        channels: their number.
        notes: sentences about what biases the values.
        logits: of the trained discriminator; None: there is none.
        untold: questions that cannot be answered, and why.
    """

    training: ImageSet
    held_out: ImageSet
    fake: ImageSet
    sources: dict[str, tuple[str, int]]
    image_size: int
    channels: int
    notes: tuple[str, ...] = ()
    logits: Logits | None = None
    untold: dict[str, str] = {}  # noqa: RUF012 - never changed


def sets_of_run(config: DictConfig, device: torch.device) -> AuditSets:
    """Return the training and held-out images of a run, and images of its generator.

    Raises:
        InputError: no run, generator or checkpoint of that name, or nothing was held out.
    """
    folder = Path(config.run)
    run = open_run(folder, config, device, built=("data", "generator", "discriminator"))
    training = shuffled(split_of(run.data, run.trained, "train"), most=config.max_training)
    held_out = shuffled(split_of(run.data, run.trained, config.split or HELD_OUT))
    count = config.num_samples or max(held_out.count, LEAST_SAMPLES)
    conditional = run.trained.num_classes > 0
    fake = generated(run.generator, count, reference=training, conditional=conditional, seed=config.seed)
    logits, reason = _logits_of_run(folder, run, config, device)
    described = run.data.description
    return AuditSets(
        training,
        held_out,
        fake,
        {
            "training": (f"{described}, split train", training.count),
            "held_out": (f"{described}, split {config.split or 'val and test'}", held_out.count),
            "fake": (str(run.path), fake.count),
        },
        run.trained.data.image_size,
        run.trained.data.channels,
        logits=logits,
        untold={} if reason is None else {"attack_discriminator": reason},
    )


def _logits_of_run(
    folder: Path, run: OpenedRun, config: DictConfig, device: torch.device
) -> tuple[Logits | None, str | None]:
    """Return the function that computes logits, or the reason why there is none."""
    last = folder / "checkpoints" / "last.ckpt"
    path = checkpoint_path(folder, config.checkpoint) if config.checkpoint else last
    node = run.trained.get("discriminator")
    if not isinstance(node, DictConfig):
        return None, "the run has no discriminator"
    if not path.is_file():
        return None, "the run has no checkpoint, which the trained discriminator is in"
    if node.get("packing", 1) != 1:
        return None, f"the discriminator gives one logit to {node.packing} images together (packing)"
    try:
        with torch.random.fork_rng(devices=[]):
            network = instantiate(node, _convert_="all")
        with_weights(network, path, DISCRIMINATOR, kind="discriminator")
    except InputError as error:
        return None, f"the discriminator cannot be built: {error}"
    return logits_of(
        network.eval().to(device), config.batch_size, device, conditional=run.trained.num_classes > 0
    ), None


def logits_of(network: nn.Module, batch_size: int, device: torch.device, *, conditional: bool) -> Logits:
    """Return a function: training images, held-out images -> the mean logit of each.

    Both are mixed at random in each batch, since layers may compare the images of a batch.
    """

    @torch.inference_mode()
    def logits(training: ImageSet, held_out: ImageSet) -> tuple[np.ndarray, np.ndarray]:
        count = training.count + held_out.count
        order = np.random.default_rng(counter_seed("mixed batches")).permutation(count)
        values = np.empty(count)
        for first in range(0, count, batch_size):
            numbers = order[first : first + batch_size]
            own = numbers < training.count
            parts = [(training, numbers[own]), (held_out, numbers[~own] - training.count)]
            images = torch.cat([side.read(chosen.tolist()) for side, chosen in parts if len(chosen)]).to(device)
            labels = None
            if conditional and training.labels is not None and held_out.labels is not None:
                sides = [side.labels[chosen] for side, chosen in parts if side.labels is not None]
                labels = torch.as_tensor(np.concatenate(sides), device=device)
            found: Any = network
            values[np.concatenate([numbers[own], numbers[~own]])] = (
                found.head(found.features(images), labels).float().mean(1).cpu().numpy()
            )
        return values[: training.count], values[training.count :]

    return logits


def sets_of_folders(config: DictConfig) -> AuditSets:
    """Return the images of the folders or archives real=, held_out= and fake=.

    They are brought to the smallest size of all, or to ``config.image_size``, and to the channels of ``fake``.

    Raises:
        InputError: a folder cannot be read.
    """
    opened = {name: open_folder(name, str(config[name]), config) for name in FOLDERS}
    size, channels = config.image_size or min(folder.side for folder in opened.values()), opened["fake"].channels
    config = OmegaConf.merge(config, {"data": {"image_size": size, "channels": channels}})  # pyright: ignore
    sources = {name: folder_images(name, folder, config) for name, folder in opened.items()}
    paths = {name: str(config[name]) if config.data.get("show_paths") else f"{name}=" for name in FOLDERS}
    images = [sources[name].images for name in FOLDERS]
    return AuditSets(
        *images,
        sources={
            key: (paths[name], sources[name].images.count)
            for key, name in zip(("training", "held_out", "fake"), FOLDERS, strict=True)
        },
        image_size=size,
        channels=channels,
        notes=(*conversion_notes(dict(opened), size, channels), *(note for s in sources.values() for note in s.notes)),
        untold={"attack_discriminator": "folders have no discriminator: give run="},
    )
