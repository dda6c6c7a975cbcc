"""``medsynth start``: the reader by content, the proposal by the measured table, and the command that is printed."""

import json
import shlex
import shutil
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from medsynth import finalize
from medsynth.cli import start
from medsynth.data.content import options_for
from medsynth.data.files import ImageFiles
from medsynth.errors import InputError
from medsynth.presets import measured
from medsynth.presets.measured import AIMS, compare, poor
from medsynth.presets.proposal import DataSummary, advice, images_in, length_options, propose
from tests.command import run
from tests.test_conf import compose

SUMMARY = {
    "images": 800,
    "given_splits": False,
    "classes": {},
    "patients": None,
    "smallest_side": 64,
    "hounsfield": False,
}


def proposed(aim="appearance", has_packaged=True, typed=(), **changes):
    summary = DataSummary(**SUMMARY | changes)
    proposal = propose(summary, aim=aim, has_packaged=has_packaged, typed=dict.fromkeys(typed, ""))
    return list(proposal.options), dict(proposal.reasons)


# ---- the reader -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"a/1.png": b"", "a/2.JPG": b"", "notes.txt": b""}, {"data": "image_folder"}),
        ({"1.dcm": b"", "2.IMA": b"", "logo.png": b""}, {"data": "dicom"}),
        ({f"series/IM{n}": bytes(128) + b"DICM" for n in range(30)}, {"data": "dicom"}),
        ({f"1.2.840.{n}": bytes(128) + b"DICM" for n in range(3)}, {"data": "dicom"}),
        ({"sub-01/anat/T1w.nii.gz": b"", "sub-02/T1w.nii": b"", "README": b""}, {"data": "nifti"}),
        ({"1.png": b"", "table.csv": b"path,label\n1.png,a\n"}, {"data": "csv"}),
        ({"1.png": b"", "my.tsv": b"path\tlabel\n"}, {"data": "csv", "data.reader.table": "my.tsv"}),
        ({"1.png": b"", "scores.csv": b"name,score\n"}, {"data": "image_folder"}),
    ],
)
def test_the_reader_is_found_by_content(tmp_path, files, options):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert options_for(str(tmp_path)) == options


def test_the_reader_of_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a/1.png", b"")
    assert options_for(str(tmp_path / "images.zip")) == {"data": "image_folder"}
    np.savez(tmp_path / "some.npz", train_images=np.zeros(1), train_labels=np.zeros(1))
    assert options_for(str(tmp_path / "some.npz")) == {"data": "medmnist"}


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        options_for(str(tmp_path / "nowhere"))
    (tmp_path / "brain.nrrd").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no files that are read here \(.*\.nrrd: convert them"):
        options_for(str(tmp_path))


# ---- the proposal ---------------------------------------------------------------------------------------------------


def test_the_comparison_is_the_mean_over_sets_of_the_mean_over_seeds():
    rows = [json.loads(line) for line in measured.ROWS.read_text().splitlines()]
    by_set = {}
    for row in rows:
        if (row["preset"], row["train_images"]) == ("vision_aided", 800) and row["images"] in ("HeadCT", "hippocampus"):
            by_set.setdefault(row["images"], []).append(row["measures"]["kd_imagenet"]["value"])
    assert len(by_set) == 2
    assert max(map(len, by_set.values())) == 3
    expected = np.mean([np.mean(values) for values in by_set.values()])
    found = compare(900, AIMS["appearance"])
    assert (found.train_images, found.values["vision_aided"]) == (800, pytest.approx(expected))
    assert compare(200, AIMS["appearance"]).train_images == 800, "200 were measured with one of both alone"


def test_the_nearest_number_of_images_is_by_ratio():
    """1,700 is nearer to 800 than to 3,000 by difference, and to 3,000 by ratio."""
    assert compare(1_500, AIMS["appearance"]).train_images == 800
    assert compare(1_700, AIMS["appearance"]).train_images == 3_000


def test_the_preset_name_goes_by_the_training_images():
    """Four fifths of the images are for training."""
    assert proposed(images=1_800)[0] == ["experiment=small_data"]
    assert proposed(images=1_950)[0] == ["experiment=medium_data"]
    assert proposed(images=6_200)[0] == ["experiment=medium_data"]
    assert proposed(images=6_400)[0] == ["experiment=large_data"]


def test_each_aim_takes_what_the_table_says():
    assert proposed()[0] == ["experiment=small_data", "data.val_fraction=0.13", "data.test_fraction=0.13"]
    assert proposed(aim="variety")[0] == ["data.val_fraction=0.13", "data.test_fraction=0.13"]
    assert "0.21" in proposed()[1]["composition"]
    assert "0.71" in proposed()[1]["composition"]
    with pytest.raises(InputError, match="aim=beauty is unknown: choose appearance or variety"):
        proposed(aim="beauty")


def test_without_the_packaged_weights_the_default_is_proposed():
    options, reasons = proposed(has_packaged=False)
    assert not any(option.startswith("experiment") for option in options)
    assert "missing" in reasons["composition"]


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"images": 200}, ["experiment=small_data", "data.val_fraction=0.2", "data.test_fraction=0.2"]),
        ({"images": 5_000}, ["experiment=medium_data"]),
        ({"images": 5_000, "smallest_side": 28}, ["experiment=medium_data", "data.image_size=32"]),
        ({"given_splits": True}, ["experiment=small_data"]),
        (
            {"images": 5_000, "classes": {"a": 4_000, "b": 1_000}},
            ["experiment=medium_data", "conditional=true"],
        ),
        (
            {"images": 5_000, "classes": {"a": 4_900, "b": 100}},
            ["experiment=medium_data", "conditional=true", "data.balance_classes=true"],
        ),
        ({"images": 5_000, "classes": {"a": 4_940, "b": 60}}, ["experiment=medium_data"]),
    ],
)
def test_options_by_the_data(changes, options):
    found, reasons = proposed(**changes)
    assert found == options
    assert {"composition", "split", "size", "classes", "augment"} <= set(reasons)
    compose("data=image_folder", "data.root=x", *found)


def test_what_the_user_typed_stays():
    options, _ = proposed(typed=["data.val_fraction"])
    assert "data.val_fraction=0.13" not in options
    assert "data.test_fraction=0.13" in options


def test_length_by_minutes():
    assert images_in(10, 25) == 12_000
    assert images_in(1, 5) == 200
    assert length_options(30_000) == ()
    assert length_options(12_000) == ("max_images=12000", "val_every_images=2400")


def test_advice_is_one_sentence_for_what_is_known_to_be_poor():
    assert "discriminator=projected was far from real images" in poor("projected", 500)
    assert "head CT slices:" in poor("projected", 500), "measured on heads alone"
    assert poor("dcgan", 500) is None
    assert poor("vision_aided", 500) is None
    assert advice(700).startswith("With 800 training images")


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    (tmp_path / "my images").mkdir()
    for number in range(60):
        Image.fromarray(rng.integers(0, 255, (20, 24), np.uint8)).save(tmp_path / "my images" / f"{number}.png")
    return tmp_path / "my images"


def test_start_proposes_a_command_that_composes(monkeypatch, capsys, images):
    code, out, err = run(monkeypatch, capsys, "data.root=my images", "measure=false", command="start")
    assert code == 0, err
    assert "The folder holds images: data=image_folder" in err
    command = next(line for line in out.splitlines() if line.startswith("command"))
    words = shlex.split(command.removeprefix("command"))
    assert words[:4] == ["python", "train.py", "experiment=small_data", "data=image_folder"]
    config = compose(*words[2:])
    assert config.data.root == "my images"
    assert config.data.image_size == 32
    assert "vision_aided" in config.discriminator._target_
    for title in ("images", "machine", "composition", "split", "size", "augment"):
        assert f"\n{title}" in f"\n{out}"


def test_start_measures_and_fits_the_length_to_the_minutes(monkeypatch, capsys, images):
    options = ("data.root=my images", "data.image_size=16", "aim=variety", "minutes=0.01")
    code, out, err = run(monkeypatch, capsys, *options, command="start")
    assert code == 0, err
    assert "images/s measured here" in out
    assert "fewer than the 6,000 of the measured presets" in " ".join(out.split())
    assert "MiB of tensors" in out
    assert "max_images=" in out
    assert "val_every_images=" in out


def test_run_starts_the_training_that_is_proposed(monkeypatch, capsys, images):
    started = []
    monkeypatch.setattr(start.os, "execv", lambda program, words: started.append(words) or sys.exit(3))
    code, _, err = run(monkeypatch, capsys, "data.root=my images", "measure=false", "run=true", command="start")
    assert code == 3, err
    assert started[0][1:5] == ["-m", "medsynth", "train", "experiment=small_data"]


def test_data_finds_the_reader_too_and_advises(monkeypatch, capsys, images):
    code, out, err = run(monkeypatch, capsys, "data.root=my images", "near_distance=null", command="data")
    assert code == 0, err
    assert "60 images" in out
    assert "\nadvice      With 800 training images" in out


def test_a_training_is_told_which_reader_to_type(monkeypatch, capsys, images):
    code, out, err = run(monkeypatch, capsys, "data.root=my images")
    assert (code, out) == (1, "")
    assert err.endswith("the folder holds images, so type data=image_folder, too.\n")


def test_start_without_a_folder(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "type medsynth start my/images" in run(monkeypatch, capsys, command="start")[2]
    shutil.rmtree(tmp_path, ignore_errors=True)
    assert "data.root=gone does not exist" in run(monkeypatch, capsys, "data.root=gone", command="start")[2]


def test_a_training_is_told_of_a_poor_choice(monkeypatch, caplog):
    config = compose("data=image_folder", "data.root=x", "discriminator=projected")
    files = SimpleNamespace(source=object.__new__(ImageFiles), num_train=500)
    with caplog.at_level("WARNING"):
        finalize._advise(config, files)
        assert "Advice: discriminator=projected" in caplog.text
        caplog.clear()
        finalize._advise(compose(), files)
        finalize._advise(config, SimpleNamespace(source=object(), num_train=500))
    assert not caplog.text
