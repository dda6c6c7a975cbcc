"""Pairs in files: tables, DICOM series matched by position, folders of volumes, MetaImage; neighboring slices."""

import pickle
import zlib

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, inv_ornt_aff
from PIL import Image

from medsynth.contracts import InputError
from medsynth.data.csv import Csv
from medsynth.data.errors import Unreadable
from medsynth.data.metaimage import load_metaimage
from medsynth.data.neighbors import neighboring_rows
from medsynth.data.nifti import Nifti
from medsynth.data.nifti_volume import load
from medsynth.data.paired_dicom import PairedDicom
from medsynth.data.reading import Record
from medsynth.data.synthrad import SynthRad
from medsynth.data.tree import open_tree
from medsynth.data.volume_files import read_volume
from tests.dicom_files import uid, write_ct_slice
from tests.files import by_text, prepared

RNG = np.random.default_rng(0)


def again(reader):
    return pickle.loads(pickle.dumps(reader))


# Tables


def pair_table(root, rows, header="path,target,body,patient"):
    for name in ("a", "b", "c"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            Image.fromarray(np.full((4, 4), 10 * number + ord(name), np.uint8)).save(root / name / f"{number}.png")
    (root / "table.csv").write_text("\n".join([header, *rows]) + "\n")


def test_a_table_has_a_column_of_targets_and_one_of_masks(tmp_path):
    pair_table(tmp_path, [f"a/{number}.png,b/{3 - number}.png,c/0.png,p{number}" for number in range(4)])
    reader = again(Csv(str(tmp_path), target_column="target", mask_column="body"))
    found = reader.scan()
    assert (found.paired, found.masked) == (True, True)
    assert found.records[1] == Record("a/1.png", patient="p1", partner="b/2.png", mask="c/0.png")
    ((pair,), _) = reader.read(found.records[1])
    assert (pair.source.values[0, 0, 0], pair.values[0, 0, 0], pair.foreground.all()) == (107, 118, True)
    assert by_text(found.left_out) == {"not in the table": 3}


@pytest.mark.parametrize(
    ("options", "rows", "message"),
    [
        ({"mask_column": "body"}, [], "name the column of targets too"),
        ({"target_column": "ct"}, [], r"data\.reader\.target_column=ct names no column"),
        ({"target_column": "target"}, ["a/1.png,b/9.png,c/0.png,p"], r"1 row \(line 2\) name files that do not exist"),
        ({"target_column": "target"}, ["a/1.png,../x.png,c/0.png,p"], r"lead out of data\.root"),
        ({"target_column": "target"}, ["a/1.png,,c/0.png,p"], "name no file"),
        ({"target_column": "patient"}, ["a/1.png,,c/0.png,table.csv"], "name files other than images"),
    ],
)
def test_tables_whose_targets_are_missing_are_refused(options, rows, message, tmp_path):
    pair_table(tmp_path, rows or ["a/1.png,b/1.png,c/0.png,p"])
    with pytest.raises(InputError, match=message):
        Csv(str(tmp_path), **options).scan()


# DICOM


def series(root, name, *, positions, shape=(12, 10), patient="p", **elements):
    """Write a series whose pixels hold their place: 1000 + 100 x slice + 10 x row + column."""
    row, column = np.meshgrid(range(shape[0]), range(shape[1]), indexing="ij")
    for number, position in enumerate(positions):
        write_ct_slice(
            root / f"{patient}_{name}" / f"{99 - number}.dcm",
            (1000 + 100 * number + 10 * row + column).astype(np.uint16),
            position=position,
            patient_id=patient,
            series_uid=uid(name, patient),
            series_description=name,
            **{"FrameOfReferenceUID": uid("frame", patient), "spacing": (1.0, 1.0), **elements},
        )
    return root


def test_slices_are_paired_by_their_position_and_frame_of_reference(tmp_path):
    series(tmp_path, "sharp", positions=[0, 5, 10])
    series(tmp_path, "soft", positions=[10.2, 0.1, 5, 15], intercept=0)
    series(tmp_path, "sharp", positions=[0], patient="q")
    series(tmp_path, "soft", positions=[0], patient="q")
    with pytest.raises(InputError, match=r"holds 0 source and 1 target slices without a partner .* and 4 pairs"):
        PairedDicom(str(tmp_path), source="sharp", target="soft").scan()
    reader = again(PairedDicom(str(tmp_path), source="sharp", target="soft", unmatched="skip"))
    found = reader.scan()
    assert [record.place for record in found.records] == [0, 1, 2, 0]
    assert len({record.series for record in found.records}) == 2
    assert [record.patient for record in found.records] == ["p", "p", "p", "q"]
    assert (found.unit, found.source_unit, found.modality, found.source_modality) == ("HU", "HU", "CT", "CT")
    assert by_text(found.left_out) == {"target images without a source": 1}
    ((pair,), _) = reader.read(found.records[2])  # the first of the target's files
    assert pair.source.values[0, 2, 3] == 1000 + 200 + 20 + 3 - 1024
    assert pair.values[0, 2, 3] == 1000 + 0 + 20 + 3


@pytest.mark.parametrize("by", ["description", "series", "modality"])
def test_series_are_told_apart_by_other_properties(by, tmp_path):
    series(tmp_path, "one", positions=[0, 5], modality="MR", slope=None, intercept=None)
    series(tmp_path, "two", positions=[0, 5])
    source, target = {"description": ("^one$", "two"), "modality": ("MR", "CT")}.get(
        by, (f"^{uid('one', 'p')}$", f"^{uid('two', 'p')}$")
    )
    found = PairedDicom(str(tmp_path), by=by, source=source, target=target).scan()
    assert len(found.records) == 2
    assert (found.source_modality, found.modality, found.unit, found.source_unit) == ("MR", "CT", "HU", "stored value")


def test_a_target_of_other_pixels_is_resampled_to_those_of_its_source(tmp_path):
    """The same linear function of space on another grid: finer, moved, and turned by 180 degrees."""
    series(tmp_path, "sharp", positions=[0], shape=(12, 10))  # its first pixel is at (-100, -100)
    row, column = np.meshgrid(range(40), range(36), indexing="ij")
    across, down = -90 - 0.5 * column, -87 - 0.5 * row  # to the left and up from (-90, -87)
    values = 2000 + 30 * (across + 100) + 50 * (down + 100)
    write_ct_slice(
        tmp_path / "p_soft" / "1.dcm",
        values.clip(0).astype(np.uint16),
        patient_id="p",
        series_uid=uid("soft"),
        FrameOfReferenceUID=uid("frame", "p"),
        ImagePositionPatient=[-90, -87, 0],
        ImageOrientationPatient=[-1, 0, 0, 0, -1, 0],
        spacing=(0.5, 0.5),
    )
    reader = PairedDicom(str(tmp_path), source="sharp", target="soft")
    ((pair,), _) = reader.read(reader.scan().records[0])
    own_row, own_column = np.meshgrid(range(12), range(10), indexing="ij")
    assert pair.values.shape == (1, 12, 10)
    np.testing.assert_allclose(pair.values[0][1:, 1:-1], (976 + 30 * own_column + 50 * own_row)[1:, 1:-1], atol=25)
    assert pair.spacing == (1, 1)


def write_far(root):
    series(root, "soft", positions=[0], ImagePositionPatient=[-100, -91, 0])


def write_oblique(root):
    series(root, "soft", positions=[0], ImageOrientationPatient=[1, 0, 0, 0, 0.8, 0.6])


def write_other_frame(root):
    series(root, "soft", positions=[0], FrameOfReferenceUID=uid("other"))


def write_twice(root):
    series(root, "soft", positions=[0])
    series(root, "soft2", positions=[0])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_oblique, "holds 1 source and 1 target slices without a partner"),
        (write_other_frame, r"have different frames of reference .*frame_of_reference=any"),
        (write_twice, "2 target slices lie at the place of one source slice"),
        (lambda root: None, r"data\.reader\.target=soft is found in no folder of the 1 DICOM images"),
    ],
)
def test_series_that_do_not_match_in_space_are_refused(write, message, tmp_path):
    series(tmp_path, "sharp", positions=[0])
    write(tmp_path)
    with pytest.raises(InputError, match=message):
        PairedDicom(str(tmp_path), source="sharp", target="soft").scan()


def test_other_frames_of_reference_can_be_allowed_and_targets_elsewhere_cannot(tmp_path):
    series(tmp_path, "sharp", positions=[0])
    write_other_frame(tmp_path)
    options = {"source": "sharp", "target": "soft"}
    assert len(PairedDicom(str(tmp_path), **options, frame_of_reference="any").scan().records) == 1
    write_far(tmp_path)
    reader = PairedDicom(str(tmp_path), **options)
    with pytest.raises(Unreadable, match="covers less than half"):
        reader.read(reader.scan().records[0])
    for bad in ({"by": "color"}, {"tolerance": 0}, {"source": "("}, {"frame_of_reference": "none"}):
        with pytest.raises(InputError):
            PairedDicom(str(tmp_path), **(options | bad))


# SynthRAD and MetaImage


def metaimage(voxels, affine, *, compressed=True, **changes):
    """A .mha file as ITK writes it; ``affine`` is in RAS order."""
    affine = np.diag([-1, -1, 1, 1]) @ affine
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    kinds = {"i2": "MET_SHORT", "u1": "MET_UCHAR", "f4": "MET_FLOAT"}
    content = voxels.tobytes(order="F")
    header = {
        "ObjectType": "Image",
        "NDims": voxels.ndim,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": compressed,
        "TransformMatrix": " ".join(map(str, (affine[:3, :3] / sizes).T.ravel())),
        "Offset": " ".join(map(str, affine[:3, 3])),
        "ElementSpacing": " ".join(map(str, sizes)),
        "DimSize": " ".join(map(str, voxels.shape)),
        "ElementType": kinds.get(voxels.dtype.str[1:], "MET_OTHER"),
        **changes,
    }
    header["ElementDataFile"] = header.pop("ElementDataFile", "LOCAL")  # the last line
    text = "".join(f"{key} = {value}\n" for key, value in header.items())
    return text.encode() + (zlib.compress(content) if compressed else content)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_metaimage_is_the_same_volume_as_its_nifti(codes, compressed):
    affine = inv_ornt_aff(axcodes2ornt(codes), (7, 6, 5)) @ np.diag([0.75, 0.5, 2.0, 1])
    affine[:3, 3] += [11, -3, 5]
    voxels = RNG.integers(-900, 900, (7, 6, 5)).astype(np.int16)
    own = load_metaimage(metaimage(voxels, affine, compressed=compressed))
    expected = load(nibabel.Nifti1Image(voxels, affine).to_bytes())
    assert np.array_equal(own.stored, expected.stored)
    for name in ("affine", "file_affine", "orientation"):
        np.testing.assert_allclose(getattr(own, name), getattr(expected, name), atol=1e-5)
    assert (own.low, own.high, own.stored_type) == (expected.low, expected.high, expected.stored_type)
    assert np.array_equal(own[2:4], expected[2:4])


VOXELS = RNG.integers(0, 99, (4, 5, 6)).astype(np.int16)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a MetaImage file"),
        (b"\x89PNG" * 50000, "not a MetaImage file"),
        (metaimage(VOXELS, np.eye(4))[:-20], "damaged or cut off|shorter"),
        (metaimage(VOXELS, np.eye(4), compressed=False)[:-1], "shorter than its header says"),
        (metaimage(VOXELS, np.eye(4), DimSize="4 5"), "no volume of three dimensions"),
        (metaimage(VOXELS, np.eye(4), DimSize="99999 99999 99999"), "claims more voxels"),
        (metaimage(VOXELS, np.eye(4), DimSize="1e400 1 1"), "header is damaged"),
        (metaimage(VOXELS, np.eye(4), DimSize="-4 5 6"), "header is damaged"),
        (metaimage(VOXELS, np.eye(4), ElementDataFile="/etc/passwd"), "voxels are in another file"),
        (metaimage(VOXELS, np.eye(4), ElementType="MET_LONG"), "a type that is not supported"),
        (metaimage(VOXELS, np.eye(4), ElementNumberOfChannels=3), "a type that is not supported"),
        (metaimage(VOXELS, np.eye(4), TransformMatrix="1 0 0 1 0 0 0 0 1"), "do not span space"),
        (metaimage(np.full((2, 2, 2), np.nan, np.float32), np.eye(4)), "not finite"),
    ],
)
def test_damaged_metaimages_are_refused(content, message):
    with pytest.raises(Unreadable, match=message):
        load_metaimage(content)


@pytest.mark.parametrize("file", ["../b/voxels.raw", "/etc/passwd", "missing.raw", "LIST", "voxels%03d.raw"])
def test_voxels_of_a_header_are_read_beside_it_alone(file, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "voxels.raw").write_bytes(VOXELS.tobytes(order="F"))
    header = metaimage(VOXELS, np.eye(4), compressed=False, ElementDataFile=file)[: -VOXELS.nbytes]
    (tmp_path / "a" / "voxels.mhd").write_bytes(header)
    tree = open_tree(str(tmp_path), example="")
    with pytest.raises(Unreadable, match="in another file, which is not beside it"):
        read_volume(tree, "a/voxels.mhd")
    (tmp_path / "a" / "voxels.mhd").write_bytes(header.replace(file.encode(), b"voxels.raw"))
    assert np.array_equal(read_volume(tree, "a/voxels.mhd").stored, load_metaimage(metaimage(VOXELS, np.eye(4))).stored)
    assert by_text(Nifti(str(tmp_path), images="*").scan().left_out) == {RAW_ALONE: 1}
    with pytest.raises(Unreadable, match="fewer volumes"):
        read_volume(tree, "a/voxels.mhd", volume=1)


RAW_ALONE = "files of a format that is not read here (.raw: save them as PNG or TIFF)"


def test_values_that_replace_nan_in_a_metaimage(tmp_path):
    voxels = np.full((2, 3, 4), 5, np.float32)
    voxels[1] = np.nan
    (tmp_path / "a.mha").write_bytes(metaimage(voxels, np.eye(4)))
    volume = read_volume(open_tree(str(tmp_path), example=""), "a.mha", nan_value=-2)
    assert (volume.low, volume.high) == (-2, 5)
    assert np.unique(volume[:, :, :]).tolist() == [-2, 5]


def write_case(root, name, *, form="mha", shape=(9, 8, 5), shift=0.0, **missing):
    """Write a case of three volumes; the voxels of mr tell their place, the mask is empty in the first slice."""
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    ct = np.arange(np.prod(shape)).reshape(shape, order="F").astype(np.int16)
    mask = np.ones(shape, np.uint8)
    mask[:, :, 0] = 0
    mask[0] = 0
    moved = affine.copy()
    moved[0, 3] = shift
    mr = (3 * ct + 7).astype(np.float32)
    for file, voxels, place in (("mr", mr, affine), ("ct", ct, moved), ("mask", mask, affine)):
        if missing.get(file):
            continue
        (root / name).mkdir(parents=True, exist_ok=True)
        if form == "mha":
            (root / name / f"{file}.mha").write_bytes(metaimage(voxels, place))
        else:
            nibabel.save(nibabel.Nifti1Image(voxels, place), root / name / f"{file}.nii.gz")


@pytest.mark.parametrize("form", ["mha", "nii.gz"])
def test_cases_of_volumes_become_pairs_of_slices_with_masks(form, tmp_path):
    for name in ("1BA001", "1BA002"):
        write_case(tmp_path / "brain", name, form=form)
    (tmp_path / "brain" / "overview").mkdir()
    (tmp_path / "brain" / "overview" / "1BA001.png").write_bytes(b"")
    reader = again(SynthRad(str(tmp_path)))
    found = reader.scan()
    assert [record.patient for record in found.records] == ["brain/1BA001", "brain/1BA002"]
    assert (found.paired, found.masked, found.unit, found.modality, found.source_modality) == (
        *(True, True, "HU", "CT", "MR"),
    )
    pairs, left_out = reader.read(found.records[0])
    assert by_text(left_out) == {"slices of which the mask is empty": 1}
    assert [pair.place for pair in pairs] == [1, 2, 3, 4]
    pair = pairs[0]
    assert pair.values.shape == (1, 8, 9)
    assert np.array_equal(pair.source.values, 3 * pair.values + 7)
    assert np.array_equal(pair.foreground, pair.values[0] % 9 != 0), "the mask turns with its images"


def test_cases_that_lack_a_volume_or_are_on_other_grids_are_refused(tmp_path):
    write_case(tmp_path, "a")
    write_case(tmp_path, "b", ct=True)
    with pytest.raises(InputError, match=r"holds 1 cases that lack one of mr, ct, mask .*, and 1 complete ones"):
        SynthRad(str(tmp_path)).scan()
    assert by_text(SynthRad(str(tmp_path), unmatched="skip").scan().left_out) == {"cases that lack a volume": 1}
    write_case(tmp_path, "b", shift=0.8)
    reader = SynthRad(str(tmp_path))
    with pytest.raises(Unreadable, match="lie at different places"):
        reader.read(reader.scan().records[1])
    write_case(tmp_path, "b")
    (tmp_path / "b" / "mask.mha").write_bytes(metaimage(np.ones((9, 8, 6), np.uint8), np.eye(4)))
    with pytest.raises(Unreadable, match="different shapes"):
        reader.read(reader.scan().records[1])
    for bad in ({"axis": "oblique"}, {"unmatched": "guess"}):
        with pytest.raises(InputError):
            SynthRad(str(tmp_path), **bad)


# Neighboring slices


def test_neighbors_are_slices_of_the_same_series_and_the_ends_are_repeated():
    series_of, places = ["a", "a", "b", "a", "b"], [0, 1, 0, 3, 1]
    assert neighboring_rows([0, 1, 2, 3, 4], series_of, places, 2).tolist() == [
        [0, 0, 0, 1, 1],
        [0, 0, 1, 1, 3],
        [2, 2, 2, 4, 4],
        [1, 3, 3, 3, 3],
        [2, 2, 4, 4, 4],
    ], "the slice at place 2 was left out"


def test_sources_have_their_neighbors_as_channels_and_views_turn_all_alike(tmp_path):
    for number in range(12):
        write_case(tmp_path, f"case{number}", shape=(9, 8, 5 + number % 3))
    options = {"neighbors": 1, "intensity_range": [0, 600], "source_intensity_range": [0, 1800]}
    options |= {"image_size": 8, "join_duplicates": "none", "val_fraction": 0.3, "unregistered": "allow"}
    data = prepared(tmp_path, SynthRad, **options)
    assert data.source_channels == 3
    assert data.source_statistics["neighbors"] == 1
    batch = data.train_dataset.__getitems__(range(data.num_train))
    assert batch["image"].shape[1:] == (3, 8, 8)
    middle = 300 * (batch["target"] + 1) * 3 + 7
    torch.testing.assert_close(900 * (batch["image"][:, 1:2] + 1), middle, atol=1.0, rtol=0)
    step = 900 * (batch["image"][:, 2] - batch["image"][:, 1]).mean(dim=(1, 2))
    assert set(step.round().int().tolist()) == {0, 3 * 72}, "the next slice, or the last one again"
    views = prepared(tmp_path, SynthRad, **options, flip="both")
    turned = views.train_dataset.__getitems__(range(views.num_train))
    middle = 300 * (turned["target"] + 1) * 3 + 7
    torch.testing.assert_close(900 * (turned["image"][:, 1:2] + 1), middle, atol=1.0, rtol=0)
    assert not torch.equal(turned["image"], batch["image"])


def test_neighbors_of_a_block_of_slices_are_of_the_same_block(tmp_path):
    write_case(tmp_path, "case", shape=(9, 8, 30))
    options = {"neighbors": 1, "intensity_range": [0, 3000], "source_intensity_range": [0, 9000], "image_size": 8}
    options |= {"split_by": "blocks", "unregistered": "allow", "val_fraction": 0.3}
    data = prepared(tmp_path, SynthRad, **options)
    batch, places = data.val_dataset.__getitems__(range(data.num_val)), data.source.columns["place"]
    known = [places[row] for row in data.val_dataset.rows]
    assert (len(known), max(known) - min(known)) == (9, 8), "29 slices have a mask"
    steps = 4500 * (batch["image"] - batch["image"][:, 1:2]).mean(dim=(2, 3)) / (3 * 72)
    expected = [[-int(place > min(known)), 0, int(place < max(known))] for place in known]
    torch.testing.assert_close(steps, torch.tensor(expected).float(), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbors": 1, "split_by": "image"}, "would show slices of held-out images in training"),
        ({"neighbors": -1}, r"data\.neighbors=-1 is not possible"),
        ({"neighbors": 99}, r"data\.neighbors=99 is not possible"),
    ],
)
def test_neighbors_that_are_not_possible_are_refused(options, message, tmp_path):
    for number in range(6):
        write_case(tmp_path, f"case{number}")
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, SynthRad, **options, join_duplicates="none", unregistered="allow", normalize="percentile")


def test_single_images_have_no_neighbors(tmp_path):
    pair_table(tmp_path, [f"a/{number}.png,b/{number}.png,c/0.png,p{number}" for number in range(4)])
    for name in "ab":
        for number in range(4):
            values = RNG.integers(0, 255, (4, 4)).astype(np.uint8)
            Image.fromarray(values).save(tmp_path / name / f"{number}.png")
    with pytest.raises(InputError, match="needs slices whose series and order are known"):
        prepared(tmp_path, Csv, options={"target_column": "target"}, neighbors=1, join_duplicates="none")
