"""Images in a folder or a zip archive: what is stored in each format, and what the reader finds."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from medsynth.contracts import InputError, Intensity
from medsynth.data.errors import Unreadable
from medsynth.data.image_file import decode
from medsynth.data.image_folder import ImageFolder
from tests.files import RAMP, class_folders, files_module, items, number, prepared, warnings_of, write_images

COLORS = np.stack([RAMP, RAMP[::-1], RAMP.T], -1)


def saved(image, ending, **options):
    content = io.BytesIO()
    image.save(content, {"tif": "TIFF", "jpg": "JPEG"}.get(ending, ending), **options)
    return content.getvalue()


def alpha(image):
    image.putalpha(Image.fromarray(RAMP.T))
    return image


GRAY = {
    "l.png": Image.fromarray(RAMP),
    "l.bmp": Image.fromarray(RAMP),
    "l.tif": Image.fromarray(RAMP),
    "la.png": alpha(Image.fromarray(RAMP)),
}
COLOR = {
    "rgb.png": Image.fromarray(COLORS),
    "rgb.bmp": Image.fromarray(COLORS),
    "rgba.png": alpha(Image.fromarray(COLORS)),
    "p.png": Image.fromarray(COLORS).quantize(256),  # 64 colors: exact
    "cmyk.tif": Image.fromarray(COLORS).convert("CMYK"),  # without black: exact
}


@pytest.mark.parametrize("name", GRAY)
def test_gray_files_keep_their_values(name):
    picture = decode(saved(GRAY[name], name[-3:]))
    np.testing.assert_array_equal(picture.values, RAMP[None])
    assert (picture.values.dtype, picture.stored_type) == (np.float32, "8-bit")
    assert picture.remarks == (("lost their alpha channel",) if name.startswith("la") else ())


@pytest.mark.parametrize("name", COLOR)
def test_color_files_keep_their_values(name):
    picture = decode(saved(COLOR[name], name[-3:]))
    np.testing.assert_array_equal(picture.values, COLORS.transpose(2, 0, 1))


def test_bilevel_files_are_black_and_white():
    np.testing.assert_array_equal(decode(saved(Image.fromarray(RAMP > 100), "png")).values[0], (RAMP > 100) * 255)


@pytest.mark.parametrize(
    ("ending", "mode", "options"),
    [("png", "I;16", {}), ("tif", "I;16", {}), ("tif", "I;16B", {}), ("tif", "I;16", {"compression": "tiff_lzw"})],
)
def test_16_bit_files_keep_every_value(ending, mode, options):
    values = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    content = saved(Image.fromarray(values.astype(">u2") if mode == "I;16B" else values), ending, **options)
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == mode
    picture = decode(content)
    np.testing.assert_array_equal(picture.values[0], values)
    assert picture.stored_type == "16-bit"


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_integer_and_floating_point_tiff_keep_negative_values(dtype):
    values = (np.arange(64).reshape(8, 8) * 50 - 1000).astype(dtype)  # Hounsfield units
    np.testing.assert_array_equal(decode(saved(Image.fromarray(values), "tif")).values[0], values)


def test_of_several_pages_the_first_is_read():
    pages = [Image.fromarray(RAMP), Image.fromarray(RAMP.T)]
    picture = decode(saved(pages[0], "tif", save_all=True, append_images=pages[1:]))
    np.testing.assert_array_equal(picture.values[0], RAMP)
    assert picture.remarks == ("hold several pages, of which only the first is read",)


def test_color_of_16_bits_is_refused_and_not_cut_to_8():
    with pytest.raises(Unreadable, match="several channels of 16 bits"):
        decode(png_of_16_bit_rgb())


def png_of_16_bit_rgb():
    """A PNG of 8 x 8 pixels with 16 bits per color channel, put together by hand: Pillow writes none."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(range(48)) for _ in range(8))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_an_image_that_claims_billions_of_pixels_is_refused():
    """A header is believed only as far as an image may go: 60,000 x 60,000 pixels would take all memory."""
    content = bytearray(saved(Image.fromarray(RAMP), "png"))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    with pytest.raises(Unreadable, match="claims more pixels"):
        decode(bytes(content))


# A folder


def test_a_flat_folder_has_no_labels(tmp_path):
    write_images(tmp_path, 20)
    (tmp_path / "notes.txt").write_text("no image")
    data = prepared(tmp_path)
    assert (data.num_train, data.num_val, data.class_names) == (18, 2, ())
    (left_out,) = data.source.manifest["left_out"]
    assert left_out == {"kind": "not_an_image", "text": "not an image (by the ending of its name)", "count": 1}
    found = [*items(data.train_dataset), *items(data.val_dataset)]
    for item in found:
        assert sorted(item) == ["image", "index"]
        assert (item["image"].shape, item["image"].dtype) == ((1, 8, 8), torch.float32)
        assert type(item["image"]) is torch.Tensor
    assert sorted(map(number, found)) == list(range(20))  # each image on one side


def test_labels_follow_the_sorted_class_names_at_any_depth(tmp_path):
    data = prepared(class_folders(tmp_path))
    assert data.class_names == ("a", "b", "c")
    assert data.intensity == Intensity(0, 255, "stored value")
    assert "50 images, 3 classes" in data.description
    for item in [*items(data.train_dataset), *items(data.val_dataset)]:
        assert item["label"] == (1 if number(item) < 100 else 0 if number(item) < 200 else 2)


def test_the_option_classes_selects_classes(tmp_path):
    data = prepared(class_folders(tmp_path), options={"classes": ["c", "a"]})
    assert data.class_names == ("a", "c")
    assert {item["label"] for item in items(data.train_dataset)} == {0, 1}
    assert data.num_train + data.num_val == 20


def test_a_zip_archive_gives_the_same_images_as_the_folder(tmp_path):
    class_folders(tmp_path / "images")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in (tmp_path / "images").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path / "images"))
    folder, packed = prepared(tmp_path / "images"), prepared(tmp_path / "images.zip")
    assert packed.class_names == folder.class_names
    for ours, theirs in zip(items(packed.val_dataset), items(folder.val_dataset), strict=True):
        assert torch.equal(ours["image"], theirs["image"])
        assert ours["label"] == theirs["label"]


def make_mixed(root):
    write_images(root, 3)
    write_images(root / "a", 4)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda root: None, {}, "is empty: data=image_folder data.root=/path/to/images"),
        (lambda root: (root / "a.txt").write_text(""), {}, "holds no image: only files whose names end in .png, .jpg"),
        (make_mixed, {}, "holds 3 images beside the class folders a: move"),
        (
            lambda root: write_images(root, 4),
            {"classes": ["a"]},
            r"data\.reader\.classes needs a folder for each class.*leave data.reader.classes out",
        ),
        (
            class_folders,
            {"classes": ["a", "d"]},
            r"data\.reader\.classes names d, but .* has the folders a, b, c: choose",
        ),
    ],
)
def test_an_impossible_folder_is_refused(make, options, message, tmp_path):
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, options=options)


def test_a_root_that_is_not_a_folder_is_refused(tmp_path):
    (tmp_path / "file.png").write_text("")
    for root, message in [
        (None, "data.root is needed: data=image_folder data.root=/path/to/images"),
        (tmp_path / "nothing", "nothing does not exist"),
        (tmp_path / "file.png", "file.png is neither a folder nor a zip archive"),
    ]:
        with pytest.raises(InputError, match=message):
            files_module(root, ImageFolder).prepare()


def test_names_that_lead_out_of_an_archive_are_left_out_and_counted(tmp_path):
    write_images(tmp_path / "images", 6)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted((tmp_path / "images").iterdir()):
            archive.write(path, path.name)
        content = (tmp_path / "images" / "000.png").read_bytes()
        archive.writestr("../outside.png", content)
        archive.writestr("/absolute.png", content)
        archive.writestr("..\\outside.png", content)  # as Windows writes it
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    data = prepared(tmp_path / "images.zip")
    assert len(data.source.store) == 6
    left_out = {reason["text"]: (reason["kind"], reason["count"]) for reason in data.source.manifest["left_out"]}
    assert left_out == {"names that lead out of the archive": ("unsafe", 3), "links in an archive": ("unsafe", 1)}
    assert data.source.manifest["lost_folders"] == []


def test_a_zip_bomb_is_refused_before_it_is_decompressed(tmp_path, monkeypatch):
    write_images(tmp_path / "images", 6)
    with zipfile.ZipFile(tmp_path / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "images").iterdir()):
            archive.write(path, path.name)
        archive.writestr("bomb.png", bytes(3_000_000))
    monkeypatch.setattr("medsynth.data.tree.LARGEST", 2_000_000)
    with pytest.raises(InputError, match=r"File 7 of the 7 .* cannot be read \(it claims more than"):
        prepared(tmp_path / "images.zip")
    data = prepared(tmp_path / "images.zip", on_error="skip")
    assert len(data.source.store) == 6


def test_a_damaged_archive_is_refused(tmp_path):
    write_images(tmp_path / "images", 6)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted((tmp_path / "images").iterdir()):
            archive.write(path, path.name)
    content = bytearray((tmp_path / "images.zip").read_bytes())
    content[60] ^= 255  # in the first image
    (tmp_path / "images.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"File 1 of the 6 .* cannot be read \(the archive is damaged at this file"):
        prepared(tmp_path / "images.zip")
    (tmp_path / "images.zip").write_bytes(content[:-30])
    with pytest.raises(InputError, match=r"images\.zip is neither a folder nor a zip archive"):
        prepared(tmp_path / "images.zip")


def test_conversions_are_logged_once_with_counts(tmp_path, caplog):
    write_images(tmp_path, 4)
    for i in range(3):
        Image.fromarray(np.stack([np.linspace(0, 40 * i + 9, 240).reshape(12, 20)] * 4, -1).astype(np.uint8)).save(
            tmp_path / f"rgba{i}.png"
        )
    prepared(tmp_path)
    assert {text for text in warnings_of(caplog) if "validation images are few" not in text} == {
        "3 of 7 images became gray by ITU-R 601 luma (data.channels=1).",
        "3 of 7 images lost their alpha channel.",
        "Images of 2 sizes, 8x8 to 20x12, become 8x8 (data.resize=crop).",
    }
    caplog.clear()
    prepared(tmp_path, channels=3)
    assert "4 of 7 images were repeated in 3 channels (data.channels=3)." in warnings_of(caplog)
