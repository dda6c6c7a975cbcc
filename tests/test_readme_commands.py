"""Every command of README.md and docs/ composes.

Those of README.md compose to, end with and write what they did when ``snapshots/readme.json`` was recorded.

What is meant to differ is listed in ``snapshots/differences.py``.
"""

import functools
import json
from fnmatch import fnmatchcase

import pytest

from medsynth.configuration import moved
from tests.snapshots import record
from tests.snapshots.differences import COMMANDS, COMPOSITIONS, FILES
from tests.snapshots.update import RUNS, SNAPSHOT

STORED = json.loads(SNAPSHOT.read_text())
README = record.commands(record.README.read_text())
DOCS = list(dict.fromkeys(command for path in record.DOCS for command in record.commands(path.read_text())))


@pytest.fixture(autouse=True)
def _in_an_empty_folder():
    with record.empty_folder():
        yield


def todays(line):
    """A recorded line in the names of today."""
    key, _, value = line.partition(": ")
    key = ".".join(moved.KEYS.get(part, part) for part in key.split("."))
    return f"{key}: {moved.TARGETS.get(value, value)}"


@functools.cache
def compositions(command):
    """The recorded lines and today's; both empty where nothing is composed."""
    if command in STORED["base"]:
        lines = {*STORED["base"][command]}
    elif "added" not in STORED["commands"][command]:
        return frozenset(), frozenset()
    else:
        entry = STORED["commands"][command]
        lines = {*STORED["base"][record.base_of(command)]} - {*entry["removed"]} | {*entry["added"]}
    today = record.composition(COMMANDS.get(command, command))
    return frozenset(map(todays, lines)), frozenset(today)


def unexplained(lines, side):
    patterns = [pattern for difference in COMPOSITIONS for pattern in getattr(difference, side)]
    return sorted(line for line in lines if not any(fnmatchcase(line, pattern) for pattern in patterns))


def test_every_command_of_readme_has_a_record():
    recorded = {COMMANDS.get(command, command) for command in STORED["commands"]}
    assert not set(README) - recorded, "python -m tests.snapshots.update --new"
    gone = recorded - {*README, *DOCS}
    assert not gone, "recorded, and neither in README nor in docs: name the command that it has instead in COMMANDS"


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in DOCS if command not in STORED["commands"]])
def test_commands_of_the_documentation_compose(command):
    assert record.composition(command) or record.exit_code(command) == 1


@pytest.mark.parametrize("command", [*STORED["base"], *STORED["commands"]])
def test_commands_compose_to_the_same(command):
    before, after = compositions(command)
    lost, gained = unexplained(before - after, "old"), unexplained(after - before, "new")
    lines = [f"- {line}" for line in lost] + [f"+ {line}" for line in gained]
    assert not lines, "not in tests/snapshots/differences.py:\n" + "\n".join(lines)


@pytest.mark.parametrize("command", [c for c, it in STORED["commands"].items() if it["exit_code"] is not None])
def test_commands_on_folders_that_do_not_exist_end_with_the_same_exit_code(command):
    assert record.exit_code(COMMANDS.get(command, command)) == STORED["commands"][command]["exit_code"] == 1


@pytest.mark.parametrize("name", RUNS)
def test_runs_and_sweeps_write_the_same_files(name):
    before = {FILES.get(file, file) for file in STORED["files"][name]} - {""}
    assert {*record.written(*RUNS[name])} == before


def test_every_listed_difference_still_exists():
    seen = {"old": set(), "new": set()}
    for command in [*STORED["base"], *STORED["commands"]]:
        before, after = compositions(command)
        seen["old"] |= before - after
        seen["new"] |= after - before
    for difference in COMPOSITIONS:
        for side, lines in seen.items():
            for pattern in getattr(difference, side):
                assert any(fnmatchcase(line, pattern) for line in lines), f"{difference.reason}: no line is {pattern}"
