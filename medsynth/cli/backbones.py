"""``medsynth backbones``: a table of the networks that ``backbone=`` takes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from medsynth.backbone.availability import MEASURED, location
from medsynth.configuration.choices import choices
from medsynth.configuration.compose import compose, own_folders
from medsynth.errors import InputError
from medsynth.files import replacing
from medsynth.terminal import table

if TYPE_CHECKING:
    from medsynth.backbone.survey import Description

OPEN = "timm"  # the choice that leaves the network to the user
SHORT = ("backbone", "parameters", "headless", "paper's", "top-1", "top-5", "pixels", "2nd derivative", "pretrained")
FURTHER = ("backbone", "timm model", "features", "levels")
_TEXT = ("backbone", "2nd derivative", "pretrained", "timm model", "levels")  # columns on the left
LEGEND = (
    "parameters: with running statistics. paper's, top-1, top-5: of Keras's network, from the Tomsk paper.",
    "pixels: input size of the training, and the smallest. levels: channels of the maps, for discriminator.levels=.",
    "2nd derivative: for a gradient penalty on a trained backbone; not fused: with backbone.fused_attention=false.",
    "pretrained: embedded, packaged (installed with medsynth), cached (on this machine), download (on first use),",
    "none (random weights, or a file).",
)


def run(config: DictConfig) -> None:
    """Print the table, and write it to the file ``out`` if there is one."""
    out = _target(config.out)
    rows = list(_rows(config.names, measure=config.measure))
    print("\n".join([*_lines(rows), "", *LEGEND]))
    if out:
        with replacing(out) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            WRITERS[out.suffix](file, rows)
        print(f"\nThe table is in {out}.")


def _rows(chosen: str | Sequence[str] | None, *, measure: bool) -> Iterator[dict[str, str]]:
    """Yield a row for each of the backbones to show: those chosen, or all, with those of the user's folders.

    Rows of conf/backbone/ are stored; others are measured, as all are with ``measure``. A choice that leaves timm's
    name to the user, as ``timm`` does, has no network to show.
    """
    known = choices("backbone")
    names = [chosen] if isinstance(chosen, str) else list(chosen or known)
    for name in names:
        if name not in known:
            raise InputError(f"names={name} is not a backbone: choose among {', '.join(known)}.")
    shown = [name for name in names if name != OPEN]
    if not shown:
        raise InputError(f"names={','.join(names)} leaves the network open: choose among {', '.join(known)}.")
    own = {path.stem for folder in own_folders() for path in (Path(folder) / "backbone").glob("*.yaml")}
    stored = {} if measure else {row["backbone"]: row for row in MEASURED if row["backbone"] not in own}
    for name in shown:
        yield _with_location(stored[name]) if name in stored else _measured(name)


def _with_location(row: dict[str, str]) -> dict[str, str]:
    return row | {"pretrained": location(row["timm model"])}


def _measured(name: str) -> dict[str, str]:
    """Measure a network: seconds, most of them for the libraries that this loads."""
    from medsynth.backbone.survey import describe, second_derivative

    model_name = compose("train", [f"backbone={name}"]).backbone.model_name
    return _row(name, describe(model_name), second_derivative(model_name))


def _target(out: str | None) -> Path | None:
    if out is None:
        return None
    path = Path(out)
    if path.suffix not in WRITERS or not path.parent.is_dir():
        raise InputError(f"out={out} must be a .csv, .json or .md file in a folder that exists.")
    return path


def _row(name: str, network: Description, second: str) -> dict[str, str]:
    """Return one line of the table, as text by column."""
    paper = network.published
    fixed = network.smallest_size == network.native_size
    return {
        "backbone": name,
        "timm model": network.model_name,
        "parameters": f"{network.parameters:,}",
        "headless": f"{network.headless_parameters:,}",
        "paper's": f"{paper.num_parameters:,}" if paper else "",
        "top-1": f"{paper.top1:.3f}" if paper else "",
        "top-5": f"{paper.top5:.3f}" if paper else "",
        "pixels": f"{network.native_size} only" if fixed else f"{network.native_size}, {network.smallest_size}",
        "features": f"{network.num_features:,}",
        "levels": _channels(network.level_channels),
        "2nd derivative": second,
        "pretrained": network.weights_location,
    }


def _channels(levels: Sequence[int]) -> str:
    same = len(levels) > 1 and len(set(levels)) == 1
    return f"{len(levels)} of {levels[0]}" if same else " ".join(map(str, levels))


def _lines(rows: Sequence[dict[str, str]]) -> list[str]:
    """Format two tables, to fit a terminal: the columns of ``SHORT``, then the others."""
    tables = []
    for head in (SHORT, FURTHER):
        left = [head.index(key) for key in head if key in _TEXT]
        tables.append(table(head, [[row[key] for key in head] for row in rows], left=left))
    return [*tables[0], "", *tables[1]]


def _write_csv(file: Any, rows: Sequence[dict[str, str]]) -> None:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)


def _write_markdown(file: Any, rows: Sequence[dict[str, str]]) -> None:
    for cells in (rows[0].keys(), ["---"] * len(rows[0]), *(row.values() for row in rows)):
        file.write(f"| {' | '.join(cells)} |\n")


def _write_json(file: Any, rows: Sequence[dict[str, str]]) -> None:
    """Write the rows without the place of the weights, which is this machine's, as medsynth/backbone/ stores them."""
    stored = [{key: value for key, value in row.items() if key != "pretrained"} for row in rows]
    file.write(json.dumps(stored, indent=1) + "\n")


WRITERS = {".csv": _write_csv, ".json": _write_json, ".md": _write_markdown}
