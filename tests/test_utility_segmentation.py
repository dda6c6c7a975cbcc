"""Segmentation: label maps follow their images, the measures are those of their definitions, and gains are found."""

import dataclasses
import json

import nibabel
import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from medsynth.configuration.checked_composition import compose_checked
from medsynth.data.label_maps import label_maps
from medsynth.data.phantom.source import Phantoms
from medsynth.errors import InputError
from medsynth.metrics.image_set import ImageSet
from medsynth.utility.arms import Arm
from medsynth.utility.augmentation import Augmentation
from medsynth.utility.fit import Fit
from medsynth.utility.job import Job, run_job
from medsynth.utility.segmentation import Segmentation
from medsynth.utility.sets import Options, Sets
from medsynth.utility.study import compare, prepare
from medsynth.utility.task import Examples

TASK = Segmentation(("bright", "dark"), augmentation=Augmentation(shift=0.125), width=4)
OPTIONS = Options(fit=Fit(steps=2, batch_size=4), seeds=2, sizes=(8,), ratios=(1,), measure="dice")


def blocks(name, count, *, seed):
    """Return noise of 16 x 16 pixels with a bright and, in half of the images, a dark block, and their label maps."""
    random = np.random.default_rng(seed)
    values, maps = random.normal(0, 0.2, (count, 1, 16, 16)), np.zeros((count, 16, 16), dtype=np.uint8)
    for number in range(count):
        for region in (1, 2)[: 1 + number % 2]:
            row, column = random.integers(0, 11, 2)
            values[number, 0, row : row + 5, column : column + 5] = 0.8 if region == 1 else -0.8
            maps[number, row : row + 5, column : column + 5] = region
    images = torch.tensor(values.clip(-1, 1), dtype=torch.float32)
    return ImageSet(name, count, lambda numbers: images[list(numbers)]), maps


def sets(*, known):
    (training, own), (test, tested) = blocks("training", 8, seed=1), blocks("test", 20, seed=2)
    synthetic, maps = blocks("generated", 16, seed=3)
    return Sets(training, test, synthetic, targets=(own, tested, maps if known else None))


@pytest.mark.parametrize("anatomy", ["head", "abdomen", "chest"])
def test_lesion_masks_are_where_lesions_change_the_image(anatomy):
    source = Phantoms(image_size=64, anatomies=anatomy, classes=("one_lesion", "healthy"))
    overlaps = []
    for index in range(0, 12, 2):
        mask = source.lesion_mask("train", index).astype(bool)
        change = np.abs(source.hounsfield("train", index) - source.hounsfield("train", index, lesions=False))
        if mask.any():  # a lesion may be smaller than half a pixel of its organ
            overlaps.append(change[mask].mean() / change[~mask].mean())
        assert not source.lesion_mask("train", index + 1).any(), "a healthy image has no lesion"
    assert len(overlaps) >= 4
    assert min(overlaps) > 10


def test_masks_of_lesions_are_as_large_as_their_outlines():
    source = Phantoms(image_size=128, anatomies="head", classes=("one_lesion",))
    pixel = source.spacing[0] ** 2
    for index in range(6):
        shape = source.lesions("train", index)[0]
        assert source.lesion_mask("train", index).sum() * pixel == pytest.approx(np.pi * shape.a * shape.b, rel=0.25)


def test_dice_and_hausdorff_distance_are_those_of_their_definitions():
    random = np.random.default_rng(0)
    true, found = (random.choice(3, (6, 12, 12), p=(0.9, 0.05, 0.05)).astype(np.uint8) for _ in range(2))
    true[0][true[0] == 2] = 0  # an image without the second region
    found[1][found[1] == 1] = 0  # one where the first one is not found
    scores = TASK.scores(torch.tensor(found), true).numpy()
    for number in range(6):
        for region in (1, 2):
            a, b = (np.argwhere(maps[number] == region) for maps in (found, true))
            dice, distance = scores[number, region - 1]
            if not len(b):
                assert np.isnan([dice, distance]).all()
                continue
            same = len(set(map(tuple, a)) & set(map(tuple, b)))
            assert dice == pytest.approx(2 * same / (len(a) + len(b)))
            if not len(a):
                assert distance == pytest.approx(12 * 2**0.5, rel=1e-6), "the diagonal"
                continue
            gaps = np.linalg.norm(a[:, None] - b[None], axis=2)  # isolated pixels: all are of the boundary
            expected = max(np.percentile(gaps.min(axis=1), 95), np.percentile(gaps.min(axis=0), 95))
            assert distance == pytest.approx(expected, rel=1e-4)


def test_measures_are_means_over_the_images_that_show_a_region():
    true, found = np.zeros((4, 8, 8), dtype=np.uint8), np.zeros((4, 8, 8), dtype=np.uint8)
    true[0, 2:4, 2:4] = found[0, 2:4, 2:4] = 1  # found exactly
    true[1, 2:4, 2:4] = 1  # not found
    found[2, 0, 0] = 2  # a false alarm; the last image is right
    scores = TASK.scores(torch.tensor(found), true)
    measures = TASK.measures(scores, true)
    assert measures["dice"] == measures["dice/bright"] == pytest.approx(0.5)
    assert "dice/dark" not in measures
    assert measures["hausdorff95/bright"] == pytest.approx(128**0.5 / 2)
    assert measures["false_alarms"] == pytest.approx(0.5)
    assert "false_alarms" not in TASK.measures(scores[:2], true[:2])
    assert [TASK.is_error(name) for name in ("dice", "dice/dark", "hausdorff95", "false_alarms")] == [0, 0, 1, 1]


def test_augmented_label_maps_move_with_their_images():
    images, maps = blocks("training", 12, seed=4)
    still = Segmentation(TASK.regions, augmentation=Augmentation(shift=0.25, brightness=0, contrast=0))
    moved, at = still.batch(Examples(still.encode(images, augmented=True), maps), np.arange(12), augmented=True)
    assert not np.array_equal(at, maps)
    assert set(np.unique(at)) == {0, 1, 2}
    for image, labels in zip(moved[:, 0].numpy(), at, strict=True):
        assert np.allclose(image[labels == 1], 0.8, atol=1e-3)
        assert np.allclose(image[labels == 2], -0.8, atol=1e-3)


def test_the_loss_is_dice_of_the_batch_and_cross_entropy():
    images, maps = blocks("training", 3, seed=5)
    logits = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    network = torch.nn.Module()
    network.forward = lambda inputs: logits
    chances, aims = logits.softmax(1).numpy(), np.eye(3)[maps].transpose(0, 3, 1, 2)
    both = (chances * aims).sum(axis=(0, 2, 3))
    dice = 2 * both / (chances.sum(axis=(0, 2, 3)) + aims.sum(axis=(0, 2, 3)))
    expected = 1 - dice[1:].mean() - (np.log(chances) * aims).sum(axis=1).mean()
    assert TASK.loss(network, images.read(range(3)), maps).item() == pytest.approx(expected, rel=1e-4)


def test_images_of_odd_sides_are_refused():
    images = ImageSet("training", 2, lambda numbers: torch.zeros(len(numbers), 1, 18, 18))
    with pytest.raises(InputError, match="multiples of 4 pixels, and these have 18 x 18"):
        TASK.encode(images, augmented=False)


def test_a_network_finds_the_regions():
    material = prepare(sets(known=True), TASK, dataclasses.replace(OPTIONS, fit=Fit(60, 16, 2e-2)))
    row = run_job(Job(Arm("mixed", 1), 8, 0), material)
    assert row["values"]["dice"] > 0.7
    assert row["count"] == 16


def test_gains_are_positive_where_a_network_is_better_also_in_errors():
    record = compare(sets(known=False), TASK, OPTIONS).to_dict()
    assert record["better"] == "higher"
    assert any("pseudo-labels" in note for note in record["notes"])
    for row in record["differences"]:
        sign = -1 if row["measure"].startswith("hausdorff95") else 1
        assert row["gain"] == pytest.approx(sign * (row["arm_value"] - row["control_value"]))
    assert json.loads(json.dumps(record)) == record


def test_other_targets_are_other_work(tmp_path):
    compare(sets(known=True), TASK, OPTIONS, folder=tmp_path)
    other = sets(known=True)
    changed = dataclasses.replace(other, targets=(other.targets[0], 2 - other.targets[1], other.targets[2]))
    with pytest.raises(InputError, match=r"results of other options or data \(data\)"):
        compare(changed, TASK, OPTIONS, folder=tmp_path)


def volumes(root):
    """Write three volumes of 10 x 16 x 16 voxels, in which label 7 is a bright box and label 4 a dark one."""
    random = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for patient in range(3):
        values, labels = random.normal(100, 5, (10, 16, 16)), np.zeros((10, 16, 16), dtype=np.uint8)
        labels[2:6, 3 + patient : 9, 4:9], labels[5:8, 10:14, 8:14] = 7, 4
        values[labels == 7] += 100
        values[labels == 4] -= 90
        for folder, array in (("images", values.astype(np.float32)), ("labels", labels)):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1, 1, 1, 1])), root / folder / f"p{patient}.nii")


def source_of(root, *options):
    config = compose_checked(
        "train",
        [
            "data=nifti",
            f"data.root={root}",
            "data.reader.axis=sagittal",
            "data.reader.min_content=0",
            "data.reader.images=images",
            "data.image_size=16",
            "data.val_fraction=0.34",
            f"data.cache_dir={root}/cache",
            *options,
        ],
    )
    data = instantiate(config.data, _convert_="all")
    data.prepare()
    return data


@pytest.mark.parametrize("options", [(), ("data.resize=fit", "data.image_size=32"), ("data.crop=12",)])
def test_label_maps_of_volumes_lie_on_their_images(tmp_path, options):
    volumes(tmp_path)
    data = source_of(tmp_path, "data.reader.labels=labels", "data.reader.label_names={4: dark, 7: bright}", *options)
    names, maps = label_maps(data.source, ("train", "val"))
    assert names == ("dark", "bright")
    for images, own in zip((data.train_dataset, data.val_dataset), maps, strict=True):
        assert len(images) == len(own)
        assert {0, 1, 2} == set(np.unique(own))
        for number in range(len(images)):
            image = images[number]["image"][0].numpy()
            means = [image[own[number] == label].mean() for label in np.unique(own[number])]
            label = np.unique(own[number]).tolist()
            if 2 in label and 0 in label:
                assert means[label.index(2)] > means[label.index(0)] + 0.3
            if 1 in label and 0 in label:
                assert means[label.index(1)] < means[label.index(0)] - 0.3


def test_images_without_label_maps_are_refused(tmp_path):
    volumes(tmp_path)
    with pytest.raises(InputError, match="The images of this data have no label maps"):
        label_maps(source_of(tmp_path).source, ("train",))
