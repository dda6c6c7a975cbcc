"""Known-answer data: points and drawn slices of known modes, the same for any order, count and process, read back."""

import math

import numpy as np
import pytest
import torch

from medsynth.contracts import InputError, ModeReader
from medsynth.data.modes import GaussianGrid, GaussianRing, StackedPhantoms
from medsynth.data.modes.stacked_phantoms import GOOD_WITHIN
from medsynth.data.module import ImageDataModule

SMALL = {"num_images": 600, "num_val": 300, "num_test": 300}
SOURCES = [GaussianRing, GaussianGrid, StackedPhantoms]
MODES = {GaussianRing: 8, GaussianGrid: 25, StackedPhantoms: 216}


def points(*coordinates):
    return torch.tensor(coordinates, dtype=torch.float32)[:, :, None, None]


@pytest.mark.parametrize("source", SOURCES)
def test_all_modes_are_equally_frequent_classes_and_read_back(source):
    source = source(**SMALL)
    assert isinstance(source, ModeReader)
    assert source.num_modes == MODES[type(source)] == len(set(source.class_names))
    for dataset, count in zip(source.datasets(), (600, 300, 300), strict=True):
        batch = dataset.__getitems__(range(count))
        assert batch["image"].shape == (count, source.channels, source.image_size, source.image_size)
        assert batch["image"].dtype == torch.float32
        assert batch["image"].abs().max() <= 1
        assert torch.equal(batch["label"], torch.arange(count) % source.num_modes)
        read = source.modes(batch["image"])
        assert torch.equal(read[read >= 0], batch["label"][read >= 0])
        assert (read >= 0).double().mean() > 0.97


@pytest.mark.parametrize("source", SOURCES)
def test_an_image_depends_on_seed_split_and_index_alone(source):
    few, many = source(**SMALL), source(**{**SMALL, "num_images": 1500})
    assert torch.equal(few.images("train", 600), many.images("train", 1500)[:600])
    assert not torch.equal(few.images("train", 300), few.images("val", 300))
    assert not torch.equal(few.images("train", 300), source(**SMALL, seed=1).images("train", 300))
    train = few.datasets().train
    one, batch = train[31], train.__getitems__([5, 31])
    assert torch.equal(one["image"], batch["image"][1])
    assert (one["label"], one["index"]) == (int(batch["label"][1]), 31)
    assert len(torch.unique(many.images("train", 1500).flatten(1), dim=0)) == 1500, "blocks differ"
    with pytest.raises(IndexError):
        train[600]
    assert few.content != many.content


@pytest.mark.parametrize(
    ("source", "deviation", "distance"),
    [(GaussianRing, 0.01 * 0.8, 2 * 0.8 * math.sin(math.pi / 8)), (GaussianGrid, 0.05 / 2 * 0.4, 0.4)],
)
def test_proportions_of_the_mixtures_are_those_of_the_literature(source, deviation, distance):
    source = source(num_images=20_000)
    images = source.images("train", 20_000).flatten(1).double().numpy()
    centers = source.centers[np.arange(20_000) % source.num_modes]
    assert (images - centers).std(axis=0) == pytest.approx(deviation, rel=0.03)
    apart = np.linalg.norm(source.centers[:, None] - source.centers, axis=2) + 9 * np.eye(source.num_modes)
    assert apart.min(axis=1) == pytest.approx(distance)
    assert np.abs(source.centers).max() == pytest.approx(0.8)
    # Within three standard deviations: 1 - exp(-9/2) in two dimensions.
    good = (source.modes(source.images("train", 20_000)) >= 0).double().mean().item()
    assert good == pytest.approx(1 - math.exp(-4.5), abs=0.003)


def test_a_point_is_good_within_three_standard_deviations():
    ring = GaussianRing()
    assert ring.modes(points((0.8 + 0.0239, 0), (0.8, -0.0239), (0.8 + 0.0241, 0), (0, 0.8), (0, 0))).tolist() == [
        *[0, 0, -1],
        *[2, -1],
    ]
    grid = GaussianGrid()
    assert grid.modes(points((-0.8, -0.8), (-0.4, -0.8), (0.8, 0.8), (0.2, 0.2))).tolist() == [0, 1, 24, -1]


def test_the_reader_of_stacked_phantoms_reads_real_images():
    """More than 99.5 % of real images are good images of the mode they were drawn as, and none is read as another."""
    for options in ({}, {"seed": 3}, {"image_size": 32}):
        source = StackedPhantoms(**options)
        read, drawn = source.modes(source.images("test", 2160)), torch.arange(2160) % 216
        assert (read == drawn).double().mean() >= 0.995
        assert torch.all((read == drawn) | (read == -1))


def test_templates_of_stacked_phantoms_have_the_attributes_of_their_names():
    source = StackedPhantoms()
    for name, image in zip(source.class_names, source.templates, strict=True):
        left, right = image[:, :8], image[:, 8:]
        organ, lesion = (left, right) if "left" in name else (right, left)
        assert np.sign(organ.sum()) == (1 if organ.max() > 0 else -1) == (1 if name.split()[2] == "bright" else -1)
        strongest = lesion[6:10].flat[np.abs(lesion[6:10]).argmax()]
        expected = {"healthy": 0, "bright lesion": 1, "dark lesion": -1}[" ".join(name.split()[5:])]
        assert (np.sign(strongest) if abs(strongest) > 0.7 else 0) == expected
        rows = np.abs(organ).sum(axis=1)
        center = (rows * np.arange(16)).sum() / rows.sum() - 7.5
        assert int(center > 2) - int(center < -2) == {"upper": -1, "middle": 0, "lower": 1}[name.split()[4]]


def test_what_lies_between_two_modes_or_is_noisy_is_no_good_image():
    source = StackedPhantoms()
    templates = torch.from_numpy(source.templates)[:, None].float()
    healthy, lesion = templates[0], templates[1]
    mixed = torch.stack([torch.lerp(healthy, lesion, share) for share in (0.2, 0.3, 0.5, 0.7, 0.8)])
    assert source.modes(mixed).tolist() == [0, -1, -1, -1, 1]
    noise = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    noise /= noise.square().mean().sqrt()
    assert source.modes(healthy + 0.95 * GOOD_WITHIN * noise).tolist() == [0]
    assert source.modes(healthy + 1.05 * GOOD_WITHIN * noise).tolist() == [-1]


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (GaussianRing, {"channels": 1}, "data.channels=1"),
        (GaussianGrid, {"image_size": 16}, "data.image_size=16"),
        (GaussianRing, {"num_modes": 1}, "data.source.num_modes=1"),
        (GaussianRing, {"sigma": 0.2}, "modes overlap"),
        (GaussianGrid, {"sigma": 0.0}, "data.source.sigma=0.0"),
        (GaussianGrid, {"side": 1}, "data.source.side=1"),
        (GaussianGrid, {"num_val": 1}, "data.source.num_val=1"),
        (StackedPhantoms, {"image_size": 8}, "data.image_size=8"),
        (StackedPhantoms, {"channels": 3}, "data.channels=3"),
        (StackedPhantoms, {"noise": -1.0}, "data.source.noise"),
    ],
)
def test_impossible_options_are_refused(source, options, words):
    with pytest.raises(InputError, match=words):
        source(**options)


@pytest.mark.parametrize("source", SOURCES)
def test_batches_of_the_data_module_are_those_of_the_source(source):
    source = source(**SMALL)
    data = ImageDataModule(source=source, channels=source.channels, image_size=source.image_size, batch_size=64, seed=0)
    data.prepare()
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(batch["image"], source.images("train", 600)[batch["index"]])
    assert torch.equal(torch.cat([rows["image"] for rows in data.val_dataloader()]), source.images("val", 300))
