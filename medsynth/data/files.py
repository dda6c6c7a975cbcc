"""The source of images from files: read, prepared, cached and split. Identifiers of people go no further."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from medsynth.contracts import Intensity
from medsynth.data.cache import Columns, Store, cache_folder, hashed, open_store, salt
from medsynth.data.duplicates import clusters, have_content
from medsynth.data.errors import DataError, Reason, ReasonKind
from medsynth.data.folders import folders_at, listed
from medsynth.data.geometry import Geometry, RandomViews
from medsynth.data.groups import Groups, image_groups
from medsynth.data.intensity import FULL_RANGE, LEAST_SPAN, Normalization
from medsynth.data.manifest import Manifest, SourceRecord
from medsynth.data.module import Datasets, ImageDataModule
from medsynth.data.pairs import PairOptions
from medsynth.data.prepared import PreparedImages
from medsynth.data.preparing import Preparation, Preparer
from medsynth.data.reading import SPLITS, Reader, Record, Roles, Scan
from medsynth.data.split import SplitOptions, choose_test_fraction, split
from medsynth.data.tree import Tree
from medsynth.errors import InputError

log = logging.getLogger(__name__)
_CHUNK = 256  # images read at a time


def image_files(
    *,
    root: str | None,
    reader: Callable[[str | None], Reader],
    channels: int,
    image_size: int,
    batch_size: int,
    num_workers: int,
    seed: int,
    balance_classes: bool = False,
    **options: Any,
) -> ImageDataModule:
    """Build the data module of image files from flat options, so that people type ``data.window=lung``.

    ``options`` are the fields with defaults of Normalization, Geometry, RandomViews, SplitOptions and Preparation,
    which conf/data/base/files.yaml describes, and of pairs those of PairOptions (conf/data/base/pairs.yaml).
    """
    views = taken(RandomViews, options, size=image_size)
    source = ImageFiles(
        root,
        reader=reader,
        normalization=taken(Normalization, options),
        pairs=taken(PairOptions, options),
        geometry=taken(Geometry, options, size=views.prepared_size, channels=channels),
        views=views,
        splits=taken(SplitOptions, options),
        preparation=taken(Preparation, options),
        seed=seed,
    )
    if options:
        raise InputError(f"data.{next(iter(options))} is not an option of image files: see medsynth data --help.")
    return ImageDataModule(
        source=source,
        channels=channels,
        image_size=image_size,
        batch_size=batch_size,
        num_workers=num_workers,
        seed=seed,
        balance_classes=balance_classes,
    )


def taken(group: type, options: dict[str, Any], **others: Any) -> Any:
    """Build a group of options from those that it knows, and remove these from ``options``."""
    names = [field.name for field in dataclasses.fields(group) if field.name in options]
    return group(**{name: options.pop(name) for name in names}, **others)


class ImageFiles:
    """A source of images that a reader finds in files; see medsynth.data.module.Source.

    Args:
        root: the path that the reader reads.
        reader: root -> Reader.
        normalization: measured values -> [-1, 1].
        pairs: the same of the sources of pairs, and how they are checked.
        geometry: raw images of any size -> prepared images.
        views: random transforms of training images; they also give the size of all images.
        splits: how images are held out.
        preparation: how files are read and cached.
        seed: of the random transforms.

    ``datasets`` raises InputError when files are missing or damaged or do not fit the options.
    """

    def __init__(
        self,
        root: str | None,
        *,
        reader: Callable[[str | None], Reader],
        normalization: Normalization,
        pairs: PairOptions,
        geometry: Geometry,
        views: RandomViews,
        splits: SplitOptions,
        preparation: Preparation,
        seed: int,
    ) -> None:
        self.root = root
        self.reader = reader
        self.normalization = normalization
        self.pairs = pairs
        self.of_sources = pairs.normalization(normalization)
        self.geometry = geometry
        self.views = views
        self.splits = splits
        self.preparation = preparation
        self.seed = seed

    def datasets(self) -> Datasets:
        """Return training, validation and test images, prepared now unless the cache has them.

        Raises:
            InputError: there is nothing to read, a file cannot be read, or the files do not fit the options.
        """
        rows, labels = self.rows, self.labels
        self._report(rows)
        near = {name: self._neighbors(rows[name]) for name in SPLITS}
        size, views = self.image_size, self.views if self.views.active else None
        train = PreparedImages(
            self.store, rows["train"], labels=labels, size=size, views=views, seed=self.seed, neighbors=near["train"]
        )
        val, test = (
            PreparedImages(self.store, rows[name], labels=labels, size=size, neighbors=near[name])
            for name in ("val", "test")
        )
        return Datasets(train, val, test if len(test) else None)

    def _neighbors(self, rows: list[int]) -> np.ndarray | None:
        """Return the rows of the slices around those of a split; None: sources are single slices.

        Raises:
            InputError: slices of one series are not known in order, or are in several splits.
        """
        reach = self.pairs.neighbors
        if not reach:
            return None
        series, places = self.columns["series"], self.columns["place"]
        if not all(series):
            raise InputError(
                f"data.neighbors={reach} needs slices whose series and order are known, and those in "
                f"data.root={self.root} are single images: read series by data=paired_dicom or synthrad, or type "
                "data.neighbors=0."
            )
        splits = [{series[row] for row in own} for own in self.rows.values()]
        if sum(map(len, splits)) > len(set().union(*splits)):
            raise InputError(
                f"data.neighbors={reach} would show slices of held-out images in training, since images of one series "
                "are in several splits: split by patient (data.split_by=patient)."
            )
        return neighboring_rows(rows, series, places, reach)

    @property
    def neighbors(self) -> int:
        """The number of slices on either side of a source that are channels beside it."""
        return self.pairs.neighbors

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.views.size

    @property
    def labels(self) -> list[int] | None:
        """Labels of all rows of the store; None: no labels."""
        return self.columns["label"] if self.class_names else None

    @property
    def content(self) -> str:
        """A digest of all images' values, as they are in the files, and of their classes; see Source."""
        return self._content

    @cached_property
    def _content(self) -> str:
        columns = [self.columns[name] for name in ("digest", "label")]
        content = hashlib.blake2b(str(self.class_names).encode(), digest_size=16)
        for name in ("train", "val"):
            content.update(json.dumps([[column[row] for column in columns] for row in self.rows[name]]).encode())
        return content.hexdigest()

    @cached_property
    def opened(self) -> Reader:
        """The reader of ``root``."""
        return self.reader(self.root)

    @cached_property
    def store(self) -> Store:
        """The prepared images, from the cache or prepared now."""
        folder, reader = cache_folder(self.preparation.cache_dir), self.opened
        key = {
            "files": _fingerprint(reader.tree),
            "reader": [type(reader).__name__, reader.key()],
            "geometry": self.geometry.key(),
            "normalization": self.normalization.key(),
            "of_sources": self.of_sources.key(),
            "unregistered": self.pairs.unregistered,
            "options": [self.preparation.on_error, self.preparation.cache_dtype, self.splits.patient_pattern],
        }
        return open_store(folder, key, partial(self._prepare, folder))

    @property
    def manifest(self) -> Manifest:
        """The record of the prepared data set as a whole."""
        return self.store.manifest

    @property
    def columns(self) -> Columns:
        """Values for each row of the store."""
        return self.store.columns

    @cached_property
    def kept(self) -> list[int]:
        """The rows of the store that are used: all, or one of each exact copy."""
        if not self.splits.drop_duplicates:
            return list(range(len(self.store)))
        first = {digest: row for row, digest in reversed(list(enumerate(self.columns["digest"])))}
        return sorted(first.values())

    @cached_property
    def duplicates(self) -> tuple[list[int], np.ndarray]:
        """Numbers that kept images have in common with their duplicates, and which of them show nearly nothing.

        Images of little content are duplicates of their exact copies alone.
        """
        digests, perceptual = (self._kept_column(name) for name in ("digest", "perceptual"))
        near = self.splits.join_duplicates == "near"
        numbers = clusters(digests, perceptual, np.full(len(digests), near))
        blank = np.zeros(len(digests), dtype=bool)
        repeated = np.flatnonzero(np.bincount(numbers)[numbers] > 1)
        for start in range(0, len(repeated), _CHUNK):
            rows = repeated[start : start + _CHUNK]
            blank[rows] = ~have_content(self.store.read(np.asarray(self.kept)[rows]).numpy())
        if near and blank.any():
            numbers = clusters(digests, perceptual, ~blank)
        return numbers.tolist(), blank

    @cached_property
    def groups(self) -> Groups:
        """The groups of kept images that stay in one split."""
        joined = self.splits.join_duplicates != "none"
        numbers, blank = self.duplicates if joined else (None, np.zeros(0, dtype=bool))
        patients, digests = (self._kept_column(name) for name in ("patient", "digest"))
        return image_groups(patients, digests, numbers, blank, by=self.splits.split_by)

    @cached_property
    def rows(self) -> dict[str, list[int]]:
        """Split name -> rows of the store, without dropped copies."""
        labels, digests, given = (self._kept_column(name) for name in ("label", "digest", "split"))
        positions = split(self.splits, labels=labels, groups=self.groups, digests=digests, given=given)
        return {name: [self.kept[position] for position in own] for name, own in positions.items()}

    @property
    def test_reason(self) -> str:
        """The reason why test images are held out, or why none are."""
        return choose_test_fraction(self.splits, groups=self.groups, given=self._kept_column("split")).reason

    def _kept_column(self, name: str) -> list[Any]:
        column = self.columns[name]
        return [column[row] for row in self.kept] if self.splits.drop_duplicates else column

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the labels; empty without labels."""
        return tuple(self.manifest["class_names"])

    @property
    def intensity(self) -> Intensity:
        """The way back from [-1, 1]."""
        return Intensity(**self.manifest["intensity"])

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimeters from row to row and from column to column, the median of the images; None: not known."""
        spacing = self.manifest["spacing"]
        return None if spacing is None else (spacing[0], spacing[1])

    @property
    def source_intensity(self) -> Intensity | None:
        """The way back from [-1, 1] for the sources of pairs; None without pairs."""
        source = self.manifest["source"]
        return None if source is None else Intensity(**source["intensity"])

    @property
    def modality(self) -> str:
        """DICOM's code; "" where it is not known."""
        return self.manifest["modality"]

    @property
    def source_modality(self) -> str:
        """DICOM's code of the sources of pairs; "" where it is not known."""
        source = self.manifest["source"]
        return "" if source is None else source["modality"]

    @property
    def description(self) -> str:
        """One phrase about the data, for people; with the folder's name only where ``show_paths`` allows it."""
        format_name = type(self.opened).__name__
        if self.preparation.show_paths:
            format_name += f" {Path(self.root or '').expanduser().resolve().name}"
        count = len(self.class_names)
        classes = "no classes" if count == 0 else f"{count} class{'es' if count > 1 else ''}"
        patients = len(set(self.columns["patient"]) - {""})
        left_out = sum(reason["count"] for reason in self.manifest["left_out"])
        return (
            f"{format_name}: {len(self.store):,} images, {classes}"
            + (f", {patients:,} patient{'s' if patients > 1 else ''}" if patients else "")
            + (f" ({left_out:,} files or parts of files left out)" if left_out else "")
        )

    @property
    def patients_of_splits(self) -> dict[str, int] | None:
        """The number of patients in each split; None: images are not split by patient."""
        if not self.groups.of_patients:
            return None
        patient = self.columns["patient"]
        return {name: len({patient[row] for row in rows} - {""}) for name, rows in self.rows.items()}

    @property
    def given_splits(self) -> set[str]:
        """The names of the splits that the data gives."""
        return set(self.columns["split"]) - {""}

    @property
    def roles(self) -> str:
        """The sentence about what was taken for class, patient and split."""
        origin = Roles(**self.manifest["roles"])
        patients = self._kept_column("patient")
        known, missing = len(set(patients) - {""}), sum(not patient for patient in patients)
        if not known:
            people = "not known, so that each image is split by itself (data.patient_pattern= finds them in names)"
        else:
            people = f"{known:,}{f', {origin.patients},' if origin.patients else ''}"
            if self.groups.of_patients:
                people += " whose images stay in one split"
            elif self.splits.split_by == "image":
                people += " whose images are split one by one (data.split_by=image)"
            elif missing:
                people += f" but {missing:,} images have none, so that images are split one by one"
            else:
                people += " so that images are split one by one"
        count = len(self.class_names)
        classes = f"{count:,}{f', {origin.classes}' if origin.classes else ''}" if count else "none"
        return f"Classes: {classes}; patients: {people}; given split: {origin.split or 'none'}."

    @property
    def role_doubts(self) -> list[str]:
        """The sentences about what these may be instead, and about patients who are not kept together."""
        doubts = [self.manifest["roles"]["doubt"]] if self.manifest["roles"]["doubt"] else []
        patients = self._kept_column("patient")
        if any(patients) and not self.groups.of_patients and self.splits.split_by != "image":
            doubts.append(
                "Images of one patient are on both sides of the split: give the patient of each image by "
                "data.patient_pattern= if there are several, or know that numbers from held-out images are too good."
            )
        return doubts

    def file_name(self, row: int) -> str:
        """Return the name of a row's file below the root, or its number where names are not shown."""
        number = self._file_numbers[row]
        return self.opened.tree.names[number] if self.preparation.show_paths else f"file {number + 1}"

    @cached_property
    def _file_numbers(self) -> list[int]:
        return self.columns["file_number"]

    def _prepare(self, cache: Path, folder: Path) -> None:
        reader = self.opened
        scan = self._with_patients(reader.scan())
        for _, reason in reader.tree.lost:
            (scan.damaged if reason.kind is ReasonKind.DAMAGED else scan.left_out)[reason] += 1
        if scan.damaged and self.preparation.raises:
            names = [name for name, reason in reader.tree.lost if reason.kind is ReasonKind.DAMAGED]
            shown = f": {listed(names)}" if names and self.preparation.show_paths else ""
            hint = "; data.show_paths=true shows names" if names and not shown else ""
            raise DataError(
                f"{sum(scan.damaged.values())} of the {len(reader.tree.names) + len(reader.tree.lost)} files in "
                f"data.root={self.root} are damaged or cannot be reached ({_counted(scan.damaged)}{shown}{hint}): "
                f"repair or remove them, or leave them out with data.on_error=skip."
            )
        scan.left_out += scan.damaged
        Preparer(
            reader=reader,
            scan=scan,
            geometry=self.geometry,
            normalization=self.normalization,
            of_sources=self.of_sources,
            unregistered=self.pairs.unregistered,
            hashed=partial(hashed, key=salt(cache)),
            named=self._named,
            options=self.preparation,
        )(folder)

    def _with_patients(self, scan: Scan) -> Scan:
        """Set the patients that data.patient_pattern finds in names; it takes precedence over the reader's."""
        pattern = self.splits.pattern
        if pattern is None:
            return scan
        matches = [pattern.search(record.name) for record in scan.records]
        missing = sum(match is None for match in matches)
        if missing:
            raise DataError(
                f"data.patient_pattern={pattern.pattern} does not match {missing} of the {len(matches)} file names: "
                f"write it for names below data.root, such as 'class/patient_image.png'."
            )
        records = [
            dataclasses.replace(record, patient=_patient_of(match))
            for record, match in zip(scan.records, matches, strict=True)
            if match
        ]
        return dataclasses.replace(
            scan, records=records, roles=dataclasses.replace(scan.roles, patients="data.patient_pattern", doubt="")
        )

    def _named(self, record: Record) -> str:
        if self.preparation.show_paths:
            return f"{record.name} in data.root={self.root}"
        names = self.opened.tree.names
        number = names.index(record.name) + 1
        return f"File {number} of the {len(names)} in data.root={self.root} (data.show_paths=true shows its name)"

    def report_images(self) -> None:
        """Warn, with counts, of what was left out, and of what the images lost or how they changed on the way."""
        manifest = self.manifest
        total, size = len(self.store), self.geometry.size
        log.info(self.roles)
        for doubt in self.role_doubts:
            log.warning(doubt)
        for left_out in manifest["left_out"]:
            if left_out["kind"] != ReasonKind.NOT_AN_IMAGE:
                log.warning("Left out: %s: %d.", left_out["text"], left_out["count"], extra={"left_out": True})
        self._report_losses()
        for remark, count in manifest["remarks"].items():
            log.warning("%d of %d images %s.", count, total, remark)
        sizes = sorted(manifest["sizes"], key=lambda text: [int(side) for side in text.split("x")])
        if len(sizes) > 1 or len(set(sizes[0].split("x"))) > 1:
            text = f"{len(sizes)} sizes, {sizes[0]} to {sizes[-1]}," if len(sizes) > 1 else f"size {sizes[0]}"
            log.warning("Images of %s become %dx%d (data.resize=%s).", text, size, size, self.geometry.resize)
        self._report_intensity(manifest)

    def _report(self, rows: dict[str, list[int]]) -> None:
        """Warn, with counts, of everything that readers of the results must know about the data."""
        self.report_images()
        log.info("%d test images: %s.", len(rows["test"]), self.test_reason)
        self._report_leaks(rows)
        if any(rows[name] and name not in self.columns["split"] for name in ("val", "test")):
            self._report_groups(rows)

    def _report_losses(self) -> None:
        """Warn of folders and classes of which no image is used."""
        if lost := self.manifest["lost_folders"]:
            folders = folders_at(self.opened.tree, self.manifest["folder_level"])
            shown = self.manifest["folders_are_classes"] or self.preparation.show_paths
            names = listed([folders[number] for number in lost]) if shown else "data.show_paths=true shows their names"
            text = "No image of %d of the %d folders in data.root is used (%s): see what is left out."
            log.warning(text, len(lost), len(folders), names)
        if empty := self.manifest["empty_classes"]:
            log.warning("No image of the classes %s is left: they are no classes of this training.", listed(empty))

    def _report_intensity(self, manifest: Manifest) -> None:
        source, who = manifest["source"], "Values"
        if source is not None and self.source_intensity is not None:
            _report_values("Values of the sources", source, self.of_sources, self.source_intensity)
            who = "Values of the targets"
        _report_values(who, manifest, self.normalization, self.intensity)

    def _report_leaks(self, rows: dict[str, list[int]]) -> None:
        """Warn of patients and duplicates in two splits, which the data's own splits can cause."""
        duplicates = dict(zip(self.kept, self.duplicates[0], strict=True))
        kind = "Near or exact" if self.splits.join_duplicates == "near" else "Exact"
        patients = self.columns["patient"]
        for one, several, group_of in (
            ("{} patient is", "{} patients are", patients),
            (f"{kind} copies of {{}} image are", f"{kind} copies of {{}} images are", duplicates),
        ):
            seen = [{group_of[row] for row in rows[split_name]} - {""} for split_name in SPLITS]
            repeated = sum(count > 1 for count in Counter(key for keys in seen for key in keys).values())
            if repeated:
                noun = (one if repeated == 1 else several).format(repeated)
                log.warning("%s in more than one of training, validation and test.", noun)

    def _report_groups(self, rows: dict[str, list[int]]) -> None:
        """Warn of patients that duplicates join, and of duplicates that join none."""
        for sentence in self.groups.sentences():
            log.warning(sentence)
        unused = len(self.kept) - sum(map(len, rows.values()))
        if unused:
            log.warning(
                "%d of these images are left out of validation and test, since exact copies are in another split.",
                unused,
            )


def neighboring_rows(rows: list[int], series: list[str], places: list[int], reach: int) -> np.ndarray:
    """Return for each of ``rows`` those of the slices around it, (n, 2 ``reach`` + 1), itself in the middle.

    A slice that is not there, beyond the end of its series or left out, is replaced by the next one towards the middle.
    """
    known = {(series[row], places[row]): row for row in rows}
    result = np.empty((len(rows), 2 * reach + 1), dtype=np.int64)
    for number, row in enumerate(rows):
        result[number, reach] = row
        for direction in (-1, 1):
            last = row
            for offset in range(1, reach + 1):
                last = known.get((series[row], places[row] + direction * offset), last)
                result[number, reach + direction * offset] = last
    return result


def _report_values(
    who: str, record: Manifest | SourceRecord, normalization: Normalization, intensity: Intensity
) -> None:
    """Warn of values that lose their unit, that are clipped, or that use a small part of their range."""
    low, high, option = record["before"]["low"], record["before"]["high"], f"data.{normalization.prefix}"
    if normalization.per_image or normalization.clahe:
        log.warning("%s become %s and cannot be mapped back to physical units.", who, intensity.unit)
        return
    bounds = (intensity.low, intensity.high)
    if normalization.fixed is None and normalization.normalize == "auto" and bounds not in FULL_RANGE.values():
        log.warning(
            f"%s span [%g, %g], which become -1 and 1 ({option}normalize=auto), since they do not fill the "
            f"range of %s files: {option}window or {option}intensity_range choose others.",
            *(who, low, high, next(iter(record["stored_types"]))),
        )
    if normalization.normalize == "full_range" and high - low < (bounds[1] - bounds[0]) / LEAST_SPAN:
        log.warning(
            f"%s, as stored, span [%g, %g], a small part of the files' range, which leaves little contrast: "
            f"consider {option}intensity_range=[%g,%g].",
            *(who, low, high, low, high),
        )
    if normalization.intensity_range is not None and (intensity.low > low or intensity.high < high):
        log.warning(f"%s span [%g, %g]; those outside {option}intensity_range are clipped.", who, low, high)


def _fingerprint(tree: Tree) -> str:
    """Return a digest of the files' names, sizes and times."""
    lost = sorted((name, reason.text) for name, reason in tree.lost)
    content = hashlib.blake2b(json.dumps(lost).encode(), digest_size=16)
    for name in tree.names:
        content.update(json.dumps([name, *tree.state(name)]).encode())
    return content.hexdigest()


def _counted(reasons: Counter[Reason]) -> str:
    return "; ".join(f"{reason}: {count}" for reason, count in reasons.items())


def _patient_of(match: re.Match[str]) -> str:
    named = match.groupdict().get("patient")
    return named or (match.group(1) if match.re.groups else match.group(0)) or ""
