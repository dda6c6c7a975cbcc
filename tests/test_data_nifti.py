"""NIfTI volumes: orientation, physical values, labels of slices, and files that must be refused."""

from __future__ import annotations

import gzip
import itertools
import logging
import pickle
import struct
import tracemalloc

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from medsynth.contracts import InputError
from medsynth.data import nifti_volume
from medsynth.data.errors import Unreadable
from medsynth.data.nifti import Nifti
from medsynth.data.nifti_volume import load
from medsynth.data.reading import Record
from tests.files import by_text, prepared

RNG = np.random.default_rng(0)
SHAPE = (5, 6, 7)  # to the right, anterior, superior
VALUES = RNG.normal(100, 30, SHAPE).astype(np.float32)
AFFINE = np.array([[2.0, 0, 0, -4], [0, 3.0, 0, -5], [0, 0, 4.0, -6], [0, 0, 0, 1]])
ORIENTATIONS = [
    "".join(codes) for axes in itertools.permutations(["LR", "PA", "IS"]) for codes in itertools.product(*axes)
]


def image(values=VALUES, affine=AFFINE, *, kind=nibabel.Nifti1Image, slope=None, intercept=0.0):
    made = kind(values, affine)
    made.header.set_data_dtype(values.dtype)
    if slope is not None:
        made.header.set_slope_inter(slope, intercept)
    return made


def content(values=VALUES, affine=AFFINE, **options):
    """Return the bytes of a .nii file."""
    return image(values, affine, **options).to_bytes()


def changed(offset, kind, value, values=VALUES):
    """Return a .nii file with another number in its little-endian header."""
    data = bytearray(content(values))
    struct.pack_into("<" + kind, data, offset, value)
    return bytes(data)


def write(path, data=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content() if data is None else data
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def read(folder, **options):
    reader = pickle.loads(pickle.dumps(Nifti(str(folder), **options)))
    found = reader.scan()
    pictures, left_out = reader.read(found.records[0])
    return pictures, left_out


def stack(pictures):
    return np.stack([picture.values[0] for picture in pictures])


# Orientation


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_slices_look_the_same_however_the_volume_is_stored(codes, tmp_path):
    as_stored = image().as_reoriented(ornt_transform(io_orientation(AFFINE), axcodes2ornt(codes)))
    assert "".join(nibabel.aff2axcodes(as_stored.affine)) == codes
    write(tmp_path / "volume.nii", as_stored.to_bytes())
    pictures, _ = read(tmp_path, min_content=0)
    assert np.array_equal(stack(pictures), np.stack([VALUES[::-1, ::-1, k].T for k in range(7)]))
    assert {picture.spacing for picture in pictures} == {(3.0, 2.0)}


@pytest.mark.parametrize(
    ("axis", "order", "top", "left", "spacing"),
    [  # the direction that slices run to, what is on top, what is on the left side of the image
        ("axial", "S", "A", "R", (3.0, 2.0)),
        ("coronal", "A", "S", "R", (4.0, 2.0)),
        ("sagittal", "R", "S", "A", (4.0, 3.0)),
    ],
)
def test_slices_follow_the_radiological_convention(axis, order, top, left, spacing, tmp_path):
    for mark, where in (("R", np.s_[-1]), ("A", np.s_[:, -1]), ("S", np.s_[..., -1])):
        values = np.zeros(SHAPE, np.uint8)
        values[where] = 200
        write(tmp_path / "volume.nii.gz", content(values))
        pictures, _ = read(tmp_path, axis=axis, min_content=0)
        shown = stack(pictures)
        expected = np.zeros_like(shown)
        expected[{order: np.s_[-1], top: np.s_[:, 0], left: np.s_[:, :, 0]}[mark]] = 200
        assert np.array_equal(shown, expected)
        assert pictures[0].spacing == spacing


def test_an_oblique_volume_keeps_its_voxels_and_their_sizes(tmp_path):
    turn = np.deg2rad(20)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = AFFINE.copy()
    affine[:3, :3] = rotation @ AFFINE[:3, :3]
    write(tmp_path / "volume.nii", content(affine=affine))
    pictures, _ = read(tmp_path, min_content=0)
    assert np.array_equal(pictures[2].values[0], VALUES[::-1, ::-1, 2].T)
    assert pictures[0].spacing == pytest.approx((3, 2), rel=1e-6)


def test_without_an_orientation_analyzes_is_used_with_a_remark():
    made = image()
    made.set_sform(None, 0)
    made.set_qform(None, 0)
    volume = load(made.to_bytes())
    assert np.array_equal(volume[...][0], VALUES[::-1])  # ANALYZE runs to the left
    assert "no orientation" in volume.remarks[0]


# Values


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize(
    ("dtype", "stored_type"),
    [("u1", "8-bit"), ("u2", "16-bit"), ("i2", "signed 16-bit"), ("i4", "32-bit integer"), ("f8", "floating-point")],
)
def test_values_equal_nibabels_and_types_the_files(kind, dtype, stored_type):
    stored = VALUES.astype(dtype)
    volume = load(gzip.compress(content(stored, kind=kind)))
    assert np.array_equal(volume[...][0], stored.astype(np.float32))
    assert volume.stored_type == stored_type
    scaled = image(stored, kind=kind, slope=0.25, intercept=-1024)
    expected = stored * 0.25 - 1024  # what set_slope_inter announces, applied to what stands in the file
    raw = bytearray(scaled.to_bytes())
    start = int(scaled.header["vox_offset"]) or len(raw) - stored.nbytes
    raw[start:] = stored.tobytes(order="F")
    volume = load(bytes(raw))
    assert np.allclose(volume[...][0], expected, rtol=1e-6)
    assert volume.stored_type == "floating-point"


def test_the_other_byte_order_is_read():
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    made = nibabel.Nifti1Image(VALUES.astype(">i2"), AFFINE, header)
    assert made.to_bytes()[:4] == struct.pack(">i", 348)
    assert np.array_equal(load(made.to_bytes())[...][0], VALUES.astype("i2").astype("f4"))


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001), ("unknown", 1)])
def test_spacing_is_in_millimeters(unit, factor):
    made = image()
    made.header.set_xyzt_units(unit)
    sizes = nibabel.affines.voxel_sizes(load(made.to_bytes()).affine)
    assert sizes == pytest.approx(np.array([2, 3, 4]) * factor, rel=1e-6)


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
def test_colors_become_three_channels(channels, tmp_path):
    stored = RNG.integers(0, 256, (*SHAPE, len(channels)), dtype=np.uint8)
    colors = stored.view([(name, "u1") for name in channels])[..., 0]
    write(tmp_path / "color.nii", content(colors))
    pictures, _ = read(tmp_path, min_content=0)
    assert np.array_equal(pictures[3].values[1], stored[::-1, ::-1, 3, 1].T)
    assert pictures[0].values.shape == (3, 6, 5)
    assert pictures[0].stored_type == "8-bit"
    assert pictures[0].remarks == ("lost their alpha channel",) * (channels == "RGBA")


def test_one_volume_of_a_four_dimensional_file_is_selected():
    several = np.stack([VALUES, VALUES + 1, VALUES + 2], axis=-1)
    assert np.array_equal(load(content(several), volume=2)[...][0], VALUES + 2)
    assert np.array_equal(load(content(several[..., :1]))[...][0], VALUES)
    with pytest.raises(Unreadable, match=r"choose one by data\.reader\.volume"):
        load(content(several))
    with pytest.raises(Unreadable, match=r"fewer volumes than data\.reader\.volume"):
        load(content(several), volume=3)


def test_a_single_slice_is_an_image(tmp_path):
    write(tmp_path / "flat.nii", content(VALUES[..., 0]))
    (picture,), _ = read(tmp_path)
    assert np.array_equal(picture.values[0], VALUES[::-1, ::-1, 0].T)
    with pytest.raises(Unreadable, match="single slice along another axis"):
        read(tmp_path, axis="coronal")


def test_nan_is_refused_or_replaced_and_infinity_refused():
    damaged = VALUES.copy()
    damaged[0, 0, 0] = np.nan
    with pytest.raises(Unreadable, match=r"it holds NaN, for which data\.reader\.nan_value=0 takes 0"):
        load(content(damaged))
    values = load(content(damaged), nan_value=-5)[...][0]
    assert values[0, 0, 0] == -5
    assert np.array_equal(values.ravel()[1:], VALUES.ravel()[1:])
    damaged[0, 0, 0] = np.inf
    with pytest.raises(Unreadable, match="infinite values: replace"):
        load(content(damaged), nan_value=-5)
    with pytest.raises(Unreadable, match="infinite values: replace"):
        load(content(np.full(SHAPE, 1e300)))


# Slices without content


def test_slices_with_little_above_the_background_are_left_out(tmp_path):
    values = np.zeros((10, 10, 8), np.float32)
    values[..., 4:] = RNG.uniform(500, 1000, (10, 10, 4))
    values[:2, 0, 1] = 900  # 2 % of slice 1
    values[:6, 0, 2] = 900  # 6 % of slice 2
    values[..., 3] = 60  # 10 % of the span is brighter than this
    write(tmp_path / "volume.nii.gz", content(values))
    low, high = np.percentile(values, (0.5, 99.5))
    assert 60 < low + 0.1 * (high - low) < 500
    pictures, left_out = read(tmp_path)
    assert [float(picture.values.max()) for picture in pictures] == [900, *values[..., 4:].max((0, 1)).tolist()]
    assert by_text(left_out) == {"slices without content": 3}
    assert len(read(tmp_path, min_content=0.01)[0]) == 6
    assert len(read(tmp_path, min_content=0)[0]) == 8


# Labels

LABELS = np.zeros(SHAPE, np.uint8)
LABELS[0, 0, 1] = 2
LABELS[:2, 0, 2], LABELS[2, 0, 2] = 1, 2
LABELS[:2, 0, 3], LABELS[2:4, 0, 3] = 2, 1  # as many of both
CLASSES = ["background", "2", "1", "1", "background", "background", "background"]


def labeled(folder, labels=LABELS, **options):
    write(folder / "imagesTr" / "one.nii.gz")
    write(folder / "labelsTr" / "one.nii", content(labels, **options))
    return folder


@pytest.mark.parametrize("images", ["imagesTr", "imagesTr/", "imagesTr/*"])
def test_a_slice_has_the_class_of_its_most_frequent_label(images, tmp_path):
    pictures, _ = read(labeled(tmp_path), images=images, labels="labelsTr", min_content=0)
    assert [picture.class_name for picture in pictures] == CLASSES


def test_labels_have_names_and_label_volumes_may_have_another_orientation(tmp_path):
    flipped = image(LABELS.astype(np.float32)).as_reoriented([[1, -1], [0, 1], [2, -1]])
    write(tmp_path / "one_scan.nii.gz")
    write(tmp_path / "one_seg.nii.gz", flipped.to_bytes())
    names = {0: "none", 1: "anterior", 2: "posterior"}
    options = {"images": "*_scan", "labels": "*_seg", "label_names": names, "min_content": 0}
    pictures, _ = read(tmp_path, **options)
    expected = {"background": "none", "1": "anterior", "2": "posterior"}
    assert [picture.class_name for picture in pictures] == [expected[name] for name in CLASSES]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (LABELS[:4], {}, "label volume has another shape"),
        (LABELS + 0.5, {}, "not integers"),
        (LABELS, {"affine": np.diag([2.0, 3, 4, 1])}, "has another position"),
        (LABELS * 2, {}, "does not name"),
        (np.stack([LABELS, LABELS], -1), {}, "label volume cannot be read: it holds several"),
    ],
)
def test_label_volumes_that_do_not_match_are_refused(labels, options, message, tmp_path):
    labeled(tmp_path, labels, **options)
    with pytest.raises(Unreadable, match=message):
        read(tmp_path, images="imagesTr", labels="labelsTr", label_names={1: "anterior", 2: "posterior"})


def test_images_and_labels_without_a_partner_are_counted(tmp_path):
    labeled(tmp_path)
    write(tmp_path / "imagesTr" / "two.nii.gz")
    write(tmp_path / "imagesTr" / "three.nii.gz")
    write(tmp_path / "labelsTr" / "four.nii.gz")
    write(tmp_path / "more" / "five.nii.gz")
    (tmp_path / "dataset.json").write_text("{}")
    options = {"images": "imagesTr", "labels": "labelsTr"}
    with pytest.raises(
        InputError, match="2 images without a label volume and 1 label volumes without an image, 1 match"
    ):
        Nifti(str(tmp_path), **options).scan()
    found = Nifti(str(tmp_path), **options, unmatched="skip").scan()
    assert found.records == [Record("imagesTr/one.nii.gz", patient="one", series="imagesTr/one.nii.gz")]
    assert sorted(found.left_out.values()) == [1, 1, 1, 2]


# What must be refused

WHOLE = gzip.compress(content())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a NIfTI file"),
        (b"\x5c\x01\x00\x00" * 20, "header is damaged"),
        (content()[:-1], "shorter than its header says"),
        (WHOLE[:-30], "compressed data are damaged or cut off"),
        (WHOLE[:-6] + b"\0\0" + WHOLE[-4:], "compressed data are damaged"),
        (WHOLE[:2], "compressed data are damaged"),
        (changed(42, "h", -5), "header is damaged"),  # dim[1]
        (changed(40, "h", 9), "header is damaged"),  # dim[0]
        (changed(42, "h", 32767, np.zeros((1, 300, 300), np.float32)), "claims more than 2 GiB"),
        (changed(70, "h", 1), "header is damaged"),  # datatype: single bits
        (changed(108, "f", 4), "header is damaged"),  # vox_offset
        (changed(108, "f", 0), "header is damaged"),
        (changed(108, "f", np.inf), "header is damaged"),
        (changed(254, "h", 77), "header is damaged"),  # sform_code
        (changed(280, "f", 0), "affine has no inverse"),  # srow_x[0]
        (changed(280, "f", np.nan), "affine has no inverse"),
        (changed(116, "f", np.inf), "header is damaged"),  # scl_inter beside a slope of 1
        (changed(344, "4s", b"ni1\0"), r"another file \(\.img\)"),
        (content(VALUES.astype(np.complex64)), "complex"),
        (content(np.zeros((*SHAPE, 2, 2), np.float32)), "more than four dimensions"),
    ],
)
def test_damaged_files_are_refused_with_a_reason(data, message):
    with pytest.raises(Unreadable, match=message):
        load(data)


def test_an_affine_without_extent_and_voxels_without_size_are_refused():
    made = image()
    made.set_sform(None, 0)
    made.set_qform(AFFINE, 1)
    data = bytearray(made.to_bytes())
    assert np.array_equal(load(bytes(data))[...][0], VALUES)
    struct.pack_into("<f", data, 80, 0.0)  # pixdim[1]
    with pytest.raises(Unreadable, match="no voxel size"):
        load(bytes(data))


def test_a_decompression_bomb_is_refused_before_it_is_decompressed(monkeypatch):
    monkeypatch.setattr(nifti_volume, "LARGEST", 10_000)
    assert load(gzip.compress(content(VALUES) + bytes(9_000)))[...].shape == (1, *SHAPE)
    with pytest.raises(Unreadable, match="once decompressed"):
        load(gzip.compress(content(VALUES) + bytes(2**22)))
    with pytest.raises(Unreadable, match="claims more than"):
        load(gzip.compress(content(np.zeros((50, 51, 1), np.float32))))
    monkeypatch.setattr(nifti_volume, "LARGEST", 2**21)  # more than is decompressed at a time
    with pytest.raises(Unreadable, match="once decompressed"):
        load(gzip.compress(content(VALUES) + bytes(2**22)))


def test_nibabel_prints_and_logs_nothing(caplog, capfd, recwarn):
    data = bytearray(changed(108, "f", 354.0))  # an offset that is no multiple of 16, of which it warns
    data[352:352] = b"\0\0"
    struct.pack_into("<f", data, 80, -2.0)
    with caplog.at_level(logging.DEBUG):
        assert np.array_equal(load(bytes(data))[...][0], VALUES)
    assert (caplog.records, list(recwarn), *capfd.readouterr()) == ([], [], "", "")


def test_a_constant_volume_is_refused(tmp_path):
    write(tmp_path / "constant.nii", content(np.full(SHAPE, 7, np.uint8)))
    with pytest.raises(Unreadable, match="same value"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": "z"}, r"data\.reader\.axis=z is not possible: choose axial, coronal or sagittal"),
        ({"unmatched": "drop"}, r"data\.reader\.unmatched=drop"),
        ({"volume": -1}, r"data\.reader\.volume=-1"),
        ({"min_content": 1}, r"data\.reader\.min_content=1"),
        ({"labels": "*_*"}, r"data\.reader\.labels=\*_\* is not possible"),
        ({"label_names": {"one": 1}}, r"data\.reader\.label_names="),
        ({"images": "scans"}, "holds no volume"),
        ({"labels": "segmentations"}, "1 images without a label volume and 0 label volumes"),
    ],
)
def test_wrong_options_are_refused(options, message, tmp_path):
    write(tmp_path / "volume.nii.gz")
    with pytest.raises(InputError, match=message):
        Nifti(str(tmp_path), **options).scan()


def test_a_duplicate_volume_and_a_missing_volume_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="holds no volume"):
        Nifti(str(tmp_path)).scan()
    for ending in ("hdr", "img"):
        (tmp_path / f"a.{ending}").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no volume .*\.hdr: convert them to \.nii\.gz .*: 1; .*\.img: c"):
        Nifti(str(tmp_path)).scan()
    write(tmp_path / "a.nii")
    write(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"1 volumes in two formats"):
        Nifti(str(tmp_path))


# With everything around


def test_a_data_module_of_volumes(tmp_path):
    for name in "abcdef":
        write(tmp_path / "imagesTr" / f"{name}.nii.gz", content(RNG.normal(100, 30, SHAPE).astype(np.float32)))
        write(tmp_path / "labelsTr" / f"{name}.nii.gz", content(LABELS))
    options = {"images": "imagesTr", "labels": "labelsTr", "label_names": {1: "anterior", 2: "posterior"}}
    pattern = r"(?i)([^/]+)\.nii"
    data = prepared(tmp_path, Nifti, options=options, normalize="percentile", patient_pattern=pattern)
    assert data.class_names == ("anterior", "background", "posterior")
    assert data.num_train + data.num_val == 6 * 7
    assert data.num_val % 7 == 0  # whole volumes


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_a_volume_is_in_memory_once_as_it_is_stored(name, tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (96, 96, 256)).astype(np.int16)
    file = write(tmp_path / name, content(values))
    tracemalloc.start()
    pictures, _ = read(tmp_path, min_content=0)
    assert sum(1 for _ in pictures) == 256
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    compressed = file.stat().st_size if name.endswith(".gz") else 0
    assert peak < 1.3 * (values.nbytes + compressed) + 2**21
