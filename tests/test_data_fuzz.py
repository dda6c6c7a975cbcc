"""Damaged files of each format: a reason, or an image of the right kind; with a checksum never another image."""

from __future__ import annotations

import gzip
import io
import random

import nibabel
import numpy as np
import pytest
from PIL import Image

from medsynth.contracts import InputError
from medsynth.data.csv import Csv
from medsynth.data.errors import Unreadable
from medsynth.data.image_file import decode
from medsynth.data.medmnist import MedMnist
from medsynth.data.nifti import Nifti
from tests.files import write_images

RNG = np.random.default_rng(0)
GRAY = (np.add.outer(np.arange(24), np.arange(20)) * 4 + RNG.integers(0, 40, (24, 20))).astype(np.uint8)
COLOR = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=-1)
LARGEST_SIDE = 100_000  # pixels; what a damaged header may claim and the file still hold


def saved(values, form, **options):
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, form, **options)
    return stream.getvalue()


def volume():
    values = RNG.normal(100, 30, (6, 7, 5)).astype(np.float32)
    return nibabel.Nifti1Image(values, np.diag([1.0, 2, 3, 1])).to_bytes()


def arrays():
    images, labels = RNG.integers(0, 256, (20, 8, 8), np.uint8), RNG.integers(0, 2, (20, 1), np.uint8)
    stream = io.BytesIO()
    np.savez_compressed(stream, train_images=images, train_labels=labels, val_images=images[:4], val_labels=labels[:4])
    return stream.getvalue()


def of_image(content, folder):
    values = decode(content).values
    if not np.isfinite(values).all():  # of floating-point TIFF; preparing refuses such pictures of any reader
        raise Unreadable("it holds values that are not finite numbers")
    return [values]


def of_reader(reader):
    return [picture.values for item in reader.scan().records for picture in reader.read(item)[0]]


def of_volume(content, folder):
    (folder / "volume.nii").write_bytes(content)  # compressed or not is recognized by the content
    return of_reader(Nifti(str(folder), min_content=0))


def of_arrays(content, folder):
    (folder / "set.npz").write_bytes(content)
    return of_reader(MedMnist(str(folder / "set.npz")))


def of_table(content, folder):
    if not (folder / "a").exists():
        write_images(folder / "a", 9)
    (folder / "table.csv").write_bytes(content)
    return of_reader(Csv(str(folder)))


TABLE = "path;label;patient;split\n" + "".join(f'"a/{i:03}.png";{i % 2};p{i};train\n' for i in range(9))
FORMATS = {  # content, how it is read, whether a checksum guards the pixels
    "png": (saved(GRAY, "PNG"), of_image, True),
    "png_16": (saved(GRAY.astype(np.uint16) * 257, "PNG"), of_image, True),
    "png_color": (saved(COLOR, "PNG"), of_image, True),
    "jpeg": (saved(COLOR, "JPEG"), of_image, False),
    "jpeg_progressive": (saved(GRAY, "JPEG", progressive=True), of_image, False),
    "tiff": (saved(GRAY.astype(np.float32), "TIFF"), of_image, False),
    "tiff_lzw": (saved(COLOR, "TIFF", compression="tiff_lzw"), of_image, False),
    "tiff_deflate": (saved(GRAY, "TIFF", compression="tiff_adobe_deflate"), of_image, False),
    "bmp": (saved(COLOR, "BMP"), of_image, False),
    "nii": (volume(), of_volume, False),
    "nii_gz": (gzip.compress(volume()), of_volume, True),
    "npz": (arrays(), of_arrays, True),
    "csv": (TABLE.encode(), of_table, False),
}


def damaged(content, draw):
    """Cut off, a few bits turned over, a stretch overwritten or taken out; half of it near the header."""
    reach = len(content) if draw.random() < 0.5 else min(len(content), 400)
    data, place = bytearray(content), draw.randrange(reach)
    kind = draw.choice(["cut", "bits", "bits", "bits", "overwrite", "remove"])
    if kind == "cut":
        return bytes(data[:place])
    if kind == "bits":
        for _ in range(draw.choice([1, 1, 2, 8])):
            data[draw.randrange(reach)] ^= 1 << draw.randrange(8)
        return bytes(data)
    length = draw.randrange(1, 20)
    data[place : place + length] = draw.randbytes(length) if kind == "overwrite" else b""
    return bytes(data)


def check(name, count, folder):
    content, read, guarded = FORMATS[name]
    whole = read(content, folder)
    refused = 0
    for seed in range(count):
        try:
            images = read(damaged(content, random.Random(seed)), folder)
        except (Unreadable, InputError):
            refused += 1
            continue
        for image in images:
            assert image.dtype == np.float32, seed
            assert image.ndim == 3, seed
            assert image.shape[0] in (1, 3), seed
            assert 1 <= min(image.shape) <= max(image.shape) < LARGEST_SIDE, seed
            assert np.isfinite(image).all(), seed
        if guarded:
            same = len(images) == len(whole) and all(map(np.array_equal, images, whole))
            assert same, f"{name}, seed {seed}: another image, and nothing said"
    assert refused > 0


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("error")
def test_damaged_files_are_refused_or_read(name, tmp_path):
    check(name, 60, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.filterwarnings("error")
def test_many_damaged_files_are_refused_or_read(name, tmp_path):
    check(name, 1000, tmp_path)
