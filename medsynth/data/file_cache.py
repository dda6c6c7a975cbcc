"""The entry of the cache for the files of a root: its key, and how it is filled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from functools import partial
from pathlib import Path

from medsynth.data.cache import Store, cache_folder, hashed, open_store, salt
from medsynth.data.errors import DataError, Reason, ReasonKind
from medsynth.data.folders import listed
from medsynth.data.geometry import Geometry
from medsynth.data.intensity import Normalization
from medsynth.data.preparing import Preparation, Preparer
from medsynth.data.reading import Reader, Record, Scan
from medsynth.data.split import SplitOptions
from medsynth.data.tree import Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileCache:
    """The prepared images of the files that a reader finds.

    Attributes:
        root: the path that the reader reads, as the user named it.
        reader: of the files.
        geometry: raw images of any size -> prepared images.
        normalization: measured values -> [-1, 1].
        of_sources: the same of the sources of pairs.
        unregistered: pairs whose two images do not lie on each other: "raise", "skip" or "allow".
        splits: of which ``patient_pattern`` finds patients in names.
        preparation: how files are read and cached.
    """

    root: str | None
    reader: Reader
    geometry: Geometry
    normalization: Normalization
    of_sources: Normalization
    unregistered: str
    splits: SplitOptions
    preparation: Preparation

    def open(self) -> Store:
        """Return the prepared images, from the cache or prepared now.

        Raises:
            InputError: there is nothing to read, a file cannot be read, or the files do not fit the options.
        """
        folder = cache_folder(self.preparation.cache_dir)
        key = {
            "files": _fingerprint(self.reader.tree),
            "reader": [type(self.reader).__name__, self.reader.key()],
            "geometry": self.geometry.key(),
            "normalization": self.normalization.key(),
            "of_sources": self.of_sources.key(),
            "unregistered": self.unregistered,
            "options": [self.preparation.on_error, self.preparation.cache_dtype, self.splits.patient_pattern],
        }
        return open_store(folder, key, partial(self._prepare, folder))

    def _prepare(self, cache: Path, folder: Path) -> None:
        reader = self.reader
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
            unregistered=self.unregistered,
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
        names = self.reader.tree.names
        number = names.index(record.name) + 1
        return f"File {number} of the {len(names)} in data.root={self.root} (data.show_paths=true shows its name)"


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
