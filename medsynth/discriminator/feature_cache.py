"""What a frozen part makes of the real images, computed once, kept on disk and read by index."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from medsynth.contracts import Features, InputError

_log = logging.getLogger(__name__)
_PROBE = 16  # images by whose features a bank is told from those of other networks, weights and precisions


class FeatureBank:
    """Decides whether the features of the real images can be kept, and keeps them.

    They can where the discriminator's features are frozen, nothing random is done to the images, and the data does not
    change. A bank lies in a folder of its own, named by what it depends on: content of the images as the network sees
    them, and what network, weights and precision make of the first of them. It is complete or absent.

    Args:
        folder: where banks lie: the run's folder, or one that several runs share.
        enabled: ``auto``: where it is possible, fits and saves work; True: or else an error; False: never.
        dtype: ``float32`` or ``float16``, which halves the size and rounds to 3 digits.
        max_gib: size in GiB up to which ``auto`` keeps a bank.

    Raises:
        InputError: an option has no such value.
    """

    def __init__(
        self, *, folder: str, enabled: bool | str = "auto", dtype: str = "float32", max_gib: float = 8.0
    ) -> None:
        if enabled not in (True, False, "auto"):
            raise InputError(f"task.feature_bank.enabled={enabled} is unknown: choose auto, true or false.")
        if dtype not in ("float32", "float16"):
            raise InputError(f"task.feature_bank.dtype={dtype} is unknown: choose float32 or float16.")
        self.folder = Path(folder)
        self.enabled = enabled
        self.dtype = np.dtype(dtype)
        self.max_gib = max_gib

    def open(self, model: Any, data: Any) -> Bank | None:
        """The bank of ``model`` (a GAN) for the training images of ``data``, filled where it is not there yet.

        None where there is to be none.

        Raises:
            InputError: ``enabled`` is true and a bank is not possible.
        """
        if self.enabled is False:
            return None

        @torch.no_grad()
        def features(images: Tensor) -> list[np.ndarray]:
            with model.trainer.precision_plugin.forward_context():  # rounded as the generated images' features will be
                tensors = model.discriminator.features(images.to(model.device))
            return [self._stored(tensor) for tensor in tensors]

        model.discriminator.eval()
        reason = _impossible(model, data)
        probe = [] if reason else features(next(iter(data.ordered_batches()))["image"][:_PROBE])
        size = sum(array.nbytes for array in probe) / max(1, len(probe and probe[0])) * data.num_train
        reason = reason or self._unwise(model, data, size)
        bank = None
        if reason is None:
            bank = self._filled(features, probe, data, size)
        elif self.enabled is True:
            raise InputError(f"task.feature_bank.enabled=true is not possible: {reason}.")
        elif model.discriminator.has_frozen_features:
            _log.info("No feature bank: %s.", reason)
        model.discriminator.train()
        return bank

    def _unwise(self, model: Any, data: Any, size: float) -> str | None:
        if self.enabled is True:
            return None
        if model.max_images - model.images_seen <= data.num_train:
            return "the training sees no real image twice"
        if size > self.max_gib * 2**30:
            return f"{size / 2**30:.1f} GiB of features are more than task.feature_bank.max_gib={self.max_gib:g}"
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if size > free / 2:
            return f"{size / 2**30:.1f} GiB of features are more than half of what is free at {self.folder}"
        return None

    def _filled(
        self, features: Callable[[Tensor], list[np.ndarray]], probe: list[np.ndarray], data: Any, size: float
    ) -> Bank:
        path = self.folder / _key(probe, data)
        if not path.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            # Complete or absent, and two processes at once do no harm: each fills its own and renames it.
            temporary = Path(tempfile.mkdtemp(prefix=".filling-", dir=self.folder))
            try:
                _fill(temporary, features, probe, data)
                _rename(temporary, path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        _log.info(
            "Feature bank: the frozen part sees each of the %s real images once (%.3g GiB at %s).",
            f"{data.num_train:,}",
            size / 2**30,
            path,
        )
        return Bank(path)

    def _stored(self, tensor: Tensor) -> np.ndarray:
        array = tensor.float().cpu().numpy()
        if self.dtype == np.float16 and np.abs(array).max() > np.finfo(np.float16).max:
            raise InputError("task.feature_bank.dtype=float16 cannot hold these features: choose float32.")
        return array.astype(self.dtype)


class Bank:
    """Features of all training images on disk: ``read(index (N,)) -> features``."""

    def __init__(self, path: Path) -> None:
        files = sorted(path.glob("*.npy"), key=lambda file: int(file.stem))
        self.arrays = [np.load(file, mmap_mode="r") for file in files]

    def read(self, index: Tensor) -> Features:
        """The features (N, ...) of the images with these indices, float32, on the device of ``index``."""
        rows = index.cpu().numpy()
        return tuple(torch.from_numpy(array[rows]).to(index.device, torch.float32) for array in self.arrays)


def _impossible(model: Any, data: Any) -> str | None:
    if not model.discriminator.has_frozen_features:
        return "the discriminator has no frozen features"
    if model.augmentations:
        return f"augment={','.join(model.augmentations)} changes the images at each step"
    if not data.images_are_fixed:
        return "the training images are never the same"
    return None


def _key(probe: list[np.ndarray], data: Any) -> str:
    content = hashlib.blake2b(digest_size=16)
    for array in probe:
        content.update(f"{array.dtype}{array.shape[1:]}".encode() + np.ascontiguousarray(array).data)
    for batch in data.ordered_batches():
        content.update(batch["image"].contiguous().numpy().data)
    return content.hexdigest()


def _fill(folder: Path, features: Callable[[Tensor], list[np.ndarray]], probe: list[np.ndarray], data: Any) -> None:
    shapes = [(data.num_train, *array.shape[1:]) for array in probe]
    arrays = [
        np.lib.format.open_memmap(folder / f"{number}.npy", mode="w+", dtype=array.dtype, shape=shape)
        for number, (array, shape) in enumerate(zip(probe, shapes, strict=True))
    ]
    bar = tqdm(total=data.num_train, unit="img", desc="feature bank", mininterval=0.5 if sys.stderr.isatty() else 15)
    with bar:
        for batch in data.ordered_batches():
            for array, values in zip(arrays, features(batch["image"]), strict=True):
                array[batch["index"].numpy()] = values
            bar.update(len(batch["image"]))
    for array in arrays:
        array.flush()


def _rename(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except OSError:
        if not path.is_dir():  # else another process was quicker
            raise
