"""Reader of images that a table lists with classes, patients and splits; columns are separated by , ; or tabs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter, defaultdict
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from medsynth.data.class_column import no_classes
from medsynth.data.errors import DataError, Reason, ReasonKind, Unreadable
from medsynth.data.folders import wrapper
from medsynth.data.image_file import ENDINGS, decode
from medsynth.data.layout import doubt_about_table
from medsynth.data.other_formats import not_read
from medsynth.data.pair_files import read_pair
from medsynth.data.reading import RawImage, Record, Roles, Scan
from medsynth.data.table import natural, table_rows
from medsynth.data.tree import Tree, open_tree, outside
from medsynth.errors import InputError

COLUMNS = ("path", "label", "patient", "split")
SPLITS = {"": "", "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
NOT_LISTED = Reason(ReasonKind.UNMATCHED, "not in the table")
_SHOWN = 5  # line numbers that a message names for each mistake


class Row(NamedTuple):
    """One image as the table describes it; "" where the table has no value."""

    line: int
    path: str
    label: str
    patient: str
    split: str
    target: str = ""
    mask: str = ""

    @property
    def paths(self) -> list[str]:
        """All files of the row."""
        return [path for path in (self.path, self.target, self.mask) if path]


@dataclasses.dataclass
class Csv:
    """A reader of PNG, JPEG, TIFF or BMP images that a table lists; conf/data/csv.yaml describes its options.

    The first line of the table names its columns. ``label``, ``patient`` and ``split`` may be missing unless an option
    gives them another name. Classes are sorted, numbers by value. All mistakes in the table are reported at once, by
    line numbers. With ``target_column`` a row is a pair for translation, of which ``path`` is the source.

    Raises:
        InputError: ``root`` cannot be opened.
    """

    root: str | None
    _: dataclasses.KW_ONLY
    table: str = "table.csv"
    path: str = "path"
    label: str | None = "label"
    patient: str | None = "patient"
    split: str | None = "split"
    target_column: str | None = None
    mask_column: str | None = None

    def __post_init__(self) -> None:
        example = "data=csv data.root=/path/to/images data.reader.table=/path/to/table.csv"
        self.tree: Tree = open_tree(self.root, example=example)
        self._wrapper = wrapper(self.tree.names)
        self.columns: dict[str, str | None] = {column: getattr(self, column) for column in COLUMNS}
        self.files = {
            name: column for name, column in {"target": self.target_column, "mask": self.mask_column}.items() if column
        }
        if "mask" in self.files and "target" not in self.files:
            raise InputError("data.reader.mask_column= is of pairs: name the column of targets too, by target_column=.")

    def scan(self) -> Scan:
        """Read the table, one record for each row.

        Raises:
            DataError: the table cannot be understood, or some of its rows cannot be used.
        """
        rows = self._rows()
        self._check(rows)
        listed = {path for row in rows for path in row.paths}
        tables = (self.table, self._wrapper + self.table)
        others = {name for name in self.tree.names if name not in listed and name not in tables}
        unlisted = {name for name in others if name.lower().endswith(ENDINGS)}
        known = {name: any(map(attrgetter(name), rows)) for name in COLUMNS[1:]}
        doubt = doubt_about_table(
            [row.path for row in rows],
            has_patients=known["patient"] or self.patient is None,
            has_splits=known["split"] or self.split is None,
        )
        classes, patients, splits = (f"the column {self.columns[name]}" if known[name] else "" for name in known)
        return Scan(
            [
                Record(
                    row.path,
                    class_name=row.label,
                    patient=row.patient,
                    split=SPLITS[row.split],
                    partner=row.target,
                    mask=row.mask,
                )
                for row in rows
            ],
            paired="target" in self.files,
            masked="mask" in self.files,
            class_names=tuple(sorted({row.label for row in rows} - {""}, key=natural)),
            roles=Roles(classes, patients, splits, doubt),
            left_out=+(Counter({NOT_LISTED: len(unlisted)}) + not_read(others - unlisted)),
        )

    def read(self, record: Record) -> tuple[list[RawImage], Counter[Reason]]:
        """Decode the one image of a file, or a pair; see ``reading.Reader``."""
        return [read_pair(self.tree, record) if record.partner else decode(self.tree.read(record.name))], Counter()

    def key(self) -> dict[str, Any]:
        """Return the columns and a digest of the table, which may be elsewhere than the images."""
        return {
            "columns": self.columns,
            "files": self.files,
            "table": hashlib.blake2b(self._content(), digest_size=16).hexdigest(),
        }

    def _content(self) -> bytes:
        try:
            for name in (self.table, self._wrapper + self.table):
                if name in self.tree.names:
                    return self.tree.read(name)
            return Path(self.table).expanduser().read_bytes()
        except (OSError, Unreadable) as error:
            raise DataError(
                f"data.reader.table={self.table} cannot be read, neither in data.root={self.tree.root} nor as a path: "
                f"give the table that lists the images, with columns separated by commas, semicolons or tabs."
            ) from error

    def _rows(self) -> list[Row]:
        """Return the rows below the header, with normal file names and lower-case splits."""
        (_, header), *body = table_rows(self._content(), name=self.table, column=self.path)
        positions = self._positions(header)
        odd = [line for line, fields in body if len(fields) != len(header)]
        if odd:
            raise DataError(
                f"data.reader.table={self.table} has {_lines(odd)} with more or fewer columns than its header: "
                "write one field for each column, in quotes where it holds a separator."
            )
        if not body:
            raise DataError(f"data.reader.table={self.table} has no rows below its header: add one for each image.")
        rows, names = [], set(self.tree.names)
        for line, fields in body:
            path, label, patient, split = ("" if position is None else fields[position] for position in positions)
            others = {name: self._file(fields[header.index(column)], names) for name, column in self.files.items()}
            rows.append(Row(line, self._file(path, names), label, patient, split.lower(), **others))
        return rows

    def _file(self, path: str, names: set[str]) -> str:
        """Return the name of a file of the table, below the folders around all files where it is there."""
        path = _normal(path)
        return self._wrapper + path if path not in names and self._wrapper + path in names else path

    def _positions(self, header: list[str]) -> list[int | None]:
        """Return the position of each of COLUMNS in the table."""
        # The first line of a table without a header names an image, which must not be shown.
        if any(name.lower().endswith(ENDINGS) for name in header):
            raise DataError(
                f"data.reader.table={self.table} has no header: its first line must name the "
                "columns, as path,label,patient,split."
            )
        names = ", ".join(header)
        asked = {column: name for column, name in self.columns.items() if name is not None}
        missing = [column for column in asked if asked[column] not in header]
        missing = [column for column in missing if column == "path" or asked[column] != column]
        without = [name for name, column in self.files.items() if column not in header]
        if missing or without:
            named = [f"data.reader.{column}={asked[column]}" for column in missing]
            named += [f"data.reader.{name}_column={self.files[name]}" for name in without]
            options = " and ".join(named)
            raise DataError(
                f"{options} names no column of data.reader.table={self.table}, which has {names}: name one of them."
            )
        present = [name for name in header if name]
        if len(set(present)) < len(present):
            raise DataError(f"data.reader.table={self.table} names a column twice: {names}. Rename one of them.")
        return [header.index(name) if (name := asked.get(column)) in header else None for column in COLUMNS]

    def _check(self, rows: list[Row]) -> None:
        """Raise DataError with the lines of all rows that cannot be used."""
        mistakes: dict[str, list[int]] = defaultdict(list)
        names, seen = set(self.tree.names), set[str]()
        for row in rows:
            wrong = (self._misplaced(path, names) for path in (row.path, *(getattr(row, name) for name in self.files)))
            if mistake := next(filter(None, wrong), "") or _mistake(row, seen):
                mistakes[mistake].append(row.line)
            seen.add(row.path)
        for column in COLUMNS[1:]:
            empty = [row.line for row in rows if not getattr(row, column)]
            if len(empty) < len(rows):
                mistakes[f"have no {column} although others do"] += empty
        reports = [f"{_lines(lines)} {mistake}" for mistake, lines in mistakes.items() if lines]
        if reports:
            raise DataError(
                f"data.reader.table={self.table} does not fit data.root={self.tree.root}: {'; '.join(reports)}; "
                f"correct the table or add the files."
            )
        self._check_labels([row.label for row in rows if row.label])

    def _check_labels(self, labels: list[str]) -> None:
        """Raise DataError if the labels are no classes."""
        if mistake := no_classes(labels):
            raise DataError(
                f"The column {self.label} of data.reader.table={self.table} {mistake}, or type data.reader.label=null."
            )

    def _misplaced(self, path: str, names: set[str]) -> str:
        """Return why a path names no file of the tree, as a predicate of "3 rows ..."; "" if it does."""
        if path in names:
            return ""
        if not path:
            return "name no file"
        root = Path(self.tree.root).expanduser().resolve()
        beside = Path(self.table).expanduser().parent
        known = [(place / path).resolve() for place in (root, beside, root.parent) if (place / path).is_file()]
        if not known:
            return "lead out of data.root" if outside(path) else "name files that do not exist"
        if not known[0].is_relative_to(root):
            return (
                "name files outside of data.root: give the folder that holds all of them as data.root=, and write "
                "paths below it"
            )
        if outside(path) or (root / path).resolve() != known[0]:
            return "name files of data.root by other paths than those below it: write them as folder/image.png"
        return "name hidden files (a name in the path begins with a dot), which are not read: rename them"


class GeneratedTable(Csv):
    """A reader of a table that ``medsynth generate`` wrote: its labels are classes, whatever they look like."""

    def _check_labels(self, labels: list[str]) -> None:
        """Accept all labels."""


def _mistake(row: Row, seen: set[str]) -> str:
    """Return what is wrong with a row that names a file, as a predicate of "3 rows ..."; "" if it can be used."""
    if not all(path.lower().endswith(ENDINGS) for path in row.paths):
        return f"name files other than images ({', '.join(ENDINGS)})"
    if row.path in seen:
        return "name a file for the second time"
    return "" if row.split in SPLITS else "have a split other than train, val and test"


def _normal(path: str) -> str:
    """Return a path as the tree names it: with forward slashes, without ``./``."""
    return str(PurePosixPath(path.replace("\\", "/"))) if path else ""


def _lines(lines: list[int]) -> str:
    """Format line numbers as ``3 rows (lines 2, 5, 9)``."""
    shown = ", ".join(map(str, lines[:_SHOWN])) + (" ..." if len(lines) > _SHOWN else "")
    return f"{len(lines)} rows (lines {shown})" if len(lines) > 1 else f"1 row (line {shown})"
