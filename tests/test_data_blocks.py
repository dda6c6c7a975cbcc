"""Contiguous blocks of slices as splits: their order, their gaps, and what is said of them."""

import itertools

import nibabel
import numpy as np
import pytest
from PIL import Image

from medsynth.contracts import InputError
from medsynth.data.blocks import SliceOrder, hold_out_blocks, slice_order
from medsynth.data.dicom.reader import Dicom
from medsynth.data.nifti import Nifti
from medsynth.data.paired_folder import PairedFolder
from medsynth.data.split import SplitOptions
from tests.dicom_files import write_ct_slice
from tests.files import files_module, prepared

RNG = np.random.default_rng(0)


def order_of(lengths, *, patients=None):
    """Series of so many slices, one for each patient unless these are given."""
    series = [number for number, length in enumerate(lengths) for _ in range(length)]
    places = [place for length in lengths for place in range(length)]
    return SliceOrder(series, places, [(patients or range(len(lengths)))[number] for number in series])


def places_of(found, order, series):
    """Split -> places of a series."""
    return {
        name: sorted(order.places[row] for row in rows if order.series[row] == series)
        for name, rows in found.rows.items()
    }


@pytest.mark.parametrize("gap", [0, 2, 3])
def test_blocks_are_contiguous_and_apart_at_any_place(gap):
    order, fractions, starts = order_of([60, 41, 30]), {"val": 0.1, "test": 0.2}, set()
    for seed in range(40):
        found = hold_out_blocks(order, fractions, gap=gap, seed=seed)
        rows = [row for own in found.rows.values() for row in own]
        assert len(rows) == len(set(rows))
        assert len(rows) + found.left_out == 131
        assert (found.cut, found.whole) == (3, 0)
        for series, length in enumerate((60, 41, 30)):
            own = places_of(found, order, series)
            for name, fraction in fractions.items():
                assert own[name] == list(range(own[name][0], own[name][0] + round(fraction * length)))
            for one, other in itertools.permutations(own, 2):
                nearest = min(abs(a - b) for a in own[one] for b in own[other])
                assert nearest == gap + 1 or "train" in (one, other)
                assert nearest > gap
            starts.add((series, own["val"][0]))
    drawn = [sorted(start for number, start in starts if number == series) for series in range(3)]
    assert all(len(own) > 12 for own in drawn), "the seed draws the place"
    assert drawn[0][0] == 0, "also at the beginning"


def test_series_of_one_patient_are_cut_alike_and_further_patients_do_not_move_them():
    order = order_of([40, 40, 40, 80], patients="aabb")
    for seed in range(5):
        found = hold_out_blocks(order, {"val": 0.2}, gap=2, seed=seed)
        assert found.overlapping == 1
        assert places_of(found, order, 0) == places_of(found, order, 1)
        halves = [place / 2 for place in places_of(found, order, 3)["val"]]
        assert np.mean(halves) == pytest.approx(np.mean(places_of(found, order, 2)["val"]), abs=1.5)
    more = hold_out_blocks(order_of([40, 40, 40, 80, 33], patients="aabbc"), {"val": 0.2}, gap=2, seed=4).rows
    assert {name: [row for row in rows if row < 200] for name, rows in more.items()} == found.rows


def test_series_that_are_too_short_are_training_images():
    found = hold_out_blocks(order_of([9, 10, 30]), {"val": 0.1}, gap=2, seed=0)
    assert (found.cut, found.whole) == (2, 1)
    assert set(range(9)) <= set(found.rows["train"])
    assert len(found.rows["val"]) == 5
    assert found.sentence(2) == (
        "Images are split by contiguous blocks of slices (data.split_by=blocks): 2 series are cut, 1 shorter ones are "
        f"training images, and {found.left_out} slices beside the blocks are left out (data.block_gap=2). Other slices "
        "of the same patients are trained on: values measured on those that are held out say nothing about other "
        "patients."
    )
    with pytest.raises(InputError, match=r"cuts series of 10 slices and more with data\.block_gap=2, .* has 9: type"):
        hold_out_blocks(order_of([9, 9]), {"val": 0.1}, gap=2, seed=0)


def test_slices_without_a_position_are_in_the_natural_order_of_their_names():
    names = [f"{folder}/P1_{number}.png" for folder in "ab" for number in (10, 9, 2, 1)]
    columns = {"series": [""] * 8, "place": [0] * 8, "patient": ["p"] * 8, "file_number": range(8)}
    order = slice_order(columns, names)
    assert set(order.series) == {"p"}
    assert [sorted(range(8), key=order.places.__getitem__)[::2]] == [[3, 2, 1, 0]]
    assert order.places[0] == order.places[4], "of two folders at one place"
    known = slice_order({**columns, "series": [*"ssssttt", "s"], "place": [*range(8)]}, names)
    assert (known.series, known.places) == ([*"ssssttt", "s"], [*range(8)])


def paired_slices(root, counts=(60, 40), *, below=""):
    """Write pairs of smooth slices of patients, numbered without leading zeros; the first pixel is the number."""
    for patient, count in enumerate(counts):
        for number in range(count):
            values = RNG.integers(0, 255, (8, 8), np.uint8)
            values[0, 0] = number
            for kind in ("source", "target"):
                (root / kind / below).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(root / kind / below / f"P{patient}_{number}.png")
    return root


def numbers_of(dataset):
    """Return the numbers of the slices of a data set."""
    return sorted(round((float(dataset[i]["target"][0, 0, 0]) + 1) * 127.5) for i in range(len(dataset)))


def test_pairs_of_two_patients_are_split_by_blocks_which_is_said_everywhere(tmp_path, caplog):
    options = {"split_by": "blocks", "patient_pattern": r"(P\d)_", "val_fraction": 0.15, "test_fraction": 0.2}
    options |= {"normalize": "full_range", "join_duplicates": "none"}
    caplog.set_level("INFO")
    data = prepared(paired_slices(tmp_path), PairedFolder, **options)
    assert (data.num_val, data.num_test) == (15, 20)
    assert 100 - data.num_train - 35 in range(4, 13)
    for dataset, lengths in ((data.val_dataset, (9, 6)), (data.test_dataset, (12, 8))):
        rows = sorted(dataset.rows)
        names = [data.source.opened.tree.names[number] for number in data.source.columns["file_number"]]
        for patient, length in enumerate(lengths):
            own = sorted(int(names[row].split("_")[1][:-4]) for row in rows if f"P{patient}_" in names[row])
            assert own == list(range(own[0], own[0] + length))
    again = files_module(tmp_path, PairedFolder, **options)
    assert [again.source.rows[name] for name in again.source.rows] == list(data.source.rows.values())
    assert "contiguous blocks of slices held out" in data.description
    assert data.split_by == "blocks"
    assert any("say nothing about other patients" in caution for caution in data.cautions)
    assert "patients: 2, data.patient_pattern, whose slices are cut into contiguous blocks" in data.source.roles
    assert any("say nothing about other patients" in message for message in caplog.messages)
    assert prepared(tmp_path, PairedFolder, **{**options, "split_by": "auto"}).split_by == "patient"


def test_splits_of_the_data_are_kept_and_the_missing_one_is_cut(tmp_path):
    for split in ("train", "test"):
        paired_slices(tmp_path, (30,), below=split)
    data = prepared(tmp_path, PairedFolder, split_by="blocks", normalize="full_range")
    assert numbers_of(data.test_dataset) == list(range(30))
    held_out = numbers_of(data.val_dataset)
    assert held_out == list(range(held_out[0], held_out[0] + 3))
    assert data.split_by == "blocks"


def test_slices_of_dicom_series_are_ordered_by_position(tmp_path):
    """Two echoes at each of twelve positions, from the last to the first, of file names that say nothing."""
    for number, position in enumerate(reversed(range(12))):
        for echo in (1, 2):
            write_ct_slice(
                tmp_path / f"{RNG.integers(1e9)}.dcm",
                RNG.integers(0, 900, (8, 8), np.int16) + 1000 * (position == 0),
                patient_id="p",
                position=5.0 * position,
                instance_number=2 * number + echo,
            )
    data = prepared(tmp_path, Dicom, split_by="blocks", val_fraction=0.2, options={"label": None})
    columns = data.source.columns
    assert sorted(columns["place"]) == sorted([*range(12)] * 2)
    assert len(set(columns["series"])) == 1
    held_out = sorted(columns["place"][row] for row in data.source.rows["val"])
    assert held_out == sorted([held_out[0], held_out[0] + 1] * 2), "slices at one place stay in one split"


def test_slices_of_a_volume_are_ordered_as_they_lie(tmp_path):
    volume = RNG.uniform(1, 100, (8, 8, 30)).astype(np.float32)
    volume[..., 7] = 0  # left out, since it is empty
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "v.nii")
    data = prepared(tmp_path, Nifti, split_by="blocks", val_fraction=0.2, normalize="min_max")
    assert data.source.columns["place"] == [place for place in range(30) if place != 7]
    held_out = sorted(data.source.rows["val"])
    assert held_out == list(range(held_out[0], held_out[0] + 6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_gap": -1}, r"data\.block_gap=-1 is too small: 0 or more"),
        ({"split_by": "block"}, r"choose auto, patient, image or blocks"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        SplitOptions(**options)
