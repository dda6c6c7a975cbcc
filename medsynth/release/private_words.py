"""Texts and options of a run without what may name a person: paths, names of folders, words that are not known."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medsynth.configuration.private_paths import HIDDEN, text_without
from medsynth.data.geometry import RESIZES
from medsynth.data.intensity import METHODS, WINDOWS

OWN = "(a class of the user's own)"
_LIBRARIES = ("medsynth.", "torch.", "pytorch_lightning.", "timm.", "monai.")
_OF_OPTIONS = re.compile(r"[A-Za-z0-9_.+-]{1,60}")
_OF_PLACES = re.compile(r"(?:.*_)?(?:root|weights|table|path|file|folder|dir|store|uri|url|name|project|entity|tags)s?")
# Choices of weights that are words of medsynth and no files.
_WEIGHTS = ("auto", "embedded", "none", "packaged", "pretrained", "published", "random", "imagenet")
_IN_USE = (
    "AR BI BMD CR CT DG DX ECG EPS ES GM HD IO IVOCT IVUS KER LS MA MG MR NM OCT OP OPM OPT OPV OT PT PX RF RG SM TG "
    "US XA XC"
)
_MODALITIES = frozenset(_IN_USE.split())  # DICOM PS3.3, C.7.3.1.1.1
_UNIT = re.compile(r"[A-Za-zµ%0-9/^*. -]{1,16}")
_SHORTEST = 3
_OF_PREPARATION = frozenset((*RESIZES, *METHODS, *WINDOWS, "data_set", "image"))  # values of options that are words


class PrivateWords:
    """The paths that a run's configuration names, whatever ``data.show_paths`` allows in the run itself.

    Args:
        config: of the run, resolved.
        folder: of the run.
        renamed: other words that no text may hold, names of classes, and what stands in their place.
    """

    def __init__(self, config: Mapping[str, Any], folder: Path, renamed: Mapping[str, str] | None = None):
        self._renamed = dict(renamed or {})
        self._hidden = dict(_paths(config, ""))
        # Keys that are no options: "medsynth audit run=... measures it" stays.
        self._hidden |= {"(folder of the run)": str(folder.absolute()), "(home)": str(Path.home())}

    def removed(self, text: str) -> str:
        """Return ``text`` in one line, without the paths, the names of their folders and the renamed words."""
        text = text_without(" ".join(text.split()), self._hidden)
        if not self._renamed:
            return text
        words = "|".join(re.escape(word) for word in sorted(self._renamed, key=len, reverse=True))
        return re.sub(rf"(?<!\w)(?:{words})(?!\w)", lambda found: self._renamed[found[0]], text)

    def in_text(self, content: bytes) -> bool:
        """Tell whether one of the paths stands in ``content`` as a whole."""
        return any(path.encode() in content for path in self._hidden.values() if os.sep in path.strip(os.sep))


def known_modality(modality: Any) -> str:
    """Return DICOM's code of a modality; "" for any other text, which a tag may hold."""
    return modality if modality in _MODALITIES else ""


def known_unit(unit: Any) -> str:
    """Return the name of a unit, or ``stored value`` for a text that is none."""
    return unit if isinstance(unit, str) and _UNIT.fullmatch(unit) else "stored value"


def plain_options(node: Any, name: str = "") -> Any:
    """Return options without the texts that could name a place or a person: numbers, flags and plain words stay."""
    if isinstance(node, Mapping):
        kept = {
            str(key): plain_options(value, str(key)) for key, value in node.items() if _OF_OPTIONS.fullmatch(str(key))
        }
        return {key: value for key, value in kept.items() if value != HIDDEN}
    if isinstance(node, list | tuple):
        return [plain_options(item, name) for item in node]
    if not isinstance(node, str):
        return node if node is None or isinstance(node, bool | int | float) else HIDDEN
    if name == "_target_":
        return node if node.startswith(_LIBRARIES) else OWN
    if _OF_PLACES.fullmatch(name) and name != "model_name":
        return node if node in _WEIGHTS else HIDDEN
    return node if _OF_OPTIONS.fullmatch(node) else HIDDEN


def numbers_alone(node: Any) -> Any:
    """Return the numbers and flags at and below ``node``, with the keys above them; None where there is none."""
    if isinstance(node, Mapping):
        kept = {str(key): numbers_alone(value) for key, value in node.items() if _OF_OPTIONS.fullmatch(str(key))}
        return {key: value for key, value in kept.items() if value is not None} or None
    if isinstance(node, list | tuple):
        return list(node) if node and all(isinstance(item, bool | int | float) for item in node) else None
    return node if isinstance(node, bool | int | float) else None


def public_statistics(statistics: Any) -> dict[str, Any] | None:
    """Return the numbers and known words of a translator's ``source_statistics``, by which sources are recognized."""
    if not isinstance(statistics, Mapping):
        return None
    prepared: dict[str, Any] = {}
    for name in ("geometry", "normalization"):
        options = statistics.get(name)
        kept = options if isinstance(options, Mapping) else {}
        words = {key: value for key, value in kept.items() if isinstance(value, str) and value in _OF_PREPARATION}
        prepared[name] = {**(numbers_alone(kept) or {}), **words} if kept else None
    modality = known_modality(statistics.get("modality"))
    return {**(numbers_alone(statistics) or {}), **prepared, "modality": modality}


def _paths(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield keys and values of the strings that are paths or stand where one belongs, and of their folders' names."""
    items: Any = ()
    if isinstance(node, Mapping):
        items = node.items()
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    elif isinstance(node, str) and _is_path(node, key):
        yield key, node
        for number, part in enumerate(Path(node).parts):
            if len(part) >= _SHORTEST:
                yield f"{key}#{number}", part
    for name, value in items:
        if name not in ("_target_", "overrides"):
            yield from _paths(value, f"{key}.{name}" if key else str(name))


def _is_path(text: str, key: str) -> bool:
    block, _, rest = key.partition(".")
    if block == "data" and _OF_PLACES.fullmatch(rest.rpartition(".")[2]) and text not in _WEIGHTS:
        return True
    return (os.sep in text.strip(os.sep) or "\\" in text) and not text.startswith(("val/", "train/", "test/"))
