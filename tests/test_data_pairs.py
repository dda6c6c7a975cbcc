"""Pairs of phantoms: physics that is known, so that the best prediction and its error are."""

import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from medsynth.contracts import InputError
from medsynth.data.geometry import RandomViews
from medsynth.data.paired_folder import PairedFolder
from medsynth.data.phantom import PhantomPairs, Phantoms
from medsynth.data.reading import RawImage
from medsynth.data.registration import TURNED, UNREGISTERED, misplacement
from medsynth.data.unpaired import UnpairedFolders, unpaired_files
from tests.files import files_module, prepared

WIDE = {"window_center": 500, "window_width": 4000}  # HU, so that nothing is clipped


def pairs(**options):
    return PhantomPairs(**{"image_size": 48, "num_images": 6, "num_val": 4, "seed": 3} | options)


def hounsfield(source, image):
    return source.intensity.to_physical(torch.as_tensor(image)).numpy()


@pytest.mark.parametrize("kind", ["mr_to_ct", "denoising"])
def test_the_target_is_the_phantom_and_pairs_depend_on_seed_split_and_index_alone(kind):
    source, again = (pairs(kind=kind, anatomies=["abdomen"]) for _ in range(2))
    train, val, test = source.datasets()
    phantom = Phantoms(image_size=48, anatomies=["abdomen"], seed=3)
    for index in (4, 1):
        sample = again.datasets().train[index]
        assert all(torch.equal(sample[name], train[index][name]) for name in ("image", "target", "mask"))
        assert np.allclose(sample["target"][0], phantom.image("train", index), atol=1e-3)
        assert not np.allclose(sample["image"], sample["target"], atol=0.1)
    assert not torch.equal(val[1]["image"], train[1]["image"])
    assert test is not None
    assert set(pickle.loads(pickle.dumps(train))[0]) == {"image", "target", "mask", "label", "index"}


def test_kept_pairs_are_those_rendered_anew():
    kept, endless = pairs(channels=3).datasets().train, pairs(channels=3, num_images=None).datasets().train
    for index in (5, 0):
        for name in ("image", "target", "mask"):
            assert torch.allclose(kept[index][name], endless[index][name], atol=1e-3)
    assert endless[100]["image"].shape == endless[100]["target"].shape == (3, 48, 48)
    with pytest.raises(IndexError):
        kept[6]


def test_what_is_left_of_ct_after_the_best_prediction_from_mr_is_its_noise():
    source = pairs(noise_hu=5.0, **WIDE)
    rest = np.stack([hounsfield(source, source.pair("train", i)[1]) for i in range(6)])
    rest -= np.stack([hounsfield(source, source.conditional_mean("train", i)) for i in range(6)])
    assert source.least_error == 5.0
    assert rest.std() == pytest.approx(5.0, rel=0.03)
    assert abs(rest.mean()) < 0.2
    signals = np.stack([source.pair("train", i)[0] for i in range(6)])
    assert abs(np.corrcoef(signals.ravel(), rest.ravel())[0, 1]) < 0.03, "the signal tells nothing of the noise"


def test_the_best_denoising_weights_mean_and_source_by_the_dose():
    """Independent formulas: the regression of both noises, and the errors of other predictions."""
    source = pairs(kind="denoising", dose=0.2, noise_hu=20.0, **WIDE)
    clean = pairs(kind="mr_to_ct", noise_hu=20.0, **WIDE)  # its best prediction is the mean
    mean = np.stack([hounsfield(clean, clean.conditional_mean("train", i)) for i in range(6)])
    low, full, best = (
        np.stack([hounsfield(source, image) for image in images])
        for images in (
            [source.pair("train", i)[0] for i in range(6)],
            [source.pair("train", i)[1] for i in range(6)],
            [source.conditional_mean("train", i) for i in range(6)],
        )
    )
    assert (low - mean).std() == pytest.approx(20 / math.sqrt(0.2), rel=0.03)
    assert (full - mean).std() == pytest.approx(20, rel=0.03)
    slope = ((low - mean) * (full - mean)).mean() / np.square(low - mean).mean()
    assert slope == pytest.approx(0.2, abs=0.01)
    assert source.least_error == pytest.approx(20 * math.sqrt(0.8))
    assert (full - best).std() == pytest.approx(source.least_error, rel=0.02)
    assert (full - best).std() < 0.95 * min((full - mean).std(), (full - low).std())


def test_mr_and_ct_are_not_functions_of_each_other_but_show_the_same_edges():
    source = pairs(source_noise=0, bias_field=0, noise_hu=0, image_size=96)
    signal, target, mask = source.pair("train", 1)
    assert vars(source.source_intensity) == {"low": 0.0, "high": 1000.0, "unit": "signal"}
    assert (source.source_modality, source.modality) == ("MR", "CT")
    dark = signal < -0.8
    assert target[dark].min() == -1
    assert target[dark].max() == 1, "air and bone are both dark"
    assert (mask[4:-4, 4:-4].mean(), mask[0].max()) == (pytest.approx(0.45, abs=0.2), 0)
    edges = [np.hypot(*np.gradient(image)) for image in (signal, target)]
    assert np.corrcoef(edges[0].ravel(), edges[1].ravel())[0, 1] > 0.3


def test_unpaired_targets_are_of_other_phantoms_and_new_in_each_epoch():
    source = pairs(paired=False)
    train, val, _ = source.datasets()
    assert train.varies
    own = torch.stack([sample["target"] for sample in map(pairs().datasets().train.__getitem__, range(6))])
    epochs = [torch.stack([train[index + 6 * epoch]["target"] for index in range(6)]) for epoch in range(3)]
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.cdist(torch.cat(epochs).flatten(1), own.flatten(1)).min() > 1, "no target is of a source"
    assert [train[index + 6]["index"] for index in range(6)] == list(range(6))
    assert torch.equal(train[8]["target"], pairs(paired=False).datasets().train[8]["target"])
    assert np.allclose(val[2]["target"][0], pairs().pair("val", 2)[1], atol=1e-3), "errors of validation are known"
    assert source.val_paired


def test_lesions_have_the_size_that_is_asked_for_and_their_contrast():
    source = pairs(classes=["several_lesions"], lesion_radius=[3, 6], noise_hu=0, image_size=128, **WIDE)
    for index in range(3):
        lesions = source.lesion_maps("train", index)
        assert len(lesions) == len(source.lesions("train", index)) in (2, 3, 4)
        image = hounsfield(source, source.pair("train", index)[1])
        for lesion in lesions:
            assert 2 < lesion.radius < 6.5
            inside = 0.6 * math.pi * lesion.radius**2, 1.4 * math.pi * lesion.radius**2
            assert inside[0] < lesion.core.sum() * source.spacing[0] ** 2 < inside[1]
            core, ring = ((image * weight).sum() / weight.sum() for weight in (lesion.core, lesion.ring))
            assert 15 < core - ring < 80, "blood in white matter, blurred"
    assert not pairs(classes=["healthy"]).lesion_maps("train", 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "ct_to_mr"}, r"data\.source\.kind=ct_to_mr is not possible: choose mr_to_ct or denoising"),
        ({"dose": 0}, r"data\.source\.dose=0 is not possible"),
        ({"source_noise": -1}, r"data\.source\.source_noise=-1"),
        ({"lesion_radius": [5, 2]}, r"data\.source\.lesion_radius=\[5, 2\] is not possible"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        pairs(**options)


# Registration


def raw_pair(source, target):
    raw = RawImage(np.asarray(source, np.float32)[None], "floating-point")
    return RawImage(np.asarray(target, np.float32)[None], "floating-point", source=raw)


@pytest.mark.parametrize("kind", ["mr_to_ct", "denoising"])
@pytest.mark.parametrize("anatomy", ["head", "abdomen", "chest"])
def test_true_pairs_of_any_contrast_are_registered_and_displaced_ones_are_not(kind, anatomy):
    source = pairs(kind=kind, anatomies=anatomy, image_size=96)
    for index in range(3):
        image, target, _ = source.pair("train", index)
        assert misplacement(raw_pair(image, target)) is None
        assert misplacement(raw_pair(-image, 3000 * target + 7)) is None
        assert misplacement(raw_pair(image, np.roll(target, 1, axis=1))) is None, "a pixel is not noticed"
        for displacement in [(20, 0), (-12, 16), (0, -20), (5, 0)]:
            moved = raw_pair(image, np.roll(target, displacement, axis=(0, 1)))
            assert misplacement(moved) == UNREGISTERED, displacement


CLOCKWISE = "rotated by 90 degrees clockwise"
TURNS = {
    "mirrored left to right": np.fliplr,
    "mirrored top to bottom": np.flipud,
    "rotated by 180 degrees": lambda image: np.rot90(image, 2),
    CLOCKWISE: lambda image: np.rot90(image, -1),
    "rotated by 90 degrees counterclockwise": np.rot90,
    "mirrored along the diagonal from the upper left": np.transpose,
    "mirrored along the diagonal from the upper right": lambda image: np.rot90(image, 2).T,
}


@pytest.mark.parametrize("kind", ["mr_to_ct", "denoising"])
def test_mirrored_and_rotated_targets_are_named(kind):
    assert TURNS.keys() == TURNED.keys()
    for anatomy in ("head", "abdomen", "chest"):
        image, target, _ = pairs(kind=kind, anatomies=anatomy, image_size=96).pair("train", 0)
        for name, turn in TURNS.items():
            assert misplacement(raw_pair(image, turn(target))) == TURNED[name], (anatomy, name)
        off_center = np.roll(np.fliplr(target), (0, 6), axis=(0, 1))
        assert misplacement(raw_pair(image, off_center)) == TURNED["mirrored left to right"]


def test_a_target_is_rotated_where_a_pixel_on_top_comes_to_the_right():
    """Read off by hand: what is north of the center of the source is east of it in a target rotated clockwise."""
    image = np.zeros((64, 64))
    image[2:24, 14:40], image[30:62, 2:20], image[26:38, 36:62] = 1, 2, 3
    target = np.zeros((64, 64))
    target[14:40, 40:62], target[2:20, 2:34], target[36:62, 26:38] = 1, 2, 3
    assert misplacement(raw_pair(image, target)) == TURNED[CLOCKWISE]
    target = np.zeros((64, 64))
    target[24:50, 2:24], target[44:62, 30:62], target[2:28, 26:38] = 1, 2, 3
    assert misplacement(raw_pair(image, target)) == TURNED["rotated by 90 degrees counterclockwise"]


def test_images_that_are_their_own_mirror_image_are_registered():
    random = np.random.default_rng(1)
    half = np.kron(random.random((16, 8)), np.ones((4, 4)))
    image = np.concatenate([half, half[:, ::-1]], axis=1)
    assert misplacement(raw_pair(image, 5 - image)) is None
    assert misplacement(raw_pair(image, np.flipud(image))) == TURNED["mirrored top to bottom"]


def test_large_images_are_reduced_and_images_without_edges_accepted():
    random = np.random.default_rng(0)
    image = np.kron(random.random((20, 25)), np.ones((20, 20)))  # 400 x 500 pixels
    assert misplacement(raw_pair(image, 5 - image)) is None
    assert misplacement(raw_pair(image, np.roll(image, (20, 0), axis=(0, 1)))) == UNREGISTERED
    assert misplacement(raw_pair(image, image[::-1])) == TURNED["mirrored top to bottom"]
    assert misplacement(raw_pair(image, np.zeros_like(image))) is None
    assert misplacement(raw_pair(image[:4, :4], image[4:8, 4:8])) is None


def displaced_folder(root, shifted=(2, 5)):
    source = pairs(image_size=32, num_images=12)
    for index in range(12):
        image, target, mask = source.pair("train", index)
        if index in shifted:
            target = np.roll(target, 9, axis=0)
        for folder, values in (("source", image), ("target", target), ("mask", 2 * mask - 1)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray((127.5 * (values + 1)).astype(np.uint8)).save(root / folder / f"{index:02}.png")
    return root


def test_pairs_that_are_not_registered_end_the_run_are_left_out_or_allowed(tmp_path):
    root = displaced_folder(tmp_path)
    with pytest.raises(InputError, match=r"images of 2 of the 12 pairs .* do not lie on each other \(in 2 files; data"):
        prepared(root, PairedFolder, image_size=16)
    with pytest.raises(InputError, match=r"\(in 2 files: source/02\.png, source/05\.png\): register them"):
        prepared(root, PairedFolder, image_size=16, show_paths=True)
    with pytest.raises(InputError, match=r"data\.unregistered=no is not possible"):
        prepared(root, PairedFolder, unregistered="no")
    skipped, allowed = (prepared(root, PairedFolder, image_size=16, unregistered=each) for each in ("skip", "allow"))
    assert (len(skipped.source.store), len(allowed.source.store)) == (10, 12)
    assert [reason["count"] for reason in skipped.source.manifest["left_out"]] == [12, 2], "no masks are read, and"


def test_mirrored_pairs_end_the_run_with_the_name_of_the_turn(tmp_path):
    source = pairs(image_size=64, num_images=4, anatomies="abdomen")
    for index in range(4):
        image, target, _ = source.pair("train", index)
        for folder, values in (("source", image), ("target", target[:, ::-1] if index < 3 else target)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray((127.5 * (values + 1)).astype(np.uint8)).save(tmp_path / folder / f"{index}.png")
    message = r"images of 3 of the 4 pairs .*; 3 targets are mirrored left to right\): register them"
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, PairedFolder, image_size=16)


# Unpaired sets


def two_sets(root, counts=(30, 20)):
    """Write sources of even and targets of odd levels, 16 bits."""
    for side, (folder, count) in enumerate(zip(("source", "target"), counts, strict=True)):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            values = np.random.default_rng(number + 100 * side).integers(0, 100, (8, 8)) * 2 + side + 1000 * side
            Image.fromarray(values.astype(np.uint16)).save(root / folder / f"{number:03}.png")
    return root


def unpaired(root, *, options=None, **changes):
    data = files_module(root, UnpairedFolders, options=options, make=unpaired_files, join_duplicates="none", **changes)
    data.prepare()
    return data


@pytest.mark.parametrize("two_roots", [True, False])
def test_unpaired_sets_have_their_own_splits_and_intensities(two_roots, tmp_path):
    root = two_sets(tmp_path)
    options = {"target_root": str(root / "target")} if two_roots else None
    data = unpaired(root / "source" if two_roots else root, options=options, val_fraction=0.2, test_fraction=0.1)
    assert (data.num_train, data.num_val, data.num_test) == (21, 6, 3)
    assert (data.source_channels, data.val_paired, data.images_are_fixed) == (1, False, False)
    assert data.source_intensity.high < 300 < 1000 < data.intensity.low
    seen = {}
    for name, dataset in zip(("train", "val", "test"), data.datasets, strict=True):
        counters = range(10 * len(dataset) if dataset.varies else len(dataset))
        samples = [dataset[counter] for counter in counters]
        sources = torch.stack([sample["image"] for sample in samples[: len(dataset)]])
        assert len(sources.unique(dim=0)) == len(dataset)
        targets = torch.stack([data.intensity.to_physical(sample["target"]).round() for sample in samples])
        assert (targets % 2 == 1).all(), "images of the other set"
        seen[name] = {target.numpy().tobytes() for target in targets}
        assert [sample["index"] for sample in samples] == [counter % len(dataset) for counter in counters]
    assert len(seen["train"]) == 14, "all training targets are drawn"
    assert not seen["train"] & seen["val"]
    assert not (seen["train"] | seen["val"]) & seen["test"]
    train = data.train_dataset
    assert not torch.equal(train[3]["target"], train[3 + 21]["target"]) or not torch.equal(
        train[4]["target"], train[4 + 21]["target"]
    )
    assert torch.equal(train[3 + 21]["target"], pickle.loads(pickle.dumps(train))[3 + 21]["target"])


def test_views_of_unpaired_images_are_of_each_side(tmp_path):
    data = unpaired(two_sets(tmp_path), image_size=6, random_crop=8, flip="both")
    batch = [data.train_dataset[index] for index in range(60)]
    assert batch[0]["image"].shape == batch[0]["target"].shape == (1, 6, 6)
    data.source.views = RandomViews(data.source.image_size)  # as an evaluation does
    assert not data.source.sides[1].views.active
    assert data.val_dataset[0]["image"].shape == (1, 6, 6)
    assert len(torch.stack([sample["target"] for sample in batch]).unique(dim=0)) > 40


def test_patients_on_both_sides_of_an_unpaired_split_are_warned_of(tmp_path, caplog):
    unpaired(two_sets(tmp_path), patient_pattern="([0-9]+)")
    assert "patients are in the training images of one side and in the held-out images of the other" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "jpeg"}, r"data\.reader\.format=jpeg is not possible"),
        ({"source": "mr"}, r"data\.reader\.source=mr is no folder in data\.root"),
        ({"target": "source"}, "of one folder: name two"),
        ({"target_root": "nowhere"}, r"data\.reader\.target_root=nowhere does not exist"),
    ],
)
def test_folders_that_are_not_two_are_refused(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        unpaired(two_sets(tmp_path), options=options)
