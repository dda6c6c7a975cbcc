"""A hook of mkdocs: the page of all options, generated from the comments of conf/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mkdocs.structure.files import File, Files

from medsynth.configuration.compose import conf_folder
from medsynth.configuration.option_help import comments

TITLE = """# All options

Generated from the comments in `conf/`. A command's own options come first, then those of each choice, as
`group.option=value`. `medsynth help COMMAND` prints the same; `python train.py --cfg job` prints what a command
amounts to.
"""


def on_files(files: Files, config: Any) -> Files:
    """Add the page to those of docs/."""
    files.append(File.generated(config, "options.md", content="\n".join(option_page())))
    return files


def option_page() -> Iterator[str]:
    """Yield the lines of the page: commands, then groups in alphabetical order."""
    conf = conf_folder()
    yield TITLE
    yield "## Commands\n"
    for path in sorted(conf.glob("*.yaml")):
        yield f"### medsynth {path.stem}\n"
        yield from _table(path, "")
    for folder in sorted(path for path in conf.iterdir() if path.is_dir()):
        yield f"## {folder.name}\n"
        shared = sorted(folder.glob("base/*.yaml"))
        for path in [*sorted(folder.glob("*.yaml")), *shared]:
            name = path.relative_to(folder).with_suffix("").as_posix()
            yield f"### {folder.name}={name}\n" if path not in shared else f"### shared by {folder.name}: {path.stem}\n"
            yield from _header(path)
            yield from _table(path, "" if "@package _global_" in path.read_text() else f"{folder.name}.")


def _header(path: Path) -> Iterator[str]:
    """Yield the comment at the beginning of a file."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    text = " ".join(line for line in lines if line and not line.startswith("@package"))
    if text:
        yield f"{_escaped(text)}\n"


def _table(path: Path, prefix: str) -> Iterator[str]:
    described = {key: text for key, text in comments(path).items() if text}
    values = _leaves(yaml.safe_load(path.read_text()) or {})
    if not described:
        return
    yield "| option | default | meaning |"
    yield "|---|---|---|"
    for key, text in described.items():
        default = f"`{values[key]}`" if key in values else ""
        yield f"| `{prefix}{key}` | {default} | {_escaped(text)} |"
    yield ""


def _leaves(node: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in node.items():
        if isinstance(value, dict) and value:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            word = (
                {None: "null", True: "true", False: "false"}.get(value) if not isinstance(value, list | dict) else None
            )
            found[f"{prefix}{key}"] = str(value if word is None or type(value) in (int, float) else word).replace(
                "|", "\\|"
            )
    return found


def _escaped(text: str) -> str:
    """Keep what looks like a tag, a link or a column as it is."""
    return re.sub(r"([<>|\[\]*_])", r"\\\1", text)
