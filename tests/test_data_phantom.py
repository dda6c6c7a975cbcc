"""Phantoms: reproducible images in Hounsfield units, with as many lesions as their label says."""

import pickle

import numpy as np
import pytest
import torch

from medsynth.contracts import InputError
from medsynth.data.phantom import Phantoms
from medsynth.data.phantom.canvas import Canvas, Shape

ANATOMIES = ("head", "abdomen", "chest")
COUNTS = {"healthy": {0}, "one_lesion": {1}, "several_lesions": {2, 3, 4}}


def images(dataset, count):
    return torch.stack([dataset[index]["image"] for index in range(count)])


@pytest.mark.parametrize("anatomy", ANATOMIES)
@pytest.mark.parametrize("image_size", [16, 48, 64, 100])
def test_any_size_gives_images_in_range(anatomy, image_size):
    train, *_ = Phantoms(image_size=image_size, channels=3, anatomies=[anatomy], num_images=6, seed=0).datasets()
    batch = images(train, 6)
    assert batch.shape == (6, 3, image_size, image_size)
    assert batch.dtype == torch.float32
    assert batch.min() == -1
    # At 16 pixels of 23 mm hardly one is full of bone.
    assert batch.max() == 1 if image_size > 16 else 0.7 < batch.max() <= 1
    assert torch.equal(batch[:, 0], batch[:, 2])


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_another_size_shows_the_same_image(anatomy):
    fine, coarse = (Phantoms(image_size=size, anatomies=anatomy, noise_hu=0, seed=4) for size in (128, 32))
    for index in range(6):
        pooled = fine.hounsfield("train", index).reshape(32, 4, 32, 4).mean(axis=(1, 3)).ravel()
        same = np.corrcoef(pooled, coarse.hounsfield("train", index).ravel())[0, 1]
        other = np.corrcoef(pooled, coarse.hounsfield("train", index + 3).ravel())[0, 1]
        assert same > 0.97
        assert same > other + 0.02


def test_an_image_depends_on_seed_split_and_index_alone():
    first, again = (Phantoms(image_size=32, num_images=12, num_val=12, seed=1) for _ in range(2))
    train, val, _ = first.datasets()
    other = Phantoms(image_size=32, num_images=12, num_val=12, seed=2).datasets()[0]
    backwards = again.datasets()[0]
    for index in reversed(range(12)):
        assert torch.equal(backwards[index]["image"], train[index]["image"])
    assert torch.equal(train[3]["image"], train[3]["image"])
    everything = torch.cat([images(dataset, 12) for dataset in (train, val, other)]).flatten(1)
    difference = torch.cdist(everything, everything, p=1) / everything.shape[1]
    difference.fill_diagonal_(1)
    assert difference.min() > 0.02, "no two images are alike"


def test_more_images_do_not_change_the_first_ones():
    few, many = (Phantoms(image_size=16, num_images=number, seed=1).datasets()[0] for number in (4, 40))
    assert torch.equal(images(few, 4), images(many, 4))


@pytest.mark.parametrize(("num_test", "expected"), [(None, 4), (7, 7), (0, 0)])
def test_test_images_are_other_images(num_test, expected):
    train, val, test = Phantoms(image_size=16, num_images=4, num_val=4, num_test=num_test, seed=1).datasets()
    assert (0 if test is None else len(test)) == expected
    for dataset in (train, val) if test else ():
        assert not torch.equal(images(test, 4), images(dataset, 4))


@pytest.mark.parametrize("num_images", [30, None])
def test_classes_are_balanced_and_labels_are_known_without_rendering(num_images):
    source = Phantoms(image_size=16, anatomies=ANATOMIES, num_images=num_images, num_val=18, epoch_images=45, seed=0)
    assert source.class_names[:4] == ("head healthy", "head one_lesion", "head several_lesions", "abdomen healthy")
    assert len(source.class_names) == 9
    for dataset in source.datasets()[:2]:
        counts = torch.bincount(dataset.labels, minlength=9)
        assert len(dataset.labels) == len(dataset)
        assert counts.max() - counts.min() <= 1
        assert all(dataset[index]["label"] == dataset.labels[index] for index in range(18))
        assert dataset[7]["index"] == 7


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_lesions_match_the_label_and_are_visible(anatomy):
    source = Phantoms(image_size=64, anatomies=anatomy, seed=5)
    low, high = source.windows[0]
    for index in range(30):
        lesions = source.lesions("train", index)
        assert len(lesions) in COUNTS[source.class_names[index % 3]]
        with_lesions, without = (
            np.clip(source.hounsfield("train", index, lesions=kept), low, high) for kept in (True, False)
        )
        changed = np.abs(with_lesions - without) / (high - low)
        if not lesions:
            assert changed.max() == 0
            continue
        assert changed.max() > 0.15, "of the window"
        # Ten of the 4096 pixels for each, and nothing far away from a lesion.
        assert (changed > 0.1).sum() >= 8 * len(lesions)
        assert (changed > 0.02).mean() < 0.06 * len(lesions)


def test_lesions_of_one_image_do_not_touch():
    source = Phantoms(image_size=16, anatomies=ANATOMIES, classes="several_lesions", seed=0)
    for index in range(60):
        lesions = source.lesions("train", index)
        for number, one in enumerate(lesions):
            for other in lesions[:number]:
                assert np.hypot(one.x - other.x, one.y - other.y) > max(one.a, one.b) + max(other.a, other.b)


def test_tissues_of_the_head_have_their_hounsfield_units():
    source = Phantoms(image_size=128, classes=["healthy"], noise_hu=3.0, seed=0)
    slices = np.stack([source.hounsfield("train", index) for index in range(12)])
    corner = slices[:, :8, :8]
    assert corner.mean() == pytest.approx(-1000, abs=1)
    assert corner.std() == pytest.approx(3.0, rel=0.05)
    assert (slices.max(axis=(1, 2)) > 900).all(), "compact bone"
    # Beside the midline, above the ventricles' reach to the sides: white matter with some gray.
    brain = slices[:, 56:72, 82:90]
    assert 24 < np.median(brain) < 40
    windowed = torch.from_numpy(np.stack([source.image("train", index) for index in range(12)]))
    assert (windowed[:, :8, :8] == -1).all()
    assert (windowed[torch.from_numpy(slices > 300)] == 1).all()
    assert (source.intensity.low, source.intensity.high, source.intensity.unit) == (-20, 100, "HU")
    inside = windowed.abs() < 1
    torch.testing.assert_close(
        source.intensity.to_physical(windowed)[inside], torch.from_numpy(slices)[inside], atol=1e-3, rtol=0
    )


def test_lungs_are_dark_and_livers_are_not():
    chest, abdomen = (Phantoms(image_size=64, anatomies=name, classes="healthy", seed=0) for name in ANATOMIES[:0:-1])
    # A place in the outer half of the patient's right side: lung in the chest, liver in the abdomen.
    for source, low, high in ((chest, -950, -650), (abdomen, 80, 130)):
        place = np.stack([source.hounsfield("train", index) for index in range(12)])[:, 26:32, 14:20]
        assert low < np.median(place) < high


def test_windows_are_chosen_or_the_usual_ones():
    assert Phantoms(image_size=16, window_center=0, window_width=100, anatomies=ANATOMIES, seed=0).intensity.low == -50
    mixed = Phantoms(image_size=16, anatomies=ANATOMIES, seed=0)
    assert mixed.windows == ((-20, 100), (-150, 250), (-950, 450))
    assert mixed.intensity.unit == "% of window"


def test_shapes_cover_their_area():
    canvas = Canvas(image_size=200, field_of_view=200.0, warp=0.0, rng=np.random.default_rng(0))
    areas = []
    # A disc to compare with (the pose zooms a little), ellipses, a banana (bending keeps the area), less than a pixel.
    shapes = [
        Shape(0, 0, 50, 50),
        Shape(3.2, -7.1, 40, 25, 0.4),
        Shape(0, 0, 6, 60, 1.0),
        Shape(0, 0, 20, 30, 0.3, 0.4),
    ]
    for shape in [*shapes, Shape(10.3, 5, 0.2, 20, 0.2)]:
        canvas.hu[:] = 0
        canvas.paint(shape, 1.0)
        areas.append(canvas.hu.sum() / (shape.a * shape.b))
    assert areas[0] == pytest.approx(np.pi, rel=0.15)
    assert areas[1:4] == pytest.approx([areas[0]] * 3, rel=0.01)
    assert areas[4] == pytest.approx(areas[0], rel=0.35)


def test_endless_images_continue_after_the_epoch():
    train, val, _ = Phantoms(image_size=16, num_images=None, epoch_images=10, num_val=4, seed=0).datasets()
    assert (train.endless, val.endless) == (True, False)
    assert (len(train), len(val)) == (10, 4)
    far = train[1_000_001]
    assert far["label"] == 1_000_001 % 3
    assert torch.equal(far["image"], train[1_000_001]["image"])
    assert not torch.equal(far["image"], train[2]["image"])
    with pytest.raises(IndexError):
        val[4]
    with pytest.raises(IndexError):
        train[-1]


def test_fixed_images_are_rendered_once(monkeypatch):
    train, *_ = Phantoms(image_size=16, num_images=3, seed=0).datasets()
    before = images(train, 3)
    monkeypatch.setattr(Phantoms, "image", lambda *_: pytest.fail("rendered again"))
    assert torch.equal(images(train, 3), before)
    assert torch.equal(images(pickle.loads(pickle.dumps(train)), 3), before)


def test_the_description_names_anatomies_and_count():
    assert Phantoms(image_size=16, seed=0).description == "4,000 procedural head phantoms"
    endless = Phantoms(image_size=16, anatomies=["head", "chest"], num_images=None, seed=0)
    assert endless.description == "endless procedural head, chest phantoms"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"anatomies": ["foot"]}, ["data.source.anatomies=[foot]", "head, abdomen, chest"]),
        ({"anatomies": []}, ["data.source.anatomies=[]", "head"]),
        ({"classes": ["healthy", "ill"]}, ["data.source.classes=[healthy,ill]", "several_lesions"]),
        ({"image_size": 15}, ["data.image_size=15", "16"]),
        ({"num_images": 0}, ["data.source.num_images=0", "1 or more"]),
        ({"num_val": 1}, ["data.source.num_val=1", "2 or more"]),
        ({"epoch_images": 0}, ["data.source.epoch_images=0"]),
        ({"noise_hu": -1}, ["data.source.noise_hu=-1"]),
        ({"window_center": 0, "window_width": 0}, ["data.source.window_width=0"]),
        ({"window_center": 40}, ["data.source.window_center=40", "data.source.window_width=None", "both"]),
        ({"channels": 2}, ["data.channels=2", "1 or 3"]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(InputError) as error:
        Phantoms(**{"image_size": 16, "seed": 0} | options)
    assert all(word in str(error.value) for word in words), error.value
