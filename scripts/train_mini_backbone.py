"""Train the embedded backbone, medsynth_mini, on labeled phantoms: `uv run scripts/train_mini_backbone.py`.

Writes medsynth/backbone/mini.safetensors and, beside it, mini.json with what it reaches on phantoms that it has not
seen. About 10 minutes on 2 CPU cores; the same seed, library versions and number of threads give the same file.

The network learns to tell anatomy and number of lesions apart (9 classes) under strong changes of pose, window,
contrast, sharpness and noise, so that its features go by shape and texture and serve real images of other kinds too.
A second linear layer, not kept, reads off the features how far the image was changed: else they would become blind to
blur and noise, which a Fréchet distance and a discriminator must see.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import affine_grid, conv2d, cross_entropy, grid_sample, interpolate, mse_loss
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, Dataset

from medsynth.backbone.mini import CLASSES, IMAGE_SIZE, WEIGHTS
from medsynth.contracts import counter_seed
from medsynth.data.phantom import Phantoms

MODEL = "medsynth_mini"
BATCH_SIZE = 64
THREADS = 2
NUM_CHANGES = 5
GAUGE_WEIGHT = 0.5
LEARNING_RATE = 4e-3


def main() -> None:
    options = _options()
    torch.set_num_threads(THREADS)
    torch.manual_seed(options.seed)
    start = time.perf_counter()
    phantoms = Phantoms(
        image_size=IMAGE_SIZE,
        anatomies=("head", "abdomen", "chest"),
        num_images=options.train_images,
        num_val=options.test_images,
        seed=counter_seed("mini", options.seed),  # of its own: no phantom that a run trains or validates on
    )
    assert phantoms.class_names == CLASSES
    train, test, _ = phantoms.datasets()
    train, test = _load(train), _load(test)
    print(
        f"{len(train[1])} phantoms to train on, {len(test[1])} to test, {time.perf_counter() - start:.0f} s", flush=True
    )
    network = timm.create_model(MODEL).to(memory_format=torch.channels_last)
    _train(network, *train, epochs=options.epochs, seed=options.seed, test=test)
    record = _measure(network, *test) | _provenance(options)
    _save(network, record, options.output)
    print(f"accuracy {record['accuracy']:.4f}, {options.output}, {time.perf_counter() - start:.0f} s")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train-images", type=int, default=18_000)
    parser.add_argument("--test-images", type=int, default=1_800)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="the weights' file; its record lies beside it")
    return parser.parse_args()


def _load(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """All images (N, 1, H, W) and labels (N,) of a data set."""
    batches = list(DataLoader(dataset, batch_size=BATCH_SIZE, num_workers=THREADS))
    return torch.cat([batch["image"] for batch in batches]), torch.cat([batch["label"] for batch in batches])


def _train(network: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, seed: int, test) -> None:
    gauge = nn.Linear(network.num_features, NUM_CHANGES)
    optimizer, schedule = _optimizer(nn.ModuleList([network, gauge]), steps=epochs * (len(labels) // BATCH_SIZE))
    for epoch in range(epochs):
        start, losses = time.perf_counter(), []
        network.train()
        for batch, generator in _batches(len(labels), seed=seed, epoch=epoch):
            changed, changes = augment(images[batch], generator)
            features = network.global_pool(network.forward_features(changed))
            loss = cross_entropy(network.fc(features), labels[batch], label_smoothing=0.05)
            loss = loss + GAUGE_WEIGHT * mse_loss(gauge(features), changes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        accuracy = (_predict(network, test[0]) == test[1]).float().mean().item()
        print(
            f"epoch {epoch + 1:3d}/{epochs}  loss {sum(losses) / len(losses):.3f}  held-out accuracy {accuracy:.4f}  "
            f"{time.perf_counter() - start:.0f} s",
            flush=True,
        )


def _optimizer(module: nn.Module, *, steps: int) -> tuple[Optimizer, LRScheduler]:
    """AdamW, decay of matrices and kernels alone, one cycle of the learning rate (Smith & Topin 2019)."""
    parameters = list(module.parameters())
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = AdamW(groups, lr=LEARNING_RATE)
    return optimizer, OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps, pct_start=0.2)


def _batches(count: int, *, seed: int, epoch: int) -> Iterator[tuple[Tensor, torch.Generator]]:
    """Yield indices of whole batches in random order, each with the generator that augments it."""
    generator = torch.Generator().manual_seed(counter_seed("mini", seed, epoch))
    order = torch.randperm(count, generator=generator)
    for first in range(0, count - BATCH_SIZE + 1, BATCH_SIZE):
        yield order[first : first + BATCH_SIZE], generator


class Draws:
    """Random numbers (count, 1, 1, 1), one for each image of a batch."""

    def __init__(self, count: int, generator: torch.Generator):
        self.shape = (count, 1, 1, 1)
        self.generator = generator

    def uniform(self, low: float, high: float) -> Tensor:
        return torch.rand(self.shape, generator=self.generator) * (high - low) + low

    def normal(self, deviation: float) -> Tensor:
        return torch.randn(self.shape, generator=self.generator) * deviation

    def sometimes(self, share: float) -> Tensor:
        """1 with the probability ``share``, else 0."""
        return (self.uniform(0, 1) < share).float()


def augment(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random pose, sharpness, shading, window and noise, for each image on its own: (N, 1, H, W) in [-1, 1].

    Returns the changed images and how far they were changed in sharpness, gamma, brightness, contrast and noise, each
    scaled to a standard deviation of about 1: (N, NUM_CHANGES).
    """
    draws = Draws(len(images), generator)
    grid = affine_grid(_poses(draws), list(images.shape), align_corners=False)
    images = grid_sample(images, grid, padding_mode="border", align_corners=False)
    sigma = draws.sometimes(0.3) * draws.uniform(0.4, 1.2)
    gamma, brightness, contrast = draws.normal(0.35), draws.normal(0.1), draws.normal(0.3)
    grain = draws.sometimes(0.5) * draws.uniform(0.0, 0.15)
    shading = interpolate(torch.randn(len(images), 1, 3, 3, generator=generator), IMAGE_SIZE, mode="bicubic")
    images = (_blur(images, sigma) + 1) / 2 * (1 + 0.15 * draws.sometimes(0.5) * shading)
    images = (images.clamp(1e-4, 1) ** gamma.exp() - 0.5 + brightness) * 2 * contrast.exp()
    images = images * (1 - 2 * draws.sometimes(0.1))  # as on film: bone is dark
    images = (images + torch.randn(images.shape, generator=generator) * grain).clamp(-1, 1)
    return images, torch.cat(
        [sigma / 0.4, gamma / 0.35, brightness / 0.1, contrast / 0.3, grain / 0.05], dim=1
    ).flatten(1)


def _poses(draws: Draws) -> Tensor:
    """Affine maps (N, 2, 3): turned by about 15 degrees, zoomed, stretched, shifted, half of them mirrored."""
    turn, zoom = draws.normal(0.25), draws.normal(0.12).exp()
    across = (1 - 2 * draws.sometimes(0.5)) * draws.normal(0.06).exp()
    cos, sin = turn.cos() / zoom, turn.sin() / zoom
    right, down = draws.normal(0.06), draws.normal(0.06)  # of half an image
    rows = [torch.cat(row, dim=3) for row in ([cos * across, -sin, right], [sin * across, cos, down])]
    return torch.cat(rows, dim=2).squeeze(1)


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of ``sigma`` pixels (N, 1, 1, 1); 0 leaves an image as it is."""
    kernel = torch.exp(-(torch.arange(-3.0, 4.0) ** 2) / (2 * sigma.clamp_min(1e-3) ** 2))
    kernel = kernel / kernel.sum(dim=3, keepdim=True)  # (N, 1, 1, 7)
    rows = conv2d(images.transpose(0, 1), kernel, padding=(0, 3), groups=len(images))
    return conv2d(rows, kernel.transpose(2, 3), padding=(3, 0), groups=len(images)).transpose(0, 1)


@torch.no_grad()
def _predict(network: nn.Module, images: Tensor) -> Tensor:
    network.eval()
    return torch.cat([network(batch).argmax(dim=1) for batch in images.split(BATCH_SIZE)])


def _measure(network: nn.Module, images: Tensor, labels: Tensor) -> dict:
    """Accuracy with its standard error, recall of each class, and the confusion matrix (rows: true classes)."""
    predicted = _predict(network, images)
    confusion = torch.bincount(labels * len(CLASSES) + predicted, minlength=len(CLASSES) ** 2).view(len(CLASSES), -1)
    accuracy = (predicted == labels).double().mean().item()
    recall = confusion.diag() / confusion.sum(dim=1)
    return {
        "accuracy": round(accuracy, 4),
        "standard_error": round(math.sqrt(accuracy * (1 - accuracy) / len(labels)), 4),
        "test_images": len(labels),
        "per_class": {name: round(value.item(), 4) for name, value in zip(CLASSES, recall, strict=True)},
        "confusion": confusion.tolist(),
    }


def _provenance(options: argparse.Namespace) -> dict:
    arguments = {"train_images": options.train_images, "epochs": options.epochs, "seed": options.seed}
    return {
        "model": MODEL,
        "classes": list(CLASSES),
        "image_size": IMAGE_SIZE,
        "command": "uv run scripts/train_mini_backbone.py",
        "arguments": arguments | {"test_images": options.test_images},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "timm": timm.__version__},
    }


def _save(network: nn.Module, record: dict, path: Path) -> None:
    """Both files, each all or nothing. The record is under one key: safetensors writes several in random order."""
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    described = {key: value for key, value in record.items() if key not in ("per_class", "confusion")}
    draft = path.with_suffix(".draft")
    draft.write_bytes(save(state, metadata={"medsynth": json.dumps(described, sort_keys=True)}))
    os.replace(draft, path)
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    draft.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    os.replace(draft, path.with_suffix(".json"))


if __name__ == "__main__":
    main()
