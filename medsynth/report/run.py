"""One run and its results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medsynth.report.figure_files import FigureFiles
from medsynth.report.findings import finding_names, finding_texts
from medsynth.report.run_files import Curve, Option, entry, finite


@dataclass(frozen=True, eq=False)  # compared by identity, so that runs with equal content can be members of a set
class Run:
    """One run, as read from its folder.

    Attributes:
        folder: folder of the run.
        number: number of the job in its sweep; None outside of a sweep.
        name: the options that the sweep varied ("loss=hinge,seed=1"), else the folder's name; unique among the runs
            that were read together.
        status: one of ``runs.status.STATUSES``.
        reason: sentence that says why the run did not complete; None if it did or still runs.
        log_tail: last lines of the log.
        options: config.yaml with dotted keys, without paths of folders.
        curves: column of metrics.csv -> (images seen, values), NaN included.
        summary: content of summary.json.
        samples: images seen -> picture of images generated from fixed noise, in order.
        real_samples: picture of real images.
        translated: picture of sources, targets, translations and errors; None: the run does not translate.
        reconstructed: picture of real images and their reconstructions; None without an encoder.
        damaged: sentences about files that were skipped, entirely or in part.
        choices: options of the command line, by key without +; those of the job if its configuration was never written.
        swept: keys that the sweep varied, as it recorded them; empty outside of a sweep.
        job: content of job.json.
        evaluations: records of ``medsynth evaluate``.
        verdict: record of ``medsynth verdict``; None: it was not asked for.
        answers: newest records of ``medsynth utility`` and ``audit``, by command.
        figures: for a paper, each with the files that there are of it.
        measures: what was measured with the figures, as a record of an evaluation; None: nothing.
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
    reconstructed: Path | None = None
    translated: Path | None = None
    damaged: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    swept: tuple[str, ...] = ()
    job: Mapping[str, Any] = field(default_factory=dict)
    evaluations: tuple[Mapping[str, Any], ...] = ()
    verdict: Mapping[str, Any] | None = None
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    figures: tuple[FigureFiles, ...] = ()
    measures: Mapping[str, Any] | None = None

    @property
    def objective(self) -> str | None:
        """Name of the metric that is minimized, such as val/fd_mini."""
        name = entry(self.summary, "best", "objective") or self.options.get("objective")
        return name if isinstance(name, str) else None

    @property
    def findings(self) -> list[str]:
        """The doctor's findings in words."""
        return finding_texts(self.summary)

    @property
    def finding_names(self) -> str:
        """The names of the findings, for a table."""
        return ", ".join(finding_names(self.summary))

    @property
    def best(self) -> float | None:
        """Best value of the objective, that of the exported generator; of an unfinished run the best so far."""
        value = finite(entry(self.summary, "best", "value"))
        return value if value is not None else min(self._values(self.objective), default=None)

    @property
    def final(self) -> float | None:
        """Last value of the objective."""
        value = finite(entry(self.summary, "metrics", self.objective or ""))
        return value if value is not None else next(reversed(self._values(self.objective)), None)

    @property
    def seconds(self) -> float | None:
        """Duration of the training if it was recorded, else that of the job's process; of all attempts of a job."""
        value, attempts = finite(self.summary.get("seconds")), finite(self.job.get("attempts"))
        own, before = (finite(self.job.get(name)) for name in ("seconds", "seconds_before"))
        if own is None or (value is not None and (attempts or 1) <= 1):
            return value
        return max(value or 0.0, own + (before or 0.0))

    @property
    def memory_gib(self) -> float | None:
        """Peak memory of the GPU if one was used, else of the process."""
        return finite(self.summary.get("peak_memory_gib"))

    @property
    def images_seen(self) -> int | None:
        """Number of real images that the discriminator saw."""
        value = finite(self.summary.get("images_seen"))
        last = [curve[0][-1] for curve in self.curves.values() if curve[0]]
        return int(value) if value is not None else max(last, default=None)

    def value(self, name: str) -> float | None:
        """Return the result of the run for ``name``; None if it has none.

        For the objective this is the best value, for other metrics that of the same generator, else the last value.
        ``name`` may also be a number of the summary: "seconds", "parameters.generator".
        """
        if name == self.objective:
            return self.best
        if name in self.curves or entry(self.summary, "metrics", name) is not None:
            return self._value_at_best(name)
        if name in ("seconds", "memory_gib", "images_seen"):
            return getattr(self, name)
        return finite(entry(self.summary, *name.split(".")))

    def _value_at_best(self, name: str) -> float | None:
        steps, values = self.curves.get(name, ([], []))
        best = entry(self.summary, "best", "images_seen")
        at_best = next((value for step, value in zip(steps, values, strict=True) if step == best), None)
        last = entry(self.summary, "metrics", name)
        candidates = (finite(at_best), finite(last), next(reversed(self._values(name)), None))
        return next((value for value in candidates if value is not None), None)

    def _values(self, name: str | None) -> list[float]:
        return [value for value in self.curves.get(name or "", ([], []))[1] if math.isfinite(value)]
