"""Errors about the user's data files, and the reasons why a file or a part of one is left out."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable

from medsynth.errors import EndCode, InputError


class DataError(InputError):
    """The user's data files cannot be used as they are. The message says which ones and what to do about it."""

    code = EndCode.DATA_ERROR


class ReasonKind(enum.StrEnum):
    """The kinds of reasons why something is left out. Programs branch on these and never on the text."""

    NOT_AN_IMAGE = "not_an_image"  # a text file, a DICOMDIR: nothing is lost
    NOT_SELECTED = "not_selected"  # an option excludes it
    UNMATCHED = "unmatched"  # its label volume, partner, class or row in the table is missing
    NO_CONTENT = "no_content"  # an image of one single value, an empty slice
    UNSUPPORTED = "unsupported"  # a video, or a compression that no decoder reads
    UNSAFE = "unsafe"  # a link, an encrypted file, a name that leads out of its archive
    DAMAGED = "damaged"


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why a file, or a part of one, is left out: a kind for programs and a text for people.

    The text holds neither the file's name nor anything that is written in the file.
    """

    kind: ReasonKind
    text: str

    def __str__(self) -> str:
        return self.text


NOT_AN_IMAGE_NAME = Reason(ReasonKind.NOT_AN_IMAGE, "not an image (by the ending of its name)")


class Unreadable(Exception):
    """A file cannot be used.

    Args:
        text: the reason, without the file's name and without anything that is written in the file.
        kind: the kind of reason.
    """

    def __init__(self, text: str, kind: ReasonKind = ReasonKind.DAMAGED) -> None:
        super().__init__(text)
        self.reason = Reason(kind, text)


def check_choice(option: str, value: object, choices: Iterable[str]) -> None:
    """Raise InputError unless ``value`` is one of the choices."""
    choices = tuple(choices)
    if value not in choices:
        raise InputError(f"{option}={value} is not possible: choose {', '.join(choices[:-1])} or {choices[-1]}.")


def check_least(option: str, value: float, least: float) -> None:
    """Raise InputError if ``value`` is below ``least``."""
    if value < least:
        raise InputError(f"{option}={value} is too small: {least} or more.")
