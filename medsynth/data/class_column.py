"""Recognition of columns of a table that hold no classes: measured values, several labels in one, names of images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_MOST_NUMBERS = 20  # different whole numbers that may be classes
_MOST_FRACTIONS = 10  # different numbers with a fraction
_SINGLE = 20  # labels from which on they have to repeat
_VECTOR = re.compile(r"[\[{]|\([^)]*[,;]|[-+.0-9]+(?:[ ,;|]+[-+.0-9]+)+$")
_SURE_SEPARATORS = "|;"  # others may be parts of a name, as in "left/right"
_SEPARATORS = ",/+&"


def no_classes(labels: Sequence[str]) -> str:
    """Return why these labels are no classes and what to do, as a predicate without a value of the table; else ""."""
    counts = Counter(labels)
    numbers = [value for value in map(_number, counts) if value is not None]
    if any(map(_VECTOR.match, counts)):
        return "holds several values for an image: write the one that is to be its class into a column of its own"
    if len(numbers) == len(counts) and counts:
        if len(set(numbers)) < len(numbers):
            return "writes one number in several ways, as 1, 01 and 1.0: write each class in one way"
        limit = _MOST_NUMBERS if all(value.is_integer() for value in numbers) else _MOST_FRACTIONS
        if len(numbers) > limit:
            return (
                f"holds {len(numbers)} different numbers, which are measured values and no classes: group them into a "
                f"few classes in a column of its own, or write them as words, such as grade7"
            )
    if len({label.casefold() for label in counts}) < len(counts):
        return "has labels that differ in upper and lower case alone: write each class in one way"
    if _several(counts):
        return "holds several labels for an image: write the one that is to be its class into a column of its own"
    if len(labels) >= _SINGLE and len(counts) > len(labels) / 2:
        return f"holds {len(counts)} different labels for {len(labels)} images: name a column of classes"
    return ""


def _number(label: str) -> float | None:
    return float(label) if re.fullmatch(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", label) else None


def _several(labels: Counter[str]) -> bool:
    """Return whether labels are lists of labels: parts of one are parts of others, or for some separators alone."""
    for separator in _SURE_SEPARATORS + _SEPARATORS:
        lists = {label: {part.strip() for part in label.split(separator)} for label in labels if separator in label}
        occurrences = Counter(part for parts in lists.values() for part in parts)
        occurrences.update(label for label in labels if label not in lists)
        alone = set(labels) - set(lists)
        for parts in lists.values():
            shared = {part for part in parts if occurrences[part] > 1}
            if (separator in _SURE_SEPARATORS and shared) or len(shared & alone) > 1:
                return True
    return False
