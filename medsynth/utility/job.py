"""One job of a comparison: a network trained on one arm's images with one seed, and measured on the test images."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medsynth.utility.arms import AUGMENTED, REAL, Arm, Members, members
from medsynth.utility.fit import Fit, fit
from medsynth.utility.task import Examples, Task

LABELER = 1  # added to the seed of a network that labels synthetic images


@dataclasses.dataclass(frozen=True)
class Job:
    """An arm at a size of the real set, with one of the seeds."""

    arm: Arm
    size: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its row's file."""
        return f"{self.arm.name}-{self.size}-{self.seed}"


@dataclasses.dataclass(frozen=True)
class Material:
    """All that a job computes with.

    Attributes:
        task: what is trained and measured.
        options: of the training.
        real: the real training images.
        synthetic: the generated images; those without targets are labeled by a network that is trained on the job's
            real images for as many steps.
        test: the test images.
        groups: int64 (test images,), which of these are left out together for the intervals.
        orders: for each seed the order of real and of synthetic images, of which a job takes the first ones.
    """

    task: Task
    options: Fit
    real: Examples
    synthetic: Examples
    test: Examples
    groups: np.ndarray
    orders: dict[int, tuple[np.ndarray, np.ndarray]]


def run_job(job: Job, material: Material, threads: int | None = None) -> dict[str, Any]:
    """Train and measure; return a row of plain values.

    The row has the values of all measures on the test images, and ``without`` each of the groups of these. A job of the
    arm ``real`` is measured on the same number of synthetic images, too (``on_synthetic``).
    """
    if threads:
        torch.set_num_threads(threads)
    started = time.perf_counter()
    real_order, synthetic_order = material.orders[job.seed]
    chosen = members(job.arm, job.size, real=real_order, synthetic=synthetic_order, seed=job.seed)
    with torch.random.fork_rng(devices=[]):
        synthetic = _labeled(job, material, real_order) if len(chosen.synthetic) else material.synthetic
        network = _train(job, material, chosen, synthetic, seed=job.seed)
        row = _measures(material.task, network, material.test, material.groups)
        if job.arm.kind == REAL and material.synthetic.targets is not None:
            taken = synthetic_order[: len(material.test)]
            held = Examples(material.synthetic.inputs[taken], material.synthetic.targets[taken])
            groups = np.arange(len(taken)) % (int(material.groups.max()) + 1)
            row["on_synthetic"] = _measures(material.task, network, held, groups)
    identity = {"arm": job.arm.name, "size": job.size, "seed": job.seed, "count": chosen.count}
    return {**identity, **row, "seconds": time.perf_counter() - started}


def _labeled(job: Job, material: Material, real_order: np.ndarray) -> Examples:
    """Return the synthetic images with targets, which a network trained on the job's real images gives if needed."""
    synthetic, task = material.synthetic, material.task
    if synthetic.targets is not None:
        return synthetic
    own = Members(real_order[: job.size], np.empty(0, dtype=np.int64))
    labeler = _train(job, material, own, synthetic, seed=job.seed + LABELER)
    return Examples(synthetic.inputs, task.labeled(task.predict(labeler, synthetic.inputs)))


def _train(job: Job, material: Material, chosen: Members, synthetic: Examples, *, seed: int) -> nn.Module:
    task, real = material.task, material.real
    own = [(side, part) for side, part in ((real, chosen.real), (synthetic, chosen.synthetic)) if len(part)]
    network = task.start([Examples(side.inputs[part], None) for side, part in own], seed=seed)
    starts = np.cumsum([0, *(len(part) for _, part in own)])

    def loss(positions: np.ndarray) -> Tensor:
        inputs, targets = [], []
        for (side, part), start, end in zip(own, starts[:-1], starts[1:], strict=True):
            rows = part[positions[(positions >= start) & (positions < end)] - start]
            if len(rows):
                taken, aims = task.batch(side, rows, augmented=job.arm.kind == AUGMENTED)
                inputs.append(taken)
                targets.append(aims)
        return task.loss(network, torch.cat(inputs), np.concatenate(targets))

    fit(network, loss, chosen.count, material.options, seed=seed)
    return network


def _measures(task: Task, network: nn.Module, test: Examples, groups: np.ndarray) -> dict[str, Any]:
    assert test.targets is not None
    scores = task.scores(task.predict(network, test.inputs), test.targets)
    values = task.measures(scores, test.targets)
    without = []
    for group in range(int(groups.max()) + 1):
        kept = groups != group
        without.append(task.measures(scores[torch.as_tensor(kept)], test.targets[kept]))
    return {"values": values, "without": {name: [part.get(name, math.nan) for part in without] for name in values}}
