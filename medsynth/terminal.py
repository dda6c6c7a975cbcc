"""Output for people: progress bars, tables and log lines, in colors on a terminal and as plain text elsewhere.

The variable NO_COLOR turns colors off (no-color.org). Rich is imported when something is drawn.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")
SECONDS = 15.0  # between two lines of progress in a file
UNLIMITED = 10_000  # characters: lines are broken by whoever made the table


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


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: Iterable[int] = (0,)) -> list[str]:
    """Align cells in columns and return the lines; on a terminal the head is bold.

    Args:
        head: titles of the columns.
        rows: texts of the cells.
        left: numbers of the columns that are aligned to the left; others are to the right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    left = set(left)
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, title in enumerate(head):
        drawn.add_column(Text(title), justify="left" if number in left else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*map(Text, row))
    colors = is_terminal(sys.stdout) and "NO_COLOR" not in os.environ
    written = io.StringIO()
    Console(file=written, width=UNLIMITED, force_terminal=colors, highlight=False).print(drawn)
    return [line.rstrip() for line in written.getvalue().splitlines()]


class ConsoleHandler(logging.Handler):
    """A handler of logs on standard output as it is now, so that lines stand above a bar; warnings are yellow there."""

    def __init__(self, stream: Any = None) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            text = self.format(record)
            if record.levelno >= logging.WARNING and is_terminal(sys.stdout) and "NO_COLOR" not in os.environ:
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
