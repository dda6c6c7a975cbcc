"""Images in a folder: PNG, JPEG, TIFF or BMP, flat or with one subfolder per class."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import PIL
from monai.data import CacheDataset
from monai.transforms import Compose
from torch.utils.data import Dataset
from tqdm import tqdm

from medsynth.contracts import InputError, Intensity
from medsynth.data.folder import find_images, split
from medsynth.data.image_file import FULL_RANGE, RESIZES, Facts, inspect, reader
from medsynth.data.module import ImageDataModule

log = logging.getLogger(__name__)

_THREADS = 2  # decoding releases Python's lock and gains from a second thread, MONAI's bookkeeping loses from more


def image_folder(
    *,
    root: str | None,
    channels: int,
    image_size: int,
    batch_size: int,
    num_workers: int = 0,
    seed: int,
    classes: Sequence[str] | None = None,
    resize: str = "crop",
    intensity_range: Sequence[float] | None = None,
    unit: str = "stored value",
    val_fraction: float = 0.1,
    split_seed: int = 0,
    on_corrupt: str = "raise",
    cache: bool = True,
) -> ImageDataModule:
    """An ImageDataModule of an ImageFolder, flat, so that people type ``data.root=...``; see there for the options."""
    source = ImageFolder(
        root,
        channels=channels,
        image_size=image_size,
        classes=classes,
        resize=resize,
        intensity_range=intensity_range,
        unit=unit,
        val_fraction=val_fraction,
        split_seed=split_seed,
        on_corrupt=on_corrupt,
        cache=cache,
    )
    return ImageDataModule(
        source=source,
        channels=channels,
        image_size=image_size,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
    )


class ImageFolder:
    """A source of the images below ``root``, all of them checked first, then kept in memory.

    Args:
        root: the folder. Images directly in it have no labels; or else each subfolder is a class, with all images at
            any depth below it, and the labels follow the sorted names.
        channels: 1 reads color as gray (ITU-R 601 luma), 3 repeats gray. Alpha is dropped.
        image_size: height and width to resize to, antialiased, in pixels.
        classes: names of the subfolders to use; None: all.
        resize: ``crop`` the central square, ``fit`` the whole image in and pad with the lowest intensity, or
            ``stretch`` it.
        intensity_range: the stored values that become -1 and 1; None: the full range of the stored type,
            0 to 255 or 0 to 65535.
        unit: what a stored value is, for Intensity.
        val_fraction: part of each class that is held out for validation; at least 2 images in all.
        split_seed: chooses the images held out. It is apart from the run's seed, so that runs with several seeds are
            compared on the same images. A file stays on its side when others come or the folder moves, as far as the
            fraction allows.
        on_corrupt: ``raise`` or ``skip``, for files that cannot be read.
        cache: keep the resized images in memory (4 bytes per pixel and channel); else read them again each time.

    Raises:
        InputError: an option has no such value; ``datasets`` raises it for what is wrong with the files.
    """

    def __init__(
        self,
        root: str | None,
        *,
        channels: int,
        image_size: int,
        classes: Sequence[str] | None = None,
        resize: str = "crop",
        intensity_range: Sequence[float] | None = None,
        unit: str = "stored value",
        val_fraction: float = 0.1,
        split_seed: int = 0,
        on_corrupt: str = "raise",
        cache: bool = True,
    ) -> None:
        _one_of("data.channels", channels, (1, 3))
        _one_of("data.resize", resize, tuple(RESIZES))
        _one_of("data.on_corrupt", on_corrupt, ("raise", "skip"))
        if not 0 < val_fraction < 1:
            raise InputError(f"data.val_fraction={val_fraction} is not possible: it lies between 0 and 1.")
        self.root = root
        self.channels = channels
        self.image_size = image_size
        self.classes = (classes,) if isinstance(classes, str) else tuple(map(str, classes or ()))
        self.resize = resize
        self.intensity_range = None if intensity_range is None else _increasing(intensity_range)
        self.unit = unit
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.on_corrupt = on_corrupt
        self.cache = cache

    def datasets(self) -> tuple[FolderImages, FolderImages]:
        """Check and read all images; see medsynth.data.module.Source.

        Raises:
            InputError: ``root`` is no folder with images, a file is corrupt, or the images do not fit the options.
        """
        files = find_images(self.root, self.classes)
        facts = self._inspect([path for paths in files.values() for path in paths])
        good = {name: [path for path in paths if path in facts] for name, paths in files.items()}
        corrupt = sum(map(len, files.values())) - len(facts)
        if len(facts) < 4 or not all(good.values()):
            raise InputError(
                f"data.root={self.root} holds too few images that can be read ({_counts(good)}): "
                f"4 are needed, and 1 of each class."
            )
        low, high = self._range(list(facts.values()))
        self._warn(list(facts.values()))
        self.class_names = () if "" in good else tuple(good)
        self.intensity = Intensity(low, high, self.unit)
        self.description = f"folder {Path(self.root).resolve().name}: {len(facts):,} images, " + (
            f"{len(good)} classes" if self.class_names else "no classes"
        )
        if corrupt:
            self.description += f" ({corrupt:,} corrupt files left out)"
        transform = reader(self.image_size, channels=self.channels, resize=self.resize, low=low, high=high)
        train, val = split(good, self.val_fraction, seed=self.split_seed, root=Path(self.root).expanduser())
        labeled = bool(self.class_names)
        return (
            FolderImages(train, transform, labeled=labeled, cache=self.cache),
            FolderImages(val, transform, labeled=labeled, cache=self.cache),
        )

    def _inspect(self, paths: list[Path]) -> dict[Path, Facts]:
        """The facts of each file that can be read, all of them decoded once."""
        facts: dict[Path, Facts] = {}
        corrupt: list[Path] = []
        with ThreadPool(_THREADS) as pool:
            found = pool.imap(partial(_attempt, channels=self.channels), paths, chunksize=16)
            for path, result in zip(paths, tqdm(found, "Checking images", len(paths), disable=None), strict=True):
                if isinstance(result, Facts):
                    facts[path] = result
                elif self.on_corrupt == "skip":
                    corrupt.append(path)
                else:
                    raise InputError(
                        f"{path} cannot be read ({result}): repair it, remove it, or leave such files out with "
                        f"data.on_corrupt=skip."
                    )
        if corrupt:
            log.warning("%d of %d files cannot be read and are left out: %s ...", len(corrupt), len(paths), corrupt[0])
        return facts

    def _range(self, facts: list[Facts]) -> tuple[float, float]:
        """The stored values that become -1 and 1."""
        low, high = min(fact.low for fact in facts), max(fact.high for fact in facts)
        observed = f"[{low:g}, {high:g}]"
        if low == high:
            raise InputError(
                f"data.root={self.root} holds images of one single value, {low:g}: nothing can be learned."
            )
        if self.intensity_range is not None:
            if self.intensity_range[0] >= high or self.intensity_range[1] <= low:
                given = list(self.intensity_range)
                raise InputError(f"data.intensity_range={given} lies beside the stored values, which span {observed}.")
            if self.intensity_range[0] > low or self.intensity_range[1] < high:
                log.warning("Stored values span %s; what lies outside data.intensity_range is clipped.", observed)
            return self.intensity_range
        types = sorted({fact.stored_type for fact in facts})
        if len(types) > 1 or types[0] not in FULL_RANGE:
            raise InputError(
                f"data.intensity_range=[low, high] is needed for {' and '.join(types)} images: "
                f"the stored values span {observed}."
            )
        full = FULL_RANGE[types[0]]
        if high - low < (full[1] - full[0]) / 8:
            log.warning(
                "Stored values span %s, a small part of %s images' range, which would leave little contrast: "
                "consider data.intensity_range=%s.",
                observed,
                types[0],
                observed.replace(" ", ""),
            )
        return full

    def _warn(self, facts: list[Facts]) -> None:
        """Say once, with counts, what reading changes in the images."""
        color = sum(fact.color for fact in facts)
        counts = {
            "color images become gray by ITU-R 601 luma (data.channels=1)": color * (self.channels == 1),
            "gray images are repeated in 3 channels (data.channels=3)": (len(facts) - color) * (self.channels == 3),
            "images lose their alpha channel": sum(fact.alpha for fact in facts),
            "files hold several pages, of which the first is read": sum(fact.pages > 1 for fact in facts),
        }
        for what, count in counts.items():
            if count:
                log.warning("%d of %d %s.", count, len(facts), what)
        sizes = sorted(Counter((fact.width, fact.height) for fact in facts), key=lambda size: size[0] * size[1])
        if len(sizes) > 1 or sizes[0][0] != sizes[0][1]:
            first, last, size = "x".join(map(str, sizes[0])), "x".join(map(str, sizes[-1])), self.image_size
            log.warning(
                "Images of %d sizes, %s to %s, become %dx%d (data.resize=%s).",
                len(sizes),
                first,
                last,
                size,
                size,
                self.resize,
            )


class FolderImages(Dataset):
    """``{"image", "label" (where labeled), "index"}`` of (path, label) pairs; ``index`` counts within this dataset."""

    endless = False

    def __init__(self, files: list[tuple[Path, int]], transform: Compose, *, labeled: bool, cache: bool) -> None:
        self._labels = [label for _, label in files] if labeled else None
        paths = [str(path) for path, _ in files]
        self._images = CacheDataset(
            paths, transform, cache_rate=float(cache), num_workers=_THREADS, progress=sys.stderr.isatty()
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"image": self._images[index], "index": index}
        if self._labels is not None:
            item["label"] = self._labels[index]
        return item


def _attempt(path: Path, channels: int) -> Facts | str:
    """The facts of a file, or the reason why it cannot be read."""
    try:
        return inspect(path, channels)
    except InputError:
        raise
    except PIL.UnidentifiedImageError:
        return "it is no image of a known format"
    except Exception as error:  # damaged files make Pillow raise OSError, SyntaxError, ValueError, struct.error ...
        return str(error)


def _counts(files: dict[str, list[Path]]) -> str:
    return ", ".join(f"{name}: {len(paths)}" if name else str(len(paths)) for name, paths in files.items())


def _one_of(option: str, value: object, possible: tuple) -> None:
    if value not in possible:
        raise InputError(f"{option}={value} is not possible: {' or '.join(map(str, possible))}.")


def _increasing(values: Sequence[float]) -> tuple[float, float]:
    if isinstance(values, str) or len(values) != 2 or not values[0] < values[1]:
        raise InputError(f"data.intensity_range={values} is not possible: [low, high] with low below high.")
    return float(values[0]), float(values[1])
