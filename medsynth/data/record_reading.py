"""Reading of records, by several processes where there are many: files -> images of one size."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import hashlib
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import imagehash
import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from medsynth.data.errors import Reason, ReasonKind, Unreadable
from medsynth.data.geometry import Geometry
from medsynth.data.reading import RawImage, Reader, Record, Scan
from medsynth.data.registration import misplacement
from medsynth.errors import EndCode, InputError
from medsynth.runs.parent_process import die_with_parent

CONSTANT = Reason(ReasonKind.NO_CONTENT, "images of one single value")
CONSTANT_SOURCE = Reason(ReasonKind.NO_CONTENT, "pairs whose source is of one single value")
EMPTY_MASK = Reason(ReasonKind.NO_CONTENT, "pairs with an empty mask")
_BATCH = 16  # records that a process reads at a time, of _BATCH_BYTES together at most
_BATCH_BYTES = 8 * 2**20
_RETURNED_EVERY = 32  # images of a record, after which freed memory is returned to the system
_SAME_SIGNAL = 0.2  # seconds within which a signal to a whole job reaches all of its processes


@dataclasses.dataclass
class ImageInfo:
    """The information that is kept of a raw image beside its pixels."""

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
    mask: bool
    source_type: str
    source_low: float
    source_high: float
    series: str
    place: int


@dataclasses.dataclass
class RecordResult:
    """The prepared images of one record, or the reason why there are none.

    ``unreadable`` is a reason that data.on_error decides about; ``error`` ends the run in any case.
    """

    images: list[np.ndarray] = dataclasses.field(default_factory=list)
    infos: list[ImageInfo] = dataclasses.field(default_factory=list)
    left_out: Counter[Reason] = dataclasses.field(default_factory=Counter)
    unreadable: Reason | None = None
    error: InputError | None = None


class RecordReading(Dataset[RecordResult]):
    """Record number -> RecordResult. It never raises: an exception of a worker process would carry a traceback.

    Args:
        reader: of the files.
        scan: the reader's result.
        geometry: makes images of one size.
        hashed: patient -> key; identifiers are not kept.
        registered: leave out pairs whose two images do not lie on each other.
    """

    def __init__(
        self,
        reader: Reader,
        scan: Scan,
        geometry: Geometry,
        hashed: Callable[[str], str],
        *,
        registered: bool = False,
    ) -> None:
        self.reader, self.scan, self.geometry, self.hashed = reader, scan, geometry, hashed
        self.registered = registered and scan.paired
        channels = geometry.channels * (2 if scan.paired else 1) + scan.masked
        self.shape = (channels, geometry.size, geometry.size)
        self.file_numbers = {name: number for number, name in enumerate(reader.tree.names)}

    def __len__(self) -> int:
        return len(self.scan.records)

    def __getitem__(self, index: int) -> RecordResult:
        record = self.scan.records[index]
        result = RecordResult()
        try:
            raw_images, result.left_out = self.reader.read(record)
            prepared = np.empty((len(raw_images), *self.shape), np.float32)
            for number, (target, raw) in enumerate(zip(prepared, raw_images, strict=True), start=1):
                if number % _RETURNED_EVERY == 0:
                    _return_freed_memory()
                reason = _without_content(raw)
                if reason is None and self.registered:
                    reason = misplacement(raw)
                if reason:
                    result.left_out[reason] += 1
                    continue
                target[:], info = self._prepared(raw, record)
                result.images.append(target)
                result.infos.append(info)
        except Unreadable as error:
            return RecordResult(unreadable=error.reason)
        except InputError as error:
            return RecordResult(error=error)
        except MemoryError:  # not the file's fault: data.on_error=skip must not leave it out
            return RecordResult(error=out_of_memory())
        except Exception as error:
            # Damage that the reader did not foresee. The message may quote the file: only its type is passed on.
            return RecordResult(unreadable=Reason(ReasonKind.DAMAGED, f"it is damaged ({type(error).__name__})"))
        return result

    def _prepared(self, raw: RawImage, record: Record) -> tuple[np.ndarray, ImageInfo]:
        values, sides = raw.values, [raw] if raw.source is None else [raw.source, raw]
        for side in sides:
            if side.values.ndim != 3 or not side.values.size:
                raise Unreadable("it is empty")
            if not np.isfinite(side.values).all():
                raise Unreadable("it holds values that are not finite numbers")
        image, spacing = self.geometry(raw)
        remarks = list(dict.fromkeys(remark for side in sides for remark in side.remarks))
        for channels in {len(side.values) for side in sides} - {self.geometry.channels}:
            change = "became gray by ITU-R 601 luma" if channels == 3 else "were repeated in 3 channels"
            remarks.append(f"{change} (data.channels={self.geometry.channels})")
        if self.geometry.makes_square(raw):
            remarks.append("have pixels that are not square, and are resampled to square ones (data.spacing)")
        info = ImageInfo(
            class_name=raw.class_name or record.class_name,
            split=record.split,
            patient=self.hashed(record.patient),
            file_number=self.file_numbers[record.name],
            height=values.shape[1],
            width=values.shape[2],
            stored_type=raw.stored_type,
            spacing=spacing,
            low=float(values.min()),
            high=float(values.max()),
            digest=content_digest(*(side.values for side in sides)),
            perceptual=_perceptual_hash(values),
            remarks=tuple(remarks),
            mask=raw.mask,
            source_type=sides[0].stored_type,
            source_low=float(sides[0].values.min()),
            source_high=float(sides[0].values.max()),
            series=self.hashed(record.series),
            place=record.place if raw.place is None else raw.place,
        )
        return image, info


def _without_content(raw: RawImage) -> Reason | None:
    """Return why nothing can be learned from an image or a pair; None: something can."""
    for reason, side in ((CONSTANT, raw), (CONSTANT_SOURCE, raw.source)):
        if side is not None and side.values.min() == side.values.max():
            return reason
    return EMPTY_MASK if raw.foreground is not None and not raw.foreground.any() else None


def out_of_memory() -> InputError:
    """Return the error of a machine whose memory is not enough to prepare the images."""
    return InputError(
        "The memory of this machine is not enough to prepare the images: set data.prepare_workers=0, or lower "
        "data.image_size.",
        code=EndCode.OUT_OF_MEMORY,
    )


def content_digest(*images: np.ndarray) -> str:
    """Return the column ``digest`` of an image, or of the two images of a pair: a hash of shapes and values."""
    content = hashlib.blake2b(digest_size=12)
    for values in images:
        content.update(str(values.shape).encode())
        content.update(np.ascontiguousarray(values, dtype="<f4").data)
    return content.hexdigest()


def _perceptual_hash(values: np.ndarray) -> str:
    """Return 256 bits that change little where the image does: signs of its low frequencies (pHash, Zauner 2010)."""
    mean = values.mean(0, dtype=np.float64)
    low, high = mean.min(), mean.max()
    levels = np.zeros_like(mean) if low == high else (mean - low) * (255 / (high - low))
    return str(imagehash.phash(Image.fromarray(levels.astype(np.uint8)), hash_size=16))


def _return_freed_memory() -> None:
    """Return freed memory to the system.

    glibc keeps it, and where something small lies between two freed arrays, uses neither for the next large one: the
    slices of a volume would add up to another volume.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # other C libraries have no such function
        ctypes.CDLL(None).malloc_trim(0)


def read_records(reading: RecordReading, workers: int, size: int) -> Iterator[RecordResult]:
    """Yield the results in the order of the records, read by ``workers`` processes or by this one.

    ``size`` are the bytes of all records. Results that wait for their turn are in memory: few large ones at a time.
    """
    shares = len(reading) // (8 * max(workers, 1)), _BATCH_BYTES * len(reading) // max(size, 1)
    batch_size = max(1, min(_BATCH, *shares))
    others = set(multiprocessing.active_children())
    try:
        loader = DataLoader(
            reading,
            batch_size=batch_size,
            num_workers=workers,
            collate_fn=list,
            worker_init_fn=_leave_ctrl_c_to_the_parent,
        )
        for results in loader:
            yield from results
    except (RuntimeError, MemoryError, OSError) as error:
        if not workers:
            raise
        time.sleep(_SAME_SIGNAL)  # one that ended all processes of a job ends this one here, by its own handler
        # The workers themselves raise nothing: DataLoader reports that one of them has ended or could not be started.
        raise InputError(
            "A process that read images was ended from outside or could not be started, which happens when memory runs "
            "out: set data.prepare_workers=0.",
            code=EndCode.OUT_OF_MEMORY,
        ) from error
    except (KeyboardInterrupt, GeneratorExit):
        for process in set(multiprocessing.active_children()) - others:  # DataLoader would wait for what they read
            process.terminate()
        raise


def _leave_ctrl_c_to_the_parent(worker: int) -> None:
    """Ignore Ctrl-C, which a terminal sends to all processes; the parent ends this one, also by its death (Linux)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(signal.SIGTERM)
