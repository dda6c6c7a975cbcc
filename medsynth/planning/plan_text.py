"""A plan as text for people, and as plain values for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from medsynth.planning.estimate import Estimates, Row, exchanges, payload
from medsynth.planning.link import Link
from medsynth.planning.measure import Measurement
from medsynth.terminal import table

_LASTING = {
    "generator": "generator",
    "discriminator": "discriminator",
    "ema": "EMA of the generator",
    "optimizers": "states of the optimizers",
}


def plan_values(measurement: Measurement, link: Link, estimates: Estimates, disk: dict[str, int]) -> dict[str, Any]:
    """Return the plan as JSON can hold it, in bytes and seconds: what was measured, given and estimated."""
    return {
        "measured": {
            "device": measurement.device,
            "precision": measurement.precision,
            "steps": [asdict(steps) for steps in measurement.steps],
            "lasting_bytes": measurement.lasting,
            "link": link._asdict() if link.measured else None,
        },
        "given": None if link.measured else {"link": link._asdict()},
        "estimated": {
            "bytes_beside_images": estimates.memory.start,
            "bytes_per_image": estimates.memory.slope,
            "seconds_beside_images": estimates.computing.start,
            "seconds_per_image": estimates.computing.slope,
            "payload_bytes_per_step": payload(measurement),
            "exchanges_per_step": exchanges(measurement),
            "devices": [asdict(row) for row in estimates.rows],
            "disk_bytes": disk,
        },
    }


def plan_text(measurement: Measurement, link: Link, estimates: Estimates, disk: dict[str, int], batch: int) -> str:
    """Return the plan as lines for people.

    Args:
        measurement: steps on one device.
        link: between the devices.
        estimates: for each number of devices.
        disk: see ``disk.disk_bytes``.
        batch: images of a batch, all devices together.
    """
    return "\n".join(
        [
            f"Measured here, on {measurement.device} in {measurement.precision}:",
            *_step_lines(measurement),
            *_memory_lines(measurement, estimates),
            *_link_lines(measurement, link),
            "",
            f"Estimated, for devices like this one that share batches of {batch} images:",
            *_table(estimates.rows),
            "Memory is that of the tensors on one device; hours are those of training steps, without validation and "
            "without waiting for data.",
            f"Disk: {size(disk['checkpoints'])} for checkpoints, {size(disk['generator'])} for the generator, at most "
            f"{size(disk['samples'])} for samples.",
        ]
    )


def size(count: float) -> str:
    """Format a number of bytes in a suitable unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.3g} {unit}" if count < 1024 else f"{count:,.0f} {unit}"
        count /= 1024
    raise AssertionError


def _step_lines(measurement: Measurement) -> list[str]:
    lines = [
        f"  a step of {steps.batch} images: {steps.seconds * 1e3:.4g} ms (quartiles {steps.spread:.0%} apart), "
        f"{steps.waiting * 1e3:.3g} ms waiting for data, {size(steps.peak)} at its peak"
        for steps in measurement.steps
    ]
    if max(steps.waiting / steps.seconds for steps in measurement.steps) > 0.1:
        lines.append("  The estimates do not include waiting for data: raise data.num_workers until there is none.")
    return lines


def _memory_lines(measurement: Measurement, estimates: Estimates) -> list[str]:
    lasting = ", ".join(f"{title} {size(measurement.lasting[name])}" for name, title in _LASTING.items())
    beside = max(0.0, estimates.memory.start - sum(measurement.lasting[name] for name in _LASTING))
    return [
        f"  memory: {lasting}; gradients and temporaries {size(beside)}; each image {size(estimates.memory.slope)}",
    ]


def _link_lines(measurement: Measurement, link: Link) -> list[str]:
    where = "measured between two processes of this machine by gloo" if link.measured else "as given"
    return [
        f"  averaged in a step: {size(payload(measurement))} in {exchanges(measurement):.3g} exchanges; a link of "
        f"{link.bandwidth * 8e-9:.3g} Gbit/s and {link.latency * 1e6:.3g} microseconds, {where}"
    ]


def _table(rows: tuple[Row, ...]) -> list[str]:
    head = ("devices", "images each", "memory", "computing", "exchange", "sent", "images/s", "speed", "hours", "fits")
    body = [
        (
            str(row.devices),
            f"{row.share}{'*' if row.beyond else ''}",
            size(row.memory),
            f"{row.computing * 1e3:.4g} ms",
            f"{row.exchanging * 1e3:.3g} ms",
            size(row.sent),
            f"{row.images_per_second:.3g}",
            f"{row.speedup:.2f}x",
            f"{row.hours:.3g}",
            _fits(row),
        )
        for row in rows
    ]
    lines = table(head, body, left=(), indent=2)
    beyond = ["  * more or fewer images than were measured: extrapolated"]
    return lines + (beyond if any(row.beyond for row in rows) else [])


def _fits(row: Row) -> str:
    if row.fits is None:
        return "?"
    if row.fits:
        return "yes"
    return f"with task.accumulate={row.accumulate}" if row.accumulate else "no"
