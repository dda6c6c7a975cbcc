"""A cache on disk of the frozen features of all real images: computed once, then read by index."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medsynth.checksums import Checksums, Damaged, mark_damaged, opened_if_whole, write_checksums
from medsynth.contracts import Batch, Features, InputError
from medsynth.errors import EndCode
from medsynth.files import cache_entry, private_folder
from medsynth.terminal import Bar

_log = logging.getLogger(__name__)
_PROBE = 16  # images whose features tell a cache from those of other networks, weights and precisions


class FeatureCache:
    """Decides whether the features of the real images can be cached, and caches them.

    They can be where the discriminator's features are frozen, the images are not augmented in the step, and the data
    does not change. Each cache has a folder of its own, named by a digest of all images and of the features of the
    first of them, so that another network, other weights or another precision has another cache. It is private, and
    complete or absent. Features that were changed on disk are never used: up to 1 GiB a damaged cache is found when it
    is opened and filled again; in a larger one damage is found when it is read and ends the run, and the next run fills
    it again.

    Args:
        folder: the parent folder: the run's, or one that several runs share.
        enabled: ``auto``: cache where it is possible, fits and saves work; True: refuse a training that cannot have a
            cache; False: never.
        dtype: ``float32`` or ``float16``, which halves the size and rounds to 3 digits.
        max_gib: size in GiB up to which ``auto`` caches.

    Raises:
        InputError: an option has no such value.
    """

    def __init__(
        self, *, folder: str, enabled: bool | str = "auto", dtype: str = "float32", max_gib: float = 8.0
    ) -> None:
        if enabled not in (True, False, "auto"):
            raise InputError(f"task.feature_cache.enabled={enabled} is unknown: choose auto, true or false.")
        if dtype not in ("float32", "float16"):
            raise InputError(f"task.feature_cache.dtype={dtype} is unknown: choose float32 or float16.")
        self.folder = Path(folder)
        self.enabled = enabled
        self.dtype = np.dtype(dtype)
        self.max_gib = max_gib

    def open(
        self,
        *,
        encode: Callable[[Tensor], Features],
        batches: Iterable[Batch],
        num_images: int,
        images_left: int,
        obstacle: str | None = None,
    ) -> CachedFeatures | None:
        """Return the cache of ``encode`` for these images, filled if it does not exist yet; None: there is to be none.

        Args:
            encode: images (N, C, H, W) in [-1, 1] -> features, without gradients.
            batches: all training images in the order of their index; iterated up to three times.
            num_images: their number.
            images_left: real images that the training is still going to see.
            obstacle: why the features cannot be cached; None: they can.

        Raises:
            InputError: ``enabled`` is true and there is an obstacle, or the numbers do not fit ``dtype``.
        """
        if self.enabled is False:
            return None
        if obstacle is None:
            probe = self._encoded(encode, next(iter(batches))["image"][:_PROBE])
            size = sum(array.nbytes for array in probe) / len(probe[0]) * num_images
            obstacle = None if self.enabled is True else self._disadvantage(size, num_images, images_left)
            if obstacle is None:
                return self._filled(encode, probe, batches, num_images, size)
        if self.enabled is True:
            raise InputError(f"task.feature_cache.enabled=true is not possible: {obstacle}; choose auto or false.")
        _log.info("No feature cache: %s.", obstacle)
        return None

    def _disadvantage(self, size: float, num_images: int, images_left: int) -> str | None:
        if images_left <= num_images:
            return "the training sees no real image twice"
        if size > self.max_gib * 2**30:
            return f"{size / 2**30:.1f} GiB of features are more than task.feature_cache.max_gib={self.max_gib:g}"
        private_folder(self.folder)
        free = shutil.disk_usage(self.folder).free
        if size > free / 2:
            return f"{size / 2**30:.1f} GiB of features are more than half of the free space at {self.folder}"
        return None

    def _filled(
        self,
        encode: Callable[[Tensor], Features],
        probe: list[np.ndarray],
        batches: Iterable[Batch],
        num_images: int,
        size: float,
    ) -> CachedFeatures:
        path = private_folder(self.folder) / _key(probe, batches)
        warning = "The feature cache %s is damaged (%s): it is filled again."
        cached = opened_if_whole(path, CachedFeatures, warning)
        if cached is None:
            # Two processes at once do no harm: each fills its own and renames it.
            with cache_entry(path) as temporary:
                self._fill(temporary, encode, probe, batches, num_images)
                write_checksums(temporary)
            cached = CachedFeatures(path)
        _log.info(
            "Feature cache: the frozen part sees each of the %s real images once (%.3g GiB at %s).",
            f"{num_images:,}",
            size / 2**30,
            path,
        )
        return cached

    def _fill(
        self,
        folder: Path,
        encode: Callable[[Tensor], Features],
        probe: list[np.ndarray],
        batches: Iterable[Batch],
        num_images: int,
    ) -> None:
        arrays = [
            np.lib.format.open_memmap(
                folder / f"{number}.npy", mode="w+", dtype=array.dtype, shape=(num_images, *array.shape[1:])
            )
            for number, array in enumerate(probe)
        ]
        with Bar(num_images, "feature cache", "img") as bar:
            for batch in batches:
                for array, values in zip(arrays, self._encoded(encode, batch["image"]), strict=True):
                    array[batch["index"].numpy()] = values
                bar.advance(len(batch["image"]))
        for array in arrays:
            array.flush()

    def _encoded(self, encode: Callable[[Tensor], Features], images: Tensor) -> list[np.ndarray]:
        return [self._stored(tensor) for tensor in encode(images)]

    def _stored(self, tensor: Tensor) -> np.ndarray:
        array = tensor.float().cpu().numpy()
        if self.dtype == np.float16 and np.abs(array).max() > np.finfo(np.float16).max:
            raise InputError("task.feature_cache.dtype=float16 cannot hold these features: choose float32.")
        return array.astype(self.dtype)


class CachedFeatures:
    """Features of all training images on disk: ``read(index (N,)) -> features``.

    Raises:
        Damaged: the cache is not as it was written.
    """

    def __init__(self, path: Path) -> None:
        checksums, self._path = Checksums(path), path
        try:
            files = sorted(path.glob("*.npy"), key=lambda file: int(file.stem))
        except ValueError as error:
            raise Damaged("a file has an unknown name") from error
        self.arrays = [checksums.array(file.name) for file in files]
        if not files:
            raise Damaged("0.npy is missing")

    def read(self, index: Tensor) -> Features:
        """Return the features (N, ...) of the images with these indices, float32, on the device of ``index``.

        Raises:
            InputError: they have changed since they were computed.
        """
        rows = index.cpu().numpy()
        try:
            arrays = [array.read(rows) for array in self.arrays]
        except Damaged as damage:
            mark_damaged(self._path)
            raise InputError(
                f"The feature cache {self._path} is damaged ({damage}): resume the run, and it is filled again.",
                code=EndCode.DATA_ERROR,
            ) from damage
        return tuple(torch.as_tensor(array, device=index.device, dtype=torch.float32) for array in arrays)


def _key(probe: list[np.ndarray], batches: Iterable[Batch]) -> str:
    content = hashlib.blake2b(digest_size=16)
    for array in probe:
        content.update(f"{array.dtype}{array.shape[1:]}".encode() + np.ascontiguousarray(array).data)
    for batch in batches:
        content.update(batch["image"].contiguous().numpy().data)
    return content.hexdigest()
