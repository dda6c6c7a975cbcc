"""The roles of folders: given splits, classes, patients, folders around everything; and what is said about them."""

from __future__ import annotations

import zipfile
from collections import Counter

import nibabel
import numpy as np
import pytest

from medsynth.configuration.moved import renamed
from medsynth.contracts import InputError
from medsynth.data.csv import Csv
from medsynth.data.dicom import Dicom
from medsynth.data.folder_names import look_like_patients, split_name
from medsynth.data.image_folder import ImageFolder
from medsynth.data.layout import AUTO, doubt_about_names, find_layout, shared_stems
from medsynth.data.nifti import Nifti
from medsynth.data.paired_folder import PairedFolder
from tests.dicom_files import image_dataset, uid, write
from tests.files import RAMP, prepared, warnings_of, write_images


def names(*folders, images=3):
    return [f"{folder}/{number}.png" for folder in folders for number in range(images)]


def levels(files, **options):
    found = find_layout(files, root="x", **{"class_level": AUTO} | options)
    return found.split_level, found.class_level, found.patient_level


PATIENTS = [f"P{number:03}" for number in range(12)]
CLASSES = ["glioma", "none", "pituitary"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (names(*CLASSES), (0, 1, 0)),
        (["0.png", "1.png"], (0, 0, 0)),
        (names(*(f"set/v2/{name}" for name in CLASSES)), (0, 3, 0)),
        (names("set/v2"), (0, 0, 0)),
        (names(*(f"{part}/{name}" for part in ("Training", "Testing") for name in CLASSES)), (1, 2, 0)),
        (names(*(f"set/{part}/{name}" for part in ("train", "val", "test") for name in CLASSES)), (2, 3, 0)),
        (names(*(f"{part}/images/{name}" for part in ("train", "valid") for name in CLASSES)), (1, 3, 0)),
        (names(*(f"{name}/{part}" for part in ("train", "test") for name in CLASSES)), (2, 1, 0)),
        (names("train_set", "test_set"), (1, 0, 0)),
        (names("imagesTr", "imagesTs"), (1, 0, 0)),
        (names("train", "other"), (0, 1, 0)),
        (names(*(f"{patient}/{series}" for patient in PATIENTS for series in ("s1", "s2"))), (0, 0, 1)),
        (names(*(f"{name}/{patient}" for name in CLASSES for patient in PATIENTS)), (0, 1, 2)),
        (names(*(f"train/{patient}" for patient in PATIENTS), *(f"test/{patient}" for patient in "AB")), (1, 0, 2)),
        (names("sub-01", "sub-02"), (0, 0, 1)),
        (names("sub-01/anat", "sub-02/anat"), (0, 0, 1)),
        (names("1", "2", "3", "4"), (0, 1, 0)),
        (names(*map(str, range(10))), (0, 1, 0)),
        (names("left", "right"), (0, 1, 0)),
    ],
)
def test_the_levels_of_split_classes_and_patients(files, expected):
    if files[0].startswith("train/P"):  # patients of both parts are named alike
        files = [name.replace("test/A", "test/P100").replace("test/B", "test/P101") for name in files]
    assert levels(files) == expected


@pytest.mark.parametrize(
    ("folders", "images", "expected"),
    [
        (PATIENTS, 6, True),
        (PATIENTS, 300, True),
        (["patient_1", "patient_2"], 50, True),
        (["case7", "case12", "case9"], 50, True),
        ([f"LIDC-IDRI-{number:04}" for number in range(4)], 100, True),
        ([str(number) for number in (17, 403, 88, 12, 9, 77, 62, 51, 90)], 30, True),
        ([f"{number:02}" for number in range(3)], 30, False),
        ([f"slice of {chr(97 + number)}" for number in range(26)], 5, True),
        ([f"slice of {chr(97 + number)}" for number in range(26)], 50, False),
        (["grade_0", "grade_1", "grade_2"], 5, False),
        ([f"BIRADS_{number:03}" for number in range(9)], 5, False),
        (["40X", "100X", "200X", "400X"], 100, False),
        (["benign", "malignant"], 3, False),
        (["P001"], 3, False),
        (list(map(str, range(30))), 50, False),
        (list(map(str, range(30))), 5, True),
    ],
)
def test_names_and_numbers_of_images_tell_patients_from_classes(folders, images, expected):
    assert look_like_patients(Counter(dict.fromkeys(folders, images))) is expected


def test_levels_can_be_typed():
    files = names(*(f"{patient}/{series}" for patient in PATIENTS for series in ("s1", "s2")))
    assert levels(files, class_level=1) == (0, 1, 0)
    assert levels(files, class_level=2) == (0, 2, 1)
    assert levels(files, class_level=2, patient_level=None) == (0, 2, 0)
    assert levels(files, class_level=None, patient_level=None) == (0, 0, 0)
    assert levels(files, classes=["s1", "s2"]) == (0, 2, 1)
    split = names(*(f"{part}/{name}" for part in ("train", "test") for name in CLASSES))
    assert levels(split, class_level=1) == (0, 1, 0)
    assert levels(split, split_level=None) == (0, 1, 0)
    assert levels(split, split_level=None, class_level=2) == (0, 2, 0)
    assert levels(names("a", "b"), patient_level=1) == (0, 0, 1)
    for option in ("class_level", "patient_level", "split_level"):
        for value in (3, -1, "first", True):
            with pytest.raises(InputError, match=rf"data\.reader\.{option}={value} is not possible"):
                levels(files, **{option: value})


def test_a_given_split_beside_other_folders_is_refused():
    files = names("train", "test", "masks")
    with pytest.raises(InputError, match=r"given split \(test, train\) beside 1 others \(masks\).*split_level=null"):
        levels(files)
    assert levels(files, split_level=None) == (0, 1, 0)


def test_names_of_splits():
    found = {
        name: split_name(name) for name in ("TRAIN", "Validation", "dev", "test_images", "images_test", "imagesTs")
    }
    assert list(found.values()) == ["train", "val", "val", "test", "test", "test"]
    assert not any(map(split_name, ("trainer", "tr", "ts", "contest", "tests2", "")))


def test_endings_that_occur_with_several_stems_are_kinds():
    assert shared_stems(["c_1_t1", "c_1_t2", "c_2_t1", "c_2_t2"])["c_2_t1"] == "c_2"
    assert shared_stems(["hippocampus_001", "hippocampus_003"]) == {}
    assert shared_stems(["a_t1", "b_t1"]) == {}  # each has one


def test_names_that_begin_with_the_patient_are_said_to(tmp_path, caplog):
    write_images(tmp_path, 30)
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        path.rename(tmp_path / f"case-{number // 5}_{number % 5}.png")
    prepared(tmp_path)
    (text,) = (text for text in warnings_of(caplog) if "begin with the patient" in text)
    assert "(6 beginnings)" in text
    pattern = text.partition("patient_pattern='")[2].partition("'")[0]
    data = prepared(tmp_path, patient_pattern=pattern, join_duplicates="none")
    assert data.source.roles.startswith("Classes: none; patients: 6, data.patient_pattern, whose images stay in one")
    assert not any("begin with the patient" in text for text in data.source.role_doubts)
    assert doubt_about_names([f"a_{number}.png" for number in range(9)]) == ""


# Image folders


def test_patients_stay_on_one_side_and_the_sentence_says_so(tmp_path, caplog):
    caplog.set_level("INFO")
    for number, patient in enumerate(PATIENTS):
        for series in range(2):
            write_images(tmp_path / patient / f"s{series}", 3, start=20 * number + 8 * series)
    data = prepared(tmp_path, join_duplicates="none")
    assert data.class_names == ()
    patients = data.source.columns["patient"]
    sides = [{patients[row] for row in data.source.rows[name]} for name in ("train", "val")]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 12
    expected = (
        "Classes: none; patients: 12, the folders in data.root, whose images stay in one split; given split: none."
    )
    assert data.source.roles == expected
    assert expected in caplog.messages
    assert (
        "If these folders are classes: data.reader.class_level=1. If those below them are: data.reader.class_level=2."
        in warnings_of(caplog)
    )
    assert "P000" not in caplog.text


def test_a_given_split_is_used(tmp_path):
    for start, split in ((0, "Training"), (100, "Testing")):
        for number, name in enumerate(CLASSES):
            write_images(tmp_path / split / name, 6, start=start + 8 * number)
    data = prepared(tmp_path)
    assert data.class_names == tuple(CLASSES)
    assert data.num_test == 18
    assert data.num_train + data.num_val == 18
    assert data.source.roles == (
        "Classes: 3, the folders of level 2 below data.root; patients: not known, so that each image is split by "
        "itself (data.patient_pattern= finds them in names); given split: the folders in data.root."
    )


def test_folders_around_all_images_are_looked_through(tmp_path):
    for number, name in enumerate(CLASSES):
        write_images(tmp_path / "set" / "v2" / name, 6, start=10 * number)
    (tmp_path / "README.txt").write_text("")
    assert ImageFolder(str(tmp_path)).scan().class_names == tuple(CLASSES)
    write_images(tmp_path / "alone" / "set", 3)
    assert ImageFolder(str(tmp_path / "alone")).scan().class_names == ()
    assert ImageFolder(str(tmp_path / "alone"), classes="set").scan().class_names == ("set",)


def test_classes_are_in_natural_order(tmp_path):
    for number in (1, 2, 10):
        write_images(tmp_path / str(number), 2, start=number)
    assert ImageFolder(str(tmp_path)).scan().class_names == ("1", "2", "10")


def test_the_patient_of_a_subject_is_in_the_name(tmp_path):
    for subject in ("01", "02", "A3"):
        write_images(tmp_path / subject, 3)
        for number, path in enumerate(sorted((tmp_path / subject).iterdir())):
            path.rename(tmp_path / f"sub-{subject}_slice-{number}.png")
        (tmp_path / subject).rmdir()
    scan = ImageFolder(str(tmp_path)).scan()
    assert {record.patient for record in scan.records} == {"01", "02", "A3"}
    assert (scan.class_names, scan.roles.patients) == ((), "sub-XX in the names")


def test_partly_known_patients_are_said_to_be_on_both_sides(tmp_path, caplog):
    write_images(tmp_path / "a" / "patient_1", 5)
    write_images(tmp_path / "a" / "patient_2", 5, start=20)
    write_images(tmp_path / "b", 10, start=100)
    data = prepared(tmp_path)
    assert "patients: 2, the folders of level 2 below data.root, but 10 images have none" in data.source.roles
    assert any(text.startswith("Images of one patient are on both sides") for text in warnings_of(caplog))


def test_runs_of_earlier_versions_keep_their_classes():
    reader = renamed({"_target_": "medsynth.data.image_folder.ImageFolder", "_partial_": True, "classes": None})
    assert (reader["class_level"], reader["patient_level"], reader["split_level"]) == (1, None, None)
    assert levels(names("train/a", "test/b"), class_level=1, patient_level=None, split_level=None) == (0, 1, 0)
    assert levels(["0.png"], class_level=1, patient_level=None, split_level=None) == (0, 1, 0)


# Other readers


def wrapped(root, archive):
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(root.rglob("*.*")):
            target.write(path, f"download/set/{path.relative_to(root)}")
    return str(archive)


def volume(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(100, 30, (6, 7, 5)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


def test_tables_pairs_and_volumes_may_be_wrapped_in_a_folder(tmp_path):
    write_images(tmp_path / "table" / "images", 2)
    (tmp_path / "table" / "table.csv").write_text("path\nimages/000.png\nimages/001.png\n")
    assert len(Csv(wrapped(tmp_path / "table", tmp_path / "table.zip")).scan().records) == 2
    write_images(tmp_path / "pairs" / "source", 2)
    write_images(tmp_path / "pairs" / "target", 2)
    assert len(PairedFolder(wrapped(tmp_path / "pairs", tmp_path / "pairs.zip")).scan().records) == 2
    for folder in ("imagesTr", "labelsTr"):
        volume(tmp_path / "volumes" / folder / "1.nii.gz")
    reader = Nifti(wrapped(tmp_path / "volumes", tmp_path / "v.zip"), images="imagesTr", labels="labelsTr")
    assert len(reader.scan().records) == 1


@pytest.mark.parametrize(
    ("files", "patients"),
    [
        (["sub-01/anat/sub-01_T1w", "sub-01/anat/sub-01_T2w", "sub-02/anat/sub-02_T1w"], ["01", "01", "02"]),
        (["BraTS_001/t1", "BraTS_001/t2", "BraTS_002/t1"], ["BraTS_001", "BraTS_001", "BraTS_002"]),
        (["c_1_0000", "c_1_0001", "c_2_0000", "c_2_0001"], ["c_1", "c_1", "c_2", "c_2"]),
        (["x_001", "x_003"], ["x_001", "x_003"]),
    ],
)
def test_volumes_of_one_patient_stay_together(files, patients, tmp_path):
    for name in files:
        volume(tmp_path / f"{name}.nii.gz")
    assert [record.patient for record in Nifti(str(tmp_path)).scan().records] == patients


def test_pairs_have_subjects_and_given_splits(tmp_path):
    for folder in ("source", "target"):
        write_images(tmp_path / folder / "train" / "sub-1", 2)
        write_images(tmp_path / folder / "test" / "sub-2", 2)
    records = PairedFolder(str(tmp_path)).scan().records
    assert {(record.patient, record.split) for record in records} == {("1", "train"), ("2", "test")}


def dicom(path, **elements):
    write(path, image_dataset(RAMP, **elements))


def patients_of(root, **options):
    scan = Dicom(str(root), **options).scan()
    return [record.patient for record in sorted(scan.records, key=lambda record: record.name)], scan.roles.patients


def test_dicom_patients_without_an_id_are_folders_or_studies(tmp_path):
    for folder in ("P001/a", "P001/b", "P002/a"):
        dicom(tmp_path / "folders" / folder / "1.dcm", PatientID=None, StudyInstanceUID=uid(folder))
        dicom(tmp_path / "studies" / f"{folder.replace('/', '')}.dcm", PatientID=None, StudyInstanceUID=uid(folder))
    found, origin = patients_of(tmp_path / "folders")
    assert found == ["P001", "P001", "P002"]
    assert origin == "the folders in data.root since images lack PatientID"
    found, origin = patients_of(tmp_path / "studies")
    assert len(set(found)) == 3
    assert origin == "the studies since images lack PatientID"


def test_one_patient_id_for_several_studies_is_no_patient(tmp_path):
    for number in range(3):
        dicom(tmp_path / f"{number}.dcm", PatientID="ANONYMOUS", StudyInstanceUID=uid(number))
    found, origin = patients_of(tmp_path)
    assert (len(set(found)), origin) == (3, "the studies since all images have one PatientID")
    assert patients_of(tmp_path, patient_level=None) == (["ANONYMOUS"] * 3, "PatientID")


def test_dicom_folders_may_be_a_given_split(tmp_path):
    for number, folder in enumerate(("Training/2", "Training/10", "Testing/2", "Testing/10")):
        dicom(tmp_path / folder / "1.dcm", PatientID=f"p{number}")
    scan = Dicom(str(tmp_path), label="folder").scan()
    assert scan.class_names == ("2", "10")
    assert Counter(record.split for record in scan.records) == {"train": 2, "test": 2}
    assert {record.split for record in Dicom(str(tmp_path), split_level=None).scan().records} == {""}
