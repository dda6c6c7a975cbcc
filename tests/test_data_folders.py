"""Folders as people have them: links, unreadable parts, other formats; nothing is lost without a word."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from medsynth.contracts import InputError
from medsynth.data.csv import Csv
from medsynth.data.dicom.reader import Dicom
from medsynth.data.nifti import Nifti
from medsynth.data.paired_folder import PairedFolder
from medsynth.data.tree import AROUND, READ_ALREADY, FolderTree, open_tree
from tests.dicom_files import image_dataset, write
from tests.files import RAMP, prepared, warnings_of, write_images


def left_out(data):
    return {reason["text"]: reason["count"] for reason in data.source.manifest["left_out"]}


# Links


def test_a_class_folder_that_is_a_link_is_a_class(tmp_path):
    write_images(tmp_path / "set" / "benign", 6)
    write_images(tmp_path / "elsewhere", 6, start=100)
    (tmp_path / "set" / "malignant").symlink_to("../elsewhere")
    data = prepared(tmp_path / "set")
    assert data.class_names == ("benign", "malignant")
    assert len(data.source.store) == 12


def test_links_in_a_circle_end_and_each_folder_is_read_once_under_its_own_name(tmp_path):
    write_images(tmp_path / "set" / "b", 2)
    (tmp_path / "set" / "a").symlink_to("b")  # sorted before the folder itself
    (tmp_path / "set" / "b" / "root").symlink_to("..")
    (tmp_path / "set" / "b" / "above").symlink_to(tmp_path)
    write_images(tmp_path / "other", 1)
    (tmp_path / "set" / "c").symlink_to("../other")
    (tmp_path / "other" / "back").symlink_to("../set/c")
    tree = FolderTree(tmp_path / "set", "set")
    assert tree.names == ("b/000.png", "b/001.png", "c/000.png")
    assert {name for name, _ in tree.lost} == {"a", "b/root", "b/above", "c/back"}
    assert dict(tree.lost) == {"a": READ_ALREADY} | dict.fromkeys(("b/root", "b/above", "c/back"), AROUND)


def test_a_link_to_a_folder_around_it_loses_no_image(tmp_path, caplog):
    write_images(tmp_path / "only", 8)
    (tmp_path / "only" / "up").symlink_to("..")
    data = prepared(tmp_path)
    assert left_out(data) == {"links to a folder around them": 1}
    assert not any("No image of" in text for text in warnings_of(caplog))


def test_links_that_lead_nowhere_end_the_run_or_are_counted(tmp_path, caplog):
    write_images(tmp_path / "a", 6)
    write_images(tmp_path / "b", 6, start=100)
    for number in range(5):
        (tmp_path / "a" / f"gone{number}.png").symlink_to(f"/nowhere/{number}.png")
    (tmp_path / "a" / "itself").symlink_to("itself")
    message = (
        r"6 of the 18 files in data\.root=.* cannot be reached \(links that lead nowhere: 6; data\.show_paths=true"
    )
    with pytest.raises(InputError, match=message):
        prepared(tmp_path)
    with pytest.raises(InputError, match=r"nowhere: 6: a/gone0\.png, a/gone1\.png"):
        prepared(tmp_path, show_paths=True)
    data = prepared(tmp_path, on_error="skip")
    assert left_out(data) == {"links that lead nowhere": 6}
    assert "Left out: links that lead nowhere: 6." in warnings_of(caplog)


def test_a_folder_that_cannot_be_read_is_counted_and_its_loss_is_said(tmp_path, caplog, monkeypatch):
    write_images(tmp_path / "a", 6)
    write_images(tmp_path / "b", 6, start=100)
    write_images(tmp_path / "c", 6, start=50)

    def scandir(path, scan=os.scandir):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(InputError, match=r"1 of the 13 files .*folders that cannot be read \(Permission denied\): 1"):
        prepared(tmp_path)
    data = prepared(tmp_path, on_error="skip")
    assert data.class_names == ("a", "c")
    assert "No image of 1 of the 3 folders in data.root is used (b): see what is left out." in warnings_of(caplog)


def test_pipes_and_hidden_files_are_counted(tmp_path):
    write_images(tmp_path, 6)
    os.mkfifo(tmp_path / "pipe.png")
    write_images(tmp_path / ".thumbnails", 3)
    (tmp_path / ".DS_Store").write_text("")
    with zipfile.ZipFile(tmp_path.with_suffix(".zip"), "w") as archive:
        for name in ("000.png", ".thumbnails/1.png", ".thumbnails/2.png", "__MACOSX/._000.png"):
            archive.writestr(name, "")
    hidden = "hidden files and folders (names that begin with . or __MACOSX)"
    assert left_out(prepared(tmp_path)) == {hidden: 2, "neither files nor folders (devices, pipes, sockets)": 1}
    assert [name for name, _ in open_tree(str(tmp_path.with_suffix(".zip")), example="").lost] == [
        ".thumbnails",
        "__MACOSX",
    ]


# Archives


def packed(path, names, content):
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, content[number % len(content)])
    return path


def contents(tmp_path, count=12):
    write_images(tmp_path / "images", count)
    return [path.read_bytes() for path in sorted((tmp_path / "images").iterdir())]


@pytest.mark.parametrize("form", ["{}/{:02}.png", "{}\\{:02}.png", "./{}/{:02}.png", ".\\{}\\{:02}.png"])
def test_names_in_archives_have_slashes_of_both_kinds(form, tmp_path):
    names = [form.format(name, number) for name in ("benign", "malignant") for number in range(6)]
    data = prepared(packed(tmp_path / "set.zip", [*names, form[:-9].format("empty") + form[-9]], contents(tmp_path)))
    assert data.class_names == ("benign", "malignant")
    assert len(data.source.store) == 12


def test_a_name_that_an_archive_holds_twice_is_counted(tmp_path):
    names = [f"{number}.png" for number in range(6)] + ["a\\1.png"]
    names[:6] = [f"a/{name}" for name in names[:6]]
    data = prepared(packed(tmp_path / "set.zip", names, contents(tmp_path)))
    assert left_out(data) == {"names that the archive holds twice, of which the last one is read": 1}


# Formats and classes


def test_files_of_other_formats_are_said_and_a_lost_class_is_named(tmp_path, caplog):
    write_images(tmp_path / "a", 6)
    write_images(tmp_path / "b", 6, start=100)
    for name in ("c/1.webp", "c/2.WEBP", "b/1.nii.gz", "b/2.dcm", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    data = prepared(tmp_path)
    assert left_out(data) == {
        "files of a format that is not read here (.webp: save them as PNG or TIFF)": 2,
        "files of a format that is not read here (.nii.gz: data=nifti reads them)": 1,
        "files of a format that is not read here (.dcm: data=dicom reads them)": 1,
        "not an image (by the ending of its name)": 1,
    }
    assert "No image of 1 of the 3 folders in data.root is used (c): see what is left out." in warnings_of(caplog)
    said = [text for text in warnings_of(caplog) if text.startswith("Left out")]
    assert len(said) == 3  # notes.txt is no loss


def test_a_class_without_a_usable_image_is_none_and_its_loss_is_said(tmp_path, caplog):
    write_images(tmp_path / "a", 6)
    write_images(tmp_path / "c", 6, start=100)
    (tmp_path / "b").mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / "b" / f"{number}.png")
    data = prepared(tmp_path)
    assert data.class_names == ("a", "c")
    assert {item["label"] for item in map(data.train_dataset.__getitem__, range(data.num_train))} == {0, 1}
    for text in (
        "No image of 1 of the 3 folders in data.root is used (b): see what is left out.",
        "No image of the classes b is left: they are no classes of this training.",
    ):
        assert text in warnings_of(caplog)


def test_folders_that_an_option_excludes_are_counted_but_are_no_loss(tmp_path, caplog):
    for number, name in enumerate("abc"):
        write_images(tmp_path / name, 6, start=60 * number)
    data = prepared(tmp_path, options={"classes": ["a", "c"]})
    assert left_out(data) == {"another class (data.reader.classes)": 6}
    assert not any("No image of" in text for text in warnings_of(caplog))


def test_other_formats_are_counted_by_every_reader(tmp_path):
    write_images(tmp_path / "images", 3)
    write_images(tmp_path / "source", 3)
    write_images(tmp_path / "target", 3)
    (tmp_path / "table.csv").write_text("path\nimages/000.png\nimages/001.png\n")
    write(tmp_path / "one.dcm", image_dataset(RAMP))
    (tmp_path / "two.nii").write_bytes(b"2")
    (tmp_path / "three.nrrd").write_bytes(b"3")
    texts = {
        ending: f"files of a format that is not read here ({ending}: {solution})"
        for ending, solution in (
            (".dcm", "data=dicom reads them"),
            (".nii", "data=nifti reads them"),
            (".nrrd", "convert them to .nii.gz for data=nifti"),
            (".png", "data=image_folder reads them"),
        )
    }
    for reader, endings in (
        (Dicom, {".nii": 1, ".nrrd": 1, ".png": 9}),
        (Nifti, {".dcm": 1, ".nrrd": 1, ".png": 9}),
        (Csv, {".dcm": 1, ".nrrd": 1, ".nii": 1}),
        (PairedFolder, {".dcm": 1, ".nrrd": 1, ".nii": 1}),
    ):
        counts = {reason.text: count for reason, count in reader(str(tmp_path)).scan().left_out.items()}
        assert {ending: counts.get(text, 0) for ending, text in texts.items() if text in counts} == endings, reader


def test_a_file_that_is_dicom_by_name_alone_is_damaged(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.dcm", image_dataset(RAMP, InstanceNumber=number))
    (tmp_path / "cut.dcm").write_bytes(b"")
    (tmp_path / "page.dcm").write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"2 of the 5 files .*named like a DICOM file"):
        prepared(tmp_path, Dicom)
