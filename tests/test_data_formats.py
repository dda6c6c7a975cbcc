"""A table of format cases: files put together from the formats' specifications, and the values that they mean.

Nothing here asks the libraries that the readers use for the right value.
"""

from __future__ import annotations

import io
import struct
import zlib

import nibabel
import numpy as np
import pytest
from PIL import Image

from medsynth.contracts import InputError
from medsynth.data.dicom import Dicom
from medsynth.data.errors import Unreadable
from medsynth.data.image_file import decode
from medsynth.data.image_folder import ImageFolder
from medsynth.data.masks import masks_among
from medsynth.data.nifti import Nifti
from medsynth.data.nifti_volume import load
from medsynth.data.reading import Record
from tests.dicom_files import image_dataset, items, write
from tests.files import RAMP, by_text, prepared, warnings_of, write_images

WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
WIDE = np.arange(64).reshape(8, 8) * 1000  # 0 to 63000
SIGNED = WIDE - 31_000


def tiff(values: np.ndarray, photometric: int | None = BLACK_IS_ZERO, *, order: str = "<", **tags: object) -> bytes:
    """Return an uncompressed TIFF 6.0 file of one strip; ``tags`` are numbers or lists, written as SHORT or RATIONAL.

    The tags follow from the values (H, W) or (H, W, C); None leaves one out.
    """
    numbers = {
        "compression": 259,
        "extra": 338,
        "orientation": 274,
        "planar": 284,
        "xres": 282,
        "yres": 283,
        "unit": 296,
    }
    bits, samples = 8 * values.dtype.itemsize, values.shape[2] if values.ndim == 3 else 1
    sample_format = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    content = values.astype(values.dtype.newbyteorder(order)).tobytes()
    entries: dict[int, object] = {
        256: values.shape[1],
        257: values.shape[0],
        258: [bits] * samples,
        259: 1,
        262: photometric,
        273: 8,
        277: samples,
        278: values.shape[0],
        279: len(content),
        339: [sample_format] * samples,
    }
    entries |= {numbers.get(name) or int(name.removeprefix("tag")): value for name, value in tags.items()}
    entries = {tag: value for tag, value in entries.items() if value is not None}
    content += b"\0" * (len(content) % 2)
    extra, place = b"", 8 + len(content) + 2 + 12 * len(entries) + 4
    directory = struct.pack(order + "H", len(entries))
    for tag, value in sorted(entries.items()):
        rational = tag in (282, 283)
        listed = value if isinstance(value, list) else [value]
        packed = b"".join(
            struct.pack(order + ("II" if rational else "H"), *([x, 1] if rational else [x])) for x in listed
        )
        directory += struct.pack(order + "HHI", tag, 5 if rational else 3, len(listed))
        if len(packed) > 4:
            directory += struct.pack(order + "I", place + len(extra))
            extra += packed
        else:
            directory += packed.ljust(4, b"\0")
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "I", 8 + len(content)) + content + directory + bytes(4) + extra


TIFF_CASES = {
    "8 bits": (tiff(RAMP), RAMP, "8-bit"),
    "8 bits, white is 0": (tiff(RAMP, WHITE_IS_ZERO), 255 - RAMP, "8-bit"),
    "8 bits, big-endian, white is 0": (tiff(RAMP, WHITE_IS_ZERO, order=">"), 255 - RAMP, "8-bit"),
    "signed 8 bits": (tiff(RAMP.astype(int).astype(np.int8)), RAMP.astype(int) - 256 * (RAMP > 127), "signed 8-bit"),
    "16 bits": (tiff(WIDE.astype(np.uint16)), WIDE, "16-bit"),
    "16 bits, big-endian": (tiff(WIDE.astype(np.uint16), order=">"), WIDE, "16-bit"),
    "16 bits, white is 0": (tiff(WIDE.astype(np.uint16), WHITE_IS_ZERO), 65535 - WIDE, "16-bit"),
    "signed 16 bits": (tiff(SIGNED.astype(np.int16)), SIGNED, "32-bit integer"),
    "signed 16 bits, big-endian": (tiff(SIGNED.astype(np.int16), order=">"), SIGNED, "32-bit integer"),
    "32 bits above 2^31": (tiff((WIDE * 65_536).astype(np.uint32)), WIDE * 65_536, "32-bit integer"),
    "signed 32 bits": (tiff((SIGNED * 60_000).astype(np.int32)), SIGNED * 60_000, "32-bit integer"),
    "signed 32 bits, big-endian": (tiff(SIGNED.astype(np.int32), order=">"), SIGNED, "32-bit integer"),
    "floating point": (tiff((SIGNED / 7).astype(np.float32)), (SIGNED / 7).astype(np.float32), "floating-point"),
    "a channel beside gray": (tiff(np.stack([RAMP, RAMP.T], -1), extra=0), RAMP, "8-bit"),
}


@pytest.mark.parametrize("name", TIFF_CASES)
def test_tiff_values_follow_photometric_interpretation_and_sample_format(name):
    content, expected, stored_type = TIFF_CASES[name]
    picture = decode(content)
    np.testing.assert_array_equal(picture.values, np.asarray(expected, np.float32)[None])
    assert (picture.stored_type, picture.aspect) == (stored_type, 1.0)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            tiff(WIDE.astype(np.uint16), WHITE_IS_ZERO, order=">"),
            "WhiteIsZero; .*unsigned; BitsPerSample 16",
        ),
        (tiff(SIGNED.astype(np.int16), WHITE_IS_ZERO), "WhiteIsZero; SampleFormat signed"),
        (tiff(SIGNED.astype(np.float32), WHITE_IS_ZERO), "WhiteIsZero; SampleFormat floating point"),
        (tiff(SIGNED.astype(np.float16)), "SampleFormat floating point; BitsPerSample 16"),
        (tiff(SIGNED.astype(np.float64)), "SampleFormat floating point; BitsPerSample 64"),
        (tiff(RAMP, tag339=4), "SampleFormat undefined"),
        (tiff(RAMP, 4), "PhotometricInterpretation transparency mask"),
        (tiff(RAMP, 32803), "PhotometricInterpretation color filter array"),
        (tiff(np.stack([RAMP] * 3, -1), 8), r"PhotometricInterpretation CIE L\*a\*b\*"),
        (tiff(RAMP, None), "PhotometricInterpretation is missing"),
        (tiff(RAMP, compression=50001), "WebP"),
        (tiff(RAMP, compression=34887), "LERC"),
    ],
)
def test_tiff_tags_that_are_not_honored_are_refused_by_name(content, named):
    with pytest.raises(Unreadable, match=f"(?s){named}.*save it as"):
        decode(content)


def chained(*files: bytes) -> bytes:
    """Return one TIFF whose pages are those of ``tiff(...)`` with two-byte values, little-endian."""
    content, places = b"", []
    for file in files:
        start, base = struct.unpack_from("<I", file, 4)[0], len(content)
        page = bytearray(file)
        for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", file, start)[0], 12):
            if struct.unpack_from("<H", file, entry)[0] == 273:  # StripOffsets, written as a LONG
                struct.pack_into("<HHII", page, entry, 273, 4, 1, base + 8)
        if places:
            content = content[: places[-1]] + struct.pack("<I", base + start) + content[places[-1] + 4 :]
        content += bytes(page)
        places.append(base + start + 2 + 12 * struct.unpack_from("<H", file, start)[0])
    return content


SMALL = RAMP[::2, ::2]
REDUCED, PAGES = "begin with reduced copies", "hold several pages"


@pytest.mark.parametrize(
    ("pages", "said"),
    [
        ([tiff(SMALL, tag254=1), tiff(RAMP)], [REDUCED]),
        ([tiff(SMALL, tag255=2), tiff(RAMP)], [REDUCED]),
        ([tiff(SMALL, tag254=5), tiff(SMALL, tag254=1), tiff(RAMP), tiff(SMALL)], [REDUCED, PAGES]),
        ([tiff(RAMP, tag254=0), tiff(SMALL, tag254=1)], [PAGES]),
        ([tiff(RAMP, tag254=2), tiff(SMALL, tag254=2)], [PAGES]),
    ],
)
def test_reduced_copies_at_the_beginning_of_a_tiff_are_not_its_image(pages, said):
    picture = decode(chained(*pages))
    np.testing.assert_array_equal(picture.values[0], RAMP)
    assert len(picture.remarks) == len(said)
    for remark, words in zip(picture.remarks, said, strict=True):
        assert words in remark


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (tiff(SMALL, tag254=1), "NewSubfileType"),
        (tiff(SMALL, tag254=1, tag330=8), "NewSubfileType.*SubIFDs"),
        (chained(tiff(SMALL, tag254=1), tiff(SMALL, tag254=4)), "NewSubfileType"),
    ],
)
def test_a_tiff_of_reduced_copies_alone_is_refused(content, named):
    with pytest.raises(Unreadable, match=f"{named}.*save it as"):
        decode(content)


def test_extra_channels_are_lost_with_a_remark():
    assert decode(TIFF_CASES["a channel beside gray"][0]).remarks == (
        "lost their extra channels (TIFF tag ExtraSamples)",
    )


# Orientation: EXIF 2.32 section 4.6.5, the same numbers as TIFF 6.0. The sides at which row 0 and column 0 lie.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
UPRIGHT = np.kron(np.arange(6).reshape(2, 3) * 40, np.ones((16, 16))).astype(np.uint8)  # blocks that survive JPEG


def as_stored(shown: np.ndarray, orientation: int) -> np.ndarray:
    """Return the array whose row 0 and column 0 lie at the sides that the orientation names."""
    first_row, first_column = SIDES[orientation]
    stored = shown.T if first_row in ("left", "right") else shown
    stored = stored[::-1] if first_row in ("bottom", "right") else stored
    return stored[:, ::-1] if first_column in ("bottom", "right") else stored


def exif(orientation: int) -> bytes:
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0) + bytes(4)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(values: np.ndarray, *chunks: bytes) -> bytes:
    """Return a gray PNG of 8 or 16 bits with further chunks before the pixels."""
    header = struct.pack(">IIBBBBB", *values.shape[::-1], 8 * values.dtype.itemsize, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in values)
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg(values: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "JPEG", quality=100, **options)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["jpeg", "png", "png_16", "tiff"])
@pytest.mark.parametrize("orientation", SIDES)
def test_images_are_turned_upright(form, orientation):
    stored = np.ascontiguousarray(as_stored(UPRIGHT, orientation))
    content = {
        "jpeg": lambda: jpeg(stored, exif=b"Exif\0\0" + exif(orientation)),
        "png": lambda: png(stored, png_chunk(b"eXIf", exif(orientation))),
        "png_16": lambda: png(stored.astype(np.uint16), png_chunk(b"eXIf", exif(orientation))),
        "tiff": lambda: tiff(stored, orientation=orientation),
    }[form]()
    picture = decode(content)
    np.testing.assert_allclose(picture.values[0], UPRIGHT, atol=2)
    assert len(picture.remarks) == (orientation > 1)


def test_a_damaged_orientation_is_no_orientation():
    for damaged in (exif(0), exif(9), exif(6)[:12], b"nonsense"):
        np.testing.assert_array_equal(decode(png(RAMP, png_chunk(b"eXIf", damaged))).values[0], RAMP)


# Pixels that are not square: twice as high as wide is twice as many pixels for a millimeter across as down.


@pytest.mark.parametrize(
    ("content", "aspect"),
    [
        (tiff(RAMP, xres=200, yres=100, unit=2), 2.0),
        (tiff(RAMP, xres=200, yres=100, unit=1), 2.0),
        (tiff(RAMP, xres=100, yres=200, unit=3, orientation=6), 2.0),
        (tiff(RAMP, xres=0, yres=100, unit=2), 1.0),
        (tiff(RAMP, xres=9, unit=2), 1.0),
        (png(RAMP, png_chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0))), 2.0),
        (png(RAMP, png_chunk(b"pHYs", struct.pack(">IIB", 4000, 2000, 1))), 2.0),
        (png(RAMP, png_chunk(b"pHYs", struct.pack(">IIB", 1, 2, 0)), png_chunk(b"eXIf", exif(6))), 2.0),
        (jpeg(RAMP, dpi=(144, 72)), 2.0),
        (jpeg(RAMP).replace(b"JFIF\0\x01\x01\0\0\x01\0\x01", b"JFIF\0\x01\x01\0\0\x02\0\x01"), 2.0),
        (jpeg(RAMP), 1.0),
    ],
)
def test_the_resolution_of_a_picture_gives_the_aspect_of_its_pixels(content, aspect):
    assert decode(content).aspect == pytest.approx(aspect, rel=0.01)


def test_an_impossible_resolution_is_refused():
    with pytest.raises(Unreadable, match="dots per inch"):
        decode(tiff(RAMP, xres=300, yres=1, unit=2))


def test_pixels_become_square_with_a_remark(tmp_path, caplog):
    disk = np.hypot(np.arange(32)[:, None] * 2 - 31, np.arange(64) - 31.5) < 20  # round in pixels twice as high as wide
    for number in range(4):
        values = (disk * 200 + number).astype(np.uint8)
        (tmp_path / f"{number}.png").write_bytes(png(values, png_chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0))))
    data = prepared(tmp_path, image_size=64, join_duplicates="none")
    image = data.train_dataset[0]["image"][0].numpy() > 0
    assert image.any(0).sum() == pytest.approx(40, abs=1)
    assert image.any(1).sum() == pytest.approx(40, abs=1)
    assert "4 of 4 images have pixels that are not square, and are resampled to square ones (data.spacing)." in (
        warnings_of(caplog)
    )


# DICOM: the values after the modality transformation, high is bright


def dicom(folder, pixels, **elements):
    """Write one file and return the raw image that is read from it."""
    write(folder / "1", image_dataset(pixels, **{"modality": "CR"} | elements))
    (picture,) = Dicom(str(folder)).read(Record("1"))[0]
    return picture


TEN_BITS = (np.arange(64).reshape(8, 8) * 16).astype(np.uint16)  # 0 to 1008
NOISE = np.random.default_rng(0).integers(-25, 25, (8, 8)).astype(np.int16)
INVERSE, IDENTITY = {"PresentationLUTShape": "INVERSE"}, {"PresentationLUTShape": "IDENTITY"}
MONOCHROME1 = {"PhotometricInterpretation": "MONOCHROME1"}


def modality_table(entries, bits):
    table = items({"LUTDescriptor": [len(entries), 0, bits], "ModalityLUTType": "US", "LUTData": entries.tobytes()})
    table[0]["LUTData"].VR, table[0]["LUTDescriptor"].VR = "OW", "US"
    return {"ModalityLUTSequence": table}


WIDE_TABLE = modality_table(np.arange(1024, dtype=np.uint16), 16)  # 0 to 1023, declared as 16 bits
DICOM_CASES = {
    "MONOCHROME2": (TEN_BITS, {"BitsStored": 10}, TEN_BITS),
    "MONOCHROME1": (TEN_BITS, {"BitsStored": 10} | MONOCHROME1, 1023 - TEN_BITS.astype(int)),
    "INVERSE": (TEN_BITS, {"BitsStored": 10} | INVERSE, 1023 - TEN_BITS.astype(int)),
    "MONOCHROME1 and INVERSE say the same": (
        TEN_BITS,
        {"BitsStored": 10} | MONOCHROME1 | INVERSE,
        1023 - TEN_BITS.astype(int),
    ),
    "MONOCHROME2 and IDENTITY say the same": (TEN_BITS, {"BitsStored": 10} | IDENTITY, TEN_BITS),
    "a table": (TEN_BITS, {"BitsStored": 10} | WIDE_TABLE, TEN_BITS),
    "MONOCHROME1 with a table": (
        TEN_BITS,
        {"BitsStored": 10} | MONOCHROME1 | WIDE_TABLE,
        1023 - TEN_BITS.astype(int),
    ),
    "a slope without an intercept": (TEN_BITS, {"RescaleSlope": 2}, TEN_BITS * 2),
    "an intercept without a slope": (TEN_BITS, {"RescaleIntercept": -5}, TEN_BITS - 5.0),
    "a slope of 0": (TEN_BITS, {"RescaleSlope": 0, "RescaleIntercept": -5}, TEN_BITS - 5.0),
    "padding among the values": (NOISE, {"modality": "MR", "PixelPaddingValue": 0}, NOISE),
    "padding below the values": (
        np.where(TEN_BITS < 100, 0, TEN_BITS).astype(np.uint16),
        {"PixelPaddingValue": 0},
        np.where(TEN_BITS < 100, 112, TEN_BITS),
    ),
    "padding above the values": (
        np.where(TEN_BITS < 100, 2000, TEN_BITS).astype(np.uint16),
        {"PixelPaddingValue": 2000},
        np.where(TEN_BITS < 100, 112, TEN_BITS),
    ),
}


@pytest.mark.parametrize("name", DICOM_CASES)
def test_dicom_values_follow_their_tags(name, tmp_path):
    pixels, elements, expected = DICOM_CASES[name]
    np.testing.assert_array_equal(dicom(tmp_path, pixels, **elements).values[0], expected)


@pytest.mark.parametrize(
    ("elements", "remark"),
    [
        (INVERSE, "MONOCHROME1 or INVERSE"),
        ({"RescaleSlope": 0}, "have RescaleSlope 0, which is taken for 1"),
        ({"PixelPaddingValue": 16}, "lies among their measured values and is not replaced"),
    ],
)
def test_what_tags_of_dicom_change_is_remarked(elements, remark, tmp_path):
    (found,) = dicom(tmp_path, TEN_BITS, **elements).remarks
    assert remark in found


def region(**changes):
    """A two-dimensional ultrasound region of 0.02 cm from row to row and 0.01 cm from column to column."""
    codes = {"RegionSpatialFormat": 1, "PhysicalUnitsXDirection": 3, "PhysicalUnitsYDirection": 3}
    return codes | {"PhysicalDeltaX": 0.01, "PhysicalDeltaY": -0.02} | changes


DOPPLER = region(RegionSpatialFormat=3, PhysicalUnitsXDirection=4, PhysicalDeltaX=0.5)  # seconds across


@pytest.mark.parametrize(
    ("elements", "spacing", "aspect"),
    [
        ({"PixelSpacing": [0.5, 0.25], "PixelAspectRatio": [1, 1]}, (0.5, 0.25), 2.0),
        ({"ImagerPixelSpacing": [0.5, 0.25]}, (0.5, 0.25), 2.0),
        ({"NominalScannedPixelSpacing": [0.5, 0.25]}, (0.5, 0.25), 2.0),
        ({"SequenceOfUltrasoundRegions": items(region())}, (0.2, 0.1), 2.0),
        ({"SequenceOfUltrasoundRegions": items(DOPPLER, region())}, (0.2, 0.1), 2.0),
        ({"SequenceOfUltrasoundRegions": items(region(), region(PhysicalDeltaX=0.02))}, None, 1.0),
        ({"SequenceOfUltrasoundRegions": items(DOPPLER)}, None, 1.0),
        ({"SequenceOfUltrasoundRegions": items(region(PhysicalDeltaX=0))}, None, 1.0),
        ({"PixelAspectRatio": [2, 1]}, None, 2.0),
        ({"PixelAspectRatio": [0, 1]}, None, 1.0),
        ({}, None, 1.0),
    ],
)
def test_dicom_spacing_and_aspect_of_pixels(elements, spacing, aspect, tmp_path):
    picture = dicom(tmp_path, TEN_BITS, modality="US", **elements)
    assert (picture.spacing, picture.pixel_aspect) == (spacing, aspect)


# NIfTI: voxels that are not square, and an sform and a qform that contradict each other

VOXELS = np.random.default_rng(0).normal(100, 20, (8, 8, 6)).astype(np.float32)


def nifti(values, affine, *, qform=None, sform_code=1, intent=0):
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, sform_code)
    image.set_qform(affine if qform is None else qform, 1)
    image.header["intent_code"] = intent
    return image.to_bytes()


def test_a_sphere_in_flat_voxels_is_round_in_coronal_slices(tmp_path):
    grid = np.stack(np.meshgrid(np.arange(40) * 0.8, np.arange(40) * 0.8, np.arange(14) * 2.4, indexing="ij"))
    for number in range(3):
        sphere = np.hypot(np.hypot(grid[0] - 16, grid[1] - 16), grid[2] - 16) < 10
        values = (sphere * 100 + np.random.default_rng(number).normal(0, 1, sphere.shape)).astype(np.float32)
        (tmp_path / f"{number}.nii").write_bytes(nifti(values, np.diag([0.8, 0.8, 2.4, 1])))
    data = prepared(tmp_path, Nifti, image_size=40, options={"axis": "coronal"}, normalize="min_max", split_by="image")
    areas = [(data.train_dataset[index]["image"][0].numpy() > 0) for index in range(data.num_train)]
    largest = max(areas, key=np.count_nonzero)
    assert largest.any(0).sum() == pytest.approx(25, abs=2)
    assert largest.any(1).sum() == pytest.approx(largest.any(0).sum(), abs=2)
    assert data.spacing == pytest.approx((0.8, 0.8), rel=0.05)


SCANNER, MIRRORED = np.diag([2.0, 2, 3, 1]), np.diag([-2.0, 2, 3, 1])


@pytest.mark.parametrize(
    ("sform", "qform", "contradict"),
    [
        (SCANNER, SCANNER, False),
        (SCANNER, SCANNER + np.outer([1, 0, 0, 0], [0, 0, 0, 40]), False),  # another position: the images are the same
        (SCANNER, MIRRORED, True),
        (SCANNER, SCANNER[:, [1, 0, 2, 3]], True),
        (SCANNER, np.diag([2.0, 2, 4, 1]), True),
    ],
)
def test_an_sform_and_a_qform_that_contradict_each_other_are_remarked(sform, qform, contradict):
    volume = load(nifti(VOXELS, sform, qform=qform))
    assert [("sform" in remark) for remark in volume.remarks] == [True] * contradict
    np.testing.assert_allclose(volume.affine, sform)


# Masks beside images


@pytest.mark.parametrize(
    ("names", "masks"),
    [
        (["imagesTr/1.nii.gz", "labelsTr/1.nii.gz"], 1),
        (["1/1_flair.nii.gz", "1/1_seg.nii.gz"], 1),
        (["benign (1).png", "benign (1)_mask.png", "benign (1)_mask_1.png"], 2),
        (["train/images/1.png", "train/masks/1.png", "train/Ground_Truth/1.tif"], 2),
        (["1.png", "1-label.png", "segmentation.nii"], 2),
        (["a_mask.png", "b_mask.png"], 0),
        (["with_mask/1.png", "without_mask/2.png", "unmasked.png", "segment.png", "labeled/1.png"], 0),
    ],
)
def test_masks_are_known_by_their_names(names, masks):
    assert len(masks_among(names)) == masks


def test_pictures_beside_masks_are_refused_or_sorted_out(tmp_path):
    write_images(tmp_path / "images", 4)
    write_images(tmp_path / "masks", 4, start=8)
    with pytest.raises(InputError, match=r"4 images that name themselves masks .* beside 4 others: .*masks=skip"):
        ImageFolder(str(tmp_path)).scan()
    found = ImageFolder(str(tmp_path), masks="skip").scan()
    assert {record.name.partition("/")[0] for record in found.records} == {"images"}
    assert by_text(found.left_out) == {"masks, by their names (data.reader.masks)": 4}
    assert len(ImageFolder(str(tmp_path), masks="keep").scan().records) == 8


def test_volumes_beside_volumes_that_name_themselves_masks_are_refused(tmp_path):
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.nii").write_bytes(nifti(VOXELS, SCANNER))
    with pytest.raises(InputError, match=r"1 volumes that name themselves masks .* beside 1 others: .*images=.*'\*'"):
        Nifti(str(tmp_path)).scan()
    assert len(Nifti(str(tmp_path), images="*").scan().records) == 2
    assert len(Nifti(str(tmp_path), images="imagesTr").scan().records) == 1


@pytest.mark.parametrize("kind", ["few integers", "intent"])
def test_volumes_beside_volumes_that_seem_to_be_masks_are_refused(kind, tmp_path):
    labels = np.zeros(VOXELS.shape, np.int16)
    labels[2:6, 2:6] = np.arange(1, 7)
    mask = nifti(labels, SCANNER) if kind == "few integers" else nifti(VOXELS.round(), SCANNER, intent=1002)
    (tmp_path / "a.nii").write_bytes(nifti((VOXELS * 9).astype(np.int16), SCANNER))
    (tmp_path / "b.nii").write_bytes(mask)
    options = {"split_by": "image", "normalize": "min_max", "join_duplicates": "none"}
    with pytest.raises(InputError, match=r"1 files that seem to be masks, .* beside 1 others: .*data\.reader\.images"):
        prepared(tmp_path, Nifti, **options)
    everything = prepared(tmp_path, Nifti, options={"images": "*"}, **options)
    assert len(everything.source.store) > 6
    (tmp_path / "a.nii").unlink()
    assert prepared(tmp_path, Nifti, **options).num_train  # masks alone are the images of a set
