"""Names and numbers among the options of devices, checked without PyTorch, which alone knows what this machine has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medsynth.errors import InputError

_SPELLINGS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}  # as Lightning reads them
_UNSUITABLE = {
    "16-true": "weights in float16 overflow without a gradient scaler",
    "bf16-true": "steps of a training are smaller than what a weight in bfloat16 can tell apart",
}


def check_device_options(trainer: Mapping[str, Any]) -> None:
    """Check the names and numbers in the options ``trainer``.

    Raises:
        InputError: an unknown strategy, accelerator or precision, or no number of devices.
    """
    strategy, accelerator = trainer.get("strategy", "auto"), trainer.get("accelerator", "auto")
    if strategy not in ("auto", "ddp"):
        raise InputError(
            f"trainer.strategy={strategy} cannot train two networks that alternate in one step: choose ddp or auto."
        )
    if accelerator not in ("auto", "cpu", "gpu", "cuda", "mps"):
        shown = "null" if accelerator is None else accelerator
        raise InputError(f"trainer.accelerator={shown} is unknown: choose auto, cpu, gpu, cuda or mps.")
    device_count(trainer.get("devices", 1))
    check_precision(trainer.get("precision", "auto"))


def device_count(devices: Any) -> int | None:
    """Return the number in ``trainer.devices``; None: as many as there are.

    Raises:
        InputError: it is none.
    """
    if devices in ("auto", -1, "-1"):
        return None
    try:
        count = len(devices) if not isinstance(devices, int | str) else int(devices)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        shown = "null" if devices is None else devices
        raise InputError(f"trainer.devices={shown} is no number of devices: give 1 or more, or auto.")
    return count


def check_precision(asked: Any) -> str:
    """Return the precision as Lightning spells it.

    Raises:
        InputError: it is unknown, or two networks would not train properly in it.
    """
    precision = _SPELLINGS.get(str(asked), str(asked))
    if precision not in ("32-true", "bf16-mixed", "16-mixed", "auto"):
        reason = f" ({_UNSUITABLE[precision]})" if precision in _UNSUITABLE else ""
        raise InputError(
            f"trainer.precision={precision} is not supported{reason}: choose bf16-mixed, 16-mixed, 32-true or auto."
        )
    return precision
