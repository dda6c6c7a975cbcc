"""Record what a command composes to, its exit code, and the names of the files that a run writes."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from medsynth.cli import main
from tests.command import TINY

README = Path(__file__).parents[2] / "README.md"
DOCS = sorted((README.parent / "docs").glob("*.md"))
_NO_COMPOSITION = ("help", "completion", "--version")  # words after medsynth that compose nothing
_PROGRAM = re.compile(r"(?:(?:python|uv run) train\.py|medsynth)(?: .+)?", re.DOTALL)
_HYDRA = ("hydra.mode", "hydra.sweeper", "hydra.launcher")  # the rest of Hydra's own has dates and folders in it
_ABSENT = re.compile(r"\b(my/|outputs/2026|multirun/2026)")  # folders of README's examples, which no machine has


def commands(text: str) -> list[str]:
    """Return the commands of medsynth in README's code blocks and in backticks, each once, as one line of plain words.

    Those with a placeholder, ``<folder>``, are left out; ``...`` (for other options) is dropped.
    """
    blocks = re.findall(r"^    (\S.*)", text.replace("\\\n", " "), re.MULTILINE)
    inline = re.findall(r"`((?:python train\.py|medsynth) [^`]*)`", text)
    found: dict[str, None] = {}
    for block in blocks + inline:
        for command in _plain(block):
            found.setdefault(command)
    return list(found)


def _plain(block: str) -> Iterator[str]:
    words = shlex.split(block, comments=True)
    for word in words:
        if word.startswith("srun "):
            yield from _plain(word.removeprefix("srun "))
    text = shlex.join(word for word in words if word != "...")
    if words[1:2] and words[1] in _NO_COMPOSITION:
        return
    if _PROGRAM.fullmatch(text) and len(words) > 2 and "<" not in text and " COMMAND" not in text:
        yield text


def base_of(command: str) -> str:
    """Return the same program without options, ``medsynth plan``; what a command is compared with."""
    return f"medsynth {_split(command)[0]}"


def composition(command: str) -> list[str]:
    """Return the composed configuration as sorted lines ``key: value``; of a sweep that of its first job.

    Empty: the command prints something else, or is refused since it names a folder that does not exist.
    """
    program, arguments = _split(command)
    options, arguments = [word for word in arguments if word.startswith("-")], _first_job(arguments)
    extra = ["run_dir=RUN"] if program == "train" else []
    if "--help" in options or "--cfg" in options:
        return []
    code, out = execute([program, *arguments, *extra, "--cfg=all", "--resolve"])
    if code and _ABSENT.search(command):
        return []
    if code:
        raise AssertionError(f"{command}: cannot be composed: {out}")
    lines = (f"{key}: {value}" for key, value in _flat(OmegaConf.to_container(OmegaConf.create(out))))
    return sorted(line for line in lines if not line.startswith("hydra.") or line.startswith(_HYDRA))


def _split(command: str) -> tuple[str, list[str]]:
    words = shlex.split(command)
    if "train.py" in words:
        return "train", words[words.index("train.py") + 1 :]
    return words[1], words[2:]


def _first_job(arguments: Sequence[str]) -> list[str]:
    if not {"-m", "--multirun"} & set(arguments):
        return [word for word in arguments if not word.startswith("-")]
    overrides = OverridesParser.create().parse_overrides([word for word in arguments if not word.startswith("-")])
    choices = (next(o.sweep_string_iterator()) if o.is_sweep_override() else None for o in overrides)
    return [
        str(override.input_line) if choice is None else f"{override.get_key_element()}={choice}"
        for override, choice in zip(overrides, choices, strict=True)
    ]


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list) and any(isinstance(value, Mapping) for value in node):
        yield from _flat(dict(enumerate(node)), path)
    else:
        yield path, _neutral(node)


def _neutral(value: Any) -> str:
    """Replace what depends on the machine and the day."""
    text = str(value).replace(str(Path.cwd()), "HERE").replace(str(Path.home()), "HOME")
    return re.sub(r"\d{4}-\d\d-\d\d([/_]\d\d-\d\d-\d\d)?", "DATE", text)


def exit_code(command: str) -> int | None:
    """Return the exit code of a command that names folders which do not exist; None: it names none, and would train."""
    if not _ABSENT.search(command):
        return None
    program, arguments = _split(command)
    return execute([program, *arguments])[0]


def written(*arguments: str) -> list[str]:
    """Run the smallest training with ``arguments`` and return the names of the files that it writes."""
    code, out = execute(["train", *arguments, *TINY])
    assert code == 0, out
    files = (path for path in Path.cwd().rglob("*") if path.is_file())
    return sorted(_neutral(path.relative_to(Path.cwd())) for path in files)


@contextlib.contextmanager
def empty_folder() -> Iterator[None]:
    """Work in a folder of its own, deleted at the end."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


def execute(arguments: Sequence[str]) -> tuple[int, str]:
    """Run ``medsynth <arguments>`` in this process; return its exit code and what it printed."""
    GlobalHydra.instance().clear()
    printed, errors = io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        mock.patch.object(sys, "argv", ["medsynth", *arguments]),
        mock.patch.dict(os.environ, {"HYDRA_FULL_ERROR": "0"}),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    code = code if isinstance(code, int) else int(code is not None)
    return code, printed.getvalue() if code == 0 else errors.getvalue()
