"""The preview of a data set as lines for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medsynth.terminal import line_width, table

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
_SHADES = " .:-=+*#@"  # plain ASCII, for terminals of any encoding
_WIDTH = 50  # characters of a histogram
_TITLE = 12  # characters in front of each line of a section
_LINE = 106  # characters of a sentence in one line
_LISTED = 5  # duplicates or image sizes that are listed


def data_text(record: Mapping[str, Any], *, remarks: Sequence[str]) -> str:
    """Format the record of ``medsynth data`` and ``remarks`` about its images; missing entries are skipped."""
    lines = [record["description"], "", *_table(record), ""]
    for title, content in _sections(record, remarks):
        for number, line in enumerate(content):
            lines.append(f"{title if number == 0 else '':{_TITLE - 1}} {line}")
    return "\n".join(lines)


def _table(record: Mapping[str, Any]) -> list[str]:
    """Format numbers of images by class and split, with totals, and numbers of patients by split."""
    splits = list(record["images"])
    rows = [["", *(SPLIT_NAMES[name] for name in splits), "total"]]
    for name, counts in {**record["classes"], "images": record["images"]}.items():
        rows.append([name, *(f"{counts[split]:,}" for split in splits), f"{sum(counts.values()):,}"])
    if record.get("patients"):
        counts = record["patients"]
        rows.append(["patients", *(f"{counts[split]:,}" for split in splits), f"{counts['all']:,}"])
    return table(rows[0], rows[1:])


def _sections(record: Mapping[str, Any], remarks: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    if "roles" in record:
        yield "read as", _wrapped([record["roles"]])
    if "test" in record:
        yield "test images", [f"{record['images'].get('test', 0):,}: {record['test']}"]
    shape, intensity = record["shape"], record["intensity"]
    after = f"{shape[2]}x{shape[1]} pixels, {shape[0]} channel{'s' * (shape[0] > 1)}"
    yield "size", [f"{_sizes(record['sizes'])} -> {after}" if "sizes" in record else after]
    spacing = record["spacing"]
    yield "spacing", ["not known" if spacing is None else f"{spacing[0]:.3g} x {spacing[1]:.3g} mm per pixel"]
    if "stored_types" in record:
        yield "stored as", [_counted(record["stored_types"])]
    yield "intensity", list(_intensity(intensity))
    for name in ("before", "after"):
        if intensity[name]:
            yield name, [_histogram(intensity[name])]
    if record.get("left_out"):
        yield "left out", [f"{reason}: {count:,}" for reason, count in record["left_out"].items()]
    if remarks:
        yield "remarks", _wrapped(remarks)
    if "duplicates" in record:
        yield from _duplicates(record["duplicates"])
    if "cache" in record:
        yield "cache", [f"{record['cache']['folder']} ({record['cache']['bytes'] / 2**20:,.1f} MiB)"]


def _wrapped(sentences: Sequence[str]) -> list[str]:
    """Break sentences that are longer than a line."""
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(sentence, line_width(_LINE + _TITLE) - _TITLE, break_long_words=False)
    ]


def _sizes(sizes: Mapping[str, int]) -> str:
    frequent = sorted(sizes, key=sizes.__getitem__, reverse=True)[:_LISTED]
    others = len(sizes) - len(frequent)
    return _counted({size: sizes[size] for size in frequent}) + (f" and {others:,} other sizes" if others else "")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def _intensity(intensity: Mapping[str, Any]) -> Iterator[str]:
    yield f"{intensity['low']:g} to {intensity['high']:g} {intensity['unit']} become -1 to 1"
    if intensity["percent_below"] is not None:
        yield f"clipped: about {intensity['percent_below']:.1f} % below, {intensity['percent_above']:.1f} % above"


def _histogram(histogram: Mapping[str, Any]) -> str:
    """Draw a histogram in one line: darker characters are more pixels, by the square root of their number."""
    counts = histogram["counts"]
    step = -(-len(counts) // _WIDTH)
    sums = [sum(counts[start : start + step]) for start in range(0, len(counts), step)]
    highest = max(sums)
    shades = "".join(_SHADES[-(-round(8000 * (count / highest) ** 0.5) // 1000)] for count in sums)
    return f"{histogram['low']:g} [{shades}] {histogram['high']:g}"


def _duplicates(found: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    exact, near = found["exact"], found.get("near")
    lines = [
        f"groups: {exact['groups']:,}, images in them: {exact['images']:,}, "
        f"groups across splits: {exact['groups_across_splits']:,}"
    ]
    if exact["dropped"]:
        lines.append(f"dropped by data.drop_duplicates=true: {exact['dropped']:,}")
    yield "copies", lines + [f"  {_group(group)}" for group in exact["first"][:_LISTED]]
    if near is None:
        return
    lines = [
        f"pairs: {near['pairs']:,}, images in them: {near['images']:,}, pairs across splits: "
        f"{near['pairs_across_splits']:,} (at most {near['distance']} of 256 bits differ)",
    ]
    if near["pairs_within_patient"] is not None:
        within = near["pairs_within_patient"]
        lines.append(f"pairs within a patient: {within:,}, others: {near['pairs'] - within:,}")
    if near["held_out_images_near_training"]:
        lines.append(f"held-out images with a near copy in training: {near['held_out_images_near_training']:,}")
    for pair in near["first"][:_LISTED]:
        lines.append(f"  {' ~ '.join(map(_shown, pair['images']))}: {pair['bits']} bits")
    yield "near copies", lines


def _group(images: Sequence[Mapping[str, Any]]) -> str:
    others = len(images) - _LISTED
    return " = ".join(map(_shown, images[:_LISTED])) + (f" and {others:,} others" if others > 0 else "")


def _shown(image: Mapping[str, Any]) -> str:
    return f"{image['file']} ({SPLIT_NAMES[image['split']]})"
