"""From steps on one device to memory, time, traffic and disk on several: arithmetic alone.

The time of a step and its memory are taken as straight lines through two measured batch sizes. Processes average their
gradients once for each update, after computing (medsynth/lightning/distributed.py), so the time of the exchange adds
to that of the computing. All-reduce on a ring sends 2 (N - 1) / N times the payload from each of N devices (Patarasu
and Yuan 2009, Journal of Parallel and Distributed Computing 69).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from medsynth.planning.link import Link
from medsynth.planning.measure import Measurement

_BUCKET = 32 * 2**20  # bytes that medsynth.lightning.distributed sends at a time, from a copy of its own


@dataclass(frozen=True)
class Line:
    """A straight line through two points; it does not begin below zero."""

    start: float
    slope: float

    def at(self, x: float) -> float:
        return self.start + self.slope * x


def line_through(first: tuple[float, float], second: tuple[float, float]) -> Line:
    """Where the larger size costs less, which noise alone can make, both cost the same."""
    (x1, y1), (x2, y2) = sorted((first, second))
    slope = max(0.0, (y2 - y1) / (x2 - x1))
    if y2 - slope * x2 < 0:
        return Line(0.0, y2 / x2)
    return Line(y2 - slope * x2, slope)


@dataclass(frozen=True)
class Row:
    """A training on ``devices`` devices, each with ``share`` images of a batch. Bytes and seconds are of a device."""

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
    """``memory`` by the images computed at a time, ``computing`` by those of a step; ``rows`` by number of devices."""

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
    """``batch`` is of all devices together; ``limit`` the bytes of each device, None: not known."""
    small, large = measurement.steps
    memory = line_through((small.part, small.peak), (large.part, large.peak))
    computing = line_through((small.batch, small.seconds), (large.batch, large.seconds))
    alone = computing.at(batch)
    rows = []
    for count in devices:
        share = batch // count
        needed = memory.at(math.ceil(share / accumulate)) + (_copy(measurement) if count > 1 else 0)
        compute, exchange = computing.at(share), exchange_seconds(measurement, link, count)
        fits = None if limit is None else needed <= limit
        rows.append(
            Row(
                devices=count,
                share=share,
                memory=needed,
                fits=fits,
                accumulate=None if fits is not False else parts_that_fit(memory, limit, needed, share, accumulate),
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
    """Bytes that all devices agree on in a step: gradients of both players, and batch statistics."""
    discriminator, generator = (
        4 * sum(measurement.gradients[player]) + measurement.statistics[player]
        for player in ("discriminator", "generator")
    )
    return discriminator + generator / measurement.discriminator_steps


def sent_bytes(measurement: Measurement, devices: int) -> float:
    """What each device sends, and receives, in a step."""
    return 2 * (devices - 1) / devices * payload(measurement)


def exchanges(measurement: Measurement) -> float:
    """All-reduces in a step: for each player the gradients in buckets, batch statistics, and the logged numbers."""
    counts = {
        player: math.ceil(4 * sum(sizes) / _BUCKET) + (measurement.statistics[player] > 0) + 1
        for player, sizes in measurement.gradients.items()
    }
    return counts["discriminator"] + counts["generator"] / measurement.discriminator_steps


def exchange_seconds(measurement: Measurement, link: Link, devices: int) -> float:
    """None for one device; the latency grows with the logarithm of their number."""
    if devices == 1:
        return 0.0
    latency = exchanges(measurement) * link.latency * math.log2(devices)
    return sent_bytes(measurement, devices) / link.bandwidth + latency


def parts_that_fit(memory: Line, limit: float, needed: float, share: int, accumulate: int) -> int | None:
    """The smallest ``task.accumulate`` with which ``share`` images fit; None: not even one at a time does."""
    beside = needed - memory.at(math.ceil(share / accumulate))
    for parts in range(accumulate + 1, share + 1):
        if memory.at(math.ceil(share / parts)) + beside <= limit:
            return parts
    return None


def _copy(measurement: Measurement) -> int:
    return min(_BUCKET, max(4 * sum(sizes) for sizes in measurement.gradients.values()))
