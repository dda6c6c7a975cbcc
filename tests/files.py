"""Data modules of files with the defaults of the configuration, built without Hydra."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from PIL import Image

from medsynth.configuration.compose import conf_folder
from medsynth.data.files import image_files
from medsynth.data.image_folder import ImageFolder

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4  # no symmetry: a flip or a transposition would show


@functools.cache
def defaults() -> dict[str, Any]:
    """Return the options of conf/data/base/files.yaml and pairs.yaml."""
    base = conf_folder() / "data" / "base"
    config = OmegaConf.merge(OmegaConf.load(base / "files.yaml"), OmegaConf.load(base / "pairs.yaml"))
    return OmegaConf.to_container(OmegaConf.merge({"seed": 5}, {"data": config}), resolve=False)["data"]


def files_module(root, reader=ImageFolder, *, options=None, make=image_files, **changes):
    """Return a data module of files below ``root``; ``options`` are the reader's, ``changes`` all others."""
    values = {name: value for name, value in defaults().items() if name != "_target_"} | {
        "root": root and str(root),
        "reader": functools.partial(reader, **(options or {})),
        "image_size": 8,
        "batch_size": 2,
        "seed": 5,
        "prepare_workers": 0,
    }
    assert set(changes) <= set(values), f"no such option: {set(changes) - set(values)}"
    return make(**values | changes)


def prepared(root, reader=ImageFolder, **changes):
    """Return a prepared data module; see files_module."""
    data = files_module(root, reader, **changes)
    data.prepare()
    return data


def write_images(folder, count, *, size=(8, 8), start=0):
    """Write gray PNG files; image i has the values i and 255 - i."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        values = np.full(size, i, np.uint8)
        values[0, 0] = 255 - i
        Image.fromarray(values).save(folder / f"{i:03}.png")


def assert_private(folder):
    """Check that a cache and everything in it can be read by its owner alone."""
    content = [folder, *folder.rglob("*")]
    modes = {str(path): oct(path.stat().st_mode & 0o777) for path in content}
    assert len(content) > 1
    assert modes == {str(path): oct(0o700 if path.is_dir() else 0o600) for path in content}


def class_folders(root):
    """Write 50 images of the classes a (100 to 109, of two patients), b (0 to 29) and c (200 to 209)."""
    write_images(root / "b", 30)
    write_images(root / "a" / "patient_1", 5, start=100)
    write_images(root / "a" / "patient_2", 5, start=105)
    write_images(root / "c", 10, start=200)
    (root / "empty").mkdir()
    return root


def number(item):
    """Return the number of an image of write_images."""
    return round((float(item["image"][0, 1, 1]) + 1) * 127.5)


def by_text(left_out):
    """Return counts of reasons by their texts."""
    return {reason.text: count for reason, count in left_out.items()}


def items(dataset):
    return [dataset[index] for index in range(len(dataset))]


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]
