"""Key points: phantoms know theirs, label maps give them, and a small network finds them."""

import dataclasses

import numpy as np
import pytest
import torch

from medsynth.data.phantom.source import ANATOMIES, LANDMARKS, Phantoms
from medsynth.metrics.image_set import ImageSet
from medsynth.utility.arms import Arm
from medsynth.utility.augmentation import Augmentation
from medsynth.utility.fit import Fit
from medsynth.utility.job import Job, run_job
from medsynth.utility.keypoints import HeatmapNetwork, KeyPoints, points_of_masks
from medsynth.utility.sets import Options, Sets
from medsynth.utility.study import compare, prepare
from medsynth.utility.task import Examples

NAMES = ("bright", "dark")
TASK = KeyPoints(NAMES, augmentation=Augmentation(shift=0.125), width=4, sigma=1.0)
OPTIONS = Options(fit=Fit(steps=3, batch_size=4), seeds=2, sizes=(16,), ratios=(1,), measure="localization_error")


def dots(name, count, *, seed, patients=None):
    """Return noise of 16 x 16 pixels with a bright and a dark dot, and the positions of both."""
    random = np.random.default_rng(seed)
    points = random.integers(2, 14, (count, 2, 2))
    values = random.normal(0, 0.1, (count, 1, 16, 16))
    for number, (bright, dark) in enumerate(points):
        values[number, 0, bright[1], bright[0]] += 1
        values[number, 0, dark[1], dark[0]] -= 1
    images = torch.tensor(values.clip(-1, 1), dtype=torch.float32)
    groups = None if patients is None else np.arange(count) % patients
    return ImageSet(name, count, lambda numbers: images[list(numbers)], groups=groups), points.astype(np.float32)


def sets(*, known):
    (training, own), (test, tested) = dots("training", 16, seed=1), dots("test", 40, seed=2, patients=4)
    synthetic, points = dots("generated", 32, seed=3)
    return Sets(training, test, synthetic, targets=(own, tested, points if known else None))


@pytest.mark.parametrize("anatomy", [*ANATOMIES])
def test_landmarks_of_lesions_are_where_lesions_change_the_image(anatomy):
    source = Phantoms(image_size=64, anatomies=anatomy, classes=("one_lesion",))
    errors = []
    for index in range(8):
        change = np.abs(source.hounsfield("train", index) - source.hounsfield("train", index, lesions=False))
        rows, columns = np.mgrid[:64, :64]
        change = np.where(change > 0.3 * change.max(), change, 0)
        center = [(change * axis).sum() / change.sum() for axis in (columns, rows)]
        found = source.landmarks("train", index)[LANDMARKS.index("lesion")]
        errors.append(np.linalg.norm(found - center))
    assert np.median(errors) < 1
    assert max(errors) < 3, "a part of a lesion may be hidden"


def test_landmarks_lie_on_their_sides_at_every_size():
    small, large = (Phantoms(image_size=size, anatomies="head") for size in (32, 128))
    left, right, front, back, lesion = small.landmarks("train", 0)
    assert left[0] < front[0] < right[0]
    assert front[1] < left[1] < back[1]
    assert np.isnan(lesion).all(), "a healthy image has no lesion"
    scaled = (large.landmarks("train", 0)[:4] + 0.5) / 4 - 0.5
    assert np.abs(scaled - [left, right, front, back]).max() < 0.5


def test_points_of_masks_are_the_centers_of_regions():
    masks = np.zeros((2, 6, 8), dtype=int)
    masks[0, 1:3, 4:7] = 1
    masks[1, 5, 0] = 2
    points = points_of_masks(masks, (1, 2))
    assert points[0, 0].tolist() == [5.0, 1.5]
    assert points[1, 1].tolist() == [0.0, 5.0]
    assert np.isnan(points[0, 1]).all()


def test_augmented_points_move_with_their_images():
    images, points = dots("training", 8, seed=4)
    still = dataclasses.replace(TASK.augmentation, brightness=0, contrast=0)
    task = KeyPoints(NAMES, augmentation=still)
    moved, at = task.batch(Examples(task.encode(images, augmented=True), points), np.arange(8), augmented=True)
    assert not np.array_equal(at, points)
    for image, (bright, dark) in zip(moved[:, 0].numpy(), at, strict=True):
        inside = min(bright) >= 0 and max(bright) < 16
        assert not inside or image[int(bright[1]), int(bright[0])] > 0.5
        inside = min(dark) >= 0 and max(dark) < 16
        assert not inside or image[int(dark[1]), int(dark[0])] < -0.5


def test_points_that_are_not_visible_do_not_count():
    network = HeatmapNetwork(1, 2, 4)
    images, points = torch.zeros(2, 1, 16, 16), np.full((2, 2, 2), 5, dtype=np.float32)
    before = TASK.loss(network, images, points)
    points[1, 1] = np.nan
    images[1] = 0
    assert TASK.loss(network, images, points).isfinite()
    assert before.isfinite()
    predicted = torch.tensor([[[5.0, 5, 1], [8, 9, 1]], [[5, 6, 1], [0, 0, 1]]])
    measures = TASK.measures(TASK.scores(predicted, points), points)
    assert measures["localization_error"] == pytest.approx((0 + 5 + 1) / 3)
    assert measures["localization_error/dark"] == pytest.approx(5)


def test_uncertain_points_get_no_pseudo_label():
    labels = TASK.labeled(torch.tensor([[[1.0, 2.0, 0.9], [3.0, 4.0, 0.1]]]))
    assert labels[0, 0].tolist() == [1, 2]
    assert np.isnan(labels[0, 1]).all()


def test_a_network_finds_the_points():
    material = prepare(sets(known=True), TASK, dataclasses.replace(OPTIONS, fit=Fit(100, 16, 2e-2)))
    row = run_job(Job(Arm("mixed", 1), 16, 0), material)
    assert row["values"]["localization_error"] < 1
    assert row["count"] == 32


@pytest.mark.parametrize("known", [True, False])
def test_gains_in_errors_are_positive_where_the_error_is_lower(known):
    record = compare(sets(known=known), TASK, OPTIONS).to_dict()
    row = next(d for d in record["differences"] if (d["arm"], d["control"]) == ("mixed_1", "duplicated_1"))
    assert row["gain"] == pytest.approx(row["control_value"] - row["arm_value"])
    assert record["better"] == "lower"
    assert any("pseudo-labels" in note for note in record["notes"]) != known
