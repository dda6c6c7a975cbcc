"""Values that steps log, kept for the next validation, and the file of a doctor's rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medsynth.diagnosis.course import STEP_VALUES
from medsynth.files import replacing

_MOST_STEPS = 1024  # values of a course that are kept; every second is dropped beyond


class StepValues:
    """Values of steps by name, thinned to at most ``_MOST_STEPS`` equally spaced ones."""

    def __init__(self) -> None:
        self._every, self._count = 1, 0
        self._values: dict[str, list[Tensor | float]] = {}

    def add(self, outputs: Mapping[str, Tensor]) -> None:
        """Keep the values of a step, if it is its turn."""
        self._count += 1
        if self._count % self._every:
            return
        for name in STEP_VALUES:
            if name in outputs:
                self._values.setdefault(name, []).append(outputs[name].detach())
        if max((len(values) for values in self._values.values()), default=0) >= _MOST_STEPS:
            self._every *= 2
            self._values = {name: values[1::2] for name, values in self._values.items()}

    def take(self) -> dict[str, list[float]]:
        """Return the values as numbers, and begin anew."""
        values = self._numbers()
        self._every, self._count, self._values = 1, 0, {}
        return values

    def _numbers(self) -> dict[str, list[float]]:
        return {
            name: torch.stack([torch.as_tensor(value).double().cpu() for value in values]).tolist()
            for name, values in self._values.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {"every": self._every, "count": self._count, "values": self._numbers()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state of a checkpoint."""
        self._every, self._count = state["every"], state["count"]
        self._values = {name: list(values) for name, values in state["values"].items()}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one row of JSON per line, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
