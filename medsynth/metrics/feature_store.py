"""Features of images in files, computed once for each image and extractor; those of real images are cached."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from medsynth.checksums import Checksums, opened_if_whole, write_checksums
from medsynth.contracts import InputError
from medsynth.files import cache_entry, make_writable, user_cache
from medsynth.metrics.image_set import ImageSet
from medsynth.terminal import Bar

FORMAT = 2  # part of the key: entries of another format are not opened
_FILE = "features.npy"


class ImageDescriber(Protocol):
    """A feature extractor, or a function without a network: images ``(N, C, H, W)`` -> one row of numbers each."""

    name: str
    num_features: int

    def __call__(self, images: torch.Tensor) -> torch.Tensor | np.ndarray:
        """Return rows ``(N, num_features)``."""
        ...


class FeatureStore:
    """A store of features as float32 files (N, d), mapped into memory, so that memory does not grow with N.

    Each is in a folder of its own with checksums, private, and complete or absent; a damaged one is computed again. Two
    processes at once do no harm: each fills its own and renames it.

    Args:
        folder: for this evaluation; the caller removes it.
        cache: folder for features of images that have a key; None: they are not kept.
        batch_size: images at a time.
        device: where extractors compute.
        progress: show a bar for each set of images.
    """

    def __init__(
        self, folder: Path, *, cache: Path | None, batch_size: int, device: torch.device, progress: bool = True
    ) -> None:
        self.folder, self.cache = folder, cache
        self.batch_size, self.device, self.progress = batch_size, device, progress
        self._fingerprints: dict[int, str] = {}

    def features(self, images: ImageSet, extractors: Mapping[str, ImageDescriber]) -> dict[str, np.ndarray]:
        """Return features float32 (N, d) by extractor key, mapped read-only; images are read once for all extractors.

        The keys of ``extractors`` differ for different options.

        Raises:
            InputError: images or features that are not finite, or all equal.
        """
        paths = {key: self._path(images, key, extractor) for key, extractor in extractors.items()}
        warning = "The features in %s are damaged (%s): they are computed again."
        found = {key: opened_if_whole(path, _verified, warning) for key, path in paths.items()}
        missing = {key: extractors[key] for key, features in found.items() if features is None}
        if missing:
            self._fill(images, missing, paths)
            found |= {key: _verified(paths[key]) for key in missing}
        return cast("dict[str, np.ndarray]", found)

    def _path(self, images: ImageSet, key: str, extractor: ImageDescriber) -> Path:
        cache = self.cache if images.key is not None else None
        content: dict[str, Any] = {
            "format": FORMAT,
            "extractor": key,
            "weights": self._fingerprint(extractor),
            "count": images.count,
        }
        content["images"] = images.key if cache else images.name
        text = json.dumps(content, sort_keys=True, default=str)
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return (cache or self.folder) / digest

    def _fingerprint(self, extractor: ImageDescriber) -> str:
        """Hash an extractor's weights, once: large ones take a second."""
        number = id(extractor)
        if number not in self._fingerprints:
            self._fingerprints[number] = _hashed(extractor) if isinstance(extractor, nn.Module) else ""
        return self._fingerprints[number]

    def _fill(self, images: ImageSet, extractors: Mapping[str, Any], paths: Mapping[str, Path]) -> None:
        with contextlib.ExitStack() as stack:
            folders = {key: stack.enter_context(cache_entry(paths[key])) for key in extractors}
            written = {key: _Written(folder, images.count, extractors[key]) for key, folder in folders.items()}
            bar = Bar(images.count, f"{images.name} images", "img") if self.progress else contextlib.nullcontext()
            with torch.inference_mode(), bar as shown:
                for start, batch in self._batches(images):
                    for key, extractor in extractors.items():
                        written[key].write(start, extractor(batch), images.name)
                    if shown is not None:
                        shown.advance(len(batch))
            for file in written.values():
                file.finish()

    def _batches(self, images: ImageSet) -> Iterator[tuple[int, torch.Tensor]]:
        first, varies = None, False
        for start in range(0, images.count, self.batch_size):
            batch = images.read(range(start, min(start + self.batch_size, images.count)))
            if not batch.isfinite().all():
                raise InputError(
                    f"The {images.name} images have NaN or infinite values: check the files, or choose a run that "
                    "converged."
                )
            first = batch[:1] if first is None else first
            varies = varies or bool((batch != first).any())
            yield start, batch.to(self.device, torch.float32)
        if not varies:
            raise InputError(f"All {images.count} {images.name} images are equal: images that differ are needed.")


class _Written:
    """A file of features that is being written to ``folder``."""

    def __init__(self, folder: Path, count: int, extractor: ImageDescriber) -> None:
        self.folder, self.name = folder, extractor.name
        shape = (count, extractor.num_features)
        self._array = np.lib.format.open_memmap(folder / _FILE, mode="w+", dtype=np.float32, shape=shape)

    def write(self, start: int, features: torch.Tensor | np.ndarray, what: str) -> None:
        rows = features.float().cpu().numpy() if isinstance(features, torch.Tensor) else features
        if not np.isfinite(rows).all():
            raise InputError(
                f"The extractor {self.name} gives NaN or infinite features for {what} images: check its weights."
            )
        self._array[start : start + len(rows)] = rows

    def finish(self) -> None:
        self._array.flush()
        write_checksums(self.folder)


def _verified(path: Path) -> np.ndarray:
    array = Checksums(path).array(_FILE)
    array.verify()
    return array.values


def features_folder() -> Path:
    """Return the folder for features of real images in the user's cache folder; create it if it is missing.

    Raises:
        InputError: it cannot be written to.
    """
    try:
        folder = user_cache("features")
        make_writable(folder)
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be written to ({error.strerror}): name another folder by XDG_CACHE_HOME, or "
            "cache=false."
        ) from error
    return folder


def _hashed(module: nn.Module) -> str:
    content = hashlib.blake2b(digest_size=16)
    for name, value in module.state_dict().items():
        content.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
