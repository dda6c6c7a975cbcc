"""Help texts of the commands: each option with its default and the comment that describes it in conf/."""

from __future__ import annotations

import dataclasses
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.compose import compose, conf_folder, is_group, own_folders

_WIDTH = 110  # columns of a help text
_KEY_COLUMN = 34


@dataclasses.dataclass(frozen=True)
class Option:
    """One option: its key as typed, its default as written, and its description."""

    key: str
    default: str
    description: str


def option_help(command: str, *keys: str) -> str:
    """Describe options of ``command`` for its help text, a line or more each.

    conf/ calls this as ``${option_help:train,max_images,seed}``. Choices on the command line (``data=dicom``) count.

    Args:
        command: the name of its file in conf/.
        keys: options, or groups of them such as ``data``; none: all of the command's own file.
    """
    choices = [argument for argument in sys.argv[1:] if is_group(argument)]
    options = describe_options(command, choices)
    shown = [option for option in options if _is_asked_for(option.key, keys)] if keys else options
    if keys:
        rank = {key: number for number, key in enumerate(keys)}
        shown.sort(key=lambda option: next(rank[key] for key in keys if _is_asked_for(option.key, (key,))))
    else:
        own = comments(conf_folder() / f"{command}.yaml")
        shown = [option for option in shown if option.key in own]
    return "\n".join(_lines(option) for option in shown).replace("$", "$$")  # Hydra substitutes $NAME


def choice_help(command: str) -> str:
    """Describe the groups of choices of ``command`` for its help text: the default, the comment, and all choices.

    conf/ calls this as ``${choice_help:train}``. Folders of the user's own count.
    """
    text = (conf_folder() / f"{command}.yaml").read_text(encoding="utf-8")
    lines, root = text.splitlines(), yaml.compose(text, Loader=yaml.SafeLoader)
    defaults = next(value for key, value in root.value if key.value == "defaults")
    described = []
    for entry in defaults.value:
        if not isinstance(entry, yaml.MappingNode):
            continue
        key, value = entry.value[0]
        group = key.value.partition("@")[0]
        if group.startswith("override "):
            continue
        names = GlobalHydra.instance().config_loader().get_group_options(group)
        description = _comment(lines, key.start_mark.line, value.end_mark.line, value.end_mark.column)
        listed = f"choose {', '.join(names)}" if "@" not in key.value else f"like {group}="
        default = value.value if isinstance(value, yaml.ScalarNode) else f"[{','.join(v.value for v in value.value)}]"
        described.append(Option(key.value, default, f"{description}; {listed}" if description else listed))
    return "\n".join(_lines(option) for option in described).replace("$", "$$")


def describe_options(command: str, overrides: list[str]) -> list[Option]:
    """List every option of ``command`` as composed with ``overrides``, in the order of its configuration.

    Options without a comment have an empty description.
    """
    config = compose(command, overrides, with_hydra=True)
    described = dict(_collect(command, ""))
    for group, choice in config.hydra.runtime.choices.items():
        if choice is None or group.startswith("hydra"):
            continue
        directory, _, package = group.partition("@")
        for name in choice if isinstance(choice, list) else [choice]:
            for key, comment in _collect(f"{directory}/{name}", package or directory):
                described.setdefault(key, comment)
    return [
        Option(key, default, described.get(key, ""))
        for key, default in _leaves(config)
        if not key.startswith("hydra.") and not key.endswith(("_target_", "_partial_"))
    ]


def comments(path: Path) -> dict[str, str]:
    """Read the comment behind each key of a yaml file: dotted key -> text, empty where there is none.

    A comment continues on the following lines that hold nothing else.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    found: dict[str, str] = {}

    def visit(node: yaml.Node | None, prefix: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            if name in ("defaults", "hydra"):
                continue
            end = key.end_mark if isinstance(value, yaml.MappingNode) and not value.flow_style else value.end_mark
            found[name] = _comment(lines, key.start_mark.line, max(end.line, key.start_mark.line), end.column)
            visit(value, f"{name}.")

    visit(root, "")
    return found


def _comment(lines: list[str], first: int, last: int, column: int) -> str:
    if last > first and column == 0:  # the mark of a block value stands at the beginning of the next line
        last, column = first, 0
    behind = re.search(r"(?:^|\s)#\s?(.*)$", lines[last][column:])
    if behind is None:
        return ""
    words = [behind[1].strip()]
    for line in lines[last + 1 :]:
        more = re.match(r"\s+#\s*(.*)$", line)
        if more is None:
            break
        words.append(more[1].strip())
    return " ".join(words)


def _collect(name: str, package: str) -> Iterator[tuple[str, str]]:
    """Yield (key, comment) of a file such as ``data/dicom`` and of those that it is based on, the file's own first."""
    paths = [Path(folder) / f"{name}.yaml" for folder in (conf_folder(), *own_folders())]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return
    text = path.read_text(encoding="utf-8")
    if re.search(r"^# @package _global_", text, re.MULTILINE):
        package = ""
    prefix = f"{package}." if package else ""
    for key, comment in comments(path).items():
        yield prefix + key, comment
    for entry in (yaml.safe_load(text) or {}).get("defaults", []):
        if not isinstance(entry, str) or entry == "_self_":
            continue
        base, _, target = entry.partition("@")
        base = base[1:] if base.startswith("/") else f"{name.rpartition('/')[0]}/{base}"
        yield from _collect(base, package if target in ("", "_here_") else target)


def _leaves(config: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield dotted keys and their values as text, before interpolations are resolved."""

    def visit(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, Mapping) and (node or not prefix):
            for key, value in node.items():
                yield from visit(value, f"{prefix}.{key}" if prefix else str(key))
        else:
            yield prefix, _written(node)

    yield from visit(OmegaConf.to_container(config, resolve=False), "")


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "{}" if isinstance(value, dict) else str(value)


def _is_asked_for(key: str, keys: tuple[str, ...]) -> bool:
    return any(key == asked or key.startswith(f"{asked}.") for asked in keys)


def _lines(option: Option) -> str:
    head = f"  {option.key}={option.default}"
    text = textwrap.wrap(option.description, _WIDTH - _KEY_COLUMN) or [""]
    first = f"{head:{_KEY_COLUMN}}{text[0]}" if len(head) < _KEY_COLUMN else f"{head}\n{'':{_KEY_COLUMN}}{text[0]}"
    return "\n".join([first.rstrip(), *(f"{'':{_KEY_COLUMN}}{line}" for line in text[1:])])
