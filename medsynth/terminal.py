"""Output for people: progress bars, tables and log lines, in colors on a terminal and as plain text elsewhere.

The variable NO_COLOR turns colors off (no-color.org). Rich is imported when something is drawn.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")
SECONDS = 15.0  # between two lines of progress in a file
UNLIMITED = 10_000  # characters
_GAP = 2  # characters between two columns
_LONG_NAME = 12  # characters, from which on a name may be broken


def is_terminal(stream: TextIO | None = None) -> bool:
    """Tell whether ``stream`` (standard error by default) is a terminal on which a line can be drawn again."""
    stream = sys.stderr if stream is None else stream
    return bool(getattr(stream, "isatty", bool)()) and os.environ.get("TERM") != "dumb"


class Bar:
    """A progress bar on standard error; where that is no terminal, a line every ``seconds`` seconds.

    Lines that are printed or logged meanwhile stand above the bar.

    Args:
        total: units of the whole.
        title: in front of the bar.
        unit: of what is counted, ``img``.
        initial: units that are done already.
        seconds: between two lines in a file.
        enabled: show something.
        lasting: the finished bar stays.
        quiet_in_files: write nothing where standard error is no terminal.
    """

    def __init__(
        self,
        total: int,
        title: str,
        unit: str,
        *,
        initial: int = 0,
        seconds: float = SECONDS,
        enabled: bool = True,
        lasting: bool = True,
        quiet_in_files: bool = False,
    ) -> None:
        self.total, self.title, self.unit = total, title, unit
        self.done = initial
        self.values: dict[str, str] = {}
        self._initial, self._seconds = initial, seconds
        self._start = self._written = time.monotonic()
        terminal = is_terminal()
        self._progress = _drawn(transient=not lasting) if enabled and terminal else None
        self._writes = enabled and not terminal and not quiet_in_files
        if self._progress is not None:
            self._task = self._progress.add_task(title, total=total, completed=initial, unit=unit, values="")
            self._progress.start()

    def __enter__(self) -> Bar:
        """Return the bar, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the bar."""
        self.close()

    def advance(self, count: int = 1) -> None:
        """Count further units."""
        self.show(self.done + count)

    def show(self, done: int, values: Mapping[str, str] | None = None) -> None:
        """Show that ``done`` units are done, and ``values`` behind the bar."""
        self.done = done
        self.values |= values or {}
        if self._progress is not None:
            self._progress.update(self._task, completed=done, values=_joined(self.values))
        elif self._writes and time.monotonic() - self._written >= self._seconds:
            self._write()

    def rename(self, title: str) -> None:
        """Change the title, as when a training validates."""
        self.title = title
        if self._progress is not None:
            self._progress.update(self._task, description=title)

    def close(self) -> None:
        """Draw the last state and leave it standing."""
        if self._progress is not None:
            self._progress.stop()
        elif self._writes:
            self._write()
        self._progress, self._writes = None, False

    def _write(self) -> None:
        self._written = time.monotonic()
        elapsed = self._written - self._start
        speed = (self.done - self._initial) / elapsed if elapsed > 0 else 0.0
        left = f", {_clock((self.total - self.done) / speed)} left" if speed and self.done < self.total else ""
        share = f" ({self.done / self.total:.0%})" if self.total else ""
        count = f"{self.done:,} of {self.total:,} {self.unit}{share}"
        values = "".join(f", {name} {value}" for name, value in self.values.items())
        print(f"{self.title}: {count}, {speed:.3g} {self.unit}/s{left}{values}", file=sys.stderr, flush=True)


def track(items: Iterable[Item], title: str, *, total: int, unit: str, lasting: bool = False) -> Iterator[Item]:
    """Yield ``items`` and show on a terminal how many of ``total`` were taken; in a file nothing is written."""
    with Bar(total, title, unit, lasting=lasting, quiet_in_files=True) as bar:
        for item in items:
            yield item
            bar.advance()


class Styled(str):
    """Text of a cell or line that has a style of Rich where there are colors; elsewhere it is its text alone."""

    style: str

    def __new__(cls, text: str, style: str) -> Styled:
        """Return ``text`` with ``style``: ``green``, ``bold red``."""
        styled = super().__new__(cls, text)
        styled.style = style
        return styled


def answer(text: str) -> str:
    """Return an answer in its color: yes in green, no in red, any other one in yellow."""
    word = text.strip().partition(" ")[0]
    return Styled(text, {"yes": "bold green", "no": "bold red"}.get(word, "yellow"))


def finding(text: str) -> str:
    """Return what the reader should look at, in red."""
    return Styled(text, "bold red")


def painted(text: str) -> str:
    """Return the text of a line with the colors of its style, where standard output has colors."""
    style = getattr(text, "style", "")
    if not style or not _has_colors():
        return str(text)
    from rich.console import Console
    from rich.text import Text

    written = io.StringIO()
    Console(file=written, width=UNLIMITED, force_terminal=True, highlight=False).print(Text(text, style), end="")
    return written.getvalue()


def line_width(most: int) -> int:
    """Return the characters of a line on standard output: ``most``, or what a terminal has, if less."""
    return min(most, shutil.get_terminal_size().columns) if is_terminal(sys.stdout) else most


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, left: Iterable[int] = (0,), indent: int = 0
) -> list[str]:
    """Align cells in columns and return the lines; on a terminal the head is bold, and cells have their styles.

    On a terminal that is narrower than the table, cells are broken between words, names behind an underscore; where
    this is not enough either, each row is a block with a line for each column.

    Args:
        head: titles of the columns.
        rows: texts of the cells, ``Styled`` or not.
        left: numbers of the columns that are aligned to the left; others are to the right.
        indent: spaces in front of each line.
    """
    return [" " * indent + line for line in _lines(head, rows, set(left), line_width(UNLIMITED) - indent)]


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]], left: set[int], width: int) -> list[str]:
    lines = [tuple(row) for row in rows]
    if _total(_widths([head, *lines], len), _GAP) <= width:
        return _drawn_table(head, lines, left, _widths([head, *lines], len), _GAP)
    for split in (False, True):
        cells = [tuple(_split(cell) if split else cell for cell in row) for row in lines]
        least = _widths([head, *cells], _longest_word)
        gap = next((gap for gap in (_GAP, 1) if _total(least, gap) <= width), None)
        if gap:
            return _drawn_table(head, cells, left, _widened(least, [head, *cells], width, gap), gap)
    return [line for row in lines for line in _block(head, row)]


def _drawn_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: set[int], widths: Sequence[int], gap: int
) -> list[str]:
    """Draw a table with Rich."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for number, title in enumerate(head):
        drawn.add_column(Text(title), justify="left" if number in left else "right", width=widths[number])
    for row in rows:
        drawn.add_row(*(Text(cell, getattr(cell, "style", "")) for cell in row))
    written = io.StringIO()
    Console(file=written, width=_total(widths, gap), force_terminal=_has_colors(), highlight=False).print(drawn)
    return [line.rstrip() for line in written.getvalue().splitlines()]


def _block(head: Sequence[str], row: Sequence[str]) -> list[str]:
    """Return a row as lines: the first cell, and each other one with its title."""
    first, *others = (painted(cell) for cell in row)
    return [first, *(f"  {title}: {cell}" for title, cell in zip(head[1:], others, strict=True) if cell)]


def _split(cell: str) -> str:
    """Break a long name behind the underscore that is nearest to its middle."""
    places = [place + 1 for place, letter in enumerate(cell[:-1]) if letter == "_"]
    if " " in cell.strip() or len(cell) <= _LONG_NAME or not places:
        return cell
    middle = min(places, key=lambda place: abs(place - len(cell) / 2))
    return Styled(f"{cell[:middle]}\n{cell[middle:]}", getattr(cell, "style", ""))


def _widths(rows: Sequence[Sequence[str]], measure: Callable[[str], int]) -> list[int]:
    return [max(map(measure, column)) for column in zip(*rows, strict=True)]


def _widened(least: Sequence[int], rows: Sequence[Sequence[str]], width: int, gap: int) -> list[int]:
    """Return widths of columns for ``width`` characters in which as many columns as can be need no second line."""
    widths, left_over = list(least), width - _total(least, gap)
    longest = _widths(rows, lambda text: max(map(len, text.split("\n"))))
    missing = [whole - part for whole, part in zip(longest, least, strict=True)]
    for column in sorted(range(len(widths)), key=missing.__getitem__):
        added = min(missing[column], left_over)
        widths[column], left_over = widths[column] + added, left_over - added
    return widths


def _longest_word(text: str) -> int:
    return max((len(word) for word in text.split()), default=0)


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _has_colors() -> bool:
    return is_terminal(sys.stdout) and "NO_COLOR" not in os.environ


class ConsoleHandler(logging.Handler):
    """A handler of logs on standard output as it is now, so that lines stand above a bar; warnings are yellow there."""

    def __init__(self, stream: Any = None) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            text = self.format(record)
            if record.levelno >= logging.WARNING and _has_colors():
                text = f"\x1b[33m{text}\x1b[0m"
            print(text, file=sys.stdout, flush=True)
        except Exception:  # as all handlers do: a log line ends no training
            self.handleError(record)


def _drawn(*, transient: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[values]}", style="cyan"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        refresh_per_second=4,
        transient=transient,
    )


def _joined(values: Mapping[str, str]) -> str:
    return "  ".join(f"{name} {value}" for name, value in values.items())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
