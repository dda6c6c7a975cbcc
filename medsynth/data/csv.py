"""Images that a table lists, with their classes, patients and splits: one row each, separated by , ; or tabs."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from medsynth.contracts import InputError
from medsynth.data.image_file import ENDINGS, decode
from medsynth.data.reading import Found, Item, Picture, Unreadable
from medsynth.data.table import natural, records
from medsynth.data.tree import open_tree, outside

COLUMNS = ("path", "label", "patient", "split")
SPLITS = {"": "", "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SHOWN = 5  # lines of the table that a message names for each mistake


class Row(NamedTuple):
    """One image, as the table has it; "" where there is nothing."""

    line: int
    path: str
    label: str
    patient: str
    split: str


class Csv:
    """A reader of PNG, JPEG, TIFF or BMP images that a table lists; see medsynth.data.reading.

    All mistakes of the table are told at once, by the numbers of its lines.

    Args:
        root: the folder or zip archive of the images.
        table: the table: a name below ``root``, or a path of its own. UTF-8, with the names of the columns on top.
        path: the column of the images' names, relative to ``root``.
        label: that of their classes; they are sorted, numbers by value. None: no labels.
        patient: that of their patients, so that no patient is on both sides of a split. None: not known.
        split: that of train, val and test. None: not given.

    The columns ``label``, ``patient`` and ``split`` may be missing where they have these very names.

    Raises:
        InputError: ``root`` or the table cannot be opened.
    """

    def __init__(
        self,
        root: str | None,
        *,
        table: str = "table.csv",
        path: str = "path",
        label: str | None = "label",
        patient: str | None = "patient",
        split: str | None = "split",
    ) -> None:
        self.tree = open_tree(root, example="data=csv data.root=/path/to/images data.reader.table=/path/to/table.csv")
        self.table = table
        self.columns = dict(zip(COLUMNS, (path, label, patient, split), strict=True))

    def find(self) -> Found:
        """One item for each row.

        Raises:
            InputError: the table cannot be understood, or rows cannot be used; all of them are counted.
        """
        rows = self._rows()
        self._check(rows)
        listed = {row.path for row in rows}
        unlisted = sum(name.lower().endswith(ENDINGS) and name not in listed for name in self.tree.names)
        return Found(
            [Item(row.path, class_name=row.label, patient=row.patient, split=SPLITS[row.split]) for row in rows],
            class_names=tuple(sorted({row.label for row in rows} - {""}, key=natural)),
            left_out=+Counter({"not in the table": unlisted}),
        )

    def read(self, item: Item) -> tuple[list[Picture], Counter[str]]:
        """The one picture of a file. Raises Unreadable: it is damaged, or no image."""
        return [decode(self.tree.read(item.name))], Counter()

    def key(self) -> dict[str, object]:
        """All options, and what is in the table, which may lie elsewhere than the images."""
        return {"columns": self.columns, "table": hashlib.blake2b(self._content(), digest_size=16).hexdigest()}

    def _content(self) -> bytes:
        try:
            if self.table in self.tree.names:
                return self.tree.read(self.table)
            return Path(self.table).expanduser().read_bytes()
        except (OSError, Unreadable) as error:
            raise InputError(
                f"data.reader.table={self.table} cannot be read, neither in data.root={self.tree.root} nor as a path "
                f"of its own: it names a table of the images, separated by commas, semicolons or tabs."
            ) from error

    def _rows(self) -> list[Row]:
        """The table without its header; names of files and splits as the rest of this file has them."""
        (_, header), *body = records(self._content(), named=self.table, wanted=self.columns["path"])
        positions = self._positions(header)
        odd = [line for line, fields in body if len(fields) != len(header)]
        if odd:
            raise InputError(
                f"data.reader.table={self.table} has {_lines(odd)} with more or fewer columns than its header."
            )
        if not body:
            raise InputError(f"data.reader.table={self.table} has no rows below its header: one for each image.")
        rows = []
        for line, fields in body:
            row = Row(line, *("" if position is None else fields[position] for position in positions))
            rows.append(row._replace(path=_normal(row.path), split=row.split.lower()))
        return rows

    def _positions(self, header: list[str]) -> list[int | None]:
        """Where each of COLUMNS is in the table."""
        # Without a header the first line is that of an image, whose name is not to be shown.
        if any(name.lower().endswith(ENDINGS) for name in header):
            raise InputError(f"data.reader.table={self.table} has no header: its first line names the columns.")
        names = ", ".join(header)
        wanted = {column: name for column, name in self.columns.items() if name is not None}
        missing = [column for column in wanted if wanted[column] not in header]
        missing = [column for column in missing if column == "path" or wanted[column] != column]
        if missing:
            options = " and ".join(f"data.reader.{column}={wanted[column]}" for column in missing)
            raise InputError(f"{options} names no column of data.reader.table={self.table}, which has {names}.")
        named = [name for name in header if name]
        if len(set(named)) < len(named):
            raise InputError(f"data.reader.table={self.table} names a column twice: {names}.")
        return [header.index(name) if (name := wanted.get(column)) in header else None for column in COLUMNS]

    def _check(self, rows: list[Row]) -> None:
        """Raise InputError with the lines of all rows that cannot be used."""
        mistakes = defaultdict(list)
        names, seen = set(self.tree.names), set()
        for row in rows:
            if mistake := _mistake(row, names, seen):
                mistakes[mistake].append(row.line)
            seen.add(row.path)
        for column in COLUMNS[1:]:
            empty = [row.line for row in rows if not getattr(row, column)]
            if len(empty) < len(rows):
                mistakes[f"have no {column}, which others have"] += empty
        told = [f"{_lines(lines)} {mistake}" for mistake, lines in mistakes.items() if lines]
        if told:
            raise InputError(
                f"data.reader.table={self.table} does not fit data.root={self.tree.root}: {'; '.join(told)}; "
                f"correct the table or add the files."
            )


def _mistake(row: Row, names: set[str], seen: set[str]) -> str:
    if not row.path:
        return "name no file"
    if outside(row.path):
        return "lead out of data.root, below which all names are"
    if row.path not in names:
        return "name files that are not there"
    if not row.path.lower().endswith(ENDINGS):
        return f"name files that are no images ({', '.join(ENDINGS)})"
    if row.path in seen:
        return "name a file for the second time"
    return "" if row.split in SPLITS else "have a split that is none of train, val and test"


def _normal(path: str) -> str:
    """As the tree names it: forward slashes, no ``./``."""
    return str(PurePosixPath(path.replace("\\", "/"))) if path else ""


def _lines(lines: list[int]) -> str:
    """``3 rows (lines 2, 5, 9)``"""
    shown = ", ".join(map(str, lines[:_SHOWN])) + (" ..." if len(lines) > _SHOWN else "")
    return f"{len(lines)} rows (lines {shown})" if len(lines) > 1 else f"1 row (line {shown})"
