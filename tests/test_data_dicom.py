"""The DICOM reader: files, their order, and their values compared with independent arithmetic."""

import contextlib
import logging
import os
import pickle
import signal
import traceback
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import Decoder

from medsynth.contracts import InputError
from medsynth.data.dicom import Dicom, decoder
from medsynth.data.errors import ReasonKind, Unreadable
from medsynth.data.reading import Record
from tests.dicom_files import image_dataset, items, uid, write, write_ct_slice
from tests.files import by_text, prepared

IMPLICIT, EXPLICIT, DEFLATED, BIG = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))
RLE, JPEG_LS = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"
PIXELS = np.arange(48, dtype=np.uint16).reshape(6, 8) * 80  # 0 to 3760: 12 bits
SECRET = "GARIBALDI"


def bundled(name):
    """Return a file of pydicom's test data, which other programs have written."""
    return Path(get_testdata_file(name)).read_bytes()


def pictures(root, name=None, **options):
    reader = Dicom(str(root), **options)
    return reader.read(Record(name or reader.tree.names[0]))[0]


def values(root, name=None, **options):
    (picture,) = pictures(root, name, **options)
    assert picture.values.dtype == np.float32
    return picture.values


def save(root, pixels=PIXELS, **elements):
    write(root / "1.dcm", image_dataset(pixels, **elements))
    return root


def test_ct_is_in_hounsfield_units(tmp_path):
    write_ct_slice(tmp_path / "any name", PIXELS, BitsStored=12, slope=2, intercept=-1024, spacing=(0.7, 0.5))
    reader = Dicom(str(tmp_path))
    found = reader.scan()
    assert (found.unit, found.modality, found.class_names, found.left_out) == ("HU", "CT", (), {})
    study = uid("study", "patient")
    series = f"patient {study} {uid('series', study)}"
    assert found.records == [Record("any name", patient="patient", series=series)]
    (picture,), left_out = reader.read(found.records[0])
    np.testing.assert_array_equal(picture.values, PIXELS[None] * 2.0 - 1024)
    assert (picture.stored_type, picture.spacing, picture.remarks, left_out) == ("16-bit", (0.7, 0.5), (), {})


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, BIG, RLE, JPEG_LS])
@pytest.mark.parametrize(
    ("pixels", "bits"),
    [(PIXELS, 12), (PIXELS.astype(np.int16) - 2000, 16), (PIXELS.astype(np.int16) - 2000, 13), (PIXELS // 16, 8)],
)
def test_transfer_syntaxes_and_stored_types_give_the_same_values(syntax, pixels, bits, tmp_path):
    pixels = pixels.astype(np.uint8) if bits == 8 else pixels
    write_ct_slice(tmp_path / "1", pixels, BitsStored=bits, syntax=syntax)
    assert len(Dicom(str(tmp_path)).scan().records) == 1
    np.testing.assert_array_equal(values(tmp_path)[0], pixels.astype(float) - 1024)


@pytest.mark.parametrize("ending", ["jp2klossless", "jpeg_ls_lossless", "RLE", "bigendian", "implicit", "padded"])
def test_files_of_other_programs_give_the_same_values(ending, tmp_path):
    for name in ("MR_small.dcm", f"MR_small_{ending}.dcm"):
        (tmp_path / name).write_bytes(bundled(name))
    expected = np.frombuffer(pydicom.dcmread(tmp_path / "MR_small.dcm").PixelData, "<i2").reshape(1, 64, 64)
    np.testing.assert_array_equal(values(tmp_path, f"MR_small_{ending}.dcm"), expected)


@pytest.mark.parametrize(
    "name", ["SC_rgb_jpeg_gdcm", "SC_rgb_dcmtk_+eb+cr", "SC_rgb_gdcm_KY", "SC_ybr_full_422_uncompressed", "SC_rgb_rle"]
)
def test_color_files_become_rgb(name, tmp_path):
    (tmp_path / "1").write_bytes(bundled(f"{name}.dcm"))
    image = values(tmp_path)
    assert image.shape == (3, 100, 100)
    bars = [(255, 0, 0), (255, 128, 128), (0, 255, 0), (128, 255, 128), (0, 0, 255), (128, 128, 255)]
    np.testing.assert_allclose(image[:, 5:65:10, 50].T, bars, atol=5)


def test_unused_bits_are_masked(tmp_path):
    overlay = PIXELS | 0x5000
    np.testing.assert_array_equal(values(save(tmp_path, overlay, modality="MR", BitsStored=12))[0], PIXELS)
    shifted = (PIXELS << 4) | 0x0005
    np.testing.assert_array_equal(values(save(tmp_path, shifted, BitsStored=12, HighBit=15))[0], PIXELS)
    negative = (-PIXELS.astype(np.int16) // 2) & 0x0FFF  # twelve bits in two's complement, not extended
    np.testing.assert_array_equal(values(save(tmp_path, negative, BitsStored=12))[0], -(PIXELS.astype(float) // 2))


def test_monochrome1_is_inverted_where_values_have_no_unit(tmp_path):
    (picture,) = pictures(save(tmp_path, modality="DX", BitsStored=12, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(picture.values[0], 4095.0 - PIXELS)
    assert "MONOCHROME1" in picture.remarks[0]
    signed = PIXELS.astype(np.int16) - 2000
    save(tmp_path, signed, modality="DX", BitsStored=12, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(values(tmp_path)[0], -1.0 - signed)
    write_ct_slice(tmp_path / "1.dcm", PIXELS, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(values(tmp_path)[0], PIXELS - 1024.0)


@pytest.mark.parametrize("padding", [-2000, 63536])
def test_padding_becomes_the_lowest_measured_value(padding, tmp_path):
    pixels = PIXELS.astype(np.int16)
    pixels[:2] = -2000
    write_ct_slice(tmp_path / "1", pixels)
    dataset = pydicom.dcmread(tmp_path / "1")
    dataset.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
    write(tmp_path / "1", dataset)
    (picture,) = pictures(tmp_path)
    assert (picture.values[0, :2] == PIXELS[2, 0] - 1024.0).all()
    np.testing.assert_array_equal(picture.values[0, 2:], PIXELS[2:] - 1024.0)
    assert "PixelPaddingValue" in picture.remarks[0]


def test_padding_ranges_and_padding_outside_of_the_bits_stored(tmp_path):
    save(tmp_path, PixelPaddingValue=0, PixelPaddingRangeLimit=160, modality="DX", BitsStored=12)
    np.testing.assert_array_equal(values(tmp_path)[0], np.maximum(PIXELS, 240))
    marked = PIXELS.copy()
    marked[0] = 0xF830
    save(tmp_path, marked, PixelPaddingValue=0xF830, modality="DX", BitsStored=12)
    np.testing.assert_array_equal(values(tmp_path)[0], np.maximum(PIXELS, 640))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_modality_tables(syntax, photometric, tmp_path):
    table = (np.arange(1000) ** 2 // 16).astype(np.uint16)
    content = table.astype(">u2" if syntax == BIG else "<u2").tobytes()
    lut = items({"LUTDescriptor": [1000, 100, 16], "ModalityLUTType": "US", "LUTData": content})
    lut[0]["LUTData"].VR = "OW"
    elements = {"ModalityLUTSequence": lut, "PhotometricInterpretation": photometric}
    write(tmp_path / "1", image_dataset(PIXELS, modality="CR", **elements), syntax=syntax)
    expected = table[np.clip(PIXELS.astype(int) - 100, 0, 999)].astype(float)
    lowest_and_highest = table[0] + int(table[-1])
    inverted = lowest_and_highest - expected
    np.testing.assert_array_equal(values(tmp_path)[0], inverted if photometric[-1] == "1" else expected)


@pytest.mark.parametrize(
    ("pixels", "descriptor", "start"),
    [(PIXELS, [0, 0, 16], 0), (PIXELS.astype(np.int16) - 300, [1000, -200, 16], -200)],
    ids=["65,536 entries are written as 0", "the first of signed values"],
)
def test_descriptors_of_modality_tables(pixels, descriptor, start, tmp_path):
    table = (np.arange(descriptor[0] or 2**16)[::-1] % 2**16).astype("<u2")
    lut = items({"LUTDescriptor": descriptor, "ModalityLUTType": "US", "LUTData": table.tobytes()})
    lut[0]["LUTData"].VR, lut[0]["LUTDescriptor"].VR = "OW", "SS" if start < 0 else "US"
    write(tmp_path / "1", image_dataset(pixels, modality="CR", ModalityLUTSequence=lut))
    expected = table[np.clip(pixels.astype(int) - start, 0, len(table) - 1)]
    np.testing.assert_array_equal(values(tmp_path)[0], expected)


def enhanced(root):
    """Write three unordered frames, each with its own rescaling, position and spacing."""
    pixels = np.stack([PIXELS + frame for frame in range(3)])
    groups = [
        {
            "PixelValueTransformationSequence": items({"RescaleSlope": frame + 1, "RescaleIntercept": -frame}),
            "PlanePositionSequence": items({"ImagePositionPatient": [0, 0, position]}),
            "PixelMeasuresSequence": items({"PixelSpacing": [frame + 0.5, 1]}),
        }
        for frame, position in enumerate((5.0, -5.0, 0.0))
    ]
    shared = {"PlaneOrientationSequence": items({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]})}
    elements = {"PerFrameFunctionalGroupsSequence": items(*groups), "SharedFunctionalGroupsSequence": items(shared)}
    write(root / "1", image_dataset(pixels, modality="ENHANCED_CT", **elements))
    return root


def test_frames_have_their_own_transformation_and_position(tmp_path):
    reader = Dicom(str(enhanced(tmp_path)))
    found = reader.scan()
    assert (found.unit, len(found.records)) == ("HU", 1)
    frames, _ = reader.read(found.records[0])
    for picture, frame in zip(frames, (1, 2, 0), strict=True):  # along the normal
        np.testing.assert_array_equal(picture.values[0], (PIXELS + frame) * (frame + 1.0) - frame)
        assert picture.spacing == (frame + 0.5, 1)
    reader = Dicom(str(tmp_path), skip_ends=1)
    (middle,), left_out = reader.read(found.records[0])
    np.testing.assert_array_equal(middle.values, frames[1].values)
    assert by_text(left_out) == {"slices (data.reader.every, data.reader.skip_ends)": 2}


def test_pet_slices_have_their_own_slope(tmp_path):
    for number, slope in enumerate((0.5, 3.25)):
        options = {"position": number, "slope": slope, "intercept": 0, "modality": "PT", "Units": "BQML"}
        write_ct_slice(tmp_path / str(number), PIXELS, **options)
    reader = Dicom(str(tmp_path))
    found = reader.scan()
    assert (found.unit, found.modality) == ("Bq/ml", "PT")
    for item, slope in zip(found.records, (0.5, 3.25), strict=True):
        np.testing.assert_array_equal(reader.read(item)[0][0].values[0], PIXELS * slope)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("syntax", [EXPLICIT, BIG])
def test_palettes_become_rgb(bits, syntax, tmp_path):
    tables = {name: np.arange(300)[:: -1 if name == "Green" else 1] % 256 * (bits - 7) for name in ("Red", "Green")}
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        table = tables.get(name, np.full(300, 7))
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [300, 10, bits]
        kind = "u1" if bits == 8 else ">u2" if syntax == BIG else "<u2"
        elements[f"{name}PaletteColorLookupTableData"] = table.astype(kind).tobytes()
    write(tmp_path / "1", image_dataset(PIXELS // 8, modality="US", **elements), syntax=syntax)
    (picture,) = pictures(tmp_path)
    index = np.clip(PIXELS.astype(int) // 8 - 10, 0, 299)
    np.testing.assert_array_equal(picture.values[0], tables["Red"][index])
    np.testing.assert_array_equal(picture.values[1], tables["Green"][index])
    assert (picture.values[2] == 7).all()
    assert picture.stored_type == f"{bits}-bit"


def test_floating_point_pixels_keep_their_values(tmp_path):
    dataset = image_dataset(PIXELS, modality="OT", BitsAllocated=32)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.FloatPixelData = (PIXELS / 3).astype("<f4").tobytes()
    write(tmp_path / "1", dataset)
    (picture,) = pictures(tmp_path)
    np.testing.assert_array_equal(picture.values[0], (PIXELS / 3).astype(np.float32))
    assert picture.stored_type == "floating-point"


def test_slices_are_sorted_along_their_normal(tmp_path):
    places = {"a": 3.0, "b/c": -2.5, "x": 0.0, "z": 10.0}
    for name, position in places.items():
        write_ct_slice(tmp_path / name, PIXELS, position=position)
    assert [item.name for item in Dicom(str(tmp_path)).scan().records] == ["b/c", "x", "a", "z"]
    coronal = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}  # its normal is +y
    for name, position in places.items():
        write_ct_slice(tmp_path / name, PIXELS, ImagePositionPatient=[0, position, 50 - position], **coronal)
    assert [item.name for item in Dicom(str(tmp_path)).scan().records] == ["b/c", "x", "a", "z"]


@pytest.mark.parametrize("keyword", ["SliceLocation", "InstanceNumber"])
def test_without_positions_other_elements_decide_the_order(keyword, tmp_path):
    for name, number in {"a": 10, "b": 9, "c": 2}.items():
        save(tmp_path / name, **{keyword: number})
    assert [item.name[0] for item in Dicom(str(tmp_path)).scan().records] == ["c", "b", "a"]


def study(root):
    """Write two patients: one with two CT series of 5 slices and a scout, one with an MR image."""
    for series, description in (("B70f", "Thorax 8 mm Lunge"), ("B40f", "thorax 8 mm Weichteil")):
        for number in range(5):
            options = {"series_uid": uid(series), "series_description": description, "BodyPartExamined": "CHEST"}
            write_ct_slice(root / "one" / f"{series}{number}", PIXELS, position=-number, patient_id="1", **options)
    write_ct_slice(root / "two" / "mr", PIXELS, modality="MR", patient_id="2", IssuerOfPatientID="clinic", slope=None)
    write_ct_slice(root / "one" / "scout", PIXELS, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], patient_id="1")
    return root


def test_options_select_images(tmp_path):
    study(tmp_path)

    def names(**options):
        found = Dicom(str(tmp_path), **options).scan()
        assert len(found.records) + sum(found.left_out.values()) == 12
        return [item.name for item in found.records]

    assert sorted(names(modality="ct")) == sorted(
        f"one/{kernel}{number}" for kernel in ("B70f", "B40f") for number in range(5)
    )
    assert names(modality="MR") == ["two/mr"]
    assert len(names(modality="CT", scouts=True)) == 11
    assert names(series=uid("B40f")) == [f"one/B40f{number}" for number in (4, 3, 2, 1, 0)]
    assert len(names(series=[uid("B40f"), uid("B70f")])) == 10
    assert names(description="lunge|nothing", every=2) == ["one/B70f4", "one/B70f2", "one/B70f0"]
    assert names(description="lunge", every=2, skip_ends=1) == ["one/B70f3", "one/B70f1"]


def test_labels_and_patients(tmp_path):
    study(tmp_path)
    found = Dicom(str(tmp_path), modality=["CT", "MR"], label="modality", scouts=True, series=uid("B40f")).scan()
    assert (found.class_names, found.modality) == (("CT",), "CT")
    found = Dicom(str(tmp_path), modality="MR", label="folder").scan()
    assert [(item.class_name, item.patient) for item in found.records] == [("two", "2 of clinic")]
    found = Dicom(str(tmp_path), modality="CT", scouts=True, label="body_part").scan()
    assert found.class_names == ("CHEST",)
    assert by_text(found.left_out)["without a body part (data.reader.label)"] == 1
    found = Dicom(str(tmp_path), modality="CT", label="series_description").scan()
    assert found.class_names == ("Thorax 8 mm Lunge", "thorax 8 mm Weichteil")
    with pytest.raises(InputError, match=r"no DICOM image to read \(.*without a laterality .*: 10"):
        Dicom(str(tmp_path), modality="CT", label="laterality").scan()


def test_missing_patients_and_series_are_replaced(tmp_path):
    save(tmp_path / "a", PatientID=None, ImageLaterality="L")
    save(tmp_path / "b", PatientID=None, StudyInstanceUID=None, SeriesInstanceUID=None, Laterality="R")
    found = Dicom(str(tmp_path), label="laterality").scan()
    assert {item.class_name: item.patient for item in found.records} == {"L": uid("study"), "R": ""}


def test_mixed_modalities_and_units_are_refused_with_counts(tmp_path):
    study(tmp_path)
    with pytest.raises(InputError, match=r"several modalities \(CT: 10, MR: 1\): .*data\.reader\.modality=CT"):
        Dicom(str(tmp_path)).scan()
    with pytest.raises(InputError, match=r"several units \(HU: 10, no unit: 1\)"):
        Dicom(str(tmp_path), modality=["CT", "MR"]).scan()
    with pytest.raises(
        InputError, match=r"fits the options \(another modality .*: 12\); its modalities are CT: 11, MR: 1"
    ):
        Dicom(str(tmp_path), modality="US").scan()


def test_files_other_than_images_are_counted(tmp_path):
    save(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "fake").write_bytes(b"\0" * 128 + b"DICM")
    for name in ("test-SR.dcm", "rtstruct.dcm", "liver_1frame.dcm", "rtdose_1frame.dcm", "DICOMDIR"):
        (tmp_path / name).write_bytes(bundled(name))
    pdf = image_dataset(PIXELS, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    del pdf.PixelData
    write(tmp_path / "pdf", pdf)
    cut = image_dataset(PIXELS)
    del cut.PixelData
    write(tmp_path / "cut", cut)
    film = image_dataset(PIXELS, modality="US")
    film.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    film.PixelData = encapsulate([b"1234"])
    film["PixelData"].is_undefined_length = True
    film.save_as(tmp_path / "film", enforce_file_format=True)
    found = Dicom(str(tmp_path)).scan()
    assert [item.name for item in found.records] == ["1.dcm"]
    assert by_text(found.left_out) == {
        "not an image (not a DICOM file)": 1,
        "not an image (empty file)": 1,
        "not an image (no pixel data)": 1,
        "not an image (Comprehensive SR)": 1,
        "not an image (RT Structure Set)": 1,
        "not an image (Segmentation)": 1,
        "not an image (RT Dose)": 1,
        "not an image (DICOMDIR)": 1,
        "not an image (Encapsulated PDF)": 1,
        "a video (MPEG, H.264, HEVC): save its frames as images": 1,
    }
    assert Counter(reason.kind for reason in found.left_out) == {ReasonKind.NOT_AN_IMAGE: 9, ReasonKind.UNSUPPORTED: 1}
    assert by_text(found.damaged) == {"an image without pixel data": 1}


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_files_without_preamble_are_recognized_by_their_content(syntax, tmp_path):
    path = write_ct_slice(tmp_path / "1", PIXELS, syntax=syntax)
    dataset = pydicom.dcmread(path)
    del dataset.preamble
    del dataset.file_meta
    pydicom.dcmwrite(path, dataset, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG)
    assert path.read_bytes()[128:132] != b"DICM"
    assert len(Dicom(str(tmp_path)).scan().records) == 1
    np.testing.assert_array_equal(values(tmp_path)[0], PIXELS - 1024.0)


def test_long_headers_are_read_completely(tmp_path):
    others = items(*({"ReferencedSOPInstanceUID": uid(number)} for number in range(500)))
    write_ct_slice(tmp_path / "1", PIXELS, ReferencedImageSequence=others)
    assert (tmp_path / "1").stat().st_size > 20_000
    write_ct_slice(tmp_path / "2", np.random.default_rng(0).integers(0, 9999, (99, 99), np.uint16), syntax=DEFLATED)
    assert len(Dicom(str(tmp_path)).scan().records) == 2


def test_a_zip_archive_gives_the_same_images_as_a_folder_in_other_processes_too(tmp_path):
    study(tmp_path / "folder")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (tmp_path / "folder").rglob("*"):
            archive.write(path, path.relative_to(tmp_path / "folder"))
    folder, packed = (Dicom(str(tmp_path / name), modality="CT") for name in ("folder", "a.zip"))
    assert packed.scan() == folder.scan()
    packed = pickle.loads(pickle.dumps(packed))
    item = packed.scan().records[0]
    np.testing.assert_array_equal(packed.read(item)[0][0].values, folder.read(item)[0][0].values)


def change(**elements):
    """Return a function that sets elements of a data set, or removes them if None."""

    def apply(dataset):
        for keyword, value in elements.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)

    return apply


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change(Rows=None), "its Rows is missing"),
        (change(Rows=0), "its Rows is missing or impossible"),
        (change(Rows=65535, Columns=65535), "65535 x 65535 pixels in 1 frames, which is too large"),
        (change(NumberOfFrames=10**9), "too large"),
        (change(NumberOfFrames=2), "shorter"),
        (change(Rows=7), "shorter"),
        (change(Columns=7), "longer"),
        (change(PixelData=PIXELS.tobytes()[:-2]), "shorter"),
        (change(PixelData=PIXELS.tobytes() + b"1234"), "longer"),
        (change(PixelData=b""), "no pixel data"),
        (change(PhotometricInterpretation=None), "PhotometricInterpretation is missing"),
        (
            change(PhotometricInterpretation="CMYK"),
            "PhotometricInterpretation is missing or not one of MONOCHROME1, MONOCHROME2",
        ),
        (change(SamplesPerPixel=3), "PhotometricInterpretation"),
        (change(BitsStored=17), "its BitsStored"),
        (change(HighBit=3), "its HighBit"),
        (change(PixelRepresentation=2), "its PixelRepresentation"),
        (change(BitsAllocated=24, BitsStored=12), "shorter|BitsAllocated"),
        (change(RescaleSlope="nan"), "RescaleSlope"),
        (change(RescaleSlope="1e300"), "not finite"),
        (change(RescaleIntercept="inf"), "RescaleIntercept"),
        (
            change(ModalityLUTSequence=items({"LUTDescriptor": [100, 0, 16], "LUTData": b"1234"})),
            "lookup table|damaged",
        ),
    ],
)
def test_impossible_files_are_unreadable(spoil, reason, tmp_path):
    path = write_ct_slice(tmp_path / "1", PIXELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        spoil(dataset)
        dataset.save_as(path)
    with pytest.raises(Unreadable, match=reason):
        values(tmp_path)


def test_a_deflated_decompression_bomb_is_refused(tmp_path, monkeypatch):
    write_ct_slice(tmp_path / "1", np.zeros((999, 999), np.uint16), syntax=DEFLATED)
    monkeypatch.setattr("medsynth.data.dicom.elements._LARGEST_INFLATED", 10**6)
    assert (tmp_path / "1").stat().st_size < 10**4
    with pytest.raises(Unreadable, match="once inflated"):
        values(tmp_path)


def test_a_missing_plugin_is_named_and_its_files_are_counted(tmp_path, monkeypatch):
    save(tmp_path / "readable", modality="OT")
    (tmp_path / "1").write_bytes(bundled("SC_rgb_jpeg_gdcm.dcm"))
    monkeypatch.setattr(Decoder, "available_plugins", ("nothing",))
    monkeypatch.setattr(Decoder, "missing_dependencies", ["gdcm - requires gdcm>=3.0.10"])
    reader = Dicom(str(tmp_path))
    with pytest.raises(Unreadable, match=r"compressed as JPEG Lossless.*: uv sync --extra dicom"):
        reader.read(Record("1"))
    found = reader.scan()
    assert [item.name for item in found.records] == ["readable/1.dcm"]
    ((reason, count),) = found.damaged.items()
    assert count == 1
    assert "uv sync --extra dicom" in reason.text
    monkeypatch.undo()
    (tmp_path / "1").write_bytes(bundled("JPGExtended.dcm"))
    with pytest.raises(Unreadable, match=r"JPEG Extended .*pip install pylibjpeg"):
        reader.read(Record("1"))
    with pytest.raises(InputError, match=r"JPEG Extended .*data\.on_error=skip"):
        prepared(tmp_path, Dicom, options={"modality": ["OT", pydicom.dcmread(tmp_path / "1").Modality]})


def test_the_next_decoder_is_tried_before_a_file_is_called_damaged(tmp_path, monkeypatch):
    (tmp_path / "1").write_bytes(bundled("MR_small_jp2klossless.dcm"))
    expected, tried = values(tmp_path), []

    def decode(uid, plugin, content, options):
        tried.append(plugin)
        if plugin == "pillow":
            raise RuntimeError("this kind of stream is not supported")
        return decoder.decode_safely(uid, plugin, content, options)

    monkeypatch.setattr("medsynth.data.dicom.pixels.decode_safely", decode)
    np.testing.assert_array_equal(values(tmp_path), expected)
    assert tried == ["pillow", "gdcm"]
    dataset = pydicom.dcmread(tmp_path / "1")
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])  # cut off: GDCM would make a wrong image of it
    dataset.save_as(tmp_path / "1")
    tried.clear()
    with pytest.raises(Unreadable, match="pixel data is damaged"):
        values(tmp_path)
    assert tried == ["pillow"]


# What does not belong to the set

CAPTURE, MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.1.2"


def scanned(root, **options):
    """Return the names that are read and the counts of those that are not."""
    found = Dicom(str(root), **options).scan()
    return sorted(item.name for item in found.records), by_text(found.left_out)


def test_captures_color_pages_and_burned_in_annotations_are_left_out_of_a_study(tmp_path):
    for number in range(3):
        write_ct_slice(tmp_path / f"slice{number}", PIXELS, position=number)
    write_ct_slice(tmp_path / "survey", PIXELS, SOPClassUID=CAPTURE, ImageType=["DERIVED", "SECONDARY", "REF_SURVIEW"])
    write(tmp_path / "page", image_dataset(np.zeros((8, 8, 3), np.uint8)))
    write_ct_slice(tmp_path / "text", PIXELS, BurnedInAnnotation="YES")
    slices = ["slice0", "slice1", "slice2"]
    assert scanned(tmp_path) == (
        slices,
        {
            "secondary captures beside images of the modality (data.reader.captures)": 1,
            "color pages among gray images (data.reader.captures)": 1,
            "images with burned-in annotations (data.reader.captures)": 1,
        },
    )
    with pytest.raises(InputError, match=r"several units \(HU: 5, no unit: 1\).*data\.reader\.captures=false"):
        scanned(tmp_path, captures=True)
    (tmp_path / "page").unlink()
    assert scanned(tmp_path, captures=True) == ([*slices, "survey", "text"], {})


def test_captures_alone_are_a_set_of_images_and_color_ultrasound_stays(tmp_path):
    for number in range(2):
        save(tmp_path / "mr" / str(number), PIXELS + number, modality="MR", SOPClassUID=CAPTURE)
    assert len(scanned(tmp_path / "mr")[0]) == 2
    save(tmp_path / "us", modality="US")
    write(tmp_path / "us" / "color", image_dataset(np.zeros((8, 8, 3), np.uint8), modality="US"))
    assert scanned(tmp_path / "us") == (["1.dcm", "color"], {})


def test_mosaics_are_left_out_with_what_to_do(tmp_path):
    for number in range(2):
        image_type = ["ORIGINAL", "PRIMARY", "M", "ND", *(["MOSAIC"] if number else [])]
        save(tmp_path / str(number), PIXELS + number, modality="MR", ImageType=image_type)
    names, left_out = scanned(tmp_path)
    assert names == ["0/1.dcm"]
    ((text, count),) = left_out.items()
    assert (count, "dcm2niix" in text) == (1, True)


def private(root, pixels, group, creator, element, vr, value, *, syntax="1.2.840.10008.1.2.1", beside=None):
    """Write an MR image with an element of a manufacturer's block; ``beside``: a creator whose block precedes it."""
    dataset = image_dataset(pixels, modality="MR", ImageType=["ORIGINAL", "PRIMARY", "OTHER"])
    if beside:
        dataset.private_block(group, beside, create=True).add_new(element, "LO", "7")
    dataset.private_block(group, creator, create=True).add_new(element, vr, value)
    write(root, dataset, syntax=syntax)


GE, SIEMENS = (0x43, "GEMS_PARM_01", 0x2F), (0x19, "SIEMENS MR HEADER", 0x0A)
PHILIPS = (0x2005, "Philips Imaging DD 001", 0x11)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
@pytest.mark.parametrize("beside", [None, "ANOTHER"])
@pytest.mark.parametrize(
    ("element", "vr", "values"), [(GE, "SS", (0, 1)), (GE, "SS", (2, 3)), (PHILIPS, "CS", ("M", "P"))]
)
def test_manufacturers_tell_magnitude_and_phase_in_their_own_elements(element, vr, values, syntax, beside, tmp_path):
    for name, value in zip("ab", values, strict=True):
        private(tmp_path / name, PIXELS + ord(name), *element, vr, value, syntax=syntax, beside=beside)
    names, left_out = scanned(tmp_path)
    assert names == ["a"]
    assert left_out == {"of another type than the rest (data.reader.image_type)": 1}
    asked = Dicom(str(tmp_path), image_type={3: "imaginary"}.get(values[1], "phase"))
    assert [record.name for record in asked.scan().records] == ["b"]
    assert len(asked.read(Record("b"))[0]) == 1


def test_mosaics_are_recognized_by_their_number_of_images(tmp_path):
    for number in (0, 1, 36):
        private(tmp_path / str(number), PIXELS + number, *SIEMENS, "US", number)
    names, left_out = scanned(tmp_path)
    assert names == ["0", "1"]
    ((text, count),) = left_out.items()
    assert (count, "dcm2niix" in text) == (1, True)


@pytest.mark.parametrize(
    "elements",
    [
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "modality": "SEG"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.7", "modality": "SEG"},  # label maps
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.99", "modality": "MR", "SegmentationType": "BINARY"},
        {"SOPClassUID": CAPTURE, "modality": "SEG"},
    ],
)
def test_segmentations_of_every_storage_class_are_no_images(elements, tmp_path):
    save(tmp_path / "image", modality="MR")
    save(tmp_path / "mask", PIXELS % 2, **elements)
    names, left_out = scanned(tmp_path)
    assert names == ["image/1.dcm"]
    ((text, count),) = left_out.items()
    assert (count, "Segmentation" in text) == (1, True)


@pytest.mark.parametrize("by", ["PresentationIntentType", "SOPClassUID"])
def test_of_mammograms_for_processing_and_for_presentation_one_kind_is_read(by, tmp_path):
    for number, intent in enumerate(("FOR PRESENTATION", "FOR PROCESSING", "")):
        uid = f"{MAMMOGRAM}{'.1' if 'PROCESSING' in intent else ''}" if by == "SOPClassUID" and intent else CAPTURE
        elements = {"SOPClassUID": uid} if by == "SOPClassUID" else {by: intent or None}
        save(tmp_path / (intent or "unknown"), PIXELS + number, modality="MG", **elements)
    presentation, processing, unknown = (f"{name}/1.dcm" for name in ("FOR PRESENTATION", "FOR PROCESSING", "unknown"))
    reason = {"images for processing or for presentation (data.reader.intent)": 1}
    assert scanned(tmp_path, captures=True) == ([presentation, unknown], reason)
    assert scanned(tmp_path, captures=True, intent="processing") == ([processing, unknown], reason)
    (tmp_path / presentation).unlink()
    assert scanned(tmp_path, captures=True) == ([processing, unknown], {})


def test_of_magnitude_and_phase_in_one_series_the_magnitude_is_read(tmp_path):
    types = {"m": ["M", "ND"], "p": ["P", "ND"], "philips": ["PHASE MAP", "P", "FFE"], "other": ["OTHER"]}
    for number, (name, values) in enumerate(types.items()):
        save(tmp_path / name, PIXELS + number, modality="MR", ImageType=["ORIGINAL", "PRIMARY", *values])
    reason = {"of another type than the rest (data.reader.image_type)": 2}
    assert scanned(tmp_path) == (["m/1.dcm", "other/1.dcm"], reason)
    assert scanned(tmp_path, image_type="phase")[0] == ["p/1.dcm", "philips/1.dcm"]
    assert scanned(tmp_path, image_type="other")[0] == ["other/1.dcm"]
    (tmp_path / "m" / "1.dcm").unlink()
    assert scanned(tmp_path)[0] == ["other/1.dcm", "p/1.dcm", "philips/1.dcm"]


def test_of_frames_of_two_types_one_is_read(tmp_path):
    frame_types = [["ORIGINAL", "PRIMARY", "FIELD_MAP", "NONE"], ["ORIGINAL", "PRIMARY", "M", "NONE"]] * 2
    groups = [
        {
            "MRImageFrameTypeSequence": items({"FrameType": values}),
            "PlanePositionSequence": items({"ImagePositionPatient": [0, 0, float(number // 2)]}),
        }
        for number, values in enumerate(frame_types)
    ]
    shared = {"PlaneOrientationSequence": items({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]})}
    elements = {"PerFrameFunctionalGroupsSequence": items(*groups), "SharedFunctionalGroupsSequence": items(shared)}
    pixels = np.stack([PIXELS + frame for frame in range(4)])
    write(tmp_path / "1", image_dataset(pixels, modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", **elements))
    for options, frames in (({}, (1, 3)), ({"image_type": "field_map"}, (0, 2))):
        reader = Dicom(str(tmp_path), **options)
        found, left_out = reader.read(reader.scan().records[0])
        np.testing.assert_array_equal([picture.values[0] for picture in found], pixels[list(frames)])
        assert by_text(left_out) == {"of another type than the rest (data.reader.image_type)": 2}


def test_every_and_skip_ends_count_places_and_not_files(tmp_path):
    for place in range(5):
        for echo in range(2):
            write_ct_slice(tmp_path / f"{place}{echo}", PIXELS, position=place, modality="MR", instance_number=echo)
    assert scanned(tmp_path, skip_ends=1)[0] == ["10", "11", "20", "21", "30", "31"]
    assert scanned(tmp_path, every=2)[0] == ["00", "01", "20", "21", "40", "41"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "patient"}, r"data\.reader\.label=patient"),
        ({"every": 0}, r"data\.reader\.every=0"),
        ({"every": 1.5}, r"data\.reader\.every=1\.5"),
        ({"intent": "raw"}, r"data\.reader\.intent=raw is not possible: choose null, presentation or processing"),
        ({"skip_ends": -1}, r"data\.reader\.skip_ends=-1"),
        ({"description": "("}, r"data\.reader\.description=\( is not a regular expression"),
    ],
)
def test_wrong_options_are_refused(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        Dicom(str(save(tmp_path)), **options)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match=r"holds no DICOM image \(not an image \(not a DICOM file\): 1"):
        Dicom(str(tmp_path)).scan()
    with pytest.raises(InputError, match=r"data=dicom data\.root=/path/to/dicom"):
        Dicom(None)


def overwrite(path, keyword, text):
    """Replace the value of an element of any type by text of the same length."""
    content, element = bytearray(path.read_bytes()), pydicom.dcmread(path).get_item(keyword)
    content[element.value_tell : element.value_tell + element.length] = text[: element.length].ljust(element.length)
    path.write_bytes(content)


def test_no_identifier_leaves_the_reader(tmp_path, caplog, recwarn):
    """Damaged elements hold a name, which pydicom's warnings, log records and errors quote."""
    elements = ("StudyInstanceUID", "RescaleSlope", "ImagePositionPatient", "BitsStored", "NumberOfFrames", "ImageType")
    for keyword in elements:
        options = {"patient_name": f"{SECRET}^GIUSEPPE", "birth_date": "18070704", "NumberOfFrames": 1}
        image_type = ["ORIGINAL", "PRIMARY"]
        write_ct_slice(tmp_path / keyword, PIXELS, patient_id=SECRET, slope="1.000000", ImageType=image_type, **options)
        overwrite(tmp_path / keyword, keyword, SECRET.lower().encode())
    caplog.set_level(logging.DEBUG)
    reader = Dicom(str(tmp_path))
    said = [*by_text(reader.scan().left_out)]
    for name in reader.tree.names:
        try:
            said += [str(picture.remarks) for picture in reader.read(Record(name))[0]]
        except Unreadable as error:
            said += traceback.format_exception(error)
    said += [*caplog.messages, *(str(warning.message) for warning in recwarn)]
    assert "its RescaleSlope or RescaleIntercept is impossible" in " ".join(said)
    assert not any(word in text.upper() for text in said for word in (SECRET, "GIUSEPPE", "18070704"))
    assert logging.getLogger("pydicom").getEffectiveLevel() < logging.CRITICAL


def test_a_decoder_that_crashes_does_not_end_the_process(tmp_path):
    dataset = pydicom.dcmread(get_testdata_file("SC_rgb_jpeg_gdcm.dcm"))
    frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    dataset.save_as(tmp_path / "good")
    frame[37] ^= 1 << 6  # in a Huffman table: GDCM ends its process by an exception that nobody catches
    dataset.PixelData = encapsulate([bytes(frame)])
    dataset.save_as(tmp_path / "bad")
    reader, process = Dicom(str(tmp_path)), os.getpid()
    for _ in range(2):
        with pytest.raises(Unreadable, match="pixel data is damaged"):
            reader.read(Record("bad"))
        assert reader.read(Record("good"))[0][0].values.shape == (3, 100, 100)
    assert os.getpid() == process


def test_a_decoder_that_hangs_is_killed(tmp_path, monkeypatch):
    (tmp_path / "1").write_bytes(bundled("SC_rgb_jpeg_gdcm.dcm"))
    expected = values(tmp_path)
    monkeypatch.setattr(decoder, "_TIMEOUT", 0.2)
    os.kill(decoder._process._process.pid, signal.SIGSTOP)
    with pytest.raises(Unreadable, match="pixel data is damaged"):
        values(tmp_path)
    monkeypatch.undo()
    np.testing.assert_array_equal(values(tmp_path), expected)


@pytest.mark.parametrize("count", [4, 300])
def test_segmented_palettes(count, tmp_path):
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, last in (("Red", 30), ("Green", 60), ("Blue", 90)):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [count, 0, 8]
        # PS3.3 section C.7.9.2: one discrete entry of 0, then a line over the rest.
        elements[f"Segmented{name}PaletteColorLookupTableData"] = bytes([0, 1, 0, 1, 3, last])
    write(tmp_path / "1", image_dataset(PIXELS % 7, modality="US", **elements))
    if count > 256:
        with pytest.raises(Unreadable, match="segmented palette"):
            values(tmp_path)
        return
    index = np.minimum(PIXELS % 7, 3)
    np.testing.assert_array_equal(values(tmp_path), np.stack([index * 10, index * 20, index * 30]))


def originals(folder):
    """Return files and their images, for comparison with damaged versions."""
    names = ("MR_small_RLE", "MR_small_jp2klossless", "SC_rgb_jpeg_gdcm", "SC_rgb_dcmtk_+eb+cr", "image_dfl")
    for name in names:
        (folder / name).write_bytes(bundled(f"{name}.dcm"))
    for number, syntax in enumerate((IMPLICIT, EXPLICIT, BIG, JPEG_LS)):
        write_ct_slice(folder / str(number), PIXELS, syntax=syntax)
    enhanced(folder / "enhanced")
    reader = Dicom(str(folder))
    return [(reader.tree.read(name), reader.read(Record(name))[0]) for name in reader.tree.names]


def damaged(content, kind, random):
    """Truncate the content, flip one bit in the header, or two bits anywhere."""
    content = bytearray(content)
    if kind == "cut off":
        del content[int(random.integers(1, len(content))) :]
        return content
    end, flips = (min(len(content), 4000), 1) if kind == "header" else (len(content), 2)
    for position in random.integers(132, end, size=flips):
        content[position] ^= 1 << int(random.integers(8))
    return content


def fuzzed(tmp_path, count, seed):
    """Each damaged file is left out, Unreadable, or a finite image; one that is cut off is never another image.

    A flipped bit in pixel data that is not compressed, or in a slope, makes another valid file: nobody can tell. So the
    values are compared for files cut off alone, of which what lies behind the pixels may be missing.
    """
    random = np.random.default_rng(seed)
    (tmp_path / "sound").mkdir()
    (tmp_path / "damaged").mkdir()
    sound = originals(tmp_path / "sound")
    kinds, outcomes = ("cut off", "header", "anywhere"), Counter()
    for number in range(count):
        content, expected = sound[number % len(sound)]
        kind = kinds[number // len(sound) % 3]
        (tmp_path / "damaged" / "1").write_bytes(damaged(content, kind, random))
        reader = Dicom(str(tmp_path / "damaged"))
        with contextlib.suppress(InputError):
            reader.scan()
        try:
            result, _ = reader.read(Record("1"))
        except (Unreadable, InputError):
            outcomes[kind, "refused"] += 1
            continue
        outcomes[kind, "read"] += 1
        for picture in result:
            assert picture.values.dtype == np.float32
            assert picture.values.ndim == 3
            assert picture.values.shape[0] in (1, 3)
            assert np.isfinite(picture.values).all()
        if kind == "cut off":
            for picture, original in zip(result, expected, strict=True):
                np.testing.assert_array_equal(picture.values, original.values)
    assert outcomes["cut off", "refused"] > count / 5
    assert min(outcomes[kind, outcome] for kind in kinds[1:] for outcome in ("read", "refused")) > count / 50


def test_damaged_files_are_refused_or_read_correctly(tmp_path):
    fuzzed(tmp_path, 300, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_damaged_files_are_refused_or_read_correctly(seed, tmp_path):
    fuzzed(tmp_path, 1500, seed)
