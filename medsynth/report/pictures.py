"""Pictures embedded into the page as data URIs, within a number of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

TYPES = {b"\x89PNG": "png", b"RIFF": "webp"}
_OVERHEAD = 1.37  # factor of base64 and of the markup around it


class Pictures:
    """Data URIs of picture files.

    Files are embedded as they are; if these are too large together, they are compressed without loss, then with little
    loss, then at half the size; if they still do not fit, the last ones are left out.

    Args:
        paths: the files; unreadable ones are skipped.
        budget: bytes for all of them together.

    Attributes:
        remark: sentence that says what was done so that they fit; empty if nothing was.
    """

    def __init__(self, paths: Sequence[Path], budget: int):
        readable = {path: content for path in dict.fromkeys(paths) if (content := _read(path)) is not None}
        encoded, self.remark = readable, ""
        for remark, encode in _ENCODERS:
            encoded = {path: encode(content) for path, content in readable.items()}
            self.remark = remark
            if _OVERHEAD * sum(map(len, encoded.values())) <= budget:
                break
        self._uris = {path: _uri(content) for path, content in _fitting(encoded, budget)}
        if len(self._uris) < len(encoded):
            self.remark = f"{len(encoded) - len(self._uris)} pictures were left out to keep the file small."

    def get(self, path: Path | None) -> str | None:
        """Return the data URI of ``path``; None if it was left out or cannot be read."""
        return self._uris.get(path) if path else None


def evenly(paths: Sequence[Path], budget: int) -> list[Path]:
    """Return as many of ``paths`` as fit, evenly spaced, including the first and the last."""
    for count in range(len(paths), 1, -1):
        chosen = [paths[round(place * (len(paths) - 1) / (count - 1))] for place in range(count)]
        if _OVERHEAD * sum(path.stat().st_size for path in chosen) <= budget:
            return chosen
    return list(paths[-1:])


def _read(path: Path) -> bytes | None:
    """Return the content of a picture, as PNG or WebP; None if it is damaged, as in a run that was killed."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    return content if content[:4] in TYPES else _webp(quality=None)(content)


def _webp(quality: int | None, scale: float = 1.0) -> Callable[[bytes], bytes]:
    def encode(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with Image.open(io.BytesIO(content)) as image:
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            smaller = image.convert("RGB") if scale == 1 else image.convert("RGB").resize(size, Image.Resampling.BOX)
            smaller.save(buffer, "WEBP", lossless=quality is None, quality=80 if quality is None else quality, method=2)
        return buffer.getvalue()

    return encode


_ENCODERS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("", lambda content: content),
    ("", _webp(quality=None)),
    ("To keep the file small, pictures are compressed with a little loss.", _webp(quality=85)),
    ("To keep the file small, pictures are shown at half their size and compressed.", _webp(quality=75, scale=0.5)),
)


def _fitting(encoded: dict[Path, bytes], budget: int) -> Iterator[tuple[Path, bytes]]:
    left = float(budget)
    for path, content in encoded.items():
        left -= _OVERHEAD * len(content)
        if left >= 0:
            yield path, content


def _uri(content: bytes) -> str:
    return f"data:image/{TYPES[content[:4]]};base64,{base64.b64encode(content).decode()}"
