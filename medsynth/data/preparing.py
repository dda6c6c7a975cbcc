"""From files to prepared images: everything is read once, in parallel, then normalized, then stored."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from medsynth.contracts import InputError
from medsynth.data.cache import quantize
from medsynth.data.geometry import Geometry
from medsynth.data.intensity import Normalization, Statistics, statistics
from medsynth.data.reading import Found, Item, Picture, Reader, Unreadable

DTYPES = {"auto": None, "uint8": np.dtype(np.uint8), "uint16": np.dtype(np.uint16)}
HISTOGRAM_BINS = 100
_CHUNK = 256  # images normalized at a time
# Below, starting processes takes longer than it saves.
_PARALLEL_FROM = 200  # items
_PARALLEL_FROM_BYTES = 30 * 2**20


@dataclasses.dataclass
class Facts:
    """What is kept of a picture beside its pixels."""

    class_name: str
    split: str
    patient: str
    file_number: int
    height: int
    width: int
    stored_type: str
    spacing: tuple[float, float] | None
    low: float
    high: float
    digest: str
    perceptual: str
    remarks: tuple[str, ...]


@dataclasses.dataclass
class Outcome:
    """What became of one item."""

    images: list[np.ndarray]
    facts: list[Facts]
    left_out: Counter[str]
    unreadable: str = ""  # the reason
    error: str = ""  # the user's to mend


@dataclasses.dataclass(frozen=True)
class Preparation:
    """All that turns files into prepared images.

    Attributes:
        hashed: patient -> key; identifiers go no further.
        named: item -> how messages name its file.
        on_error: ``raise`` or ``skip``.
        dtype: of the stored images; None: 8 bits where the files hold 8, else 16.
        workers: processes that read.
    """

    reader: Reader
    found: Found
    geometry: Geometry
    normalization: Normalization
    hashed: Callable[[str], str]
    named: Callable[[Item], str]
    on_error: str
    dtype: np.dtype | None
    unit: str
    workers: int

    def __call__(self, folder: Path) -> None:
        """Write ``images.npy``, ``columns.npz`` and ``manifest.json`` into ``folder``.

        Raises:
            InputError: a file cannot be read, nothing is left, values do not fit the options, or the disk is full.
        """
        try:
            self._write(folder)
        except OSError as error:
            if error.errno is None:
                raise
            raise InputError(
                f"The prepared images cannot be written to {folder.parent} ({os.strerror(error.errno)}): "
                f"name a folder with more room by data.cache_dir=."
            ) from error

    def _write(self, folder: Path) -> None:
        facts, left_out, shape = self._read(folder / "read.raw")
        values = np.memmap(folder / "read.raw", np.float32, "r", shape=(len(facts), *shape))
        low, high = min(fact.low for fact in facts), max(fact.high for fact in facts)
        observed = statistics(_chunks(values), low, high)
        stored_types = [fact.stored_type for fact in facts]
        bounds = (low, high)
        if not self.normalization.per_image:
            bounds = self.normalization.bounds(observed, stored_types)
        dtype = self.dtype or np.dtype(np.uint8 if set(stored_types) == {"8-bit"} else np.uint16)
        after = self._normalize(values, folder / "images.npy", bounds, stored_types, dtype)
        del values
        (folder / "read.raw").unlink()
        manifest = self._manifest(facts, left_out, observed, bounds, after)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        np.savez(folder / "columns.npz", **self._columns(facts))

    def _read(self, path: Path) -> tuple[list[Facts], Counter[str], tuple[int, int, int]]:
        """Write what all items give as float32 to ``path``, one after the other."""
        facts: list[Facts] = []
        left_out = Counter(self.found.left_out)
        shape = (0, 0, 0)
        numbers = {name: number for number, name in enumerate(self.reader.tree.names)}
        reading = _Reading(self.reader, self.found, self.geometry, self.hashed, numbers)
        size = sum(self.reader.tree.state(item.name)[0] for item in self.found.items)
        worth_it = len(reading) >= _PARALLEL_FROM or size > _PARALLEL_FROM_BYTES
        outcomes = _in_parallel(reading, self.workers if worth_it else 0)
        bar = tqdm(outcomes, "reading images", len(reading), unit="file", disable=None)
        with path.open("wb") as file:
            for item, outcome in zip(self.found.items, bar, strict=True):
                if outcome.error:
                    raise InputError(outcome.error)
                if outcome.unreadable and self.on_error == "raise":
                    raise InputError(
                        f"{self.named(item)} cannot be read ({outcome.unreadable}): repair it, remove it, or leave "
                        f"such files out with data.on_error=skip."
                    )
                if outcome.unreadable:
                    left_out[f"cannot be read: {outcome.unreadable}"] += 1
                left_out += outcome.left_out
                for image, fact in zip(outcome.images, outcome.facts, strict=True):
                    shape = image.shape
                    image.tofile(file)
                    facts.append(fact)
        if not facts:
            reasons = "; ".join(f"{reason}: {count}" for reason, count in left_out.most_common(5))
            raise InputError(f"data.root={self.reader.tree.root} holds no image that can be used ({reasons}).")
        return facts, left_out, shape

    def _normalize(
        self, values: np.ndarray, path: Path, bounds: tuple[float, float], stored_types: Sequence[str], dtype: np.dtype
    ) -> np.ndarray:
        """Write the images as ``dtype`` to ``path``; returns their histogram over [-1, 1]."""
        if shutil.disk_usage(path.parent).free < values.size * dtype.itemsize:
            raise OSError(28, "no space")  # ENOSPC, before a memory map would end the process instead
        images = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=values.shape)
        counts = np.zeros(HISTOGRAM_BINS, dtype=np.int64)
        chunks = range(0, len(values), _CHUNK)
        for start in tqdm(chunks, "normalizing", unit="chunk", disable=None, leave=False):
            some = slice(start, start + _CHUNK)
            normalized = self.normalization(np.asarray(values[some]), bounds, stored_types[some])
            images[some] = quantize(normalized, dtype)
            counts += np.histogram(normalized, HISTOGRAM_BINS, (-1, 1))[0]
        images.flush()
        return counts

    def _manifest(
        self,
        facts: Sequence[Facts],
        left_out: Counter[str],
        observed: Statistics,
        bounds: tuple[float, float],
        after: np.ndarray,
    ) -> dict[str, Any]:
        intensity = self.normalization.intensity(bounds, self.unit)
        spacings = [fact.spacing for fact in facts if fact.spacing]
        spacing = [float(value) for value in np.median(spacings, axis=0)] if len(spacings) == len(facts) else None
        counts = np.add.reduceat(
            observed.counts, np.linspace(0, len(observed.counts), HISTOGRAM_BINS, False).astype(int)
        )
        return {
            "class_names": self._class_names(facts),
            "unit": self.unit,
            "modality": self.found.modality,
            "images_per_picture": self.found.images_per_picture,
            "intensity": vars(intensity),
            "spacing": spacing,
            "spacings": len(set(spacings)),
            "left_out": left_out,
            "remarks": Counter(remark for fact in facts for remark in fact.remarks),
            "stored_types": Counter(fact.stored_type for fact in facts),
            "sizes": Counter(f"{fact.width}x{fact.height}" for fact in facts),
            "before": {"low": observed.low, "high": observed.high, "counts": counts.tolist()},
            "after": {"low": -1.0, "high": 1.0, "counts": after.tolist()},
        }

    def _class_names(self, facts: Sequence[Facts]) -> tuple[str, ...]:
        return self.found.class_names or tuple(sorted({fact.class_name for fact in facts} - {""}))

    def _columns(self, facts: Sequence[Facts]) -> dict[str, np.ndarray]:
        labels = {name: label for label, name in enumerate(self._class_names(facts))}
        columns = {
            name: np.array([getattr(fact, name) for fact in facts])
            for name in ("split", "patient", "file_number", "digest", "perceptual")
        }
        return columns | {"label": np.array([labels[fact.class_name] if labels else 0 for fact in facts])}


class _Reading(Dataset):
    """Item number -> Outcome. It raises nothing: what a worker process raises comes with a traceback in its text."""

    def __init__(
        self,
        reader: Reader,
        found: Found,
        geometry: Geometry,
        hashed: Callable[[str], str],
        numbers: dict[str, int],
    ) -> None:
        self.reader = reader
        self.found = found
        self.geometry = geometry
        self.hashed = hashed
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.found.items)

    def __getitem__(self, index: int) -> Outcome:
        item = self.found.items[index]
        images, facts, left_out = [], [], Counter()
        try:
            pictures, left_out = self.reader.read(item)
            for picture in pictures:
                if picture.values.min() == picture.values.max():
                    left_out["images of one single value"] += 1
                    continue
                image, fact = self._prepared(picture, item)
                images.append(image)
                facts.append(fact)
        except Unreadable as reason:
            return Outcome([], [], Counter(), unreadable=str(reason))
        except InputError as error:
            return Outcome([], [], Counter(), error=str(error))
        except Exception as error:
            # A damaged file that its reader did not foresee. The message may quote the file: only its kind goes on.
            return Outcome([], [], Counter(), unreadable=f"it is damaged ({type(error).__name__})")
        return Outcome(images, facts, left_out)

    def _prepared(self, picture: Picture, item: Item) -> tuple[np.ndarray, Facts]:
        values = picture.values
        if values.ndim != 3 or not values.size:
            raise Unreadable("it is empty")
        if not np.isfinite(values).all():
            raise Unreadable("it holds values that are not finite numbers")
        image, spacing = self.geometry(picture, self.found.images_per_picture)
        channels = values.shape[0] // self.found.images_per_picture
        remarks = list(picture.remarks)
        if channels != self.geometry.channels:
            turned = "became gray by ITU-R 601 luma" if channels == 3 else "were repeated in 3 channels"
            remarks.append(f"{turned} (data.channels={self.geometry.channels})")
        facts = Facts(
            class_name=picture.class_name or item.class_name,
            split=item.split,
            patient=self.hashed(item.patient),
            file_number=self.numbers[item.name],
            height=values.shape[1],
            width=values.shape[2],
            stored_type=picture.stored_type,
            spacing=spacing,
            low=float(values.min()),
            high=float(values.max()),
            digest=_digest(values),
            perceptual=_perceptual(values),
            remarks=tuple(remarks),
        )
        return image, facts


def _digest(values: np.ndarray) -> str:
    content = hashlib.blake2b(str(values.shape).encode(), digest_size=12)
    content.update(np.ascontiguousarray(values, dtype="<f4").data)
    return content.hexdigest()


def _perceptual(values: np.ndarray) -> str:
    """256 bits that change little where the image does: signs of its low frequencies (pHash, Zauner 2010)."""
    mean = values.mean(0, dtype=np.float64)
    low, high = mean.min(), mean.max()
    levels = np.zeros_like(mean) if low == high else (mean - low) * (255 / (high - low))
    return str(imagehash.phash(Image.fromarray(levels.astype(np.uint8)), hash_size=16))


def _in_parallel(dataset: Dataset, workers: int) -> Iterator[Outcome]:
    batch_size = max(1, min(16, len(dataset) // (8 * max(workers, 1))))
    try:
        for outcomes in DataLoader(dataset, batch_size=batch_size, num_workers=workers, collate_fn=list):
            yield from outcomes
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error):
            raise
        raise InputError(
            "A process that read images was ended from outside, which happens where memory is short: "
            "set data.prepare_workers=0."
        ) from error


def _chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), _CHUNK):
        yield np.asarray(values[start : start + _CHUNK])
