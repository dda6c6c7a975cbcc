"""The preview of a data set as one HTML page, which shows patients' images and is for this machine alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from medsynth.files import replacing
from medsynth.report.data_text import SPLIT_NAMES
from medsynth.report.figures import COLORS, Figure, number, plain
from medsynth.report.page import render_page
from medsynth.report.points import drawable

PAGE = "data.html"
_BARS = 100  # of a histogram
_SIZES = 12  # image sizes that are listed
_GAP = 2  # pixels between images


@dataclass(frozen=True)
class SameImages:
    """Images that are copies of each other, or nearly.

    Attributes:
        images: (N, C, H, W) in [-1, 1].
        names: of their files, or numbers of these.
        splits: of each.
        bits: in which the hashes of a pair differ; None: they are equal.
    """

    images: np.ndarray
    names: tuple[str, ...]
    splits: tuple[str, ...]
    bits: int | None = None


def write_data_page(
    path: Path,
    record: Mapping[str, Any],
    *,
    remarks: Sequence[str],
    advice: str,
    sheet: Path,
    same: Sequence[SameImages] = (),
) -> None:
    """Write the page.

    Args:
        path: of the page.
        record: of ``medsynth data``.
        remarks: about the images.
        advice: sentence for a data set of this size; "": none.
        sheet: picture of images by class.
        same: copies and near copies to be shown.
    """
    figures = dict(_histograms(record["intensity"]))
    content = {
        "record": record,
        "splits": [(name, SPLIT_NAMES[name]) for name in record["images"]],
        "counts": list(_counts(record)),
        "shape": "{2} x {1} pixels, {0} channel{3}".format(*record["shape"], "s" * (record["shape"][0] > 1)),
        "sizes": _sizes(record.get("sizes") or {}),
        "remarks": [*remarks, *([f"Test images: {record['test']}."] if record.get("test") else [])],
        "advice": f"{advice[:1].upper()}{advice[1:]}",
        "sheet": _uri(sheet.read_bytes()),
        "charts": [
            {"id": key, "title": figure["title"], "remark": figure["remark"], "text": ""}
            for key, figure in figures.items()
        ],
        "same": [_shown(group) for group in same],
        "duplicates": record.get("duplicates") or {},
        "next": "medsynth start data.root=...",
    }
    html = render_page("data.html", content, {key: figure["figure"] for key, figure in figures.items()})
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _counts(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield rows of the table of counts: classes, all images, patients."""
    splits = list(record["images"])
    for name, counts in record["classes"].items():
        yield {"name": name, "counts": [counts[split] for split in splits], "total": sum(counts.values())}
    images = record["images"]
    yield {"name": "images", "counts": [images[split] for split in splits], "total": sum(images.values())}
    patients = record.get("patients")
    if patients:
        yield {"name": "patients", "counts": [patients[split] for split in splits], "total": patients["all"]}


def _sizes(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    frequent = sorted(sizes, key=sizes.__getitem__, reverse=True)
    rows = [(size, sizes[size]) for size in frequent[:_SIZES]]
    rest = sum(sizes[size] for size in frequent[_SIZES:])
    return rows + ([(f"{len(frequent) - _SIZES} other sizes", rest)] if rest else [])


def _histograms(intensity: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    window = f"{intensity['low']:g} to {intensity['high']:g} {intensity['unit']} become -1 to 1."
    if intensity.get("percent_below") is not None:
        window += f" About {intensity['percent_below']:.1f} % are below and {intensity['percent_above']:.1f} % above."
    if intensity.get("before"):
        before = intensity["before"]
        ends = (intensity["low"], intensity["high"]) if before.get("unit") == intensity["unit"] else None
        figure = _histogram(before, f"intensity ({before.get('unit') or 'stored value'})", ends)
        yield "before", {"title": "Intensities as stored", "remark": window, "figure": figure}
    if intensity.get("after"):
        remark = "What the networks see. " + ("" if intensity.get("before") else window)
        figure = _histogram(intensity["after"], "value", None)
        yield "after", {"title": "Intensities of prepared images", "remark": remark, "figure": figure}


def _histogram(histogram: Mapping[str, Any], label: str, window: tuple[float, float] | None) -> Figure:
    counts = np.asarray(histogram["counts"], dtype=np.float64)
    step = max(1, -(-len(counts) // _BARS))
    sums = np.add.reduceat(counts, range(0, len(counts), step))
    shares = sums / max(sums.sum(), 1)
    places = np.linspace(histogram["low"], histogram["high"], len(shares) + 1)[:-1]
    chart = go.Figure()
    chart.add_scatter(
        x=[number(float(place)) for place in places],
        y=[number(float(share)) if share > 0 else None for share in shares],
        mode="lines",
        line={"shape": "hv", "color": COLORS[0], "width": 1.4},
        name="share of pixels",
    )
    for end in window or ():
        chart.add_vline(x=end, line={"dash": "dot", "width": 1, "color": COLORS[1]})
    scale = {"type": "log", "exponentformat": "power", "dtick": 1, "title": "share of pixels"}
    chart.update_layout(xaxis_title=label, yaxis=scale, showlegend=False)
    return plain(chart)


def _shown(group: SameImages) -> dict[str, Any]:
    across = len(set(group.splits)) > 1
    kind = "equal" if group.bits is None else f"{group.bits} of 256 bits differ"
    files = "; ".join(f"{name} ({SPLIT_NAMES[split]})" for name, split in zip(group.names, group.splits, strict=True))
    return {"uri": _uri(_png(group.images)), "caption": f"{kind}: {files}", "across": across}


def _png(images: np.ndarray) -> bytes:
    """Draw images side by side."""
    images = (np.clip(drawable(images), -1, 1) + 1) / 2
    height, width = images.shape[2:]
    canvas = np.ones((height, len(images) * (width + _GAP) - _GAP, 3))
    for place, image in enumerate(images):
        colored = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
        canvas[:, place * (width + _GAP) : place * (width + _GAP) + width] = colored.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray((canvas * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
