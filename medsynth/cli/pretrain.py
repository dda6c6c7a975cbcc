"""The command ``medsynth pretrain``: train a classifier whose features serve discriminators and metrics."""

from __future__ import annotations

import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

import medsynth
from medsynth.backbone.classifier import Score, Training, make_classifier, save_weights, train_classifier
from medsynth.backbone.network import TimmBackbone
from medsynth.data.module import ImageDataModule
from medsynth.errors import InputError
from medsynth.terminal import table

DEVICES = ("auto", "cpu", "cuda")


def run(config: DictConfig) -> None:
    """Train, write the weights to the file ``out``, and print the accuracies and how to use the weights."""
    out, device = Path(config.out), _device(config.device)
    training = Training(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        seed=config.seed,
    )
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = instantiate(config.data, _convert_="all")
    data.prepare()
    backbone = instantiate(config.backbone, _convert_="all")
    make_classifier(backbone, data.num_classes)
    print(f"Training {config.backbone.model_name} ({backbone.weights_description} weights) on {data.description}")
    started = time.perf_counter()
    score = train_classifier(
        backbone.to(device), data.train_dataloader(), data.val_dataloader(), training=training, report=_progress
    )
    save_weights(backbone, out, _record(config, data, backbone, score))
    print(_accuracies(score, data.class_names))
    print(f"\n{time.perf_counter() - started:.0f} s. {_usage(out, config.backbone.model_name)}")


def _device(name: str) -> torch.device:
    if name not in DEVICES:
        raise InputError(f"device={name} is unknown: choose {', '.join(DEVICES)}.")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("device=cuda is not possible, since PyTorch finds no GPU: choose device=cpu.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def _progress(epoch: int, loss: float, score: Score) -> None:
    print(f"epoch {epoch:3d}  training loss {loss:.3f}  validation accuracy {score.accuracy:.3f}", flush=True)


def _accuracies(score: Score, names: tuple[str, ...]) -> str:
    """Format a table of accuracies on the validation images by class."""
    rows = [*zip(names, score.correct, score.total, strict=True)]
    rows.append(("all classes", sum(score.correct), sum(score.total)))
    cells = [(name, f"{total:,}", f"{correct / total:.3f}" if total else "-") for name, correct, total in rows]
    lines = ["\nAccuracy on the validation images, which also chose the epoch; higher is better"]
    return "\n".join([*lines, *table(("", "images", "accuracy"), cells)])


def _usage(out: Path, model_name: str) -> str:
    choice = HydraConfig.get().runtime.choices["backbone"]
    model = f" backbone.model_name={model_name}" if choice == "timm" else ""
    extractor = f"extractor.classifier.backbone.model_name={model_name} extractor.classifier.backbone.weights={out}"
    return (
        f"The weights are in {out}. To train a discriminator on them, type\n"
        f"  python train.py backbone={choice}{model} backbone.weights={out}\n"
        "To evaluate generated images with their features, type\n"
        f"  medsynth evaluate run=FOLDER extractor=[classifier] {extractor}\n"
        "Do not do both with the same weights: a discriminator on the same network biases the metrics."
    )


def _record(config: DictConfig, data: ImageDataModule, backbone: TimmBackbone, score: Score) -> dict:
    """Return the metadata of the file of weights: class names, counts and options, but no file names."""
    return {
        "medsynth": medsynth.__version__,
        "started_from": backbone.weights_description,
        "classes": list(data.class_names),
        "channels": data.channels,
        "image_size": data.image_size,
        "train_images": data.num_train,
        "val_images": data.num_val,
        "val_accuracy": round(score.accuracy, 4),
        "epochs": config.epochs,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "seed": config.seed,
    }
