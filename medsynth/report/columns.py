"""Columns of metrics.csv: training values and their figures, metrics and their intervals, the best step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from medsynth.report.run import Run
from medsynth.report.run_files import entry

NUM_REAL, NUM_FAKE = "val/num_real", "val/num_fake"
IMAGES_PER_SECOND, DATA_WAIT = "trainer/images_per_second", "trainer/data_wait"
_INTERVAL_ENDS = ("_low", "_high")
_SPREAD = "_std"


@dataclass(frozen=True)
class Panel:
    """A figure of values that every training step records.

    Attributes:
        title: heading of the figure.
        labels: column of metrics.csv -> name of its curve.
        remark: how to read the figure.
    """

    title: str
    labels: dict[str, str]
    remark: str


LOSSES = Panel(
    "Losses",
    {"train/discriminator_loss": "discriminator", "train/generator_loss": "generator"},
    "Losses of adversarial networks need not fall; one that diverges or goes to zero shows that they are unequal.",
)
PANELS = (
    LOSSES,
    Panel(
        "Mean logits",
        {"train/real_logits": "real images", "train/fake_logits": "generated images"},
        "The larger the difference, the better the discriminator tells real from generated images.",
    ),
    Panel(
        "Gradient norms",
        {"train/discriminator_gradient_norm": "discriminator", "train/generator_gradient_norm": "generator"},
        "Jumps by orders of magnitude often precede divergence.",
    ),
    Panel(
        "Steps without an update",
        {"train/skipped": "discriminator"},
        "Steps so far in which the discriminator led by more than task.discriminator_margin and kept its weights.",
    ),
)
NOT_SHOWN = ("train/real_signs",)  # an input of adaptive augmentation, which records its own values


def without_intervals(columns: Iterable[str]) -> list[str]:
    """Return the validation columns of ``columns`` but for ends of intervals and numbers of images."""
    names = [name for name in columns if name.startswith("val/")]
    ends = {f"{name}{end}" for name in names for end in _INTERVAL_ENDS}
    return [name for name in names if name not in ends and name not in (NUM_REAL, NUM_FAKE)]


def metric_names(columns: Iterable[str]) -> list[str]:
    """Return the metrics among ``columns``: no ends of intervals, no spreads, no numbers of images."""
    names = without_intervals(columns)
    return [name for name in names if not (name.endswith(_SPREAD) and name.removesuffix(_SPREAD) in names)]


def metrics_of(run: Run) -> list[str]:
    """Return the names of the metrics that ``run`` logged, the objective first."""
    names = metric_names(run.curves)
    return sorted(names, key=lambda name: (name != run.objective, names.index(name)))


def interval_at(run: Run, name: str, step: float | None) -> tuple[float, float] | None:
    """Return the 95 % interval of the metric ``name`` at ``step`` images seen; None if there is none."""
    ends = []
    for end in _INTERVAL_ENDS:
        steps, values = run.curves.get(f"{name}{end}", ([], []))
        value = next((value for seen, value in zip(steps, values, strict=True) if seen == step), None)
        if value is None or not math.isfinite(value):
            return None
        ends.append(value)
    return ends[0], ends[1]


def best_step(run: Run) -> int | None:
    """Return the number of images seen at which the objective was best, where the generator was exported."""
    known = entry(run.summary, "best", "images_seen")
    if isinstance(known, int):
        return known
    steps, values = run.curves.get(run.objective or "", ([], []))
    finite = [(value, step) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    return min(finite)[1] if finite else None
