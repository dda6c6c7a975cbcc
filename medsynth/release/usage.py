"""The use of a generator in plain values, which stands in the metadata of every exported file."""

from __future__ import annotations

from typing import Any

import medsynth
from medsynth.release.run_record import RunRecord


def usage(record: RunRecord) -> dict[str, Any]:
    """Return the meaning of inputs and outputs: units, spacing, classes, and where the generator comes from."""
    generator, card = record.generator, record.generator.card
    low, high = generator.intensity.low, generator.intensity.high
    shape = [generator.channels, generator.image_size, generator.image_size]
    return {
        "synthetic": True,
        "noise": f"float32 (N, {generator.network.latent_dim}), standard normal",
        "labels": f"int64 (N,), from 0 to {len(generator.class_names) - 1}" if generator.class_names else None,
        "class_names": list(generator.class_names),
        "images": f"float32 (N, {', '.join(map(str, shape))}) in [-1, 1]",
        "intensity": {
            "low": low,
            "high": high,
            "unit": generator.units,
            "to_unit": f"{low!r} + (images + 1) / 2 * {high - low!r}",
        },
        "spacing": card["spacing"],  # millimeters from row to row, and from column to column
        "modality": card["modality"],
        "medsynth": medsynth.__version__,
        "generator_sha256": record.sha256,
    }
