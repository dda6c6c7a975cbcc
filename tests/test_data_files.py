"""From files to batches: geometry, intensities, cache, splits, duplicates, random views and log messages."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medsynth.checksums import Damaged, write_checksums
from medsynth.contracts import Intensity
from medsynth.data import preparing
from medsynth.data.cache import COLUMNS, Store, cache_folder, salt
from medsynth.data.errors import DataError, Unreadable
from medsynth.data.geometry import OUTSIDE, Geometry, RandomViews
from medsynth.data.groups import image_groups
from medsynth.data.image_folder import ImageFolder
from medsynth.data.intensity import WINDOWS, Normalization, statistics
from medsynth.data.reading import RawImage
from medsynth.data.split import SplitOptions, split
from medsynth.errors import EndCode, InputError
from tests.files import (
    RAMP,
    assert_private,
    class_folders,
    files_module,
    items,
    number,
    prepared,
    warnings_of,
    write_images,
)


def square(values, size=8, **options):
    """Apply Geometry to values (H, W) or (C, H, W)."""
    values = np.asarray(values, np.float32)
    picture = RawImage(values if values.ndim == 3 else values[None], "8-bit", spacing=options.pop("has_spacing", None))
    return Geometry(size, **{"channels": 1, **options})(picture)


# Geometry


def test_crop_keeps_the_central_square():
    values = np.zeros((8, 24))
    values[:, 8:16] = RAMP
    np.testing.assert_array_equal(square(values)[0][0], RAMP)


def test_fit_keeps_the_whole_image_and_pads():
    image, spacing = square(np.full((8, 16), 200), resize="fit", has_spacing=(0.5, 0.5))
    assert (image[0][[0, 1, 6, 7]] == OUTSIDE).all()
    np.testing.assert_allclose(image[0][2:6], 200)
    assert spacing == (1.0, 1.0)


def test_stretch_fills_the_square():
    image, spacing = square(np.repeat(RAMP, 2, 1), resize="stretch", has_spacing=(1.0, 1.0))  # each column twice
    np.testing.assert_allclose(image[0][:, 2:6], RAMP[:, 2:6], atol=1e-3)  # apart from the border, linear ramps stay
    assert spacing == (1.0, 2.0)


def test_none_crops_and_pads_without_scaling():
    image, spacing = square(np.pad(RAMP, ((0, 0), (2, 2)))[2:6], resize="none", has_spacing=(0.7, 0.7))
    np.testing.assert_array_equal(image[0][2:6], RAMP[2:6])
    assert np.isneginf(image[0][[0, 1, 6, 7]]).all()
    assert spacing == (0.7, 0.7)


@pytest.mark.parametrize("resize", ["crop", "fit", "stretch"])
@pytest.mark.parametrize("size", [(40, 40), (40, 40 - 1), (5, 5)])
def test_resizing_neither_aliases_nor_darkens_the_border(resize, size):
    inside = slice(1, -1) if resize == "fit" else slice(None)
    np.testing.assert_allclose(square(np.full(size, 150), resize=resize)[0][0][:, inside], 150, atol=1e-3)
    if size[0] > 8:
        fine = np.indices(size).sum(0) % 2 * 100 + 100  # a checkerboard of 100 and 200
        np.testing.assert_allclose(square(fine, resize=resize)[0][0][:, 1:-1], 150, atol=4)


def test_spacing_resamples_to_millimeters():
    """A disk with a diameter of 20 mm keeps it, whatever its original spacing."""
    for spacing in ((0.5, 0.5), (0.5, 1.0), (2.0, 0.8)):
        shape = [round(64 / step) for step in spacing]
        rows, columns = (np.arange(count) * step + step / 2 - 32 for count, step in zip(shape, spacing, strict=True))
        disk = (rows[:, None] ** 2 + columns**2 < 100) * 100.0
        image, out = square(disk, size=64, resize="none", spacing=1, has_spacing=spacing)
        assert out == (1.0, 1.0)
        area = image[np.isfinite(image)].sum() / 100  # square millimeters
        assert area == pytest.approx(np.pi * 100, rel=0.03)
    with pytest.raises(Unreadable, match=r"does not give its pixel spacing, which data\.spacing needs"):
        square(RAMP, spacing=1)


def test_foreground_crops_the_background():
    values = np.full((20, 20), -1000.0)
    values[6:14, 3:11] = RAMP
    values[6, 3] = 1
    expected = RAMP.astype(np.float32)
    expected[0, 0] = 1
    np.testing.assert_array_equal(square(values, foreground=-500)[0][0], expected)
    with pytest.raises(Unreadable, match=r"no pixel is above data\.foreground=5000"):
        square(values, foreground=5000)


def test_crop_keeps_the_center_before_resizing():
    values = np.zeros((20, 30))
    values[6:14, 11:19] = RAMP
    np.testing.assert_array_equal(square(values, crop=8)[0][0], RAMP)
    assert np.isneginf(square(values, crop=[4, 8], resize="none")[0][0][[0, 1, 6, 7]]).all()


def test_color_becomes_luma_and_gray_is_repeated():
    colors = np.stack([RAMP, RAMP[::-1], RAMP.T])
    luma = 0.299 * colors[0] + 0.587 * colors[1] + 0.114 * colors[2]  # ITU-R BT.601
    np.testing.assert_allclose(square(colors)[0][0], luma, rtol=1e-6)
    np.testing.assert_array_equal(square(RAMP, channels=3)[0], np.stack([RAMP] * 3))
    np.testing.assert_array_equal(square(colors, channels=3)[0], colors)


# Intensities


def normalized(values, **options):
    """Normalize values (N, C, H, W); return them, the values that became -1 and 1, and the way back."""
    values, normalization = np.asarray(values, np.float32), Normalization(**options)
    finite = values[np.isfinite(values)]
    observed = statistics([values[:1], values[1:]], float(finite.min()), float(finite.max()))
    types = ["floating-point"] * len(values)
    bounds = (0.0, 0.0) if normalization.per_image else normalization.bounds(observed, types)
    return normalization(values, bounds, types), bounds, normalization.intensity(bounds, "HU")


VALUES = np.random.default_rng(0).normal(100, 50, (6, 1, 128, 128)).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"window": "lung"}, (-1350, 150)),
        ({"window": "brain"}, (0, 80)),
        ({"window": [50, 400]}, (-150, 250)),
        ({"intensity_range": [-100, 300]}, (-100, 300)),
        ({"normalize": "min_max"}, (VALUES.min(), VALUES.max())),
        ({"normalize": "percentile"}, tuple(np.percentile(VALUES, [0.5, 99.5]))),
        ({"normalize": "percentile", "percentiles": [10, 60]}, tuple(np.percentile(VALUES, [10, 60]))),
        ({"normalize": "z_score"}, (VALUES.mean() - 3 * VALUES.std(), VALUES.mean() + 3 * VALUES.std())),
        (
            {"normalize": "z_score", "z_score_limit": 2},
            (VALUES.mean() - 2 * VALUES.std(), VALUES.mean() + 2 * VALUES.std()),
        ),
    ],
    ids=str,
)
def test_scaling_over_the_data_set_is_linear_and_invertible(options, expected):
    images, bounds, intensity = normalized(VALUES, **options)
    assert bounds == pytest.approx(expected, abs=0.2)  # of 100,000 values, few are in the tails
    assert (intensity.low, intensity.high, intensity.unit) == (*bounds, "HU")
    back = intensity.to_physical(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(back, VALUES.clip(*bounds), atol=1e-3)


@pytest.mark.parametrize(
    ("stored_type", "values", "expected"),
    [
        ("16-bit", [-1024, 1904], (-1024, 1904)),  # Hounsfield units
        ("16-bit", [-1024, 31_743], (-1024, 31_743)),  # Hounsfield units with metal
        ("16-bit", [0, 70_000], (0, 70_000)),  # a slope above 1
        ("16-bit", [0, 4095], (0, 4095)),  # 12 bits
        ("16-bit", [0, 8190], (0, 8190)),  # just less than an eighth
        ("16-bit", [100, 8400], (0, 65_535)),
        ("8-bit", [0, 31], (0, 31)),
        ("8-bit", [3, 40], (0, 255)),
        ("8-bit", [7, 7], (0, 255)),  # a black image has no range of its own
    ],
    ids=str,
)
@pytest.mark.parametrize("per", ["data_set", "image"])
def test_auto_takes_the_values_range_where_they_do_not_fill_that_of_their_files(stored_type, values, expected, per):
    images = np.array(values, np.float32).reshape(1, 1, 1, 2)
    normalization = Normalization(normalize="auto", normalize_per=per)
    low, high = expected
    if per == "data_set":
        observed = statistics([images], *map(float, values))
        assert normalization.bounds(observed, [stored_type]) == expected
        full = Normalization(normalize="full_range").bounds(observed, [stored_type])
        assert full == {"8-bit": (0, 255), "16-bit": (0, 65_535)}[stored_type]
    scaled = normalization(images, expected, [stored_type])
    np.testing.assert_allclose(scaled, (images - low) / (high - low) * 2 - 1, atol=1e-6)


@pytest.mark.parametrize("method", ["min_max", "percentile", "z_score"])
def test_scaling_per_image_gives_up_units(method):
    values = np.concatenate([VALUES[:3], 7 * VALUES[:3] - 300])
    images, _, intensity = normalized(values, normalize=method, normalize_per="image")
    np.testing.assert_allclose(images[:3], images[3:], atol=2e-5)
    assert "HU" not in intensity.unit
    if method == "min_max":
        np.testing.assert_allclose([images.min((1, 2, 3)), images.max((1, 2, 3))], [[-1] * 6, [1] * 6])
    if method == "z_score":
        deviations = intensity.to_physical(torch.from_numpy(images[0])).numpy()
        expected = ((VALUES[0] - VALUES[0].mean()) / VALUES[0].std()).clip(-3, 3)
        np.testing.assert_allclose(deviations, expected, atol=1e-4)


def test_statistics_ignore_padding():
    values = np.full((2, 1, 4, 4), -np.inf, np.float32)
    values[:, :, 1:3, 1:3] = [[10, 20], [30, 40]]
    observed = statistics([values], 10, 40)
    assert observed.mean == pytest.approx(25)
    assert observed.deviation == pytest.approx(np.std([10, 20, 30, 40]))
    images, _, _ = normalized(values, normalize="min_max")
    assert (images[np.isneginf(values)] == -1).all()


def test_clahe_equalizes_contrast_and_gives_up_units():
    image = np.zeros((1, 1, 64, 64), np.float32)
    image[..., :32] = np.random.default_rng(0).normal(0.1, 0.01, (64, 32))  # faint structure in the dark half
    image[..., 32:] = np.random.default_rng(1).normal(0.9, 0.01, (64, 32))
    plain, _, _ = normalized(image, intensity_range=[0, 1])
    even, _, intensity = normalized(image, intensity_range=[0, 1], clahe=0.02)
    assert even[..., 4:28].std() > 2 * plain[..., 4:28].std()
    assert np.abs(even).max() <= 1
    assert intensity == Intensity(0, 1, "equalized level (CLAHE)")


def test_clahe_equalizes_within_its_windows():
    """Two halves of different brightness: one window sees the step between them, small windows only what is in each."""
    image = np.zeros((1, 1, 32, 32), np.float32)
    image[..., :16] = np.random.default_rng(0).normal(0.1, 0.02, (32, 16))
    image[..., 16:] = np.random.default_rng(1).normal(0.9, 0.02, (32, 16))

    def step(**options):
        even, _, _ = normalized(image, intensity_range=[0, 1], clahe=0.9, **options)
        return even[..., 20:].mean() - even[..., :12].mean()

    assert step(clahe_window=32) > 0.9
    assert abs(step(clahe_window=4)) < 0.5
    assert step(clahe_window=4) == step()  # an eighth of the image


def test_a_window_of_clahe_alone_makes_another_data_set():
    assert "clahe_window" not in Normalization(clahe=0.01).key()  # as earlier versions prepared it
    assert Normalization(clahe=0.01, clahe_window=4).key() != Normalization(clahe=0.01, clahe_window=8).key()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "liver"}, r"data\.window=liver is unknown: choose lung, soft_tissue, bone, brain"),
        ({"window": [40, 0]}, r"data\.window=\[40, 0\]"),
        ({"window": "lung", "intensity_range": [0, 1]}, "both set the range of values"),
        ({"intensity_range": [5, 5]}, r"data\.intensity_range=\[5, 5\]"),
        ({"intensity_range": [1, 2, 3]}, r"data\.intensity_range=\[1, 2, 3\]"),
        ({"intensity_range": [500, 900]}, r"data\.intensity_range from 500 to 900 does not overlap the values"),
        (
            {"normalize": "max"},
            r"data\.normalize=max is not possible: choose auto, full_range, min_max, percentile or",
        ),
        ({"normalize_per": "slice"}, r"data\.normalize_per=slice"),
        ({"percentiles": [5, 120], "normalize": "percentile"}, r"data\.percentiles"),
        ({"clahe": 3}, r"data\.clahe=3"),
        ({"clahe_window": 8}, r"data\.clahe_window=8 is not possible: .* a clip limit, for example data\.clahe=0\.01"),
        ({"clahe": 0.01, "clahe_window": 1}, r"data\.clahe_window=1 is not possible: choose 2 pixels or more"),
        ({"z_score_limit": 0}, r"data\.z_score_limit=0"),
        ({"normalize": "full_range"}, r"data\.normalize=full_range has no meaning for floating-point images"),
        ({"normalize": "auto"}, r"data\.normalize=auto has no meaning for floating-point images"),
        ({"normalize": "auto", "normalize_per": "image"}, r"data\.normalize=auto has no meaning for floating-point"),
    ],
    ids=str,
)
def test_impossible_intensity_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        normalized(VALUES, **options)


def test_windows_are_centers_and_widths():
    assert {name: (center - width / 2, center + width / 2) for name, (center, width) in WINDOWS.items()} == {
        "lung": (-1350, 150),
        "soft_tissue": (-160, 240),
        "bone": (-500, 1300),
        "brain": (0, 80),
    }


# From files to [-1, 1] and back


def test_8_bit_files_are_recovered_exactly(tmp_path):
    for i in range(6):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)).save(tmp_path / f"{i}.png")
    data = prepared(tmp_path)
    for item in items(data.train_dataset):
        stored = data.intensity.to_physical(item["image"])[0].numpy()
        originals = [np.asarray(Image.open(tmp_path / f"{i}.png")) for i in range(6)]
        assert any(np.abs(stored - original).max() < 1e-4 for original in originals)


@pytest.mark.parametrize(
    ("options", "intensity", "warning"),
    [
        (
            {"intensity_range": [1000, 3000], "unit": "detector count"},
            Intensity(1000, 3000, "detector count"),
            "those outside data.intensity_range are clipped",
        ),
        ({"normalize": "full_range"}, Intensity(0, 65_535, "stored value"), "consider data.intensity_range=[0,"),
        ({}, None, "which become -1 and 1 (data.normalize=auto)"),
    ],
    ids=str,
)
def test_16_bit_files_are_recovered_exactly(options, intensity, warning, tmp_path, caplog):
    for i in range(6):
        values = np.random.default_rng(i).integers(1000, 3000, (8, 8)).astype(np.uint16)
        values[0, 0] = i
        Image.fromarray(values).save(tmp_path / f"{i}.png")
    data = prepared(tmp_path, **options)
    for item in [*items(data.train_dataset), *items(data.val_dataset)]:
        physical = data.intensity.to_physical(item["image"].double())[0].numpy()
        fits = [
            np.abs(physical - np.asarray(Image.open(tmp_path / f"{i}.png")).clip(data.intensity.low)).max() < 0.5
            for i in range(6)
        ]
        assert sum(fits) == 1
    if intensity is None:
        assert data.intensity.low == 0
        assert data.intensity.high == pytest.approx(2999, abs=10)
    else:
        assert data.intensity == intensity
    assert warning in warnings_of(caplog)[0]


def test_batches_consist_of_samples(tmp_path):
    data = prepared(class_folders(tmp_path), batch_size=4)
    for batch in data.train_dataloader():
        assert set(batch) == {"image", "label", "index"}
        for position, index in enumerate(batch["index"].tolist()):
            item = data.train_dataset[index]
            assert torch.equal(batch["image"][position], item["image"])
            assert batch["label"][position] == item["label"]
            assert index == item["index"]


def write_16_bit(folder, count=4):
    for i in range(count):
        Image.fromarray(np.linspace(0, 65535 - i, 64).astype(np.uint16).reshape(8, 8)).save(folder / f"{i}.png")


def make_mixed_depth(root):
    write_images(root, 4, start=10)
    write_16_bit(root)


def make_floats(root):
    for i in range(4):
        Image.fromarray(np.linspace(-1, i, 64, dtype=np.float32).reshape(8, 8)).save(root / f"{i}.tif")


def make_constant(root):
    for i in range(4):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(root / f"{i}.png")


def make_not_finite(root):
    values = RAMP.astype(np.float32)
    values[3, 3] = np.nan
    for i in range(4):
        Image.fromarray(values).save(root / f"{i}.tif")


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (make_mixed_depth, {}, r"no meaning for 16-bit and 8-bit images.*set data\.intensity_range=\[low,high\]"),
        (make_floats, {}, r"for floating-point images, whose values span \[-1, 3\]"),
        (make_constant, {}, r"holds no image that can be used \(images of one single value: 4\)"),
        (make_not_finite, {}, r"cannot be read \(it holds values that are not finite numbers\)"),
        (lambda root: write_images(root, 3), {}, r"3 images \(3 different images\) are too few to be split"),
        (lambda root: write_images(root, 4), {"intensity_range": [256, 300]}, "does not overlap the values"),
        (lambda root: write_images(root, 4), {"split_by": "patient"}, r"data\.split_by=patient needs patients: 4 of 4"),
        (lambda root: write_images(root, 4), {"patient_pattern": "P"}, r"patient_pattern=P does not match 4 of the 4"),
        (lambda root: write_images(root, 4), {"spacing": 1}, r"does not give its pixel spacing"),
    ],
)
def test_unusable_files_are_refused(make, changes, message, tmp_path):
    make(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        prepared(tmp_path, **changes)
    assert caught.value.code is EndCode.DATA_ERROR


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 2}, r"data\.channels=2 is not possible: choose 1 or 3"),
        ({"resize": "warp"}, r"data\.resize=warp is not possible: choose crop, fit, stretch or none"),
        ({"on_error": "ignore"}, r"data\.on_error=ignore"),
        ({"cache_dtype": "int4"}, r"data\.cache_dtype=int4 is not possible: choose auto, uint8 or uint16"),
        ({"val_fraction": 0}, r"data\.val_fraction=0 "),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, r"data\.test_fraction=0\.5"),
        ({"split_by": "day"}, r"data\.split_by=day is not possible: choose auto, patient, image or blocks"),
        ({"patient_pattern": "("}, r"data\.patient_pattern=\( is not a regular expression"),
        ({"flip": "diagonal"}, r"data\.flip=diagonal"),
        ({"rotate": 200}, r"data\.rotate=200"),
        ({"random_crop": 6}, r"data\.random_crop=6 is smaller than data\.image_size=8"),
        ({"crop": 0}, r"data\.crop=0"),
        ({"spacing": [1, 2, 3]}, r"data\.spacing=\[1, 2, 3\]"),
    ],
    ids=str,
)
def test_wrong_options_are_refused_before_anything_is_read(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        files_module("anywhere", **changes)
    assert caught.value.code is EndCode.BAD_OPTION


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif"])
def test_corrupt_files_end_the_run_or_are_skipped_and_counted(ending, tmp_path, caplog):
    write_images(tmp_path, 10)
    bad = tmp_path / f"bad.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)).save(bad)
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=r"^File 11 of the 11 in .* cannot be read .*data\.on_error=skip") as caught:
        prepared(tmp_path)
    assert bad.name not in str(caught.value)
    with pytest.raises(InputError, match=rf"^bad\.{ending} in data\.root="):
        prepared(tmp_path, show_paths=True)
    data = prepared(tmp_path, on_error="skip")
    assert data.num_train + data.num_val == 10
    assert "1 files or parts of files left out" in data.description
    assert "Left out: cannot be read: it is damaged or cut off: 1." in warnings_of(caplog)


# Splits


def held_out(root, **changes):
    data = prepared(root, **changes)
    return [(item["label"], number(item)) for item in items(data.val_dataset)]


@pytest.mark.parametrize(("normalize", "clipped"), [("min_max", 1), ("percentile", 6)])
def test_an_image_is_scaled_by_its_own_extremes_or_percentiles(normalize, clipped):
    """Of 1,000 values 5 lie beyond the percentile 99.5, which lies between two values."""
    images = np.random.default_rng(0).permutation(2000.0 * np.arange(2)[:, None] + np.arange(1000), axis=1)
    scale = Normalization(normalize=normalize, normalize_per="image")
    scaled = scale(images.reshape(2, 1, 20, 50).astype(np.float32), (0.0, 1.0), ["16-bit"] * 2)
    for image in scaled:
        assert (image.min(), image.max()) == (-1, 1)
        assert abs((image == 1).sum() - clipped) <= (normalize == "percentile")


def test_the_split_is_stratified_and_stable(tmp_path):
    root = class_folders(tmp_path)
    first = held_out(root, val_fraction=0.2)
    assert [sum(label == wanted for label, _ in first) for wanted in range(3)] == [2, 6, 2]
    assert held_out(root, val_fraction=0.2) == first
    assert held_out(root, val_fraction=0.2, split_seed=1) != first
    assert set(held_out(root, val_fraction=0.1)) < set(first)
    assert [label for label, _ in first] != sorted(label for label, _ in first)  # a grid of the first shows all classes
    for path in (root / "b").iterdir():
        path.rename(path.with_name(f"renamed{path.name}"))
    assert held_out(root, val_fraction=0.2) == first, "names do not decide"


def test_a_test_split_shares_no_image_with_the_others(tmp_path):
    data = prepared(class_folders(tmp_path), test_fraction=0.2)
    seen = [{number(item) for item in items(d)} for d in (data.train_dataset, data.val_dataset, data.test_dataset)]
    assert [len(numbers) for numbers in seen] == [35, 5, 10]
    assert len(set.union(*seen)) == 50
    assert {number(item) for item in items(prepared(tmp_path).val_dataset)} == seen[1], "it leaves validation as it was"
    assert sum(len(batch["image"]) for batch in data.test_dataloader()) == 10
    with pytest.raises(InputError, match=r"data\.test_fraction=0\.1"):
        prepared(tmp_path).test_dataloader()


def columns(patients, labels=None, given=None, digests=None):
    count = len(patients)
    return {
        "patients": patients,
        "labels": labels or [0] * count,
        "digests": digests or [f"digest{i}" for i in range(count)],
        "given": given or [""] * count,
    }


def parts(data, *, blank=(), **options):
    """Split columns; equal digests are duplicates."""
    chosen = SplitOptions(**{"val_fraction": 0.2, "join_duplicates": "near", **options})
    data = dict(data)
    patients, digests = data.pop("patients"), data["digests"]
    numbers = [digests.index(digest) for digest in digests]
    little = np.isin(np.arange(len(digests)), blank)
    joined = None if chosen.join_duplicates == "none" else numbers
    groups = image_groups(patients, digests, joined, little, by=chosen.split_by)
    return split(chosen, groups=groups, **data)


def test_patients_stay_together():
    rng = np.random.default_rng(0)
    patients = [f"p{number}" for number in rng.integers(0, 20, 300)]
    labels = [int(patient[1:]) % 3 for patient in patients]
    for seed in range(5):
        found = parts(columns(patients, labels), split_seed=seed, test_fraction=0.2)
        sides = [{patients[row] for row in found[name]} for name in ("train", "val", "test")]
        assert sum(map(len, sides)) == 20
        assert sorted(row for rows in found.values() for row in rows) == list(range(300))
        for name in ("val", "test"):
            assert 0.1 < len(found[name]) / 300 < 0.3
            assert {labels[row] for row in found[name]} == {0, 1, 2}


@pytest.mark.parametrize(
    ("count", "patients", "given", "options", "expected"),
    [
        (999, 0, 0, {}, 0),
        (1000, 0, 0, {}, 200),
        (1000, 29, 0, {}, 0),
        (1000, 30, 0, {}, 200),
        (1000, 29, 0, {"split_by": "image"}, 200),
        (1000, 0, 1, {}, 0),  # one image is given to training: the data has splits
        (1000, 0, 0, {"val_fraction": 0.98}, 0),
        (1000, 0, 0, {"test_fraction": 0}, 0),
        (100, 0, 0, {"test_fraction": 0.1}, 10),
    ],
)
def test_test_images_are_held_out_where_there_are_enough(count, patients, given, options, expected):
    keys = [f"p{number % patients}" if patients else "" for number in range(count)]
    data = columns(
        keys, digests=[str(number) for number in range(count)], given=["train"] * given + [""] * (count - given)
    )
    found = parts(data, **options)
    assert len(found["test"]) == pytest.approx(expected, rel=0.15)
    assert found["val"] == parts(data, **{**options, "test_fraction": 0})["val"], "validation stays as it is"
    if patients and expected and "split_by" not in options:
        sides = [{keys[row] for row in found[name]} for name in ("train", "val", "test")]
        assert sum(map(len, sides)) == patients


def test_the_split_does_not_depend_on_the_order_of_the_files():
    patients = [f"p{number}" for number in np.random.default_rng(1).integers(0, 30, 200)]
    data = columns(patients)
    turned = {name: values[::-1] for name, values in data.items()}
    held_out = [{own["digests"][row] for row in parts(own)["val"]} for own in (data, turned)]
    assert held_out[0] == held_out[1]


def test_images_are_split_one_by_one_where_only_some_have_patients():
    digests = [f"digest{number}" for number in range(8)]
    groups = image_groups([*"ppqq", *[""] * 4], digests, None, np.zeros(8, dtype=bool), by="auto")
    assert (groups.of_patients, groups.count) == (False, 8)


def test_patients_are_divided_only_if_split_by_image():
    data = columns(["a"] * 30 + ["b"] * 30)
    assert {data["patients"][row] for row in parts(data)["val"]} != {"a", "b"}
    assert {data["patients"][row] for row in parts(data, split_by="image")["val"]} == {"a", "b"}
    assert len(parts(columns(["a"] * 30))["val"]) == 6, "one patient alone is split by image"


def test_duplicates_of_several_patients_stay_in_one_split():
    """Ten pairs of patients, of whom each shares one image with the other; and one chain of three."""
    patients = [f"p{number // 10:02}" for number in range(230)]
    digests = [f"digest{number}" for number in range(230)]
    for pair in range(10):
        digests[20 * pair] = digests[20 * pair + 19]
    digests[200] = digests[219]
    digests[210] = digests[229]
    families = [min(number // 20, 10) for number in range(230)]
    for seed in range(5):
        found = parts(columns(patients, digests=digests), split_seed=seed, test_fraction=0.2)
        sides = [{families[row] for row in found[name]} for name in ("train", "val", "test")]
        assert sum(map(len, sides)) == 11, "no family is divided"
        assert sorted(row for rows in found.values() for row in rows) == list(range(230))
        assert len(found["val"]) in (40, 50)
    divided = [parts(columns(patients, digests=digests), split_seed=seed, join_duplicates="none") for seed in range(5)]
    assert any({families[row] for row in own["train"]} & {families[row] for row in own["val"]} for own in divided)
    groups = image_groups(
        patients, digests, [digests.index(digest) for digest in digests], np.zeros(230, bool), by="auto"
    )
    assert (groups.joined, groups.into) == (23, 11)
    assert list(groups.sentences()) == [
        "23 patients share near or exact copies of images and are split as 11 groups (data.join_duplicates)."
    ]


@pytest.mark.parametrize("blank", [False, True])
def test_an_image_that_all_patients_share_joins_none_of_them_and_stays_in_training(blank):
    count = 4 if blank else 20  # patients, of five images each; the first is the same in all
    patients = [f"p{number // 5:02}" for number in range(5 * count)]
    digests = [f"digest{number if number % 5 else 0}" for number in range(5 * count)]
    shared = range(0, 5 * count, 5)
    found = parts(columns(patients, digests=digests), blank=shared if blank else ())
    assert {patients[row] for row in found["val"]}.isdisjoint(patients[row] for row in found["train"])
    held_out = len({patients[row] for row in found["val"]})
    assert held_out == round(0.2 * count)
    assert len(found["val"]) == 4 * held_out, "without the shared image"
    assert len(found["train"]) == 5 * (count - held_out)


@pytest.mark.parametrize("given", ["", "val", "test"])
def test_copies_of_an_image_that_joins_no_patients_are_in_one_split(given):
    """Two of 20 patients have the same blank image; the data may give the split of the first."""
    patients = [f"p{number // 5:02}" for number in range(100)]
    digests = [f"digest{number if number != 50 else 0}" for number in range(100)]
    data = columns(patients, digests=digests, given=[given] * 5 + ["train" if given else ""] * 95)
    left_out = 0
    for seed in range(30):
        found = parts(data, blank=(0, 50), split_seed=seed, test_fraction=0.2)
        split_of = {row: name for name, rows in found.items() for row in rows}
        assert 0 in split_of or 50 in split_of
        if given and split_of.get(50) == "train":
            continue  # only the data itself could prevent that
        assert len({split_of[row] for row in (0, 50) if row in split_of}) == 1
        left_out += 100 - len(split_of)
    assert left_out


def test_splits_given_by_the_data_are_kept():
    given = ["train"] * 10 + ["val"] * 5 + ["test"] * 5
    found = parts(columns([""] * 20, given=given))
    assert {name: sorted(rows) for name, rows in found.items()} == {
        "train": list(range(10)),
        "val": list(range(10, 15)),
        "test": list(range(15, 20)),
    }
    without_val = parts(columns([""] * 20, given=["train"] * 15 + ["test"] * 5))
    assert len(without_val["val"]) == 3
    assert set(without_val["val"]) <= set(range(15))
    assert sorted(without_val["test"]) == list(range(15, 20))


def test_patients_come_from_file_names(tmp_path):
    for i in range(40):
        write_images(tmp_path / f"P{i // 4:02}", 1, start=i)
    for folder in sorted(tmp_path.iterdir()):
        for path in folder.iterdir():
            path.rename(tmp_path / f"{folder.name}_{path.name}")
        folder.rmdir()
    data = prepared(tmp_path, patient_pattern=r"(P\d+)_", val_fraction=0.2)
    assert "10 patients" in data.description
    assert {number(item) // 4 for item in items(data.val_dataset)}.isdisjoint(
        number(item) // 4 for item in items(data.train_dataset)
    )
    assert data.num_val == 8


# Duplicates


def test_exact_copies_stay_in_one_split_and_can_be_dropped(tmp_path):
    write_images(tmp_path / "a", 20)
    write_images(tmp_path / "b", 20)
    (tmp_path / "a").rename(tmp_path / "one")
    root = tmp_path / "all"
    root.mkdir()
    for folder in ("one", "b"):
        for path in (tmp_path / folder).iterdir():
            path.rename(root / f"{folder}{path.name}")
    data = prepared(root, val_fraction=0.3)
    train, val = ({number(item) for item in items(d)} for d in (data.train_dataset, data.val_dataset))
    assert train.isdisjoint(val)
    assert data.num_train + data.num_val == 40
    assert prepared(root, drop_duplicates=True).num_train == 18


def test_near_copies_join_patients_and_frames_without_content_do_not(tmp_path, caplog):
    """Twenty patients of four images; P00 and P01 share a re-encoded image, and all have the same black frame."""
    rng = np.random.default_rng(0)
    black = np.zeros((48, 48), np.uint8)
    black[0, :3] = 200
    for i in range(80):
        smooth = Image.fromarray(rng.uniform(20, 200, (12, 12)).astype(np.float32)).resize((48, 48), Image.BICUBIC)
        values = np.asarray(smooth).clip(0, 250).astype(np.uint8)
        Image.fromarray(values).save(tmp_path / f"P{i // 4:02}_{i}.png")
        if i == 0:
            Image.fromarray(values).save(tmp_path / "P01_again.jpg", quality=95)
        if i == 79:
            Image.fromarray(values + 2).save(tmp_path / "P18_brighter.png")
    for i in range(20):
        Image.fromarray(black + np.uint8(i)).save(tmp_path / f"P{i:02}_black.png")
    options = {"patient_pattern": r"(P\d+)_", "val_fraction": 0.2, "image_size": 48}
    divided = 0
    for seed in range(4):
        caplog.clear()
        source = prepared(tmp_path, split_seed=seed, **options).source
        of_split = {name: {source.file_name(row) for row in rows} for name, rows in named(source).items()}
        for one, other in (("P00_", "P01_"), ("P18_", "P19_")):
            assert sum(any(name.startswith((one, other)) for name in names) for names in of_split.values()) == 1
        assert 16 <= len(of_split["val"]) <= 24
        assert (
            "4 patients share near or exact copies of images and are split as 2 groups (data.join_duplicates)."
            in warnings_of(caplog)
        )
        assert not any("in more than one of" in warning for warning in warnings_of(caplog))
        source = prepared(tmp_path, split_seed=seed, join_duplicates="exact", **options).source
        of_split = [{source.file_name(row)[:3] for row in rows} for rows in named(source).values()]
        divided += any(len({"P00", "P01"} & names) == 1 for names in of_split)
    assert divided


def named(source):
    """Make the source show names of files, and return its rows."""
    source.preparation = replace(source.preparation, show_paths=True)
    return source.rows


def test_copies_in_several_given_splits_are_logged(tmp_path, caplog):
    class Given(ImageFolder):
        def scan(self):
            scan = super().scan()
            scan.records = [replace(record, split="val" if i < 5 else "train") for i, record in enumerate(scan.records)]
            return scan

    write_images(tmp_path, 20)
    os.replace(tmp_path / "019.png", tmp_path / "copy.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "000.png").read_bytes())
    data = prepared(tmp_path, Given)
    assert data.num_val == 5
    assert "Near or exact copies of 1 image are in more than one of training, validation and test." in warnings_of(
        caplog
    )


# The cache


def stores(folder):
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def test_images_are_prepared_once_for_equal_files_and_options(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 10)
    cache = tmp_path / "cache"
    first = prepared(tmp_path / "images", cache_dir=str(cache))
    assert len(stores(cache)) == 1
    monkeypatch.setattr(preparing.Preparer, "__call__", None)  # whoever prepares again fails
    for changes in ({}, {"val_fraction": 0.3}, {"split_seed": 4}, {"flip": "both"}, {"batch_size": 3}):
        again = prepared(tmp_path / "images", cache_dir=str(cache), **changes)
        assert torch.equal(again.source.store.read(np.arange(10)), first.source.store.read(np.arange(10)))
    for changes in ({"resize": "fit"}, {"image_size": 4}, {"window": [100, 50]}, {"random_crop": 10}):
        with pytest.raises(TypeError):
            prepared(tmp_path / "images", cache_dir=str(cache), **changes)
    os.utime(tmp_path / "images" / "000.png", ns=(1, 1))
    with pytest.raises(TypeError):
        prepared(tmp_path / "images", cache_dir=str(cache))


def test_the_cache_uses_one_byte_per_pixel_for_8_bit_files(tmp_path):
    write_images(tmp_path / "8", 6)
    (tmp_path / "16").mkdir()
    write_16_bit(tmp_path / "16", 6)
    for name, size in (("8", 1), ("16", 2)):
        images = np.load(prepared(tmp_path / name).source.store.folder / "images.npy", mmap_mode="r")
        assert images.nbytes == 6 * 64 * size
    narrow = prepared(tmp_path / "16", cache_dtype="uint8")
    assert np.load(narrow.source.store.folder / "images.npy").dtype == np.uint8


def test_a_failure_leaves_no_partial_cache_entry(tmp_path):
    write_images(tmp_path / "images", 10)
    (tmp_path / "images" / "bad.png").write_bytes(b"no image")
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match="it is not an image of a known format"):
        prepared(tmp_path / "images", cache_dir=str(cache))
    assert not [path for path in cache.iterdir() if path.is_dir()]
    (tmp_path / "images" / "bad.png").unlink()
    entry = prepared(tmp_path / "images", cache_dir=str(cache)).source.store.folder
    debris = cache / f".{entry.name}-left-by-a-killed-process"
    debris.mkdir()
    os.rename(entry, tmp_path / "away")
    prepared(tmp_path / "images", cache_dir=str(cache))
    assert not debris.exists()


def _prepare_elsewhere(root, cache, start, results):
    start.wait()
    data = prepared(root, cache_dir=cache, image_size=32)
    results.put(data.source.store.read(np.arange(len(data.source.store))).sum().item())


def test_concurrent_processes_share_one_cache_entry(tmp_path):
    write_images(tmp_path / "images", 60, size=(40, 40))
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    arguments = (tmp_path / "images", str(tmp_path / "cache"), start, results)
    processes = [context.Process(target=_prepare_elsewhere, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    sums = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len(set(sums)) == 1
    assert len(stores(tmp_path / "cache")) == 1


def test_workers_prepare_the_same_images(tmp_path, monkeypatch):
    write_images(tmp_path, 40)
    alone = prepared(tmp_path, cache_dir=str(tmp_path / "c1")).source.store
    monkeypatch.setattr(preparing, "_PARALLEL_FROM", 10)
    together = prepared(tmp_path, cache_dir=str(tmp_path / "c2"), prepare_workers=2).source.store
    # The salt is each cache's own.
    assert alone.columns["digest"] == together.columns["digest"]
    assert torch.equal(alone.read(np.arange(40)), together.read(np.arange(40)))


def test_a_store_can_be_sent_to_a_worker(tmp_path):
    write_images(tmp_path, 10)
    data = prepared(tmp_path)
    copy = pickle.loads(pickle.dumps(data.train_dataset))
    assert torch.equal(copy[3]["image"], data.train_dataset[3]["image"])


def test_small_sets_are_kept_in_memory_and_large_ones_read_from_disk(tmp_path, monkeypatch):
    write_images(tmp_path, 10)
    rows = np.array([7, 0, 0, 3])
    in_memory = prepared(tmp_path).source.store
    monkeypatch.setattr("medsynth.data.cache.RESIDENT", 500)
    on_disk = prepared(tmp_path).source.store
    for _ in range(3):  # pages are let go of in between
        assert torch.equal(in_memory.read(rows), on_disk.read(rows))
    assert in_memory._kept is not None
    assert on_disk._kept is None


def _flip_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


def _without_column(path):
    with np.load(path) as columns:
        kept = {name: columns[name] for name in columns.files if name != "digest"}
    np.savez(path, **kept)


DAMAGES = {
    "cut": lambda path: os.truncate(path, path.stat().st_size - 100),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "changed": _flip_byte,
    "garbage": lambda path: path.write_bytes(b"\x93NUMPY garbage [[[" * 99),
}
OF_MANIFEST = {
    "list": lambda path: path.write_text("[]"),
    "key": lambda path: path.write_text(json.dumps({"class_names": []})),
    "types": lambda path: path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), 3))),
    "nested": lambda path: path.write_text("[" * 200_000),
}
OF_COLUMNS = {
    "pickled": lambda path: np.savez(path, label=np.array([object()], dtype=object)),
    "column": _without_column,
    "length": lambda path: np.savez(path, **{name: np.zeros(3) for name in COLUMNS}),
}
CASES = [
    *(
        (file, damage)
        for file in ("manifest.json", "columns.npz", "images.npy", "checksums.json")
        for damage in DAMAGES
    ),
    *(("manifest.json", damage) for damage in OF_MANIFEST),
    *(("checksums.json", damage) for damage in OF_MANIFEST),
    *(("columns.npz", damage) for damage in OF_COLUMNS),
]


@pytest.mark.parametrize(("file", "damage"), CASES)
def test_a_damaged_cache_entry_is_prepared_again(tmp_path, caplog, file, damage):
    write_images(tmp_path / "images", 12)
    cache = tmp_path / "cache"
    before = prepared(tmp_path / "images", cache_dir=str(cache)).source.store
    images, columns, manifest = before.read(np.arange(12)), dict(before.columns), before.manifest
    (DAMAGES | OF_MANIFEST | OF_COLUMNS)[damage](before.folder / file)
    caplog.clear()
    again = prepared(tmp_path / "images", cache_dir=str(cache)).source.store
    assert torch.equal(again.read(np.arange(12)), images)
    assert dict(again.columns) == columns
    assert again.manifest == manifest
    assert [text for text in warnings_of(caplog) if "are damaged" in text and "they are prepared again" in text]
    assert [path.name for path in stores(cache)] == [again.folder.name]
    caplog.clear()
    prepared(tmp_path / "images", cache_dir=str(cache))
    assert not [text for text in warnings_of(caplog) if "damaged" in text]


@pytest.mark.parametrize("file", ["manifest.json", "columns.npz"])
@pytest.mark.parametrize("damage", ["list", "key", "pickled", "column", "length"])
def test_files_that_their_checksums_fit_are_checked_for_what_they_hold(tmp_path, file, damage):
    """Checksums find chance alone: whoever changes a file on purpose can write them too."""
    of_file = OF_MANIFEST if file == "manifest.json" else OF_COLUMNS
    if damage not in of_file:
        return
    write_images(tmp_path / "images", 12)
    entry = prepared(tmp_path / "images").source.store.folder
    of_file[damage](entry / file)
    (entry / "checksums.json").unlink()
    write_checksums(entry)
    with pytest.raises(Damaged, match=file):
        Store(entry)


def test_damage_of_a_large_set_is_found_when_it_is_read_and_repaired_by_the_next_run(tmp_path, monkeypatch):
    monkeypatch.setattr("medsynth.checksums.AT_ONCE", 0)
    monkeypatch.setattr("medsynth.checksums.BLOCK", 256)
    monkeypatch.setattr("medsynth.data.cache.RESIDENT", 0)
    write_images(tmp_path / "images", 40)
    before = prepared(tmp_path / "images").source.store
    images = before.read(np.arange(40))
    with (before.folder / "images.npy").open("r+b") as file:
        file.seek(128 + 30 * 64 + 7)
        file.write(b"\xaa")
    store = Store(before.folder)
    assert torch.equal(store.read(np.array([3, 0, 7, 3])), images[[3, 0, 7, 3]])
    copy = pickle.loads(pickle.dumps(store))
    for reader in (store, copy):
        with pytest.raises(DataError, match=r"images\.npy has changed\): start or resume again, and they are prepared"):
            reader.read(np.array([5, 30]))
    again = prepared(tmp_path / "images").source.store
    assert torch.equal(again.read(np.arange(40)), images)


def test_damage_found_by_a_loading_process_ends_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("medsynth.checksums.AT_ONCE", 0)
    monkeypatch.setattr("medsynth.checksums.BLOCK", 256)
    monkeypatch.setattr("medsynth.data.cache.RESIDENT", 0)
    write_images(tmp_path / "images", 40)
    data = prepared(tmp_path / "images", num_workers=1, batch_size=8)
    path = data.source.store.folder / "images.npy"
    path.write_bytes(path.read_bytes()[:1000] + b"\xaa" * 1688)
    data.source.store._images._unverified[:] = True  # the preparation has read them all
    for loader in (data.train_dataloader(), data.ordered_batches()):
        with pytest.raises(DataError, match="are damaged") as caught:
            list(loader)
        assert "\n" not in str(caught.value)


def test_the_cache_is_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "medsynth" / "data").mkdir(parents=True, mode=0o755)  # by an earlier version
    write_images(tmp_path / "images", 10)
    prepared(tmp_path / "images")
    prepared(tmp_path / "images", cache_dir=str(tmp_path / "cache"))
    for folder in (tmp_path / "home" / "medsynth" / "data", tmp_path / "cache"):
        assert_private(folder)


def test_a_lost_salt_is_replaced(tmp_path):
    first = salt(tmp_path)
    assert salt(tmp_path) == first
    for content in (b"", b"short"):
        (tmp_path / "salt").write_bytes(content)
        assert len(salt(tmp_path)) == 32


def test_a_cache_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data\.cache_dir=.*file.* cannot be written to"):
        cache_folder(str(tmp_path / "file" / "below"))


def test_the_cache_names_neither_files_nor_patients(tmp_path):
    write_images(tmp_path / "images", 20)
    for number_, path in enumerate(sorted((tmp_path / "images").iterdir())):
        path.rename(path.with_name(f"MUSTERMANN{number_ // 5}_{path.name}"))
    data = prepared(tmp_path / "images", cache_dir=str(tmp_path / "cache"), patient_pattern=r"(MUSTERMANN\d)_")
    content = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    patients = data.source.columns["patient"]
    assert b"MUSTERMANN" not in content
    assert len(set(patients)) == 4
    assert all(re.fullmatch("[0-9a-f]{12}", key) for key in patients)
    assert (tmp_path / "cache" / "salt").stat().st_mode & 0o077 == 0


# Random views


def test_views_differ_in_each_epoch_and_depend_on_the_counter_alone(tmp_path):
    write_images(tmp_path, 20)
    options = {"flip": "both", "rotate": 20, "random_crop": 12, "batch_size": 6}

    def epochs(num_workers=0, start=None):
        loader = prepared(tmp_path, num_workers=num_workers, **options).train_dataloader()
        if start is not None:
            loader.batch_sampler.start_at(start)
        return [batch for _ in range(2) for batch in loader]

    whole = epochs()
    assert len(whole) == 6
    for first, again in zip(whole, epochs(num_workers=2), strict=True):
        assert torch.equal(first["image"], again["image"])
    assert torch.equal(epochs(start=2)[0]["image"], whole[2]["image"])
    assert all(0 <= index < 18 for batch in whole for index in batch["index"].tolist())
    by_index = {}
    for batch in whole:
        for index, image in zip(batch["index"].tolist(), batch["image"], strict=True):
            by_index.setdefault(index, []).append(image)
    assert all(len(images) == 2 and not torch.equal(*images) for images in by_index.values())
    data = prepared(tmp_path, **options)
    assert not data.images_are_fixed
    assert torch.equal(data.val_dataset[0]["image"], prepared(tmp_path, random_crop=12).val_dataset[0]["image"])


def test_flips_mirror_and_rotations_keep_the_border():
    image = torch.from_numpy(RAMP[None].astype(np.float32)) / 128 - 1
    for flip, mirrored in (("horizontal", image.flip(2)), ("vertical", image.flip(1))):
        found = [RandomViews(8, flip=flip, rotate=0)(image, seed) for seed in range(20)]
        assert any(torch.equal(view, mirrored) for view in found)
        assert all(torch.equal(view, mirrored) or torch.equal(view, image) for view in found)
    constant = RandomViews(8, flip=None, rotate=45)(torch.full((1, 8, 8), -0.7), 3)
    torch.testing.assert_close(constant, torch.full((1, 8, 8), -0.7))
    turned = RandomViews(8, flip=None, rotate=45)(image, 3)
    assert type(turned) is torch.Tensor
    assert not torch.equal(turned, image)


def test_random_crops_cover_all_positions():
    image = torch.arange(144.0).reshape(1, 12, 12)
    corners = {int(RandomViews(8, flip=None, rotate=0)(image, seed)[0, 0, 0]) for seed in range(300)}
    assert corners == {12 * top + left for top in range(5) for left in range(5)}
