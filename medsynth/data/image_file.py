"""Decoding of one image file: PNG, JPEG, TIFF or BMP, from its bytes to a raw image."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
import PIL
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, COMPRESSION, STRIPBYTECOUNTS

from medsynth.data.errors import Unreadable
from medsynth.data.reading import RawImage

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
UNCOMPRESSED = 1  # value of TIFF's tag Compression
_STORED_TYPES = {"u1": "8-bit", "u2": "16-bit", "i4": "32-bit integer", "f4": "floating-point"}
_GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def decode(content: bytes) -> RawImage:
    """Decode gray images in their own bit depth as ``(1, H, W)``, color as 8-bit RGB ``(3, H, W)``.

    Alpha is dropped, not blended: the values under it were measured, a background would be invented. Only the first of
    several pages is read.

    Raises:
        Unreadable: the format is unknown, the file is damaged, or its color channels have 16 bits each, of which
            Pillow would silently return the upper 8.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of things other than the image: odd metadata, bytes at the end.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if content.startswith(b"\x89PNG"):
                _open(content).verify()  # decoding alone does not compare the checksums of the pixels
            with _open(content) as image:
                return _raw_image(image)
    except Unreadable:
        raise
    except PIL.UnidentifiedImageError as error:
        raise Unreadable("it is not an image of a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable("it claims more pixels than any image has") from error
    except Exception as error:  # damaged files make Pillow raise OSError, SyntaxError, ValueError, struct.error ...
        raise Unreadable("it is damaged or cut off") from error


def _open(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "TIFF", "BMP"))


def _raw_image(image: Image.Image) -> RawImage:
    many_bands = image.mode not in _GRAY_MODES or image.mode in ("LA", "La")
    if many_bands and any(";16" in str(tile.args) for tile in getattr(image, "tile", ())):
        raise Unreadable(
            "it has several channels of 16 bits, of which only 8 can be read: save it as 16-bit gray or 8-bit color"
        )
    remarks = []
    if image.has_transparency_data:
        remarks.append("lost their alpha channel")
    if getattr(image, "n_frames", 1) > 1:
        remarks.append("hold several pages, of which only the first is read")
        image.seek(0)
    _check_complete(image)
    values = np.asarray(_gray_or_rgb(image))
    stored_type = _STORED_TYPES[values.dtype.str[1:]]
    values = values.astype(np.float32)
    return RawImage(
        values[None] if values.ndim == 2 else values.transpose(2, 0, 1), stored_type, remarks=tuple(remarks)
    )


def _check_complete(image: Image.Image) -> None:
    """Raise Unreadable if an uncompressed TIFF holds fewer pixels than its size: Pillow would fill up with zeros."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(COMPRESSION, 0) == UNCOMPRESSED and STRIPBYTECOUNTS in tags:
        bits = sum(tags.get(BITSPERSAMPLE, (1,)))
        if sum(tags[STRIPBYTECOUNTS]) < image.height * math.ceil(image.width * bits / 8):
            raise Unreadable("it holds fewer pixels than its size requires")


def _gray_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("1", "LA", "La"):
        return image.convert("L")
    if image.mode in _GRAY_MODES:
        return image
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # in two steps, since Pillow warns when it drops a palette's transparency
    return image.convert("RGB")
