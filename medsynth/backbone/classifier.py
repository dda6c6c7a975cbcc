"""Training of a timm network as a classifier of labeled images, whose features then suit the domain.

The weights are saved to a file that ``backbone.weights=/path`` takes.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader

from medsynth.backbone.network import TimmBackbone
from medsynth.contracts import Batch, InputError, counter_seed
from medsynth.files import replacing


@dataclasses.dataclass(frozen=True)
class Score:
    """The result of a classifier on labeled images.

    Attributes:
        correct: correctly classified images of each class.
        total: images of each class.
        loss: mean cross-entropy in nats.
    """

    correct: tuple[int, ...]
    total: tuple[int, ...]
    loss: float

    @property
    def accuracy(self) -> float:
        """Return the fraction of correctly classified images."""
        return sum(self.correct) / sum(self.total)


@dataclasses.dataclass(frozen=True)
class Training:
    """Options of the training: one cycle of the learning rate (Smith and Topin 2019) with the peak ``learning_rate``.

    Raises:
        InputError: an option is out of range.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    seed: int

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(f"epochs={self.epochs} must be 1 or more.")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise InputError(
                f"learning_rate={self.learning_rate} must be above 0, and weight_decay={self.weight_decay} 0 or more."
            )


def make_classifier(backbone: TimmBackbone, num_classes: int) -> None:
    """Give ``backbone`` a new random linear layer that ends in ``num_classes`` logits.

    Raises:
        InputError: fewer than two classes.
    """
    if num_classes < 2:
        raise InputError(
            "A classifier needs data with two classes or more: put images into one subfolder per class, or "
            "name labels in a table (data=csv)."
        )
    backbone.network.reset_classifier(num_classes)
    backbone.has_classifier = True
    backbone.to(backbone.scale.device)


def train_classifier(
    backbone: TimmBackbone,
    train: DataLoader | Sequence[Batch],
    val: Iterable[Batch],
    *,
    training: Training,
    report: Callable[[int, float, Score], None] | None = None,
) -> Score:
    """Train all weights of ``backbone`` by cross-entropy, and keep those of the best epoch.

    The best epoch has the highest accuracy on ``val``, and among equals the lowest loss. The same seed, data, device
    and number of threads give the same weights.

    Args:
        backbone: after ``make_classifier``, on the device to train on.
        train: batches of training images, one epoch in each iteration.
        val: batches of validation images.
        training: options.
        report: called after each epoch with its number from 1, the mean training loss and the score on ``val``.

    Returns:
        The score of the best epoch.

    Raises:
        InputError: the loss is not finite.
    """
    optimizer, schedule = _optimizer(backbone, training, steps=training.epochs * len(train))
    best: tuple[Score, dict[str, Tensor]] | None = None
    for epoch in range(1, training.epochs + 1):
        torch.manual_seed(counter_seed("pretrain", training.seed, epoch))  # dropout
        loss = _epoch(backbone, train, optimizer, schedule)
        score = evaluate(backbone, val)
        if best is None or (score.accuracy, -score.loss) > (best[0].accuracy, -best[0].loss):
            best = score, copy.deepcopy(backbone.state_dict())
        if report is not None:
            report(epoch, loss, score)
    assert best is not None, "there is one epoch or more"
    backbone.load_state_dict(best[1])
    backbone.eval()
    return best[0]


@torch.no_grad()
def evaluate(backbone: TimmBackbone, batches: Iterable[Batch]) -> Score:
    """Measure ``backbone`` with its classifier on labeled images."""
    backbone.eval()
    pairs = [(backbone.logits(backbone(b["image"].to(backbone.scale))).cpu(), _labels(b)) for b in batches]
    logits, labels = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
    classes = logits.shape[1]
    right = labels[logits.argmax(dim=1) == labels]
    return Score(
        correct=tuple(right.bincount(minlength=classes).tolist()),
        total=tuple(labels.bincount(minlength=classes).tolist()),
        loss=cross_entropy(logits.double(), labels).item(),
    )


def save_weights(backbone: TimmBackbone, path: Path, record: dict[str, Any]) -> None:
    """Write the network's state dict with the classifier as safetensors, completely or not at all.

    Args:
        backbone: the network.
        path: of the file.
        record: further information for the file's metadata; plain values only.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in backbone.network.state_dict().items()}
    described = {"model": backbone.model_name, "timm": timm.__version__, "torch": torch.__version__, **record}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:  # one key: safetensors writes several in random order
        draft.write_bytes(save(state, metadata={"medsynth": json.dumps(described, sort_keys=True)}))


def _labels(batch: Batch) -> Tensor:
    assert "label" in batch, "make_classifier has checked that there are classes"
    return batch["label"]


def _optimizer(module: nn.Module, training: Training, *, steps: int) -> tuple[Optimizer, LRScheduler]:
    """Create AdamW, with weight decay of matrices and kernels only, and its schedule."""
    parameters = list(module.parameters())
    groups = [
        {"params": [weight for weight in parameters if weight.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [weight for weight in parameters if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = AdamW(groups, lr=training.learning_rate)
    # At least 10 steps: a shorter cycle would have no rising part.
    return optimizer, OneCycleLR(optimizer, max_lr=training.learning_rate, total_steps=max(steps, 10), pct_start=0.2)


def _epoch(backbone: TimmBackbone, train: Iterable[Batch], optimizer: Optimizer, schedule: LRScheduler) -> float:
    """Train for one pass over the training images; return the mean loss."""
    backbone.train()
    losses = []
    for batch in train:
        logits = backbone.logits(backbone(batch["image"].to(backbone.scale)))
        loss = cross_entropy(logits, _labels(batch).to(logits.device))
        if not loss.isfinite():
            raise InputError("The classifier's training has diverged: choose a smaller learning_rate.")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)
