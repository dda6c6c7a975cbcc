"""Disk space of a run's files, from its configuration and the size of its networks."""

from __future__ import annotations

import math

from omegaconf import DictConfig


def disk_bytes(config: DictConfig, lasting: dict[str, int]) -> dict[str, int]:
    """Return the bytes of checkpoints, of the exported generator and, at most, of the sample grids.

    Args:
        config: of the training, finalized.
        lasting: see ``memory.lasting_bytes``.
    """
    validations = math.ceil(config.max_images / config.val_every_images)
    checkpoint = sum(lasting[name] for name in ("generator", "discriminator", "ema", "optimizers"))
    images = config.callbacks.get("sample_grid", {}).get("num_images", 0)
    grid = images * config.data.channels * config.data.image_size**2
    return {
        "checkpoints": checkpoint * _kept(config, validations),
        "generator": lasting["ema"],
        "samples": grid * (validations + 1),  # one byte for each pixel: PNG without compression
    }


def _kept(config: DictConfig, validations: int) -> int:
    """Count the checkpoints that the callbacks keep."""
    kept = 0
    for callback in config.callbacks.values():
        if callback is not None and "Checkpoint" in str(callback.get("_target_", "")).rpartition(".")[2]:
            number = callback.get("save_top_k", 1)
            kept += validations if number == -1 else min(number, validations)
    return kept
