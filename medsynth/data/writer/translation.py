"""The properties of a translated series, and the methods of its writer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pydicom.uid import generate_uid
from torch import Tensor

from medsynth.contracts import Intensity


@dataclasses.dataclass(frozen=True)
class Translation:
    """The properties that all slices of a translated series share.

    Attributes:
        intensity: the way from [-1, 1] to physical units.
        modality: DICOM's code of the targets that the translator was trained on; "" where it is not known.
        channels: of the slices.
        made_by: the origin, as one phrase that fits into any header.
        identity: whether files tell the patient and the study of the source.
        kind: what is shown, such as "translation" or "standard deviation of 5 samples".
        number: of the series among those of one source.
        uids: UID of the source -> UID in its place, the same for the same; for files without an identity.
    """

    intensity: Intensity
    modality: str
    channels: int
    made_by: str
    identity: bool
    kind: str
    number: int
    uids: Callable[[str], str]


def new_uids() -> Callable[[str], str]:
    """Return a map from UIDs to new ones, the same for the same."""
    return functools.cache(lambda original: generate_uid(prefix=None))


class SeriesWriter(Protocol):
    """A writer of one series, made with a path without an ending, the source and the translation.

    Attributes:
        path: the file or folder that is written.
        stored: see ``data.writer.base.Writer``.
    """

    path: Path
    stored: dict[str, Any]

    def add(self, number: int, image: Tensor) -> None:
        """Write slice ``number``, float64 (C, H, W) in [-1, 1]; slices come in the order of their numbers."""

    def close(self) -> None:
        """Write what is about all slices, after the last one."""
