"""``medsynth start``: look at a data set and at the machine, and propose a training, with reasons, time and memory."""

from __future__ import annotations

import os
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from medsynth.backbone.availability import MEASURED, location
from medsynth.configuration.compose import compose
from medsynth.configuration.plain_values import text_value
from medsynth.data.captured_warnings import captured_warnings
from medsynth.data.files import ImageFiles
from medsynth.data.module import ImageDataModule
from medsynth.data.preview import preview
from medsynth.errors import InputError
from medsynth.finalize import finalize
from medsynth.lightning.libraries import quiet_libraries
from medsynth.planning.estimate import Row, estimate
from medsynth.planning.link import Link
from medsynth.planning.measure import measure
from medsynth.planning.plan_text import size
from medsynth.presets.proposal import (
    MAX_IMAGES,
    SHARE_OF_TRAINING,
    DataSummary,
    images_in,
    length_options,
    propose,
)
from medsynth.report.data_text import SPLIT_NAMES

PACKAGED = "tf_efficientnet_lite0"  # the backbone of experiment=small_data
LEAST_IMAGES = 6_000  # that measured rows of experiment=small_data had seen (docs/presets.md)
STEPS = 3  # that are timed at each of two batch sizes
LINE = 106
HOUNSFIELD = "HU"
_SIMPLE = re.compile(r"[\w./-]*[A-Za-z_/][\w./-]*")  # text that Hydra reads without quotes


def run(config: DictConfig) -> None:
    """Print the proposal; with ``run=true`` become the training."""
    if config.minutes is not None and not (isinstance(config.minutes, int | float) and config.minutes > 0):
        raise InputError(f"minutes={config.minutes} must be a number above 0, or null.")
    quiet_libraries()
    data = instantiate(config.data, _convert_="all")
    with captured_warnings() as warnings:
        data.prepare(for_training=False)
    record = preview(data, near_distance=None)
    typed = [option for option in HydraConfig.get().overrides.task if option.startswith(("data=", "data."))]
    keys = {key: value for key, _, value in (option.partition("=") for option in typed)}
    has_window = config.data.get("window") is not None or config.data.get("intensity_range") is not None
    summary = _summary(record, data, has_window=has_window)
    proposal = propose(summary, aim=config.aim, has_packaged=location(PACKAGED) == "packaged", typed=keys)
    chosen = [option for option in proposal.options if not option.startswith("data.")]
    options = [*chosen, *map(_plain, typed), *(option for option in proposal.options if option not in chosen)]
    _print("images", [f"{data.description}: {_counts(record)}", *_about_images(record)])
    remarks = [warning.getMessage() for warning in warnings if not getattr(warning, "left_out", False)]
    _print("remarks", [text for text in remarks if "data.val_fraction" not in text])
    _print("machine", [_machine(), _weights()])
    for title, reason in proposal.reasons:
        _print(title, [reason])
    options += _length(config, options)
    _print("\ncommand", [shlex.join(["python", "train.py", *options])], wrap=False)
    if config.run:
        # In the place of this process, whose libraries and images would take memory beside the training's.
        os.execv(sys.executable, [sys.executable, "-m", "medsynth", "train", *options])
    _print("next", ["type it, or the same medsynth start with run=true; then medsynth verdict run=outputs/..."])


def _plain(option: str) -> str:
    """Take Hydra's quotes off a simple path, which were added to what was typed."""
    key, _, _ = option.partition("=")
    text = text_value(option)
    return f"{key}={text}" if text and _SIMPLE.fullmatch(text) else option


def _print(title: str, sentences: Sequence[str], *, wrap: bool = True) -> None:
    lines = [line for text in sentences for line in (textwrap.wrap(text, LINE) if wrap else [text])]
    for number, line in enumerate(lines):
        print(f"{title if number == 0 else '':12}{line}", flush=True)


def _summary(record: Mapping[str, Any], data: ImageDataModule, *, has_window: bool) -> DataSummary:
    sides = [min(map(int, name.split("x"))) for name, count in record.get("sizes", {}).items() for _ in range(count)]
    source = data.source
    patients = record.get("patients")
    return DataSummary(
        images=sum(record["images"].values()),
        given_splits=isinstance(source, ImageFiles) and bool(source.given_splits),
        classes={name: sum(counts.values()) for name, counts in record["classes"].items()},
        patients=patients["all"] if patients else None,
        smallest_side=int(np.median(sides)) if sides else None,
        hounsfield=data.intensity.unit == HOUNSFIELD and not has_window,
    )


def _counts(record: Mapping[str, Any]) -> str:
    splits = ", ".join(f"{count:,} {SPLIT_NAMES[name]}" for name, count in record["images"].items())
    return f"by default {splits}"


def _about_images(record: Mapping[str, Any]) -> Iterator[str]:
    if "sizes" in record:
        yield f"pixels: {_frequent(record['sizes'])}; stored as {_frequent(record['stored_types'])}"
    intensity, spacing = record["intensity"], record["spacing"]
    values = f"values: {intensity['low']:g} to {intensity['high']:g} {intensity['unit']} become -1 to 1"
    yield values + ("" if spacing is None else f"; {spacing[0]:.3g} x {spacing[1]:.3g} mm per pixel")
    if "roles" in record:
        yield record["roles"]


def _frequent(counts: Mapping[str, int]) -> str:
    names = sorted(counts, key=lambda name: -counts[name])
    others = f" and {len(names) - 3:,} others" if len(names) > 3 else ""
    return ", ".join(f"{name} ({counts[name]:,})" for name in names[:3]) + others


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        return f"{torch.cuda.device_count()} x {device.name}, {size(device.total_memory)}; {cores} processor cores"
    return f"no GPU: the processor's {cores} cores"


def _weights() -> str:
    at_hand = [row["backbone"] for row in MEASURED if location(row["timm model"]) in ("packaged", "cached")]
    return f"ImageNet weights at hand: {', '.join(at_hand) or 'none'}; medsynth weights shows how others are fetched"


def _length(config: DictConfig, options: Sequence[str]) -> tuple[str, ...]:
    """Measure a few steps, print time and memory, and return the options of the length."""
    if not config.measure and config.minutes is None:
        return ()
    print("Measuring a few training steps ...", file=sys.stderr, flush=True)
    row = _measured(options, config.seed)
    speed = row.images_per_second
    count = MAX_IMAGES if config.minutes is None else images_in(config.minutes, speed)
    minutes = count / speed / 60 / SHARE_OF_TRAINING
    hint = "" if config.minutes else "; minutes= proposes another length"
    if count < LEAST_IMAGES:
        hint = f", fewer than the {LEAST_IMAGES:,} of the measured presets: expect worse images, or give more minutes"
    _print(
        "length",
        [
            f"{count:,} images, about {_duration(minutes)} at the {speed:.0f} images/s measured here, with validations"
            f"{hint}. The doctor says at the end whether more would help.",
        ],
    )
    _print("memory", [f"{size(row.memory)} of tensors, measured, beside about 1 GiB for the libraries"])
    return length_options(count)


def _measured(options: Sequence[str], seed: int) -> Row:
    """Return the estimate of a training with ``options`` on one device."""
    config = compose("train", [*options, f"seed={seed}"])
    data = instantiate(config.data, _convert_="all")
    with captured_warnings():
        data.prepare()
        config = finalize(config, data)
        batch = data.batch_size
        measurement = measure(config, data, (max(2, batch // 2), batch), STEPS)
    link = Link(bandwidth=1.0, latency=0.0, measured=False)  # between devices, of which there is one
    accumulate = config.task.accumulate
    found = estimate(
        measurement, link, devices=[1], batch=batch, accumulate=accumulate, max_images=MAX_IMAGES, limit=None
    )
    return found.rows[0]


def _duration(minutes: float) -> str:
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
