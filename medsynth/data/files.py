"""The source of images from files: a reader's findings, prepared, cached, split; and no identifier goes further."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from joblib import cpu_count

from medsynth.contracts import InputError, Intensity
from medsynth.data.cache import Store, cache_folder, hashed, open_store, salt
from medsynth.data.geometry import Geometry, RandomViews
from medsynth.data.intensity import Normalization
from medsynth.data.module import Datasets, ImageDataModule
from medsynth.data.prepared import PreparedImages
from medsynth.data.preparing import DTYPES, Preparation
from medsynth.data.reading import SPLITS, Found, Item, Reader
from medsynth.data.split import BY, split
from medsynth.data.tree import Tree

log = logging.getLogger(__name__)


def image_files(
    *,
    root: str | None,
    reader: Callable[[str | None], Reader],
    channels: int,
    image_size: int,
    batch_size: int,
    num_workers: int,
    seed: int,
    window: str | Sequence[float] | None,
    intensity_range: Sequence[float] | None,
    normalize: str,
    normalize_per: str,
    percentiles: Sequence[float],
    z_score_limit: float,
    clahe: float | None,
    unit: str | None,
    spacing: float | Sequence[float] | None,
    foreground: float | None,
    crop: int | Sequence[int] | None,
    resize: str,
    random_crop: int | None,
    flip: str | None,
    rotate: float,
    val_fraction: float,
    test_fraction: float,
    split_by: str,
    split_seed: int,
    patient_pattern: str | None,
    drop_duplicates: bool,
    on_error: str,
    show_paths: bool,
    cache_dir: str | None,
    cache_dtype: str,
    prepare_workers: int | None,
) -> ImageDataModule:
    """An ImageDataModule of ImageFiles, flat, so that people type ``data.window=lung``.

    ``conf/data/files.yaml`` says what each option means; Normalization, Geometry, RandomViews and ``split`` say it in
    full.
    """
    if random_crop is not None and random_crop < image_size:
        raise InputError(
            f"data.random_crop={random_crop} is smaller than data.image_size={image_size}, which is cut from it."
        )
    source = ImageFiles(
        root,
        reader=reader,
        normalization=Normalization(
            window=window,
            intensity_range=intensity_range,
            method=normalize,
            per=normalize_per,
            percentiles=percentiles,
            z_score_limit=z_score_limit,
            clahe=clahe,
        ),
        geometry=Geometry(
            random_crop or image_size,
            channels=channels,
            spacing=spacing,
            foreground=foreground,
            crop=crop,
            resize=resize,
        ),
        views=RandomViews(image_size, flip=flip, rotate=rotate) if flip or rotate or random_crop else None,
        image_size=image_size,
        seed=seed,
        unit=unit,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        split_by=split_by,
        split_seed=split_seed,
        patient_pattern=patient_pattern,
        drop_duplicates=drop_duplicates,
        on_error=on_error,
        show_paths=show_paths,
        cache_dir=cache_dir,
        dtype=cache_dtype,
        prepare_workers=prepare_workers,
    )
    return ImageDataModule(
        source=source,
        channels=channels,
        image_size=image_size,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
    )


class ImageFiles:
    """A source of images that a reader finds; see medsynth.data.module.Source.

    Args:
        root: what the reader reads.
        reader: root -> Reader.
        normalization: measured values -> [-1, 1].
        geometry: pictures of any size -> prepared images.
        views: random transforms of training images; None: none.
        image_size: height and width of the images that come out.
        seed: of the random transforms.
        unit: what a value is, where the reader does not know; None: as the reader says.
        val_fraction: part of each class that is held out for validation.
        test_fraction: part that is held out from both.
        split_by: ``auto``, ``patient`` or ``image``.
        split_seed: chooses what is held out. It is apart from the run's seed, so that runs with several seeds are
            compared on the same images.
        patient_pattern: regular expression on file names below the root; its group (named ``patient``, or the first)
            is the patient, whatever the reader knows.
        drop_duplicates: keep the first of exact copies.
        on_error: ``raise`` or ``skip``, for files that cannot be read.
        show_paths: whether messages may name files.
        cache_dir: folder of the prepared images; None: in the user's cache folder.
        dtype: ``auto``, ``uint8`` or ``uint16``, of the prepared images.
        prepare_workers: processes that read files; None: as many as there are processors, 8 at most.

    Raises:
        InputError: an option has no such value; ``datasets`` raises it for what is wrong with the files.
    """

    def __init__(
        self,
        root: str | None,
        *,
        reader: Callable[[str | None], Reader],
        normalization: Normalization,
        geometry: Geometry,
        views: RandomViews | None,
        image_size: int,
        seed: int,
        unit: str | None,
        val_fraction: float,
        test_fraction: float,
        split_by: str,
        split_seed: int,
        patient_pattern: str | None,
        drop_duplicates: bool,
        on_error: str,
        show_paths: bool,
        cache_dir: str | None,
        dtype: str,
        prepare_workers: int | None,
    ) -> None:
        for option, value, possible in (
            ("data.on_error", on_error, ("raise", "skip")),
            ("data.cache_dtype", dtype, tuple(DTYPES)),
            ("data.split_by", split_by, BY),
        ):
            if value not in possible:
                raise InputError(f"{option}={value} is not possible: {', '.join(possible)}.")
        if not 0 < val_fraction < 1 or not 0 <= test_fraction < 1 or val_fraction + test_fraction >= 1:
            raise InputError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} are not possible: "
                f"parts of 1, validation more than 0, and something is left to train on."
            )
        self.root = root
        self.reader = reader
        self.normalization = normalization
        self.geometry = geometry
        self.views = views
        self.image_size = image_size
        self.seed = seed
        self.unit = unit
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.split_by = split_by
        self.split_seed = split_seed
        self.patient_pattern = _compiled(patient_pattern)
        self.drop_duplicates = drop_duplicates
        self.on_error = on_error
        self.show_paths = show_paths
        self.cache_dir = cache_dir
        self.dtype = dtype
        self.prepare_workers = min(cpu_count(), 8) if prepare_workers is None else prepare_workers

    def datasets(self) -> Datasets:
        """Training, validation and test images, prepared where that has not been done before.

        Raises:
            InputError: nothing to read, a file cannot be read, or what there is does not fit the options.
        """
        rows, labels = self.rows, self.manifest["images"]["label"] if self.class_names else None
        self._report(rows)
        common = {"labels": labels, "size": self.image_size}
        train = PreparedImages(self.store, rows["train"], **common, views=self.views, seed=self.seed)
        val, test = (PreparedImages(self.store, rows[name], **common) for name in ("val", "test"))
        return Datasets(train, val, test if len(test) else None)

    @cached_property
    def content(self) -> str:
        """See medsynth.data.module.Source: of all images' values, as they are in the files, and of their classes."""
        columns = [self.manifest["images"][name] for name in ("digest", "label")]
        content = hashlib.blake2b(str(self.class_names).encode(), digest_size=16)
        for name in ("train", "val"):
            content.update(json.dumps([[column[row] for column in columns] for row in self.rows[name]]).encode())
        return content.hexdigest()

    @cached_property
    def opened(self) -> Reader:
        """The reader, looking at ``root``."""
        return self.reader(self.root)

    @cached_property
    def store(self) -> Store:
        """The prepared images, from the cache or made now."""
        folder, reader = cache_folder(self.cache_dir), self.opened
        key = {
            "files": _fingerprint(reader.tree),
            "reader": [type(reader).__name__, reader.key()],
            "geometry": self.geometry.key(),
            "normalization": self.normalization.key(),
            "options": [self.unit, self.on_error, self.dtype, str(self.patient_pattern)],
        }
        return open_store(folder, key, partial(self._prepare, folder))

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of the images; see ``preparing.Preparation``."""
        return self.store.manifest

    @cached_property
    def rows(self) -> dict[str, list[int]]:
        """Split name -> rows of the store; without the copies, where they are dropped."""
        columns = {name: self.manifest["images"][name] for name in ("label", "patient", "digest", "split")}
        kept = range(len(self.store))
        if self.drop_duplicates:
            first = {digest: row for row, digest in reversed(list(enumerate(columns["digest"])))}
            kept = sorted(first.values())
            columns = {name: [column[row] for row in kept] for name, column in columns.items()}
        parts = split(
            labels=columns["label"],
            patients=columns["patient"],
            digests=columns["digest"],
            given=columns["split"],
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
            by=self.split_by,
            seed=self.split_seed,
        )
        return {name: [kept[position] for position in positions] for name, positions in parts.items()}

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels; empty without labels."""
        return tuple(self.manifest["class_names"])

    @property
    def intensity(self) -> Intensity:
        """The way back from [-1, 1]."""
        return Intensity(**self.manifest["intensity"])

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimetres from row to row and from column to column, the median of the images; None: not known."""
        spacing = self.manifest["spacing"]
        return None if spacing is None else tuple(spacing)

    @property
    def modality(self) -> str:
        """DICOM's code, or "" where it is not known."""
        return self.manifest["modality"]

    @property
    def description(self) -> str:
        """One phrase for people."""
        kind = type(self.opened).__name__
        count = len(self.class_names)
        classes = "no classes" if count == 0 else f"{count} class{'es' if count > 1 else ''}"
        patients = len(set(self.manifest["images"]["patient"]) - {""})
        left_out = sum(self.manifest["left_out"].values())
        return (
            f"{kind} {Path(self.root).expanduser().resolve().name}: {len(self.store):,} images, {classes}"
            + (f", {patients:,} patients" if patients else "")
            + (f" ({left_out:,} files or parts left out)" if left_out else "")
        )

    def file_name(self, row: int) -> str:
        """The file of a row below the root; what stands for it where names are not shown."""
        number = self._file_numbers[row]
        return self.opened.tree.names[number] if self.show_paths else f"file {number + 1}"

    @cached_property
    def _file_numbers(self) -> list[int]:
        return self.manifest["images"]["file_number"]

    def _prepare(self, cache: Path, folder: Path) -> None:
        reader = self.opened
        found = self._with_patients(reader.find())
        if found.damaged and self.on_error == "raise":
            raise InputError(
                f"{sum(found.damaged.values())} of the {len(reader.tree.names)} files in data.root={self.root} are "
                f"damaged ({'; '.join(found.damaged)}): repair or remove them, or leave them out with "
                f"data.on_error=skip."
            )
        found.left_out += found.damaged
        if reader.tree.unsafe:
            found.left_out["links, encrypted files and names that lead out of the archive"] += reader.tree.unsafe
        Preparation(
            reader=reader,
            found=found,
            geometry=self.geometry,
            normalization=self.normalization,
            hashed=partial(hashed, key=salt(cache)),
            named=self._named,
            on_error=self.on_error,
            dtype=DTYPES[self.dtype],
            unit=self.unit or found.unit,
            workers=self.prepare_workers,
        )(folder)

    def _with_patients(self, found: Found) -> Found:
        """The items with the patients that the pattern finds in names; it holds, also where the reader knows others."""
        if self.patient_pattern is None:
            return found
        matches = [self.patient_pattern.search(item.name) for item in found.items]
        missing = sum(match is None for match in matches)
        if missing:
            raise InputError(
                f"data.patient_pattern={self.patient_pattern.pattern} does not match {missing} of the {len(matches)} "
                f"file names: write it for names below data.root, as 'class/patient_image.png'."
            )
        for number, (item, match) in enumerate(zip(found.items, matches, strict=True)):
            found.items[number] = _of_patient(item, match)
        return found

    def _named(self, item: Item) -> str:
        if self.show_paths:
            return f"{item.name} in data.root={self.root}"
        names = self.opened.tree.names
        number = names.index(item.name) + 1
        return f"File {number} of the {len(names)} in data.root={self.root} (data.show_paths=true names it)"

    def _report(self, rows: dict[str, list[int]]) -> None:
        """Say once, with counts, what a reader of results must know of the data."""
        manifest = self.manifest
        total, size = len(self.store), self.geometry.size
        for reason, count in manifest["left_out"].items():
            if not reason.startswith("no image"):
                log.warning("Left out: %s: %d.", reason, count)
        for remark, count in manifest["remarks"].items():
            log.warning("%d of %d images %s.", count, total, remark)
        sizes = sorted(manifest["sizes"], key=lambda text: [int(side) for side in text.split("x")])
        if len(sizes) > 1 or len(set(sizes[0].split("x"))) > 1:
            text = f"{len(sizes)} sizes, {sizes[0]} to {sizes[-1]}," if len(sizes) > 1 else f"size {sizes[0]}"
            log.warning("Images of %s become %dx%d (data.resize=%s).", text, size, size, self.geometry.resize)
        self._report_intensity(manifest)
        self._report_leaks(rows)

    def _report_intensity(self, manifest: dict[str, Any]) -> None:
        low, high = manifest["before"]["low"], manifest["before"]["high"]
        if self.normalization.per_image or self.normalization.clahe:
            log.warning("Intensities become %s: no way leads back to physical units.", self.intensity.unit)
            return
        span = self.intensity.high - self.intensity.low
        if self.normalization.method == "full_range" and high - low < span / 8:
            log.warning(
                "Stored values span [%g, %g], a small part of the files' range, which would leave little contrast: "
                "consider data.intensity_range=[%g,%g].",
                *(low, high, low, high),
            )
        if self.normalization.option == "data.intensity_range" and (
            self.intensity.low > low or self.intensity.high < high
        ):
            log.warning("Values span [%g, %g]; what lies outside data.intensity_range is clipped.", low, high)

    def _report_leaks(self, rows: dict[str, list[int]]) -> None:
        """Patients and exact copies that lie in two splits, which the data's own splits and a single patient may do."""
        for name, what in (("patient", "patients"), ("digest", "images with exact copies")):
            column = self.manifest["images"][name]
            seen = [{column[row] for row in rows[split_name]} - {""} for split_name in SPLITS]
            several = sum(count > 1 for count in Counter(key for keys in seen for key in keys).values())
            if several:
                log.warning("%d %s lie in more than one of training, validation and test.", several, what)


def _fingerprint(tree: Tree) -> str:
    """Of the files: their names, sizes and times."""
    content = hashlib.blake2b(str(tree.unsafe).encode(), digest_size=16)
    for name in tree.names:
        content.update(json.dumps([name, *tree.state(name)]).encode())
    return content.hexdigest()


def _of_patient(item: Item, match: re.Match[str]) -> Item:
    named = match.groupdict().get("patient")
    patient = named or (match.group(1) if match.re.groups else match.group(0))
    return Item(item.name, item.part, item.class_name, patient or "", item.split, item.partner)


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InputError(f"data.patient_pattern={pattern} is no regular expression ({error}).") from error
