"""One run, and what it came to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medsynth.report.run_files import Curve, Option, entry, finite


# Two runs are never the same one because they say the same: identity, so that runs can stand in sets.
@dataclass(frozen=True, eq=False)
class Run:
    """One run.

    Attributes:
        number: of the job in its sweep; None outside of one.
        name: what was swept ("loss=hinge,seed=1"), else the folder's name; different in all runs read together.
        status, reason: as ``medsynth.runs.status.state`` says.
        options: config.yaml with dotted keys, without places.
        choices: what was typed, by key without +; a job's own options where its configuration was never written.
        swept: the keys that the sweep says it varied; empty outside of one.
        curves: by name (images seen, values), NaN included.
        samples: images seen -> picture of generated images from fixed noise, in order.
        damaged: sentences about files that were skipped, or parts of them.
    """

    folder: Path
    number: int | None
    name: str
    status: str
    reason: str | None
    log_tail: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[int, Path] = field(default_factory=dict)
    real_samples: Path | None = None
    damaged: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    swept: tuple[str, ...] = ()
    job: Mapping[str, Any] = field(default_factory=dict)

    @property
    def objective(self) -> str | None:
        """Name of what is minimized, such as val/fd_mini."""
        name = entry(self.summary, "best", "objective") or self.options.get("objective")
        return name if isinstance(name, str) else None

    @property
    def best(self) -> float | None:
        """The objective where it was best, which is the generator that was kept; of an unfinished run: so far."""
        value = finite(entry(self.summary, "best", "value"))
        return value if value is not None else min(self._values(self.objective), default=None)

    @property
    def final(self) -> float | None:
        """The objective at the end, or as far as the run came."""
        value = finite(entry(self.summary, "metrics", self.objective or ""))
        return value if value is not None else next(reversed(self._values(self.objective)), None)

    @property
    def seconds(self) -> float | None:
        """Of the training alone, where it could say; else of the job's process."""
        value = finite(self.summary.get("seconds"))
        return value if value is not None else finite(self.job.get("seconds"))

    @property
    def memory_gib(self) -> float | None:
        """Peak, of the GPU where one was used, else of the process."""
        return finite(self.summary.get("peak_memory_gib"))

    @property
    def images_seen(self) -> int | None:
        """Real images that the discriminator saw."""
        value = finite(self.summary.get("images_seen"))
        last = [curve[0][-1] for curve in self.curves.values() if curve[0]]
        return int(value) if value is not None else max(last, default=None)

    def value(self, name: str) -> float | None:
        """What the run came to: the best of the objective, other metrics of that same generator, else the last value.

        ``name`` may also be an entry of the summary: "seconds", "weights.generator".
        """
        if name == self.objective:
            return self.best
        if name in self.curves or entry(self.summary, "metrics", name) is not None:
            return self._beside_best(name)
        if name in ("seconds", "memory_gib", "images_seen"):
            return getattr(self, name)
        return finite(entry(self.summary, *name.split(".")))

    def _beside_best(self, name: str) -> float | None:
        curve = self.curves.get(name, ([], []))
        at = dict(zip(*curve, strict=True)).get(entry(self.summary, "best", "images_seen"))
        last = entry(self.summary, "metrics", name)
        values = (finite(at), finite(last), next(reversed(self._values(name)), None))
        return next((value for value in values if value is not None), None)

    def _values(self, name: str | None) -> list[float]:
        return [value for value in self.curves.get(name or "", ([], []))[1] if math.isfinite(value)]
