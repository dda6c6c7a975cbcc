"""The command ``medsynth data``: its output for planted images, patients and copies, and what it never shows."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from medsynth.cli import data as data_command
from medsynth.data.module import ImageDataModule
from medsynth.data.preview import labels, preview
from tests.command import run
from tests.test_data import NumberSource
from tests.test_report_pages import Page

PATIENTS = ("MUSTERMANN", "DOE", "ROSSI", "DUPONT", "NOVAK")
PATTERN = r"data.patient_pattern='/([A-Z]+)_'"


def picture(seed):
    """Return a blurred random image, 8 bits, 48x48."""
    rng = np.random.default_rng(seed)
    values = Image.fromarray(rng.uniform(20, 200, (16, 16)).astype(np.float32)).resize((48, 48), Image.BICUBIC)
    return np.asarray(values).clip(0, 250).astype(np.uint8)


def image(path):
    with Image.open(path) as opened:
        return opened.copy()


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Write 49 images of five patients (four of class a and five of b each; three copies of one) and two other files.

    MUSTERMANN's first image of class a is copied (``_copy``), and re-encoded in the name of DOE.
    """
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "images"
    for number, patient in enumerate(PATIENTS):
        for label in ("a", "b"):
            for i in range(4 + (label == "b")):
                save(folder / label / f"{patient}_{i}.png", picture(100 * number + 10 * i + (label == "b")))
    first = picture(0)
    save(folder / "a" / "MUSTERMANN_copy.png", first)
    save(folder / "a" / "MUSTERMANN_brighter.png", first + 1)
    save(folder / "a" / "DOE_again.jpg", first, quality=95)
    save(folder / "a" / "NOVAK_wide.png", np.pad(picture(999), ((0, 0), (4, 4))))
    save(folder / "a" / "ROSSI_flat.png", np.full((48, 48), 7, np.uint8))
    (folder / "notes_of_DUPONT.txt").write_text("no image")
    return folder


@pytest.fixture
def command(monkeypatch, capsys, root):
    def call(*arguments, data="image_folder", code=0):
        options = ["data.root=images", "data.image_size=16", "data.batch_size=4"] if data == "image_folder" else []
        result, out, err = run(monkeypatch, capsys, f"data={data}", *options, *arguments, command="data")
        assert result == code, err
        return out if code == 0 else err

    return call


def written(folder):
    return json.loads((folder / "preview.json").read_text())


def test_the_counts_of_planted_files(command, tmp_path):
    out = command(PATTERN, "data.val_fraction=0.3", "out=preview")
    record = written(tmp_path / "preview")
    splits = record["images"]
    assert set(splits) == {"train", "val"}
    assert sum(splits.values()) == 49
    assert {name: sum(counts.values()) for name, counts in record["classes"].items()} == {"a": 24, "b": 25}
    for split in splits:
        assert sum(counts[split] for counts in record["classes"].values()) == splits[split]
    assert record["patients"]["all"] == record["patients"]["train"] + record["patients"]["val"] == 5
    assert record["sizes"] == {"48x48": 48, "56x48": 1}
    assert record["stored_types"] == {"8-bit": 49}
    assert record["shape"] == [1, 16, 16]
    assert record["left_out"] == {"not an image (by the ending of its name)": 1, "images of one single value": 1}
    assert any("2 sizes" in warning for warning in record["warnings"])
    assert record["cache"]["bytes"] > 49 * 256

    assert record["test"] == "fewer than 1,000 images: all that are held out are for validation"
    assert f"test images 0: {record['test']}" in out
    assert record["joined"] == {
        "patients": 2,
        "groups": 1,
        "images_without_content": 0,
        "images_of_many_patients": 0,
    }
    assert "2 patients share near or exact copies of images and are split as 1 group (data.join_duplicates)." in out

    exact, near = record["duplicates"]["exact"], record["duplicates"]["near"]
    assert (exact["groups"], exact["images"], exact["groups_across_splits"], exact["dropped"]) == (1, 2, 0, 0)
    assert near["pairs"] == 5, "two copies with the brighter and the re-encoded one, and these with each other"
    assert near["images"] == 4
    assert near["pairs_within_patient"] == 2
    assert {image["split"] for pair in near["first"] for image in pair["images"]} <= set(splits)

    table = {line.split()[0]: line.split()[1:] for line in out.splitlines()[3:7]}
    assert table["a"] == [str(record["classes"]["a"]["train"]), str(record["classes"]["a"]["val"]), "24"]
    assert table["images"] == [str(splits["train"]), str(splits["val"]), "49"]
    assert table["patients"][-1] == "5"
    for words in (
        "48x48 (48), 56x48 (1) -> 16x16 pixels, 1 channel",
        "0 to 255 stored value become -1 to 1",
        "images of one single value: 1",
        "groups: 1, images in them: 2, groups across splits: 0",
        "pairs: 5, images in them: 4",
        "pairs within a patient: 2, others: 3",
        "preview.json are beside it",
    ):
        assert words in out, out
    assert max(map(len, out.splitlines())) <= 120


def test_intensities_before_and_after(command, tmp_path):
    out = command("data.intensity_range=[50,150]", "data.image_size=48", "out=preview")
    intensity = written(tmp_path / "preview")["intensity"]
    values = np.concatenate([np.asarray(image(path)).ravel() for path in (tmp_path / "images").glob("?/*_[0-9].*")])
    below, above = 100 * (values < 50).mean(), 100 * (values > 150).mean()
    assert min(below, above) > 3
    assert (intensity["percent_below"], intensity["percent_above"]) == pytest.approx((below, above), abs=2)
    assert (intensity["low"], intensity["high"], intensity["unit"]) == (50, 150, "stored value")
    before, after = intensity["before"], intensity["after"]
    assert sum(before["counts"]) == sum(after["counts"]) == 49 * 48 * 48
    assert after["counts"][0] / sum(after["counts"]) >= intensity["percent_below"] / 100
    assert f"clipped: about {intensity['percent_below']:.1f} % below" in out
    scaled = command("data.normalize=min_max", "data.normalize_per=image", "out=scaled")
    assert "clipped" not in scaled
    assert written(tmp_path / "scaled")["intensity"]["percent_below"] is None


def test_out_holds_a_contact_sheet_and_histograms(command, tmp_path):
    command("out=preview")
    assert sorted(path.name for path in (tmp_path / "preview").iterdir()) == [
        "contact_sheet.png",
        "data.html",
        "intensities.png",
        "preview.json",
    ]
    assert not list(tmp_path.glob("*.tmp"))
    command("data.reader.classes=[a]", "out=one")
    sheets = [np.asarray(image(tmp_path / name / "contact_sheet.png")) for name in ("preview", "one")]
    assert len(sheets[0]) > 1.5 * len(sheets[1]), "a row for each class"
    assert len(np.unique(sheets[0])) > 50


def test_the_page_has_counts_pictures_of_copies_and_advice(command, tmp_path):
    out = command("out=preview", "data.test_fraction=0.2", "near_distance=32")
    page = Page((tmp_path / "preview" / "data.html").read_text())
    assert page.headings == ["Counts", "Images", "Intensities", "Copies", "Files"]
    record = written(tmp_path / "preview")
    found = record["duplicates"]
    assert f"Equal images: {found['exact']['groups']} groups" in page.text
    assert f"Nearly equal: {found['near']['pairs']} pairs" in page.text
    captions = [image["alt"] for image in page.all("img") if image["alt"].startswith("Images that are ")]
    shown = [group for group in found["exact"]["first"] if any(image["split"] != "test" for image in group)]
    assert len([caption for caption in captions if "are equal" in caption]) == len(shown) > 0
    assert any("of 256 bits differ" in caption for caption in captions)
    assert all(image["src"].startswith("data:image/png") for image in page.all("img"))
    assert "medsynth start proposes" in page.text
    assert f"{tmp_path.name}" not in page.text, "no path of the data"
    assert "data.html" in out


def test_equal_images_are_the_ones_that_are_shown(command, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(data_command, "write_data_page", lambda *_, same, **__: shown.extend(same))
    command("out=preview", "near_distance=null")
    assert shown
    for group in shown:
        assert all((image == group.images[0]).all() for image in group.images), group.names
        assert group.images.std() > 0.01


@pytest.mark.parametrize("show", [False, True])
def test_names_are_shown_only_with_show_paths(command, tmp_path, show):
    out = command(PATTERN, f"data.show_paths={str(show).lower()}", "out=preview")
    content = out.encode() + b"".join(path.read_bytes() for path in (tmp_path / "preview").iterdir())
    shown = {name for name in PATIENTS if name.encode() in content}
    assert shown == ({"MUSTERMANN", "DOE"} if show else set())
    assert ("a/MUSTERMANN_0.png (" in out) == show
    assert bool(re.search(r"file \d+ \(training\) = file \d+ \(training\)|\(validation\) = file", out)) != show


def test_without_out_nothing_is_written(command, tmp_path):
    command("near_distance=null", "data.drop_duplicates=true")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    out = command("near_distance=null", "data.drop_duplicates=true", "data.test_fraction=0.2")
    assert "near copies" not in out
    assert "dropped by data.drop_duplicates=true: 1" in out
    assert "training  validation  test  total" in out
    assert "\npatients" not in out


def test_phantoms_have_a_preview_too(command, tmp_path):
    options = ("data.image_size=16", "data.source.num_images=40", "data.source.num_val=9", "data.batch_size=8")
    out = command(*options, "out=preview", data="phantom")
    record = written(tmp_path / "preview")
    assert record["classes"]["healthy"] == {"train": 14, "val": 3, "test": 3}
    assert "duplicates" not in record
    assert sum(record["intensity"]["after"]["counts"]) == 8 * 8 * 256
    assert "-20 to 100 HU become -1 to 1" in out
    assert (tmp_path / "preview" / "contact_sheet.png").stat().st_size > 1000


def test_a_data_set_smaller_than_a_batch_has_a_preview_that_names_a_batch_size(command, tmp_path):
    for number in range(10):
        save(tmp_path / "ten" / f"{number}.png", picture(number))
    out = command("data.root=ten", "data.batch_size=32", "out=preview")
    assert written(tmp_path / "preview")["images"] == {"train": 8, "val": 2}
    assert "data.batch_size=32 is more than the 8 training images: type data.batch_size=8" in out
    phantoms = ("data.image_size=16", "data.source.num_images=10", "data.source.num_val=4", "data.batch_size=32")
    assert "data.batch_size=32 is more than the 10 training images" in command(*phantoms, data="phantom")


def test_a_custom_source():
    data = ImageDataModule(source=NumberSource(), channels=1, image_size=4, batch_size=4, seed=0)
    data.prepare()
    assert labels(data)["train"].tolist() == [index % 2 for index in range(23)]
    record = preview(data, near_distance=6)
    assert record["classes"] == {"even": {"train": 12, "val": 35}, "odd": {"train": 11, "val": 35}}
    assert torch.equal(data.train_dataset[1]["image"], torch.full((1, 4, 4), 0.001))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["out=images"], ["out=images exists already"]),
        (["out=file/below"], ["out=file/below cannot be written"]),
        (["near_distance=40"], ["near_distance=40", "0 to 32"]),
        (["near_distance=x"], ["near_distance=x is not a whole number"]),
        (["data=dicm"], ["dicm", "dicom", "image_folder"]),
        (["data.windw=lung"], ["data.windw", "did you mean window?"]),
        (["dat.window=lung"], ["no option dat", "did you mean data?"]),
        (["data.root=nowhere"], ["data.root=nowhere does not exist"]),
    ],
    ids=lambda value: str(value[0]),
)
def test_wrong_options_are_refused(command, tmp_path, arguments, words):
    (tmp_path / "file").write_text("")
    err = command(*arguments, code=1)
    assert err.startswith("medsynth data: error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "images"]


def test_the_help_shows_the_options_of_the_choice(monkeypatch, capsys):
    for arguments, option in (((), "noise_hu=3.0"), (("data=image_folder",), "resize=crop")):
        code, out, _ = run(monkeypatch, capsys, *arguments, "--help", command="data")
        assert code == 0
        assert "near_distance=6" in out
        assert option in out
