"""Estimates of memory, time and traffic on several devices, computed from steps measured on one.

The time of a step and its memory are assumed to be linear in the batch size, through two measured sizes. Processes
average their gradients once for each update, after computing (medsynth/lightning/distributed.py), so the time of the
exchange is added to that of computing. All-reduce on a ring sends 2 (N - 1) / N times the payload from each of N
devices (Patarasu and Yuan 2009, Journal of Parallel and Distributed Computing 69).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from medsynth.planning.link import Link
from medsynth.planning.measure import Measurement

_BUCKET = 32 * 2**20  # bytes that medsynth.lightning.distributed copies and sends at a time


@dataclass(frozen=True)
class Line:
    """A straight line ``start + slope * x``."""

    start: float
    slope: float

    def at(self, x: float) -> float:
        """Return the value at ``x``."""
        return self.start + self.slope * x


def line_through(first: tuple[float, float], second: tuple[float, float]) -> Line:
    """Return the line through two points; never decreasing and never below zero, which only noise can cause."""
    (x1, y1), (x2, y2) = sorted((first, second))
    slope = max(0.0, (y2 - y1) / (x2 - x1))
    if y2 - slope * x2 < 0:
        return Line(0.0, y2 / x2)
    return Line(y2 - slope * x2, slope)


@dataclass(frozen=True)
class Row:
    """The estimate for one number of devices.

    Attributes:
        devices: their number.
        share: images of a batch for each device.
        memory: bytes on each device.
        fits: the memory is enough; None: its size is not known.
        accumulate: the smallest ``task.accumulate`` with which it fits; None: not needed, or not possible.
        computing: seconds of a step without the exchange.
        exchanging: seconds of the exchange in a step.
        sent: bytes that each device sends in a step.
        images_per_second: of all devices together.
        speedup: relative to one device.
        hours: of the whole training, without validation.
        beyond: ``share`` is outside of the measured batch sizes.
    """

    devices: int
    share: int
    memory: float
    fits: bool | None
    accumulate: int | None
    computing: float
    exchanging: float
    sent: float
    images_per_second: float
    speedup: float
    hours: float
    beyond: bool


@dataclass(frozen=True)
class Estimates:
    """All estimates of a plan.

    Attributes:
        memory: bytes by images of a microbatch.
        computing: seconds of a step by images of its batch.
        rows: one for each number of devices.
    """

    memory: Line
    computing: Line
    rows: tuple[Row, ...]


def estimate(
    measurement: Measurement,
    link: Link,
    *,
    devices: list[int],
    batch: int,
    accumulate: int,
    max_images: int,
    limit: float | None,
) -> Estimates:
    """Estimate a training on each number of ``devices``.

    Args:
        measurement: steps on one device.
        link: between the devices.
        devices: numbers of devices.
        batch: images of a batch, all devices together.
        accumulate: microbatches of each device's share.
        max_images: length of the training.
        limit: bytes of memory of each device; None: not known.
    """
    small, large = measurement.steps
    memory = line_through((small.microbatch, small.peak), (large.microbatch, large.peak))
    computing = line_through((small.batch, small.seconds), (large.batch, large.seconds))
    alone = computing.at(batch)
    rows = []
    for count in devices:
        share = batch // count
        needed = memory.at(math.ceil(share / accumulate)) + (_copy(measurement) if count > 1 else 0)
        compute, exchange = computing.at(share), exchange_seconds(measurement, link, count)
        fits = None if limit is None else needed <= limit
        fitting = None if limit is None or fits else fitting_accumulate(memory, limit, needed, share, accumulate)
        rows.append(
            Row(
                devices=count,
                share=share,
                memory=needed,
                fits=fits,
                accumulate=fitting,
                computing=compute,
                exchanging=exchange,
                sent=sent_bytes(measurement, count),
                images_per_second=batch / (compute + exchange),
                speedup=alone / (compute + exchange),
                hours=max_images / batch * (compute + exchange) / 3600,
                beyond=not min(small.batch, large.batch) <= share <= max(small.batch, large.batch),
            )
        )
    return Estimates(memory, computing, tuple(rows))


def payload(measurement: Measurement) -> float:
    """Return the bytes that the devices average in a step: gradients of both networks, and batch statistics."""
    discriminator, generator = (
        4 * sum(measurement.gradients[network]) + measurement.statistics[network]
        for network in ("discriminator", "generator")
    )
    return discriminator + generator / measurement.discriminator_steps


def sent_bytes(measurement: Measurement, devices: int) -> float:
    """Return the bytes that each device sends, and receives, in a step."""
    return 2 * (devices - 1) / devices * payload(measurement)


def exchanges(measurement: Measurement) -> float:
    """Count the all-reduces of a step: gradients in buckets, batch statistics and logged numbers of each network."""
    counts = {
        network: math.ceil(4 * sum(sizes) / _BUCKET) + (measurement.statistics[network] > 0) + 1
        for network, sizes in measurement.gradients.items()
    }
    return counts["discriminator"] + counts["generator"] / measurement.discriminator_steps


def exchange_seconds(measurement: Measurement, link: Link, devices: int) -> float:
    """Return the seconds of the exchange in a step; the latency grows with the logarithm of the number of devices."""
    if devices == 1:
        return 0.0
    latency = exchanges(measurement) * link.latency * math.log2(devices)
    return sent_bytes(measurement, devices) / link.bandwidth + latency


def fitting_accumulate(memory: Line, limit: float, needed: float, share: int, accumulate: int) -> int | None:
    """Return the smallest ``task.accumulate`` with which ``share`` images fit; None: not even single images do.

    Args:
        memory: bytes by images of a microbatch.
        limit: bytes of the device.
        needed: bytes with the present ``accumulate``, which do not fit.
        share: images of a batch for the device.
        accumulate: the present number of microbatches.
    """
    beside = needed - memory.at(math.ceil(share / accumulate))
    for count in range(accumulate + 1, share + 1):
        if memory.at(math.ceil(share / count)) + beside <= limit:
            return count
    return None


def _copy(measurement: Measurement) -> int:
    return min(_BUCKET, max(4 * sum(sizes) for sizes in measurement.gradients.values()))
