"""Bars, tables and log lines: plain text in a file, drawn on a terminal, no colors with NO_COLOR."""

import logging
import os
import pty
import subprocess
import sys

import pytest

from medsynth import terminal
from medsynth.terminal import Bar, ConsoleHandler, table, track

PROGRAM = """
import logging, sys
from medsynth.terminal import Bar, ConsoleHandler, table
log = logging.getLogger("some")
log.addHandler(ConsoleHandler())
with Bar(40, "training", "img") as bar:
    bar.show(10, {"D": "1.5"})
    log.warning("something happened")
    bar.show(40)
print(*table(["name", "count"], [["a", "1"]]), sep="|")
"""


def on_a_terminal(**environment):
    """What a program draws on a pseudo terminal."""
    ours, theirs = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM", "COLUMNS")}
    variables |= {"TERM": "xterm", "COLUMNS": "120", **environment}
    program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=theirs, stderr=theirs, env=variables)
    os.close(theirs)
    drawn = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        drawn += piece
    program.wait()
    os.close(ours)
    assert program.returncode == 0, drawn
    return drawn.decode()


def test_a_terminal_has_a_bar_with_log_lines_above_it():
    drawn = on_a_terminal()
    before, _, after = drawn.partition("something happened")
    assert "\x1b[33m" in before, "warnings are yellow"
    assert "━" in after, "the bar is drawn again below the line"
    assert "40/40 img" in after
    assert "\x1b[1m" in after, "the head of the table is bold"


def test_no_color():
    drawn = on_a_terminal(NO_COLOR="1")
    assert "something happened" in drawn
    assert not any(f"\x1b[{code}m" in drawn for code in (1, 31, 33, 36)), drawn


def test_a_file_has_lines_without_control_characters(capsys, monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(now))
    with Bar(100, "training", "img", initial=20, seconds=15) as bar:
        bar.show(40, {"D": "1.5"})
        bar.show(60, {"D": "1.4"})
        bar.rename("validating")
        bar.show(80)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("training: 60 of 100 img (60%), ")
    assert lines[0].endswith("left, D 1.4")
    assert lines[-1].startswith("validating: 80 of 100 img (80%)")
    assert "\x1b" not in "".join(lines)
    assert "\r" not in "".join(lines)


def test_short_work_writes_nothing_to_a_file(capsys):
    assert list(track([1, 2, 3], "reading", total=3, unit="files")) == [1, 2, 3]
    Bar(3, "training", "img", enabled=False).close()
    assert capsys.readouterr() == ("", "")


def test_tables_are_aligned():
    lines = table(["name", "count"], [["a", "1"], ["[bold]long", "1,000"]])
    assert lines == ["name        count", "a               1", "[bold]long  1,000"]


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_log_lines_go_to_the_standard_output_of_the_moment(capsys, level):
    handler = ConsoleHandler("another stream")
    handler.emit(logging.LogRecord("some", level, "", 0, "a line", (), None))
    assert capsys.readouterr().out == "a line\n"
