"""Decoding of one image file: PNG, JPEG, TIFF or BMP, from its bytes to a raw image."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import PIL
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    EXTRASAMPLES,
    PHOTOMETRIC_INTERPRETATION,
    SAMPLEFORMAT,
    STRIPBYTECOUNTS,
    X_RESOLUTION,
    Y_RESOLUTION,
    ImageFileDirectory_v2,
)

from medsynth.data.errors import Unreadable
from medsynth.data.reading import RawImage

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
UNCOMPRESSED = 1  # value of TIFF's tag Compression
_STORED_TYPES = {
    "u1": "8-bit",
    "i1": "signed 8-bit",
    "u2": "16-bit",
    "u4": "32-bit integer",
    "i4": "32-bit integer",
    "f4": "floating-point",
}
_GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Values of tags, TIFF 6.0 (1992) and its supplements.
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED, _FLOATING_POINT = 0, 1, 2, 3
_JPEG_COMPRESSIONS = (6, 7)
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _SUB_IFDS = 254, 255, 330
_REDUCED, _MASK, _OLD_REDUCED = 1, 4, 2  # bits of NewSubfileType, value of SubfileType
_PHOTOMETRICS = {
    0: "WhiteIsZero",
    1: "BlackIsZero",
    2: "RGB",
    3: "palette",
    4: "transparency mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIE L*a*b*",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "color filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
_SAMPLE_FORMATS = {1: "unsigned", 2: "signed", 3: "floating point", 4: "undefined", 5: "complex", 6: "complex"}
_COMPRESSIONS = {34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL"}
_SAVE_ANEW = "save it as 8- or 16-bit gray (BlackIsZero), 32-bit floating point or 8-bit RGB"
# EXIF's orientation 2 to 8: the array (H, W, ...) as it is to be displayed.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: values[::-1].swapaxes(0, 1),
    7: lambda values: values[::-1, ::-1].swapaxes(0, 1),
    8: lambda values: values[:, ::-1].swapaxes(0, 1),
}
_FLATTEST = 10  # ratio of the sides of a pixel; more is a mistake in a file's resolution
_TURNED = (5, 6, 7, 8)  # of these, those that exchange rows and columns


def decode(content: bytes) -> RawImage:
    """Decode gray images in their own bit depth as ``(1, H, W)``, color as 8-bit RGB ``(3, H, W)``.

    Alpha is dropped, not blended: the values under it were measured, a background would be invented. Only the first of
    several pages is read, those that TIFF's NewSubfileType calls reduced copies or masks left out. Images are turned
    upright by EXIF's and TIFF's orientation, and high is bright whatever TIFF's PhotometricInterpretation is.

    Raises:
        Unreadable: the format is unknown, the file is damaged, its tags are not supported, or its color channels have
            16 bits each, of which Pillow would silently return the upper 8.
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
        raise Unreadable(_unidentified(content)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable("it claims more pixels than any image has") from error
    except Exception as error:  # damaged files make Pillow raise OSError, SyntaxError, ValueError, struct.error ...
        compression = _COMPRESSIONS.get(_tiff_tags(content).get(COMPRESSION, 0))
        either = f", or its compression ({compression}) is not supported: {_SAVE_ANEW}" if compression else ""
        raise Unreadable(f"it is damaged or cut off{either}") from error


def _open(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "TIFF", "BMP"))


def _raw_image(image: Image.Image) -> RawImage:
    reduced = _to_first_page(image)
    many_bands = image.mode not in _GRAY_MODES or image.mode in ("LA", "La")
    if many_bands and any(";16" in str(tile.args) for tile in getattr(image, "tile", ())):
        raise Unreadable(
            "it has several channels of 16 bits, of which only 8 can be read: save it as 16-bit gray or 8-bit color"
        )
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        _check_tags(tags)
    remarks: list[str] = []
    if reduced:
        remarks.append("begin with reduced copies of the image (TIFF tag NewSubfileType), which are not read")
    if image.has_transparency_data:
        remarks.append("lost their alpha channel")
    elif tags is not None and EXTRASAMPLES in tags:
        remarks.append("lost their extra channels (TIFF tag ExtraSamples)")
    if getattr(image, "n_frames", 1) > reduced + 1:
        remarks.append("hold several pages, of which only the first is read")
        image.seek(reduced)
    _check_complete(image)
    aspect, orientation = _aspect(image), _orientation(image)
    values = np.asarray(_gray_or_rgb(image))
    if tags is not None:
        values = _by_tags(values, tags)
    elif orientation in _UPRIGHT:  # Pillow turns TIFF itself
        values = _UPRIGHT[orientation](values)
    if orientation in _UPRIGHT:
        remarks.append("were stored turned or mirrored (their tag Orientation) and are turned upright")
        aspect = 1 / aspect if orientation in _TURNED else aspect
    stored_type = _STORED_TYPES[values.dtype.str[1:]]
    values = values.astype(np.float32)
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    return RawImage(np.ascontiguousarray(values), stored_type, aspect=aspect, remarks=tuple(remarks))


def _to_first_page(image: Image.Image) -> int:
    """Go to the first page of a TIFF that is neither a reduced copy of an image nor a mask; return how many precede it.

    Raises:
        Unreadable: there is none.
    """
    number = 0
    while (tags := getattr(image, "tag_v2", None)) is not None and _is_reduced(tags):
        try:
            number += 1
            image.seek(number)
        except EOFError:
            inside = ", and the image is in SubIFDs" if _SUB_IFDS in tags else ""
            raise Unreadable(
                f"its TIFF tag NewSubfileType says that it holds reduced copies or masks of an image alone{inside}: "
                f"{_SAVE_ANEW}"
            ) from None
    return number


def _is_reduced(tags: Mapping[int, Any]) -> bool:
    return bool(tags.get(_NEW_SUBFILE_TYPE, 0) & (_REDUCED | _MASK)) or tags.get(_SUBFILE_TYPE) == _OLD_REDUCED


def _orientation(image: Image.Image) -> int:
    """Return the orientation by EXIF's or TIFF's tag; 1, upright, if there is none or it cannot be read."""
    with contextlib.suppress(Exception):  # damaged EXIF data make Pillow raise SyntaxError, struct.error ...
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _aspect(image: Image.Image) -> float:
    """Return the height of a pixel divided by its width, by the resolution that the file gives; 1 without one.

    Raises:
        Unreadable: the resolution is impossible.
    """
    tags = getattr(image, "tag_v2", None)
    if tags is not None and not (X_RESOLUTION in tags and Y_RESOLUTION in tags):
        return 1.0  # Pillow takes a missing one for 1
    for name in ("dpi", "aspect", "resolution", "jfif_density"):
        aspect = 0.0
        with contextlib.suppress(Exception):  # values of any type: a fraction by 0 ...
            across, down = map(float, image.info[name])
            aspect = across / down
        if math.isfinite(aspect) and aspect > 0:
            if not 1 / _FLATTEST <= aspect <= _FLATTEST:
                raise Unreadable(
                    f"its resolution makes pixels more than {_FLATTEST} times as high as wide, or as wide as high: "
                    f"save it with the same dots per inch in both directions"
                )
            return aspect
    return 1.0


def _check_tags(tags: Mapping[int, Any]) -> None:
    """Raise Unreadable if Pillow reads a TIFF in spite of tags that it does not honor, or guesses those missing."""
    if PHOTOMETRIC_INTERPRETATION not in tags and tags.get(COMPRESSION) not in _JPEG_COMPRESSIONS:
        raise Unreadable(f"its TIFF tag PhotometricInterpretation is missing: {_SAVE_ANEW}")
    inverted = tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO
    lab = _PHOTOMETRICS.get(tags.get(PHOTOMETRIC_INTERPRETATION, 1), "").endswith("L*a*b*")
    if lab or (inverted and _sample_format(tags) == _FLOATING_POINT):
        raise Unreadable(_unsupported(tags))


def _by_tags(values: np.ndarray, tags: Mapping[int, Any]) -> np.ndarray:
    """Return a TIFF's values by its tags where Pillow ignores them: signed 8, unsigned 32 and inverted 16 bits."""
    sample_format = _sample_format(tags)
    if values.ndim == 2 and values.dtype == np.uint8 and sample_format == _SIGNED:
        return values.view(np.int8)
    if values.dtype == np.int32 and sample_format == _UNSIGNED:
        return values.view(np.uint32)
    if values.dtype == np.uint16 and tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
        return np.uint16(2**16 - 1) - values
    return values


def _sample_format(tags: Mapping[int, Any]) -> int:
    return tags.get(SAMPLEFORMAT, (_UNSIGNED,))[0]


def _unidentified(content: bytes) -> str:
    """Return the reason why Pillow does not recognize a file."""
    tags = _tiff_tags(content)
    return _unsupported(tags) if BITSPERSAMPLE in tags else "it is not an image of a known format"


def _unsupported(tags: Mapping[int, Any]) -> str:
    photometric, bits = tags.get(PHOTOMETRIC_INTERPRETATION, -1), tags.get(BITSPERSAMPLE, (1,))
    sample_format, compression = tags.get(SAMPLEFORMAT, (_UNSIGNED,)), tags.get(COMPRESSION, UNCOMPRESSED)
    named = [
        f"PhotometricInterpretation {_PHOTOMETRICS.get(photometric, 'unknown')}",
        f"SampleFormat {', '.join(_SAMPLE_FORMATS.get(value, 'unknown') for value in sample_format)}",
        f"BitsPerSample {', '.join(map(str, bits))}",
        *([f"Compression {_COMPRESSIONS[compression]}"] if compression in _COMPRESSIONS else []),
    ]
    return f"its TIFF tags are not supported together ({'; '.join(named)}): {_SAVE_ANEW}"


def _tiff_tags(content: bytes) -> Mapping[int, Any]:
    """Return the tags of a TIFF's first page; none if it is no TIFF or its tags are damaged."""
    if content.startswith(_TIFF_STARTS):
        with contextlib.suppress(Exception), warnings.catch_warnings():  # as in ``decode``
            warnings.simplefilter("ignore")
            big = content[2:4] in (b"+\0", b"\0+")
            tags = ImageFileDirectory_v2(content[: 16 if big else 8])
            stream = io.BytesIO(content)
            stream.seek(tags.next)
            tags.load(stream)
            return tags
    return {}


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
