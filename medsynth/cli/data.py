"""The command ``medsynth data``: preview a data set as a training would see it."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

import medsynth
from medsynth.contracts import counter_seed
from medsynth.data.captured_warnings import captured_warnings
from medsynth.data.files import ImageFiles
from medsynth.data.module import ImageDataModule
from medsynth.data.preview import datasets, labels, preview
from medsynth.data.source import ImageDataset
from medsynth.errors import EndCode, InputError
from medsynth.files import new_folder, write_json
from medsynth.presets.proposal import advice
from medsynth.report.data_page import PAGE, SameImages, write_data_page
from medsynth.report.data_sheet import Row, draw_contact_sheet, draw_intensities
from medsynth.report.data_text import SPLIT_NAMES, data_text
from medsynth.terminal import line_width

LINE = 118  # characters of a sentence with its title
MAX_BITS = 32  # of near_distance; with more, all images of one kind count as duplicates
CLASSES_SHOWN = 24  # on the contact sheet
COLUMNS = {"train": 10, "val": 5}  # of the contact sheet, which has a row for each class
GROUPS_SHOWN = 12  # of copies, and as many of near copies
COPIES_SHOWN = 6  # of a group
SQUARE = 8  # rows and columns of the contact sheet without classes


def run(config: DictConfig) -> None:
    """Print the preview, and with ``out`` write it to a folder with a contact sheet and histograms."""
    out, distance = Path(config.out) if config.out else None, _distance(config.near_distance)
    data = instantiate(config.data, _convert_="all")
    with captured_warnings() as warnings:
        data.prepare(for_training=False)
        if data.batch_size > data.num_train:
            logging.getLogger("medsynth.data").warning("For training: %s.", data.excess_of_batch(data.num_train))
    record = {
        "medsynth": medsynth.__version__,
        **preview(data, near_distance=distance),
        "warnings": [warning.getMessage() for warning in warnings],
    }
    remarks = [warning.getMessage() for warning in warnings if not getattr(warning, "left_out", False)]
    print(data_text(record, remarks=remarks))
    advised = advice(data.num_train) if isinstance(data.source, ImageFiles) else ""
    if advised:
        wrapped = textwrap.wrap(advised, line_width(LINE), initial_indent="advice      ", subsequent_indent=" " * 12)
        print("\n".join(wrapped))
    if out:
        same = list(_same_images(data, record.get("duplicates") or {}))
        _write(out, record, _panels(data, config.seed), remarks=remarks, advised=advised, same=same)
        print(f"\nThe page is {out / PAGE}; contact_sheet.png, intensities.png and preview.json are beside it.")
    else:
        print("\nout=FOLDER writes this as a page with pictures, also of the copies.")


def _distance(distance: int | None) -> int | None:
    if distance is not None and not 0 <= distance <= MAX_BITS:
        raise InputError(f"near_distance={distance} is not possible: choose 0 to {MAX_BITS} bits, or null.")
    return distance


def _panels(data: ImageDataModule, seed: int) -> dict[str, list[Row]]:
    """Choose images for the contact sheet by the seed; none of the test images, so that they stay unseen."""
    panels = {}
    names = data.class_names[:CLASSES_SHOWN]
    note = f" ({len(names)} of {data.num_classes} classes)" if len(names) < data.num_classes else ""
    split_labels = labels(data)
    for split, count in COLUMNS.items():
        dataset = datasets(data)[split]
        order = np.random.default_rng(counter_seed("preview", seed, split)).permutation(len(dataset))
        if names:
            ordered = split_labels[split][order]
            chosen = {name: order[ordered == label][:count] for label, name in enumerate(names)}
        else:
            rows = min(SQUARE, -(-data.num_train // SQUARE))
            chosen = {" " * row: order[row * SQUARE : (row + 1) * SQUARE] for row in range(rows)}
        panels[f"{SPLIT_NAMES[split]} images{note}"] = [(name, _stacked(dataset, chosen[name])) for name in chosen]
    return panels


def _stacked(dataset: ImageDataset, indices: np.ndarray) -> np.ndarray:
    """Return images ``(N, C, H, W)``; pairs ``(N, C, H, 2 W)`` with the target on the right."""
    images = [_side_by_side(dataset[int(index)]) for index in indices]
    return torch.stack(images).numpy() if images else _side_by_side(dataset[0])[None][:0].numpy()


def _side_by_side(sample: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([sample["image"], sample["target"]], dim=2) if "target" in sample else sample["image"]


def _same_images(data: ImageDataModule, duplicates: Mapping[str, Any]) -> Iterator[SameImages]:
    """Yield copies and near copies to be shown, those across splits first; none that are all test images."""
    exact = [(group, None) for group in (duplicates.get("exact") or {}).get("first", ())]
    near = [(pair["images"], pair["bits"]) for pair in (duplicates.get("near") or {}).get("first", ())]
    for found in (exact, near):
        seen = [(images, bits) for images, bits in found if any(image["split"] != "test" for image in images)]
        seen.sort(key=lambda one: len({image["split"] for image in one[0]}) == 1)
        for images, bits in seen[:GROUPS_SHOWN]:
            shown = images[:COPIES_SHOWN]
            pictures = [_side_by_side(datasets(data)[image["split"]][image["index"]]) for image in shown]
            names, splits = (tuple(image[key] for image in shown) for key in ("file", "split"))
            yield SameImages(torch.stack(pictures).numpy(), names, splits, bits)


def _write(
    out: Path,
    record: Mapping[str, Any],
    panels: Mapping[str, Sequence[Row]],
    *,
    remarks: Sequence[str],
    advised: str,
    same: Sequence[SameImages],
) -> None:
    """Write the folder under a temporary name and rename it at the end, so that it is complete or absent."""
    try:
        with new_folder(out) as folder:
            draw_contact_sheet(folder / "contact_sheet.png", panels)
            draw_intensities(folder / "intensities.png", record["intensity"])
            write_json(folder / "preview.json", record)
            sheet = folder / "contact_sheet.png"
            write_data_page(folder / PAGE, record, remarks=remarks, advice=advised, sheet=sheet, same=same)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f"out={out} cannot be written ({reason}): name another folder.", code=EndCode.CANNOT_WRITE
        ) from error
