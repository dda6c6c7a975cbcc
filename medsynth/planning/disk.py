"""The disk that a run's files take, from its configuration and the size of its networks."""

from __future__ import annotations

import math

from omegaconf import DictConfig


def disk_bytes(config: DictConfig, lasting: dict[str, int]) -> dict[str, int]:
    """Bytes of checkpoints, of the exported generator and at most of the sample grids, by name."""
    validations = math.ceil(config.max_images / config.val_every_images)
    checkpoint = sum(lasting[name] for name in ("generator", "discriminator", "moving_average", "optimizers"))
    images = config.callbacks.get("sample_grid", {}).get("num_images", 0)
    grid = images * config.data.channels * config.data.image_size**2
    return {
        "checkpoints": checkpoint * _kept(config, validations),
        "generator": lasting["moving_average"],
        "samples": grid * (validations + 1),  # a byte for each value, as if PNG could not compress
    }


def _kept(config: DictConfig, validations: int) -> int:
    """Checkpoints that stay, by the callbacks that write them."""
    kept = 0
    for callback in config.callbacks.values():
        if callback is not None and "Checkpoint" in str(callback.get("_target_", "")).rpartition(".")[2]:
            number = callback.get("save_top_k", 1)
            kept += validations if number == -1 else min(number, validations)
    return kept
