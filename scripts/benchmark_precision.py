"""Training steps per second by precision and memory format, side by side on this machine, as ratios to float32.

    uv run scripts/benchmark_precision.py [--rounds 5] [--images 640] [override ...]

Overrides are those of train.py, e.g. ``discriminator=dcgan data.image_size=128``. The variants take turns, so that a
machine whose speed drifts treats them alike; the median over the rounds is printed. What precision does to the result
is shown by training twice: ``train.py -m trainer.precision=32-true,bf16-mixed seed=1,2,3``.
"""

from __future__ import annotations

import argparse
import statistics
import time

import hydra
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate

from medsynth.cli.launch import conf_folder, register_resolvers

VARIANTS = [("32-true", False), ("32-true", True), ("bf16-mixed", False), ("bf16-mixed", True)]


class Stopwatch(pl.Callback):
    """Seconds per image from the third batch on: the first ones choose kernels."""

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if batch_idx == 2:
            self.start, self.images = time.perf_counter(), model.images_seen

    def on_train_end(self, trainer, model):
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds = (time.perf_counter() - self.start) / (model.images_seen - self.images)


def measure(overrides: list[str], images: int, precision: str, channels_last: bool) -> float:
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        fixed = [f"max_images={images}", f"task.channels_last={channels_last}", "run_dir=unused"]
        config = hydra.compose("train", overrides=[*overrides, *fixed])
    data = instantiate(config.data, _convert_="all")
    data.prepare()
    stopwatch = Stopwatch()
    settings = {"max_epochs": -1, "limit_val_batches": 0, "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False}
    trainer = pl.Trainer(precision=precision, callbacks=[stopwatch], devices=1, **settings, **quiet)
    trainer.fit(instantiate(config.task, _convert_="all"), data)
    return stopwatch.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    register_resolvers()
    times: dict[tuple[str, bool], list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(arguments.rounds):
        for variant in VARIANTS:
            times[variant].append(measure(arguments.overrides, arguments.images, *variant))
    reference = statistics.median(times[VARIANTS[0]])
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{device}, torch {torch.__version__}; speed relative to float32 (median of {arguments.rounds} rounds)")
    for (precision, channels_last), seconds in times.items():
        median = statistics.median(seconds)
        name = f"{precision}{', channels_last' if channels_last else ''}"
        print(f"  {name:28} {reference / median:5.2f}x   {1 / median:7.0f} images/s")


if __name__ == "__main__":
    main()
