"""``medsynth backbones``: a table of what can be chosen as ``backbone=``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from tqdm import tqdm

from medsynth.backbone.survey import Description, describe, second_derivative
from medsynth.contracts import InputError
from medsynth.files import replacing

NOT_SHOWN = ("default", "timm")  # the base of all, and the one without a network of its own
SHORT = ("backbone", "weights", "headless", "paper's", "top-1", "top-5", "pixels", "2nd derivative", "pretrained")
LEGEND = (
    "weights: running statistics counted; paper's, top-1, top-5: of Keras's network, where the Tomsk paper has it.",
    "pixels: as the weights were trained, and the fewest. levels: channels of the maps, for discriminator.levels=.",
    "2nd derivative: for a penalty of gradients on a trained backbone; not fused: with backbone.fused_attention=false.",
    "pretrained: embedded, at hand (in a cache on this machine), download (on first use), none (random, or a file).",
)


def run(config: DictConfig) -> None:
    """Print the table; with ``out``, write it to a file too."""
    out = _target(config.out)
    rows = []
    for name in tqdm(_names(config.names), desc="measuring", unit="backbone", leave=False):
        model_name = hydra.compose("train", overrides=[f"backbone={name}"]).backbone.model_name
        rows.append(_row(name, describe(model_name), second_derivative(model_name)))
    print("\n".join([*_lines(rows), "", *LEGEND]))
    if out:
        with replacing(out) as temporary, temporary.open("w", newline="") as file:
            WRITERS[out.suffix](file, rows)
        print(f"\nThe table is in {out}.")


def _names(chosen: Any) -> list[str]:
    """The backbones to show: those chosen, or all of conf/backbone and of folders given by --config-dir."""
    known = [name for name in GlobalHydra.instance().config_loader().get_group_options("backbone")]
    known = sorted(name for name in known if name not in NOT_SHOWN)
    names = [chosen] if isinstance(chosen, str) else list(chosen or known)
    for name in names:
        if name not in known:
            raise InputError(f"names={name} is not a backbone: choose among {', '.join(known)}.")
    return names


def _target(out: str | None) -> Path | None:
    if out is None:
        return None
    path = Path(out)
    if path.suffix not in WRITERS or not path.parent.is_dir():
        raise InputError(f"out={out} must be a .csv or .md file in a folder that exists.")
    return path


def _row(name: str, network: Description, second: str) -> dict[str, str]:
    """One line of the table: what stands in each column."""
    paper = network.published
    fixed = network.smallest_size == network.native_size
    return {
        "backbone": name,
        "timm model": network.model_name,
        "weights": f"{network.weights:,}",
        "headless": f"{network.headless_weights:,}",
        "paper's": f"{paper.num_weights:,}" if paper else "",
        "top-1": f"{paper.top1:.3f}" if paper else "",
        "top-5": f"{paper.top5:.3f}" if paper else "",
        "pixels": f"{network.native_size} only" if fixed else f"{network.native_size}, {network.smallest_size}",
        "features": f"{network.num_features:,}",
        "levels": _channels(network.level_channels),
        "2nd derivative": second,
        "pretrained": network.whereabouts,
    }


def _channels(levels: Sequence[int]) -> str:
    same = len(levels) > 1 and len(set(levels)) == 1
    return f"{len(levels)} of {levels[0]}" if same else " ".join(map(str, levels))


def _lines(rows: Sequence[dict[str, str]]) -> list[str]:
    """Two lines for each backbone, so that a terminal is wide enough: the columns of ``SHORT``, then the rest."""
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in SHORT}
    left = ("backbone", "2nd derivative", "pretrained")

    def line(cells: dict[str, str]) -> str:
        aligned = (cells[k].ljust(widths[k]) if k in left else cells[k].rjust(widths[k]) for k in SHORT)
        return "  ".join(aligned).rstrip()

    lines = [line({key: key for key in SHORT})]
    for row in rows:
        lines += [line(row), f"    {row['timm model']}: {row['features']} features, levels {row['levels']}"]
    return lines


def _write_csv(file: Any, rows: Sequence[dict[str, str]]) -> None:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)


def _write_markdown(file: Any, rows: Sequence[dict[str, str]]) -> None:
    for cells in (rows[0].keys(), ["---"] * len(rows[0]), *(row.values() for row in rows)):
        file.write(f"| {' | '.join(cells)} |\n")


WRITERS = {".csv": _write_csv, ".md": _write_markdown}
