"""Bars, tables and log lines: plain text in a file, drawn on a terminal, no colors with NO_COLOR."""

import logging
import os
import pty
import subprocess
import sys

import pytest

from medsynth import terminal
from medsynth.terminal import Bar, ConsoleHandler, answer, finding, painted, table, track

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


HEAD = ("", "value", "95 % interval", "N real", "better")
ROWS = [("memorization_distance_mini", "0.123", "0.111 to 0.145", "1,000", "baseline"), ("fd", "9", "-", "5", "lower")]


@pytest.fixture
def of_width(monkeypatch):
    """Let standard output be a terminal of some width."""

    def of(width, *, colors=False):
        monkeypatch.setattr(terminal, "is_terminal", lambda stream=None: True)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.delenv("NO_COLOR", raising=False)
        if not colors:
            monkeypatch.setenv("NO_COLOR", "1")

    return of


def test_a_table_fits_the_terminal_and_breaks_no_word(of_width):
    for width in range(31, 90):
        of_width(width)
        lines = table(HEAD, ROWS, left=(0, 4))
        assert max(map(len, lines)) <= width
        words = " ".join(lines).split()
        assert all(part in words for part in ("0.123", "0.111", "0.145", "1,000", "baseline", "lower", "fd")), lines


def test_a_table_takes_no_more_lines_than_its_width_needs(of_width):
    of_width(80)
    assert table(HEAD, ROWS, left=(0, 4)) == [
        "                            value   95 % interval  N real  better",
        "memorization_distance_mini  0.123  0.111 to 0.145   1,000  baseline",
        "fd                              9               -       5  lower",
    ]
    of_width(47)
    assert table(HEAD, ROWS, left=(0, 4)) == [
        "                          95 %      N",
        "               value  interval   real  better",
        "memorization_  0.123  0.111 to  1,000  baseline",
        "distance_mini            0.145",
        "fd                 9         -      5  lower",
    ]
    of_width(30)
    assert table(HEAD, ROWS)[:3] == ["memorization_distance_mini", "  value: 0.123", "  95 % interval: 0.111 to 0.145"]


def test_an_indented_table_fits_too(of_width):
    for width in range(40, 80):
        of_width(width)
        lines = table(HEAD, ROWS, left=(0, 4), indent=6)
        assert max(map(len, lines)) <= width
        assert all(line.startswith(" " * 6) for line in lines)


def test_answers_and_findings_have_colors_on_a_terminal_alone(of_width):
    assert painted(answer("no")) == "no"
    assert "\x1b" not in "".join(table(("a",), [(finding("leak"),)]))
    of_width(80, colors=True)
    assert painted(answer("yes")) == "\x1b[1;32myes\x1b[0m"
    assert painted(answer("no")) == "\x1b[1;31mno\x1b[0m"
    assert painted(answer("not shown")) == "\x1b[33mnot shown\x1b[0m"
    assert table(("a",), [(finding("leak"),)])[1] == "\x1b[1;31mleak\x1b[0m"
    assert painted("plain") == "plain"


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_log_lines_go_to_the_standard_output_of_the_moment(capsys, level):
    handler = ConsoleHandler("another stream")
    handler.emit(logging.LogRecord("some", level, "", 0, "a line", (), None))
    assert capsys.readouterr().out == "a line\n"
