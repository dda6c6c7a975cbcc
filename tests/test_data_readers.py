"""The readers of tables (csv), MedMNIST's arrays, MedNIST's folders and pairs of images."""

from __future__ import annotations

import io
import pickle
import shutil
import sys
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medsynth.contracts import InputError
from medsynth.data import medmnist as medmnist_module
from medsynth.data.class_column import no_classes
from medsynth.data.csv import Csv, GeneratedTable
from medsynth.data.errors import Unreadable
from medsynth.data.medmnist import MedMnist
from medsynth.data.mednist import CLASSES, MedNist
from medsynth.data.npz import NpzArray
from medsynth.data.paired_folder import PairedFolder
from medsynth.data.reading import Record
from medsynth.data.table import natural
from tests.files import RAMP, by_text, prepared, write_images

RNG = np.random.default_rng(0)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def zipped(folder):
    """Write a zip archive of the folder beside it."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def again(reader):
    """Return the reader as a worker process receives it."""
    return pickle.loads(pickle.dumps(reader))


# Tables


def table(root, text, *, encoding="utf-8", **options):
    """Return a reader of the table ``text`` and of the images a/0.png to a/3.png."""
    write_images(root / "a", 4)
    renamed = {f"{i:03}.png": f"{i}.png" for i in range(4)}
    for old, new in renamed.items():
        (root / "a" / old).rename(root / "a" / new)
    (root / "table.csv").write_bytes(text.encode(encoding))
    return Csv(str(root), **options)


@pytest.mark.parametrize(
    ("folders", "columns", "options", "words"),
    [
        (["train", "Test"], "", {}, ["folders of a split", "a column split"]),
        (["train", "Test"], "", {"split": None}, []),
        (["train", "Test"], ",split", {}, []),
        (["patient_1", "patient_2"], "", {}, ["like patients", "a column patient", "data.patient_pattern="]),
        (["patient_1", "patient_2"], ",patient", {}, []),
        (["patient_1", "patient_2"], "", {"patient": None}, []),
        (["train/sub-01", "val/sub-02"], "", {}, ["folders of a split", "like patients"]),
        (["train", "benign"], "", {}, []),
        (["benign", "malignant"], "", {}, []),
    ],
)
def test_folders_whose_role_a_table_does_not_say_are_doubted(folders, columns, options, words, tmp_path):
    for folder in folders:
        write_images(tmp_path / folder, 1)
    rows = [f"{folder}/000.png{',train' * columns.count(',')}" for folder in folders]
    (tmp_path / "table.csv").write_text("\n".join([f"path{columns}", *rows]))
    doubt = Csv(str(tmp_path), **options).scan().roles.doubt
    assert bool(doubt) == bool(words)
    for word in words:
        assert word in doubt


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_table_gives_classes_patients_and_splits(delimiter, encoding, newline, tmp_path):
    lines = [
        "path,label,patient,split,remark",
        '"a/0.png",10,M\u00fcller,Train,"x, y"',
        ".\\a\\1.png, 9 ,P2,validation,",
        "",
        "./a/2.png,9,P2,TEST,",
    ]
    text = newline.join(lines).replace(",", delimiter).replace(f"x{delimiter} y", "x, y;\tz")
    found = again(table(tmp_path, text, encoding=encoding)).scan()
    assert found.records == [
        Record("a/0.png", class_name="10", patient="M\u00fcller", split="train"),
        Record("a/1.png", class_name="9", patient="P2", split="val"),
        Record("a/2.png", class_name="9", patient="P2", split="test"),
    ]
    assert found.class_names == ("9", "10")
    assert by_text(found.left_out) == {"not in the table": 1}


def test_a_table_of_paths_alone_and_columns_of_other_names(tmp_path):
    assert table(tmp_path / "plain", "path\na/2.png\n").scan().records == [Record("a/2.png")]
    options = {"path": "file", "label": "sex", "split": None}
    found = table(tmp_path / "named", "file,sex,split\na/1.png,f,whatever\n", **options).scan()
    assert found.records == [Record("a/1.png", class_name="f")]


def test_a_table_may_be_outside_of_the_root_and_images_in_a_zip_archive(tmp_path):
    table(tmp_path / "data", "path\na/1.png\n")
    elsewhere = tmp_path / "elsewhere.csv"
    elsewhere.write_text("path,label\na/3.png,x\n")
    reader = again(Csv(str(zipped(tmp_path / "data")), table=str(elsewhere)))
    (item,) = reader.scan().records
    ((picture,), left_out) = reader.read(item)
    assert picture.values[0, :2, 0].tolist() == [252, 3]
    assert (item.class_name, left_out) == ("x", {})
    before = reader.key()
    elsewhere.write_text("path,label\na/3.png,y\n")
    assert reader.key() != before


def test_all_mistakes_of_a_table_are_reported_at_once_by_line_numbers_without_names(tmp_path):
    rows = [
        "path,label,patient,split",
        "a/0.png,x,p,train",  # line 2
        "a/nowhere.png,x,p,train",
        "../secret/7.png,x,p,train",
        "/etc/1.png,x,p,train",
        "a/0.png,x,p,train",  # line 6
        "a/1.png,,p,train",
        "a/2.png,x,p,holdout",
        "table.csv,x,p,val",
        ",x,p,val",
        '"a\n/gone.png",x,p,val',  # lines 11 and 12
        "C:\\images\\1.png,x,p,val",
        *(f"lost/{i}.png,x,p,val" for i in range(6)),
    ]
    with pytest.raises(InputError) as caught:
        table(tmp_path, "\n".join(rows)).scan()
    message = str(caught.value)
    for part in (
        "8 rows (lines 3, 11, 14, 15, 16 ...) name files that do not exist",
        "3 rows (lines 4, 5, 13) lead out of data.root",
        "1 row (line 6) name a file for the second time",
        "1 row (line 7) have no label although others do",
        "1 row (line 8) have a split other than train, val and test",
        "1 row (line 9) name files other than images",
        "1 row (line 10) name no file",
    ):
        assert part in message
    assert not any(word in message for word in ("nowhere", "secret", "etc", "gone", "lost", "holdout"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{root}/a/0.png", "1 row (line 3) name files of data.root by other paths than those below it"),
        ("../images/a/0.png", "1 row (line 3) name files of data.root by other paths than those below it"),
        ("images/a/0.png", "1 row (line 3) name files of data.root by other paths than those below it"),
        ("{root}/../others/0.png", "1 row (line 3) name files outside of data.root: give the folder that holds all"),
        ("../others/0.png", "1 row (line 3) name files outside of data.root: give the folder that holds all"),
        ("others/0.png", "1 row (line 3) name files outside of data.root: give the folder that holds all"),
        (".a/0.png", "1 row (line 3) name hidden files"),
        ("../others/1.png", "1 row (line 3) lead out of data.root"),
    ],
)
def test_a_path_that_names_no_file_below_the_root_is_explained_by_where_the_file_is(tmp_path, path, message):
    root, others = tmp_path / "images", tmp_path / "others"
    reader = table(root, f"path\na/1.png\n{path.format(root=root)}\n")
    others.mkdir()
    for folder in (others, root / ".a"):
        shutil.copytree(root / "a", folder, dirs_exist_ok=True)
    (others / "1.png").unlink()
    with pytest.raises(InputError) as caught:
        reader.scan()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "table.csv is empty"),
        ("path,label\n", {}, "has no rows"),
        ("file,label\na/0.png,x\n", {}, r"data\.reader\.path=path names no column .* which has file, label"),
        ("path\na/0.png\n", {"label": "sex"}, r"data\.reader\.label=sex names no column .* which has path"),
        ("path,path\na/0.png,x\n", {}, "names a column twice"),
        ("a/0.png,x\na/1.png,y\n", {}, "has no header"),
        ("path,label\na/0.png,x,y\na/1.png\n", {}, r"has 2 rows \(lines 2, 3\) with more or fewer columns"),
        ('path,label\na/0.png,x\n"a/1.png,y\n', {}, "cannot be parsed from line 3 on: unexpected end of data"),
        ("path,label\na/0.png,\ud800\n", {}, "is not UTF-8 text"),
        ("path\na/0.png\n", {"table": "other.csv"}, r"data\.reader\.table=other\.csv cannot be read"),
    ],
)
def test_an_impossible_table_is_refused(text, options, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        table(tmp_path, text.encode("utf-8", "surrogatepass").decode("latin-1"), encoding="latin-1", **options).scan()
    assert "a/0" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([f"{age}" for age in range(20, 60)] * 9, "40 different numbers, which are measured values"),
        ([f"{value / 7:.3f}" for value in range(12)] * 9, "12 different numbers, which are measured values"),
        (["Effusion|Mass", "Mass", "Effusion", "none"], "several labels for an image"),
        (["a;b", "b;c"], "several labels for an image"),
        (["cyst, mass", "cyst", "mass"], "several labels for an image"),
        (["1 0 0", "0 1 0"], "several values for an image"),
        (["[1]", "[2, 3]"], "several values for an image"),
        (["1", "01", "2"], "one number in several ways"),
        (["1", "1.0", "2"], "one number in several ways"),
        (["Benign", "benign"], "upper and lower case alone"),
        ([f"image {number}" for number in range(30)], "30 different labels for 30 images"),
        (["0", "0.5", "1", "2", "3"] * 4, ""),  # the clinical dementia rating
        ([str(number) for number in range(20)] * 2, ""),
        (["AP/PA", "left/right", "oblique"], ""),
        (["benign", "malignant", "not known, yet"], ""),
        (["a|b", "c|d"], ""),
        ([f"grade{number}" for number in range(40)] * 3, ""),
        (["1e", "2020-01", "(unknown)"], ""),
        ([], ""),
    ],
)
def test_columns_that_hold_no_classes(labels, words):
    found = no_classes(labels)
    assert words in found if words else found == ""


def test_a_table_of_measured_values_is_refused_without_a_value(tmp_path):
    write_images(tmp_path / "a", 24, start=30)
    rows = "".join(f"a/{i:03}.png,{i + 0.5}\n" for i in range(30, 54))
    with pytest.raises(
        InputError, match=r"The column label of .* 24 different numbers.*data\.reader\.label=null"
    ) as error:
        table(tmp_path, f"path,label\n{rows}").scan()
    assert "37.5" not in str(error.value)
    (tmp_path / "table.csv").write_text(f"path,label\n{rows}")
    assert Csv(str(tmp_path), label=None).scan().class_names == ()
    assert len(GeneratedTable(str(tmp_path)).scan().class_names) == 24  # of a generator with so many classes


def test_class_names_are_sorted_naturally():
    names = ["b", "10", "2", "a10", "a9", "", "002", "a", "1.5", "1.10"]
    assert sorted(names, key=natural) == ["", "1.5", "1.10", "002", "2", "10", "a", "a9", "a10", "b"]


# MedMNIST

IMAGES = {"train": RNG.integers(0, 256, (600, 6, 5), np.uint8), "val": RNG.integers(0, 256, (9, 6, 5), np.uint8)}
CLASS = {split: RNG.integers(0, 2, (len(images), 1), np.uint8) for split, images in IMAGES.items()}


def arrays(**changes):
    named = {f"{split}_images": images for split, images in IMAGES.items()}
    named |= {f"{split}_labels": labels for split, labels in CLASS.items()} | changes
    return {name: values for name, values in named.items() if values is not None}


def npz(path, *, compressed=True, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, **arrays(**changes))
    return str(path)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("backwards", [False, True])
def test_all_images_of_an_npz_file_are_read_with_their_labels(compressed, backwards, tmp_path):
    reader = again(MedMnist(npz(tmp_path / "set.npz", compressed=compressed)))
    found = reader.scan()
    assert found.class_names == ("0", "1")
    assert [(item.split, item.part) for item in found.records] == [("train", 0), ("train", 1), ("train", 2), ("val", 0)]
    seen = {split: [] for split in IMAGES}
    reader = again(reader)
    for item in reversed(found.records) if backwards else found.records:
        pictures, left_out = reader.read(item)
        assert not left_out
        place = 0 if backwards else len(seen[item.split])
        seen[item.split][place:place] = pictures
    for split, pictures in seen.items():
        assert np.array_equal(np.stack([picture.values[0] for picture in pictures]), IMAGES[split].astype(np.float32))
        assert [picture.class_name for picture in pictures] == [str(label) for label in CLASS[split].ravel()]


def test_colors_are_channels_and_large_images_are_read_in_smaller_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(medmnist_module, "_CHUNK_VALUES", 1000)
    colors = RNG.integers(0, 256, (25, 6, 5, 3), np.uint8)
    reader = MedMnist(npz(tmp_path / "set.npz", train_images=colors, train_labels=np.arange(25)[:, None]))
    found = reader.scan()
    assert [item.part for item in found.records if item.split == "train"] == [0, 1, 2]
    (pictures, _) = reader.read(found.records[1])
    assert np.array_equal(np.stack([picture.values for picture in pictures]), colors[11:22].transpose(0, 3, 1, 2))
    assert [picture.class_name for picture in pictures] == [str(label) for label in range(11, 22)]


def test_class_names_come_from_the_package_medmnist(tmp_path):
    names = ("normal", "pneumonia")
    path = npz(tmp_path / "pneumoniamnist_64.npz")
    assert MedMnist(path).scan().class_names == names
    assert MedMnist(str(tmp_path), flag="pneumoniamnist", size=64).scan().class_names == names
    other = npz(tmp_path / "mine.npz")
    assert MedMnist(other).scan().class_names == ("0", "1")
    assert MedMnist(other, flag="pneumoniamnist").scan().class_names == names
    with pytest.raises(InputError, match="labels that MedMNIST's set of this name does not have"):
        MedMnist(npz(tmp_path / "breastmnist.npz", val_labels=CLASS["val"] + 2)).scan()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None}, "is not a file of MedMNIST"),
        ({"val_labels": None}, "is not a file of MedMNIST"),
        ({"val_images": None}, "is not a file of MedMNIST"),
        ({"va1_images": IMAGES["val"]}, "and nothing else"),
        ({"train_images": np.zeros((600, 6, 6, 6), np.uint8)}, "3D sets are not supported"),
        ({"train_images": np.zeros((600, 6), np.uint8)}, "does not hold 2D images"),
        ({"train_images": np.zeros((600, 6, 5), np.float32)}, "images of 8 bits"),
        ({"train_images": np.zeros((600, 0, 5), np.uint8)}, "images of 8 bits"),
        ({"train_images": np.zeros((5, 6, 600), np.uint8).T}, "stored in Fortran order"),
        ({"train_labels": np.zeros((600, 14), np.uint8)}, "several labels per image"),
        ({"train_labels": np.zeros((599, 1), np.uint8)}, "600 images and 599 labels in train"),
        ({"train_labels": np.array([["a"]] * 600, object)}, "does not hold numbers"),
    ],
)
def test_other_arrays_are_refused(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        MedMnist(npz(tmp_path / "set.npz", **changes)).scan()


def test_pickled_objects_are_not_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = npz(tmp_path / "set.npz", train_labels=np.array([Trap()] * 600, object))
    with pytest.raises(InputError, match="does not hold numbers"):
        MedMnist(path).scan()
    assert not (tmp_path / "sprung").exists()


def test_the_whole_array_is_checked_before_any_row_is_used(tmp_path):
    path = Path(npz(tmp_path / "set.npz", compressed=False))
    content = bytearray(path.read_bytes())
    content[content.find(IMAGES["train"][599].tobytes())] ^= 1  # one bit in the last image
    path.write_bytes(content)
    reader = MedMnist(str(path))
    with pytest.raises(Unreadable, match="damaged"):
        reader.read(reader.scan().records[0])


def test_an_array_shorter_than_its_header_is_damaged(tmp_path):
    stream = io.BytesIO()
    np.save(stream, IMAGES["train"])
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("x.npy", stream.getvalue()[:-1])
        archive.writestr("y.npy", b"\x93NUMPY\x07\x00")
    with pytest.raises(Unreadable, match="not as large as its header says"):
        NpzArray(tmp_path / "set.npz", "x.npy").rows(0, 1)
    with pytest.raises(Unreadable, match="header is damaged"):
        NpzArray(tmp_path / "set.npz", "y.npy")


def no_network(*args, **kwargs):
    raise urllib.error.URLError("no network")


@pytest.mark.parametrize(
    ("root", "options", "message"),
    [
        (None, {}, r"data\.root is needed: data=medmnist data\.root=/path/to/pneumoniamnist\.npz"),
        ("", {"flag": None}, r"is not an \.npz file: .* a folder with data\.reader\.flag=pneumoniamnist"),
        ("absent.npz", {}, r"absent\.npz does not exist"),
        ("", {"flag": "pneumoniamnist"}, r"pneumoniamnist\.npz does not exist.*data\.reader\.download=true"),
        ("text.npz", {}, "damaged one: download it again"),
        ("", {"flag": "catmnist"}, r"data\.reader\.flag=catmnist is not a MedMNIST set: choose pathmnist, "),
        ("", {"flag": "chestmnist"}, "chestmnist cannot be used"),
        ("", {"flag": "organmnist3d", "download": True}, "organmnist3d cannot be used"),
        ("", {"size": 32}, r"data\.reader\.size=32 is not possible: choose 28, 64, 128, 224"),
        (
            "",
            {"flag": "breastmnist", "download": True},
            r"could not download breastmnist\.npz \(URLError\).* give its path",
        ),
    ],
)
def test_an_unavailable_medmnist_set_is_refused(root, options, message, tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.utils.download_url", no_network)
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(InputError, match=message):
        MedMnist(root if root is None else str(tmp_path / root), **options)
    assert {path.name for path in tmp_path.iterdir()} == {"text.npz"}


def test_without_the_package_classes_are_numbers_and_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "medmnist", None)
    assert MedMnist(npz(tmp_path / "pneumoniamnist.npz")).scan().class_names == ("0", "1")
    with pytest.raises(InputError, match="uv sync --extra medmnist"):
        MedMnist(str(tmp_path), flag="breastmnist", download=True)


def test_a_set_is_downloaded_once(tmp_path, monkeypatch):
    calls = []

    def fetch(url, root, filename, md5):
        calls.append((url, md5))
        npz(Path(root) / filename)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fetch)
    for _ in range(2):
        reader = MedMnist(str(tmp_path / "new"), flag="breastmnist", size=64, download=True)
        assert len(reader.scan().records) == 4
    ((url, md5),) = calls
    assert "breastmnist_64.npz" in url
    assert len(md5) == 32
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["breastmnist_64.npz"]


# MedNIST


def test_mednist_is_found_in_its_folder_the_parent_folder_and_a_zip_archive(tmp_path):
    for name in CLASSES:
        write_images(tmp_path / "MedNIST" / name, 2)
    (tmp_path / "MedNIST" / "README.md").write_text("")
    for root in (tmp_path, tmp_path / "MedNIST", zipped(tmp_path / "MedNIST")):
        found = MedNist(str(root)).scan()
        assert found.class_names == tuple(sorted(CLASSES))
        assert len(found.records) == 12
    reader = MedNist(str(tmp_path), classes=["Hand", "CXR"])
    assert reader.scan().class_names == ("CXR", "Hand")
    assert reader.read(Record("Hand/001.png"))[0][0].values[0, 0].tolist() == [254] + [1] * 7


def test_mednist_without_class_folders_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("monai.apps.download_and_extract", no_network)
    with pytest.raises(InputError, match=r"data\.root is needed: data=mednist"):
        MedNist(None)
    with pytest.raises(InputError, match=r"could not download MedNIST .*URLError.*data\.root=/path/to/MedNIST"):
        MedNist(str(tmp_path / "new"), download=True)
    assert not list((tmp_path / "new").iterdir())
    write_images(tmp_path / "in" / "MedNIST" / "Hand", 2)
    with pytest.raises(InputError, match="no class folders such as AbdomenCT"):
        MedNist(str(zipped(tmp_path / "in"))).scan()


def test_mednist_is_downloaded_once(tmp_path, monkeypatch):
    def fetch(url, filepath, output_dir, **options):
        assert url.endswith("MedNIST.tar.gz")
        assert options["hash_val"]
        write_images(Path(output_dir) / "MedNIST" / "CXR", 1)
        write_images(Path(output_dir) / "MedNIST" / "Hand", 1)

    monkeypatch.setattr("monai.apps.download_and_extract", fetch)
    assert len(MedNist(str(tmp_path), download=True).scan().records) == 2
    monkeypatch.setattr("monai.apps.download_and_extract", no_network)
    assert len(MedNist(str(tmp_path), download=True).scan().records) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["MedNIST"]


# Pairs

COLOR = RNG.integers(0, 256, (8, 8, 3), np.uint8)


def pairs(root):
    for number in range(3):
        save(root / "sharp" / "p" / f"{number}.png", RAMP + number)
        save(root / "soft" / "p" / f"{number}.bmp", RAMP.T + number)
    return root


@pytest.mark.parametrize("form", [Path, zipped])
def test_pairs_have_the_same_name_and_the_source_comes_first(form, tmp_path):
    root = form(pairs(tmp_path / "data"))
    (tmp_path / "data" / "LICENSE").write_text("")
    reader = again(PairedFolder(str(root), source="sharp/", target="soft"))
    found = reader.scan()
    assert found.paired
    assert found.records[1] == Record("sharp/p/1.png", partner="soft/p/1.bmp")
    ((picture,), _) = reader.read(found.records[1])
    assert np.array_equal(picture.source.values, [RAMP + 1])
    assert np.array_equal(picture.values, [RAMP.T + 1])
    assert (picture.stored_type, picture.spacing, picture.values.dtype) == ("8-bit", None, np.float32)


def test_gray_is_repeated_if_its_partner_is_in_color(tmp_path):
    for number in range(4):
        save(tmp_path / "source" / f"{number}.png", RAMP + number)
        save(tmp_path / "target" / f"{number}.png", COLOR)
    sample = prepared(tmp_path, PairedFolder, channels=3, join_duplicates="none").train_dataset[0]
    assert np.array_equal(sample["image"][0], sample["image"][2])
    assert sample["target"].shape == (3, 8, 8)
    assert not np.array_equal(sample["target"][0], sample["target"][2])


def masked_pairs(root, count=12):
    """Pairs of 16 and 8 bits, the mask of which is what the target is not 0 at."""
    for number in range(count):
        target = np.zeros((8, 8), np.uint8)
        target[1:4, 2 : 5 + number % 2] = 100 + number
        source = np.where(target, 3000, 1000).astype(np.uint16) + RAMP
        source[7, 7] = 3252
        save(root / "source" / f"{number}.png", source)
        save(root / "target" / f"{number}.png", target)
        save(root / "mask" / f"{number}.png", (target > 0).astype(np.uint8))
    return root


def test_each_side_of_a_pair_has_its_own_range(tmp_path):
    root = masked_pairs(tmp_path)
    options = {"source_intensity_range": [1000, 3252], "source_unit": "a.u.", "normalize": "full_range"}
    data = prepared(root, PairedFolder, **options, join_duplicates="none")
    assert vars(data.intensity) == {"low": 0, "high": 255, "unit": "stored value"}
    assert vars(data.source_intensity) == {"low": 1000, "high": 3252, "unit": "a.u."}
    for sample in map(data.train_dataset.__getitem__, range(data.num_train)):
        inside = sample["target"] > -1
        expected = torch.from_numpy(np.where(inside, 3000, 1000) + RAMP).float()
        expected[:, 7, 7] = 3252
        expected.clamp_(1000, 3252)
        torch.testing.assert_close(data.source_intensity.to_physical(sample["image"]), expected, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"normalize": "min_max"}, (1000, 3252)),
        ({"normalize": "full_range"}, (0, 65535)),
        ({"intensity_range": [0, 4000]}, (0, 4000)),
        ({"intensity_range": [0, 4000], "source_window": [2000, 1000]}, (1500, 2500)),
        ({"intensity_range": [0, 4000], "source_normalize": "min_max"}, (1000, 3252)),
    ],
)
def test_without_options_of_their_own_sources_are_mapped_as_targets_by_their_own_values(options, expected, tmp_path):
    root = masked_pairs(tmp_path)
    intensity = prepared(root, PairedFolder, **options, join_duplicates="none").source_intensity
    assert (intensity.low, intensity.high) == pytest.approx(expected)


def test_messages_about_the_sources_name_their_options(tmp_path):
    masked_pairs(tmp_path)
    for options, message in [
        ({"source_window": "liver"}, r"data\.source_window=liver is unknown"),
        (
            {"source_window": [0, 1], "source_intensity_range": [0, 1]},
            "and data.source_intensity_range both",
        ),
        ({"source_intensity_range": [9000, 9001]}, "data.source_intensity_range from 9000 to 9001 does not overlap"),
    ]:
        with pytest.raises(InputError, match=message):
            prepared(tmp_path, PairedFolder, **options)


def test_masks_are_0_and_1_and_beside_their_images_in_random_views(tmp_path):
    """Source, target and mask are flipped, turned and cropped alike."""
    root = masked_pairs(tmp_path)
    views = {"random_crop": 8, "image_size": 6, "flip": "both", "rotate": 90}
    views |= {"source_intensity_range": [2000, 2001], "join_duplicates": "none"}
    data = prepared(root, PairedFolder, options={"mask": "mask"}, **views)
    batch = data.train_dataset.__getitems__(range(100))
    assert batch["mask"].shape == (100, 1, 6, 6)
    assert set(batch["mask"].unique().tolist()) == {0.0, 1.0}
    assert len({mask.numpy().tobytes() for mask in batch["mask"]}) > 20, "views differ"
    bright = batch["target"] * 255 / 200 > -0.5  # of the interpolated target above half of its value
    clear = (batch["image"].abs() > 0.99) & ((batch["target"] + 1 < 0.01) | (batch["target"] > -0.25))
    assert clear.float().mean() > 0.7
    assert torch.equal((batch["mask"] > 0)[clear], (batch["image"] > 0)[clear])
    assert torch.equal((batch["mask"] > 0)[clear], bright[clear])


def test_without_views_the_mask_is_that_of_the_file(tmp_path):
    data = prepared(masked_pairs(tmp_path), PairedFolder, options={"mask": "mask"}, join_duplicates="none")
    batch = data.train_dataset.__getitems__(range(data.num_train))
    assert torch.equal(batch["mask"] > 0, batch["target"] > -1)
    assert data.masked


def test_pairs_of_which_one_side_or_the_mask_is_empty_are_left_out(tmp_path):
    root = masked_pairs(tmp_path)
    save(root / "source" / "0.png", np.full((8, 8), 7, np.uint16))
    save(root / "target" / "1.png", np.full((8, 8), 7, np.uint8))
    save(root / "mask" / "2.png", np.zeros((8, 8), np.uint8))
    data = prepared(root, PairedFolder, options={"mask": "mask"}, join_duplicates="none")
    texts = {left_out["text"]: left_out["count"] for left_out in data.source.manifest["left_out"]}
    assert texts == {
        "pairs whose source is of one single value": 1,
        "images of one single value": 1,
        "pairs with an empty mask": 1,
    }


def test_a_mask_that_is_missing_or_of_another_size_is_refused(tmp_path):
    root = masked_pairs(tmp_path)
    (root / "mask" / "5.png").unlink()
    with pytest.raises(InputError, match=r"holds 1 pairs without a mask of the same name in mask, and 11 with one"):
        PairedFolder(str(root), mask="mask").scan()
    reader = PairedFolder(str(root), mask="mask", unmatched="skip")
    assert len(reader.scan().records) == 11
    save(root / "mask" / "0.png", np.ones((8, 7), np.uint8))
    with pytest.raises(Unreadable, match="the mask of the pair has another size than its images"):
        reader.read(reader.scan().records[0])


def test_images_without_a_partner_are_counted_on_both_sides(tmp_path):
    pairs(tmp_path)
    write_images(tmp_path / "sharp", 2)
    write_images(tmp_path / "soft" / "q", 1)
    write_images(tmp_path / "other", 1)
    options = {"source": "sharp", "target": "soft"}
    with pytest.raises(InputError, match=r"2 images in sharp and 1 in soft without a partner .* and 3 pairs"):
        PairedFolder(str(tmp_path), **options).scan()
    found = PairedFolder(str(tmp_path), **options, unmatched="skip").scan()
    assert len(found.records) == 3
    assert sorted(found.left_out.values()) == [1, 1, 2]


def test_pairs_of_different_size_are_refused(tmp_path):
    save(tmp_path / "source" / "0.png", RAMP)
    save(tmp_path / "target" / "0.png", RAMP[:, :7])
    reader = PairedFolder(str(tmp_path))
    with pytest.raises(Unreadable, match="different sizes"):
        reader.read(reader.scan().records[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "sharp"}, r"data\.reader\.target=target is not a folder with images"),
        ({"source": "sharp", "target": "sharp/"}, "both sharp: name two folders"),
        ({"source": "sharp", "target": "soft", "unmatched": "drop"}, r"data\.reader\.unmatched=drop"),
        ({"source": "sharp", "target": "twice"}, "1 images whose names differ from others' only in the ending"),
        ({"source": "sharp", "target": "lone", "unmatched": "skip"}, "and 0 pairs"),
    ],
)
def test_wrong_folders_are_refused(options, message, tmp_path):
    pairs(tmp_path)
    save(tmp_path / "twice" / "0.png", RAMP)
    save(tmp_path / "twice" / "0.jpg", RAMP)
    save(tmp_path / "lone" / "7.jpg", RAMP)
    with pytest.raises(InputError, match=message):
        PairedFolder(str(tmp_path), **options).scan()


# With everything around


def test_a_data_module_of_each(tmp_path):
    npz(tmp_path / "set.npz")
    data = prepared(tmp_path / "set.npz", MedMnist)
    assert (data.num_train, data.num_val, data.class_names) == (600, 9, ("0", "1"))
    pairs(tmp_path / "pairs")
    write_images(tmp_path / "pairs" / "sharp", 9, start=20)
    write_images(tmp_path / "pairs" / "soft", 9, start=20)
    data = prepared(tmp_path / "pairs", PairedFolder, options={"source": "sharp", "target": "soft"})
    assert data.num_train + data.num_val == 12
    rows = "".join(f"a/{i}.png,{i % 2},{'train' if i < 2 else 'val'}\n" for i in range(4))
    table(tmp_path / "table", "path,label,split\n" + rows)
    data = prepared(tmp_path / "table", Csv)
    assert (data.num_train, data.num_val, data.class_names) == (2, 2, ("0", "1"))
