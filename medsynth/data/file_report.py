"""Sentences for people about the images of files: their roles, and what was lost or changed on the way."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter

from medsynth.contracts import Intensity
from medsynth.data.errors import ReasonKind
from medsynth.data.folders import folders_at, listed
from medsynth.data.geometry import Geometry
from medsynth.data.intensity import FULL_RANGE, LEAST_SPAN, Normalization
from medsynth.data.kept_images import KeptImages
from medsynth.data.manifest import Manifest, SourceRecord
from medsynth.data.reading import SPLITS, Roles
from medsynth.data.tree import Tree

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileReport:
    """Sentences and warnings about prepared files.

    Attributes:
        tree: the files.
        images: the images that are used.
        geometry: by which they were prepared.
        normalization: measured values -> [-1, 1].
        of_sources: the same of the sources of pairs.
        show_paths: names of files and folders may be shown.
    """

    tree: Tree
    images: KeptImages
    geometry: Geometry
    normalization: Normalization
    of_sources: Normalization
    show_paths: bool

    @property
    def manifest(self) -> Manifest:
        """The record of the prepared data set as a whole."""
        return self.images.store.manifest

    @property
    def roles(self) -> str:
        """The sentence about what was taken for class, patient and split."""
        images, origin = self.images, Roles(**self.manifest["roles"])
        patients = images.column("patient")
        known, missing = len(set(patients) - {""}), sum(not patient for patient in patients)
        if not known:
            people = "not known, so that each image is split by itself (data.patient_pattern= finds them in names)"
        else:
            people = f"{known:,}{f', {origin.patients},' if origin.patients else ''}"
            if images.groups.of_patients:
                people += " whose images stay in one split"
            elif images.blocks:
                people += " whose slices are cut into contiguous blocks (data.split_by=blocks)"
            elif images.splits.split_by == "image":
                people += " whose images are split one by one (data.split_by=image)"
            elif missing:
                people += f" but {missing:,} images have none, so that images are split one by one"
            else:
                people += " so that images are split one by one"
        count = len(self.manifest["class_names"])
        classes = f"{count:,}{f', {origin.classes}' if origin.classes else ''}" if count else "none"
        return f"Classes: {classes}; patients: {people}; given split: {origin.split or 'none'}."

    @property
    def role_doubts(self) -> list[str]:
        """The sentences about what these may be instead, and about patients who are not kept together."""
        images, doubt = self.images, self.manifest["roles"]["doubt"]
        doubts = [doubt] if doubt else []
        patients = images.column("patient")
        if any(patients) and not images.groups.of_patients and images.splits.split_by not in ("image", "blocks"):
            doubts.append(
                "Images of one patient are on both sides of the split: give the patient of each image by "
                "data.patient_pattern= if there are several, or hold out contiguous slices by data.split_by=blocks, or "
                "know that numbers from held-out images are too good."
            )
        return doubts

    def log_images(self) -> None:
        """Warn, with counts, of what was left out, and of what the images lost or how they changed on the way."""
        manifest = self.manifest
        total, size = len(self.images.store), self.geometry.size
        log.info(self.roles)
        for doubt in self.role_doubts:
            log.warning(doubt)
        for left_out in manifest["left_out"]:
            if left_out["kind"] != ReasonKind.NOT_AN_IMAGE:
                log.warning("Left out: %s: %d.", left_out["text"], left_out["count"], extra={"left_out": True})
        self._log_losses()
        for remark, count in manifest["remarks"].items():
            log.warning("%d of %d images %s.", count, total, remark)
        sizes = sorted(manifest["sizes"], key=lambda text: [int(side) for side in text.split("x")])
        if len(sizes) > 1 or len(set(sizes[0].split("x"))) > 1:
            text = f"{len(sizes)} sizes, {sizes[0]} to {sizes[-1]}," if len(sizes) > 1 else f"size {sizes[0]}"
            log.warning("Images of %s become %dx%d (data.resize=%s).", text, size, size, self.geometry.resize)
        self._log_intensity()

    def log_all(self) -> None:
        """Warn, with counts, of everything that readers of the results must know about the images and their splits."""
        self.log_images()
        rows = self.images.rows
        log.info("%d test images: %s.", len(rows["test"]), self.images.test_reason)
        self._log_leaks()
        if any(rows[name] and name not in self.images.given_splits for name in ("val", "test")):
            self._log_groups()

    def _log_losses(self) -> None:
        """Warn of folders and classes of which no image is used."""
        if lost := self.manifest["lost_folders"]:
            folders = folders_at(self.tree, self.manifest["folder_level"])
            shown = self.manifest["folders_are_classes"] or self.show_paths
            names = listed([folders[number] for number in lost]) if shown else "data.show_paths=true shows their names"
            text = "No image of %d of the %d folders in data.root is used (%s): see what is left out."
            log.warning(text, len(lost), len(folders), names)
        if empty := self.manifest["empty_classes"]:
            log.warning("No image of the classes %s is left: they are no classes of this training.", listed(empty))

    def _log_intensity(self) -> None:
        source, who = self.manifest["source"], "Values"
        if source is not None:
            _log_values("Values of the sources", source, self.of_sources)
            who = "Values of the targets"
        _log_values(who, self.manifest, self.normalization)

    def _log_leaks(self) -> None:
        """Warn of patients and duplicates in two splits, which the data's own splits can cause."""
        images = self.images
        duplicates = dict(zip(images.kept, images.duplicates[0], strict=True))
        kind = "Near or exact" if images.splits.join_duplicates == "near" else "Exact"
        patients = images.store.columns["patient"]
        for one, several, group_of in (
            ("{} patient is", "{} patients are", patients),
            (f"{kind} copies of {{}} image are", f"{kind} copies of {{}} images are", duplicates),
        ):
            seen = [{group_of[row] for row in images.rows[split_name]} - {""} for split_name in SPLITS]
            repeated = sum(count > 1 for count in Counter(key for keys in seen for key in keys).values())
            if repeated:
                noun = (one if repeated == 1 else several).format(repeated)
                blocks = " A larger data.block_gap keeps alike slices apart." if images.blocks else ""
                log.warning("%s in more than one of training, validation and test.%s", noun, blocks)

    def _log_groups(self) -> None:
        """Warn of patients that duplicates join, and of duplicates that join none."""
        images = self.images
        for sentence in images.groups.sentences():
            log.warning(sentence)
        if images.blocks:
            return
        unused = len(images.kept) - sum(map(len, images.rows.values()))
        if unused:
            log.warning(
                "%d of these images are left out of validation and test, since exact copies are in another split.",
                unused,
            )


def _log_values(who: str, record: Manifest | SourceRecord, normalization: Normalization) -> None:
    """Warn of values that lose their unit, that are clipped, or that use a small part of their range."""
    intensity = Intensity(**record["intensity"])
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
