"""Reading of files that anyone may have written: YAML, JSON and CSV, within limits on size, nesting and expansion.

Every record of a run, a sweep, a search or a data set is read here, since a folder may have been copied from a stranger
or damaged on the way. None of the functions runs code, follows a pipe, or needs much more time or memory than the
limits below allow.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from medsynth.errors import EndCode, InputError

LARGEST_YAML = 2**20  # bytes; a configuration has ten thousand
LARGEST_JSON = 2**26  # bytes
LARGEST_TABLE = 2**28  # bytes
MOST_ENTRIES = 50_000  # of a YAML file, with each alias counted as what it repeats
DEEPEST = 100  # levels of nesting, with those that an alias repeats
LONGEST_NUMBER = 20  # digits of a whole number: more fit neither 64 bits nor a float
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, if PyYAML was compiled with it
_LONG_NUMBER = re.compile(rf"[-+]?[0-9_:]{{{LONGEST_NUMBER + 1},}}\.?[0-9_]*")
_SURROGATE = re.compile(r"\\u[dD][89abAB]")
# All that PyYAML's constructors raise for values that do not fit their tags.
INVALID_YAML = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class UnreadableFile(InputError):
    """A file that cannot be read, or is not read because it would need too much memory or time.

    Args:
        path: of the file.
        description: completes the sentence "<path> ...", such as "is no valid JSON".
    """

    code = EndCode.DATA_ERROR

    def __init__(self, path: Path, description: str):
        super().__init__(f"{path} {description}: copy it again from its source, or leave it out.")
        self.path, self.description = path, description


def load_bytes(path: Path, *, largest: int) -> bytes:
    """Read a regular file of at most ``largest`` bytes.

    Raises:
        UnreadableFile: it is larger, or a folder, a pipe or a device.
        OSError: it is missing or may not be read.
    """
    with _opened(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise _too_large(path, largest)
    return content


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    # Opening a pipe without this flag waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnreadableFile(path, "is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _too_large(path: Path, largest: int) -> UnreadableFile:
    return UnreadableFile(path, f"is larger than the {largest / 2**20:g} MiB that are read of such a file")


def load_text(path: Path, *, largest: int) -> str:
    """Read a text in UTF-8; raises what ``load_bytes`` raises, and UnreadableFile where it is no such text."""
    try:
        return load_bytes(path, largest=largest).decode()
    except UnicodeDecodeError as error:
        raise UnreadableFile(path, "is no text in UTF-8") from error


def load_yaml(path: Path) -> Any:
    """Read a YAML file into plain values; raises what ``load_text`` raises, and UnreadableFile where it is no YAML."""
    text = load_yaml_text(path)
    try:
        return yaml.load(text, Loader=_Loader)
    except INVALID_YAML as error:
        raise UnreadableFile(path, _no_yaml(error)) from error


def load_yaml_text(path: Path) -> str:
    """Read a YAML file as text whose expansion is known to be small, for a loader of another library.

    A few hundred bytes of aliases of aliases would otherwise expand to billions of entries.

    Raises:
        UnreadableFile: it is no YAML, or has too many entries, levels of nesting or digits in a number.
        OSError: it is missing or may not be read.
    """
    text = load_text(path, largest=LARGEST_YAML)
    try:
        excess = yaml_excess(text)
    except INVALID_YAML as error:
        raise UnreadableFile(path, _no_yaml(error)) from error
    if excess is not None:
        raise UnreadableFile(path, excess)
    return text


def yaml_excess(text: str) -> str | None:
    """Describe the limit that a YAML text exceeds once its aliases are expanded; None: it exceeds none.

    Raises:
        yaml.YAMLError: the text is no YAML.
    """
    total = 0
    anchored: dict[str, tuple[int, int]] = {}  # entries and levels of what an alias repeats
    open_nodes: list[tuple[str | None, int, int]] = []  # anchor, entries before it, levels above its deepest entry
    for event in yaml.parse(text, Loader=_Loader):
        levels = 0
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchored:
                return f"has an alias of &{event.anchor[:40]} in itself, or without it"
            entries, levels = anchored[event.anchor]
            total += entries
        elif isinstance(event, yaml.NodeEvent):
            total += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, total - 1, 0))
            elif event.anchor:
                anchored[event.anchor] = (1, 0)
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and _LONG_NUMBER.fullmatch(event.value):
                return f"has a number of more than {LONGEST_NUMBER} digits"
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before, below = open_nodes.pop()
            levels = below + 1
            if anchor:
                anchored[anchor] = (total - before, levels)
        if open_nodes:
            anchor, before, below = open_nodes[-1]
            open_nodes[-1] = (anchor, before, max(below, levels))
        if total > MOST_ENTRIES:
            return f"expands to more than {MOST_ENTRIES:,} entries"
        if len(open_nodes) + levels > DEEPEST:
            return f"is nested deeper than {DEEPEST} levels"
    return None


def load_json(path: Path, *, largest: int = LARGEST_JSON) -> Any:
    """Read a JSON file; raises what ``load_text`` raises, and UnreadableFile where it is no JSON or nested too deep."""
    text = load_text(path, largest=largest)
    try:
        return parsed_json(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"it is nested deeper than {DEEPEST} levels"
        raise UnreadableFile(path, f"is no JSON that can be read ({reason})") from error


def parsed_json(text: str) -> Any:
    """Parse JSON that a stranger may have written.

    Raises:
        ValueError: it is no JSON, is nested too deep, or has a number or a character that cannot be written again.
        RecursionError: it is nested far too deep.
    """
    content = json.loads(text, parse_int=_whole_number)
    level = [content]
    for _ in range(DEEPEST + 1):
        nested = [node for node in level if isinstance(node, dict | list)]
        if not nested:
            break
        level = [value for node in nested for value in (node.values() if isinstance(node, dict) else node)]
    else:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    if _SURROGATE.search(text):
        json.dumps(content, ensure_ascii=False).encode()  # half of a character could not be printed: UnicodeError
    return content


def load_table(path: Path) -> list[list[str]]:
    """Read the rows of a CSV file; what is no UTF-8 is replaced, and a last line without its end is left out.

    Raises:
        UnreadableFile: it is too large, or has a cell of more than 131,072 characters.
        OSError: it is missing or may not be read.
    """
    written = load_bytes(path, largest=LARGEST_TABLE).decode(errors="replace")
    try:
        return parsed_table(written[: written.rfind("\n") + 1])
    except csv.Error as error:
        raise UnreadableFile(path, f"is no table that can be read ({error})") from error


def parsed_table(text: str) -> list[list[str]]:
    """Parse the lines of a CSV file that a stranger may have written.

    Raises:
        csv.Error: a cell has more than 131,072 characters.
    """
    return list(csv.reader(text.replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines()))


def table_rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV file one by one, so that one alone is in memory; what is no UTF-8 is replaced.

    A row with a cell of more than 131,072 characters is yielded as a single replacement character.

    Raises:
        UnreadableFile: the file is too large.
        OSError: it is missing or may not be read.
    """
    with _opened(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_TABLE:
            raise _too_large(path, LARGEST_TABLE)
        text = io.TextIOWrapper(file, errors="replace", newline="")
        rows = csv.reader(line.replace("\0", "\N{REPLACEMENT CHARACTER}") for line in text)
        while True:
            try:
                yield next(rows)
            except StopIteration:
                return
            except csv.Error:
                yield ["\N{REPLACEMENT CHARACTER}"]


def _whole_number(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER + 1:
        raise ValueError(f"a number of more than {LONGEST_NUMBER} digits")
    return int(digits)


def _no_yaml(error: BaseException) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"is no valid YAML{f' (line {mark.line + 1})' if mark else ''}"
