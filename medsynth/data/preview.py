"""The preview of a data set before a training, as plain numbers and texts.

It holds no patient's identifier. Files are named with data.show_paths=true, and numbered otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from medsynth.data.duplicates import find_duplicates
from medsynth.data.files import ImageFiles
from medsynth.data.manifest import Histogram
from medsynth.data.module import ImageDataModule
from medsynth.data.reading import SPLITS
from medsynth.data.source import ImageDataset

BINS = 100
BATCHES = 8  # of training images, for the histogram of a source that has none


def datasets(data: ImageDataModule) -> dict[str, ImageDataset]:
    """Return the existing datasets by the names of their splits."""
    return {name: dataset for name, dataset in zip(SPLITS, data.datasets, strict=True) if dataset is not None}


def labels(data: ImageDataModule) -> dict[str, np.ndarray]:
    """Return the labels of each split, in the order of its images; empty without labels."""
    if not data.class_names:
        return {}
    if isinstance(data.source, ImageFiles):
        column = np.asarray(data.source.columns["label"])
        return {name: column[data.source.rows[name]] for name in datasets(data)}
    return {name: _labels_of(dataset) for name, dataset in datasets(data).items()}


def preview(data: ImageDataModule, *, near_distance: int | None) -> dict[str, Any]:
    """Return counts, sizes and intensities; for files also patients, files left out, duplicates and the cache.

    Args:
        data: already prepared.
        near_distance: largest number of different bits in the perceptual hashes of near duplicates; None: no search.
    """
    counts = {name: np.bincount(values, minlength=data.num_classes).tolist() for name, values in labels(data).items()}
    record = {
        "description": data.description,
        "images": {name: len(dataset) for name, dataset in datasets(data).items()},
        "classes": {
            class_name: {name: by_class[number] for name, by_class in counts.items()}
            for number, class_name in enumerate(data.class_names)
        },
        "shape": [data.channels, data.image_size, data.image_size],
        "spacing": data.spacing,
        "modality": data.modality,
    }
    if isinstance(data.source, ImageFiles):
        return record | _file_record(data.source, near_distance)
    values = torch.stack([batch["image"] for batch in data.calibration_batches(BATCHES)]).numpy()
    after = {"low": -1.0, "high": 1.0, "counts": np.histogram(values, BINS, (-1, 1))[0].tolist()}
    unknown = {"percent_below": None, "percent_above": None, "before": None}
    return record | {"intensity": {**vars(data.intensity), **unknown, "after": after}}


def _labels_of(dataset: ImageDataset) -> np.ndarray:
    known = getattr(dataset, "labels", None)  # phantoms have them; otherwise the images have to be rendered
    return np.asarray([dataset[index]["label"] for index in range(len(dataset))] if known is None else known)


def _file_record(source: ImageFiles, near_distance: int | None) -> dict[str, Any]:
    manifest, folder = source.manifest, source.store.folder
    rows = {name: rows for name, rows in source.rows.items() if rows}
    patient = source.columns["patient"]
    patients = {name: {patient[row] for row in rows[name]} - {""} for name in rows}
    everybody = set[str]().union(*patients.values())
    counts = {**{name: len(keys) for name, keys in patients.items()}, "all": len(everybody)}
    return {
        "roles": source.roles,
        "patients": counts if everybody else None,
        "sizes": manifest["sizes"],
        "stored_types": manifest["stored_types"],
        "left_out": {reason["text"]: reason["count"] for reason in manifest["left_out"]},
        "remarks": manifest["remarks"],
        "intensity": _intensity(source),
        "test": source.images.test_reason,
        "joined": _joined(source),
        "duplicates": _duplicates(source, rows, near_distance),
        "cache": {"folder": str(folder), "bytes": sum(path.stat().st_size for path in folder.iterdir())},
    }


def _joined(source: ImageFiles) -> dict[str, int]:
    groups = source.images.groups
    return {
        "patients": groups.joined,
        "groups": groups.into,
        "images_without_content": len(groups.blank),
        "images_of_many_patients": len(groups.shared),
    }


def _intensity(source: ImageFiles) -> dict[str, Any]:
    unit, before, after = source.manifest["unit"], source.manifest["before"], source.manifest["after"]
    intensity = source.intensity
    below = above = None
    if intensity.unit == unit:  # one window for all images, in the unit of the values
        below, above = (100 * fraction for fraction in _fractions_outside(before, intensity.low, intensity.high))
    known = {"percent_below": below, "percent_above": above, "before": {**before, "unit": unit}, "after": after}
    return {**vars(intensity), **known}


def _fractions_outside(histogram: Histogram, low: float, high: float) -> tuple[float, float]:
    """Return the fractions of all values below ``low`` and above ``high``, to a bin's width."""
    cumulative = np.concatenate([[0], np.cumsum(histogram["counts"])]) / np.sum(histogram["counts"])
    edges = np.linspace(histogram["low"], histogram["high"], len(cumulative))
    below, not_above = np.interp([low, high], edges, cumulative)
    return float(below), float(1 - not_above)


def _duplicates(source: ImageFiles, rows: Mapping[str, list[int]], near_distance: int | None) -> dict[str, Any]:
    """Find duplicates, with the names or numbers of files in place of rows."""
    found = find_duplicates(source.columns, rows, near_distance)
    files = source.columns["file_number"]
    splits = {row: name for name, split_rows in rows.items() for row in split_rows}
    places = {row: place for split_rows in rows.values() for place, row in enumerate(split_rows)}
    images_in_file: Counter[int] = Counter()
    numbers = []  # of each image within its file
    for file in files:
        images_in_file[file] += 1
        numbers.append(images_in_file[file])

    def shown(row: int) -> dict[str, str | int]:
        number = f", image {numbers[row]}" if images_in_file[files[row]] > 1 else ""
        return {"file": source.file_name(row) + number, "split": splits[row], "index": places[row]}

    exact, near = found["exact"], found.get("near")
    exact["dropped"] = len(source.store) - len(source.images.kept)
    exact["first"] = [[shown(row) for row in group] for group in exact["first"]]
    if near:
        near["first"] = [{"images": [shown(one), shown(other)], "bits": bits} for one, other, bits in near["first"]]
    return found
