"""Preparation: every file is read once, in parallel, then normalized, then stored."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from joblib import cpu_count

from medsynth.checksums import write_checksums
from medsynth.data.cache import quantize
from medsynth.data.errors import DataError, Reason, check_choice
from medsynth.data.folders import first_level, listed, lost_folders
from medsynth.data.geometry import Geometry
from medsynth.data.intensity import Normalization
from medsynth.data.manifest import LeftOut, Losses, Manifest, SourceRecord
from medsynth.data.reading import Reader, Record, Scan
from medsynth.data.record_reading import ImageInfo, RecordReading, RecordResult, out_of_memory, read_records
from medsynth.data.registration import TURNED, UNREGISTERED
from medsynth.data.side import CHUNK, Side
from medsynth.data.table import natural
from medsynth.errors import EndCode, InputError
from medsynth.terminal import track

DTYPES = {"auto": None, "uint8": np.dtype(np.uint8), "uint16": np.dtype(np.uint16)}
_MISPLACED = frozenset((UNREGISTERED, *TURNED.values()))
# Below these limits, starting processes takes longer than it saves.
_PARALLEL_FROM = 200  # records
_PARALLEL_FROM_BYTES = 30 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """Options of reading and caching files.

    The fields are options of data=; conf/data/base/files.yaml describes them.

    Raises:
        InputError: an option has an impossible value.
    """

    on_error: str = "raise"
    show_paths: bool = False
    cache_dir: str | None = None
    cache_dtype: str = "auto"
    prepare_workers: int | None = None

    def __post_init__(self) -> None:
        check_choice("data.on_error", self.on_error, ("raise", "skip"))
        check_choice("data.cache_dtype", self.cache_dtype, DTYPES)

    @property
    def raises(self) -> bool:
        """True if a file that cannot be read ends the run."""
        return self.on_error == "raise"

    @property
    def workers(self) -> int:
        """The number of processes that read files; 0: this process reads."""
        return min(cpu_count(), 8) if self.prepare_workers is None else self.prepare_workers


@dataclasses.dataclass(frozen=True)
class Preparer:
    """Turn files into the prepared images of one data set.

    Attributes:
        reader: of the files.
        scan: the reader's result.
        geometry: makes images of one size.
        normalization: measured values -> [-1, 1].
        of_sources: the same of the sources of pairs.
        unregistered: pairs whose two images do not lie on each other: "raise", "skip" or "allow".
        hashed: patient -> key; identifiers are not stored.
        named: record -> its file, for messages.
        options: how files are read and cached.
    """

    reader: Reader
    scan: Scan
    geometry: Geometry
    normalization: Normalization
    of_sources: Normalization
    unregistered: str
    hashed: Callable[[str], str]
    named: Callable[[Record], str]
    options: Preparation

    @property
    def unit(self) -> str:
        """The unit of the measured values."""
        return self.normalization.unit or self.scan.unit

    def __call__(self, folder: Path) -> None:
        """Write the files of a cache entry into ``folder``; see medsynth.data.cache.

        Raises:
            InputError: a file cannot be read, no image is left, values do not fit the options, or the disk is full.
        """
        try:
            self._write(folder)
        except MemoryError as error:
            raise out_of_memory() from error
        except OSError as error:
            if error.errno is None:
                raise
            if error.errno == errno.ENOMEM:
                raise out_of_memory() from error
            raise InputError(
                f"The prepared images cannot be written to {folder.parent} ({os.strerror(error.errno)}): "
                f"choose a folder on a disk with more space by data.cache_dir=.",
                code=EndCode.CANNOT_WRITE,
            ) from error

    def _write(self, folder: Path) -> None:
        infos, left_out, shape = self._read(folder / "read.raw")
        values = np.memmap(folder / "read.raw", np.float32, "r", shape=(len(infos), *shape))
        sides = self._sides(infos)
        for side in sides:
            side.read(values)
        stored_types = {kind for side in sides for kind in side.stored_types}
        automatic = np.dtype(np.uint8 if stored_types == {"8-bit"} else np.uint16)
        self._normalize(values, folder / "images.npy", sides, DTYPES[self.options.cache_dtype] or automatic)
        del values
        (folder / "read.raw").unlink()
        manifest = self._manifest(infos, left_out, sides)
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        np.savez(folder / "columns.npz", **self._columns(infos))  # pyright: ignore[reportArgumentType] (numpy's stubs)
        write_checksums(folder)

    def _sides(self, infos: Sequence[ImageInfo]) -> list[Side]:
        """Return the sides of the images, the targets last."""
        channels, sides = self.geometry.channels, []
        if self.scan.paired:
            extremes = [(info.source_low, info.source_high) for info in infos]
            types = [info.source_type for info in infos]
            sides.append(Side(slice(0, channels), self.of_sources, extremes, types))
        start = channels * len(sides)
        extremes = [(info.low, info.high) for info in infos]
        types = [info.stored_type for info in infos]
        return [*sides, Side(slice(start, start + channels), self.normalization, extremes, types)]

    def _read(self, path: Path) -> tuple[list[ImageInfo], Counter[Reason], tuple[int, int, int]]:
        """Read all records and append their images, float32, to ``path``."""
        infos: list[ImageInfo] = []
        left_out = Counter(self.scan.left_out)
        shape = (0, 0, 0)
        size = sum(self.reader.tree.state(record.name)[0] for record in self.scan.records)
        parallel = len(self.scan.records) >= _PARALLEL_FROM or size > _PARALLEL_FROM_BYTES
        registered = self.unregistered != "allow"
        reading = RecordReading(self.reader, self.scan, self.geometry, self.hashed, registered=registered)
        displaced: list[Record] = []
        results = read_records(reading, self.options.workers if parallel else 0, size)
        bar = track(results, "reading images", total=len(self.scan.records), unit="files", lasting=True)
        with path.open("wb") as file:
            for record, result in zip(self.scan.records, bar, strict=True):
                left_out += self._left_out(record, result)
                displaced += [record] * (not _MISPLACED.isdisjoint(result.left_out))
                for image, info in zip(result.images, result.infos, strict=True):
                    shape = image.shape
                    image.tofile(file)
                    infos.append(info)
        self._check_registered(displaced, left_out, len(infos))
        if not infos:
            reasons = "; ".join(f"{reason}: {count}" for reason, count in left_out.most_common(5))
            raise DataError(
                f"data.root={self.reader.tree.root} holds no image that can be used ({reasons}): "
                f"check data.root and the options data.*."
            )
        self._check_masks(infos)
        return infos, left_out, shape

    def _check_registered(self, displaced: Sequence[Record], left_out: Counter[Reason], others: int) -> None:
        """Raise DataError if there are pairs whose two images do not lie on each other, unless they are left out."""
        count = sum(left_out[reason] for reason in _MISPLACED)
        if not count or self.unregistered == "skip":
            return
        names = [record.name for record in displaced]
        shown = f": {listed(names)}" if self.options.show_paths else "; data.show_paths=true shows names"
        turned = "".join(
            f"; {left_out[reason]} targets are {name}" for name, reason in TURNED.items() if left_out[reason]
        )
        raise DataError(
            f"The two images of {count} of the {count + others} pairs in data.root={self.reader.tree.root} do not lie "
            f"on each other (in {len(names)} files{shown}{turned}): register them, leave them out with "
            "data.unregistered=skip, or train on them with data.unregistered=allow."
        )

    def _check_masks(self, infos: Sequence[ImageInfo]) -> None:
        """Raise DataError if some of the images seem to be masks, and others not."""
        masks, files = ({info.file_number for info in infos if info.mask}, {info.file_number for info in infos})
        if 0 < len(masks) < len(files):
            raise DataError(
                f"data.root={self.reader.tree.root} holds {len(masks)} files that seem to be masks, since their values "
                f"are few integers, beside {len(files) - len(masks)} others: {self.scan.mask_advice}."
            )

    def _left_out(self, record: Record, result: RecordResult) -> Counter[Reason]:
        """Return what is left out of a record.

        Raises:
            InputError: the record ends the run.
        """
        if result.error:
            raise result.error
        if not result.unreadable:
            return result.left_out
        if self.options.raises:
            raise DataError(
                f"{self.named(record)} cannot be read ({result.unreadable}): repair it, remove it, or leave such "
                f"files out with data.on_error=skip."
            )
        return Counter([Reason(result.unreadable.kind, f"cannot be read: {result.unreadable}")])

    def _normalize(self, values: np.ndarray, path: Path, sides: Sequence[Side], dtype: np.dtype) -> None:
        """Write the images as ``dtype`` to ``path``."""
        if shutil.disk_usage(path.parent).free < values.size * dtype.itemsize:
            raise OSError(errno.ENOSPC, "no space")  # a full disk would end the process by a fault of the memory map
        images = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=values.shape)
        chunks = range(0, len(values), CHUNK)
        for start in track(chunks, "normalizing", total=len(chunks), unit="chunks"):
            chunk = slice(start, start + CHUNK)
            part = np.asarray(values[chunk])
            normalized = [side.normalize(part, chunk) for side in sides]
            if self.scan.masked:
                normalized.append(np.where(part[:, -1:] > 0, np.float32(1), np.float32(-1)))
            images[chunk] = quantize(np.concatenate(normalized, axis=1), dtype)
        images.flush()

    def _manifest(
        self,
        infos: Sequence[ImageInfo],
        left_out: Counter[Reason],
        sides: Sequence[Side],
    ) -> Manifest:
        spacings = [info.spacing for info in infos if info.spacing]
        spacing = [float(value) for value in np.median(spacings, axis=0)] if len(spacings) == len(infos) else None
        before, after = sides[-1].histograms()
        return {
            "class_names": list(self._class_names(infos)),
            "unit": self.unit,
            "modality": self.scan.modality,
            "paired": self.scan.paired,
            "masked": self.scan.masked,
            "source": self._source(sides[0]) if self.scan.paired else None,
            "intensity": sides[-1].intensity(self.unit),
            "spacing": spacing,
            "left_out": [
                LeftOut(kind=reason.kind, text=reason.text, count=count) for reason, count in left_out.items()
            ],
            **self._losses(infos),
            "roles": dataclasses.asdict(self.scan.roles),
            "remarks": Counter(remark for info in infos for remark in info.remarks),
            "stored_types": Counter(info.stored_type for info in infos),
            "sizes": Counter(f"{info.width}x{info.height}" for info in infos),
            "before": before,
            "after": after,
        }

    def _source(self, side: Side) -> SourceRecord:
        unit = self.of_sources.unit or self.scan.source_unit
        before, after = side.histograms()
        return {
            "intensity": side.intensity(unit),
            "bounds": [float(bound) for bound in side.bounds],
            "unit": unit,
            "modality": self.scan.source_modality,
            "stored_types": Counter(side.stored_types),
            "before": before,
            "after": after,
        }

    def _losses(self, infos: Sequence[ImageInfo]) -> Losses:
        """Return the folders and classes of which no image is used; see Manifest."""
        scan, tree = self.scan, self.reader.tree
        level = scan.folder_level or first_level(tree)
        numbers = {info.file_number for info in infos}
        partners = {name for record in scan.records for name in (record.partner, record.mask) if name}
        used = {tree.names[number] for number in numbers} | partners | scan.accounted
        return {
            "lost_folders": lost_folders(tree, level, used),
            "folder_level": level,
            "folders_are_classes": scan.folder_level > 0,
            "empty_classes": [name for name in scan.class_names if name not in self._class_names(infos)],
        }

    def _class_names(self, infos: Sequence[ImageInfo]) -> tuple[str, ...]:
        """Return the classes of which there are images."""
        present = {info.class_name for info in infos} - {""}
        return tuple(name for name in self.scan.class_names or sorted(present, key=natural) if name in present)

    def _columns(self, infos: Sequence[ImageInfo]) -> dict[str, np.ndarray]:
        labels = {name: label for label, name in enumerate(self._class_names(infos))}
        columns = {
            name: np.array([getattr(info, name) for info in infos])
            for name in ("split", "patient", "file_number", "digest", "perceptual", "series", "place")
        }
        return columns | {"label": np.array([labels[info.class_name] if labels else 0 for info in infos])}
