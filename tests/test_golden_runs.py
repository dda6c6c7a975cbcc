"""The first 20 steps of every experiment, in its small size, give the numbers stored in ``snapshots/golden_runs.json``.

After a change that is meant: ``python -m tests.snapshots.golden_runs``.
"""

import json

import pytest
import torch

from medsynth.configuration.choices import choices
from tests.snapshots.golden_runs import LATE, MIDDLE, SHRUNK, SNAPSHOT, TOLERANCE, differences, run

STORED = json.loads(SNAPSHOT.read_text())
FAST = ("r3gan", "size_128")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_experiment_has_a_golden_run():
    assert sorted(SHRUNK) == choices("experiment")
    assert list(STORED) == list(SHRUNK)


@pytest.mark.parametrize(
    "experiment",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in SHRUNK],
)
def test_golden_runs_are_as_they_were(experiment):
    tolerances = {"middle": MIDDLE.get(experiment, TOLERANCE), "late": LATE.get(experiment, TOLERANCE)}
    found = differences(run(experiment), STORED[experiment], **tolerances)
    assert not found, f"python -m tests.snapshots.golden_runs {experiment}, if that is meant"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "generator_optimizer.betas=[0.0,0.98]",
        "discriminator_optimizer.lr=1.02e-3",
        "penalty.r1.gamma=0.41",
        "task.ema_rampup=0.052",
        "task.discriminator_steps=2",
        "seed=1",
    ],
)
def test_a_small_change_is_noticed(change):
    assert differences(run("size_128", change), STORED["size_128"])


@pytest.mark.parametrize(
    "experiment", [name if name == "size_128" else pytest.param(name, marks=pytest.mark.slow) for name in SHRUNK]
)
def test_the_order_of_sums_is_not_noticed(experiment):
    """Another memory format adds in another order."""
    found = run(experiment, "task.channels_last=false")
    assert not differences(found, STORED[experiment], late=LATE.get(experiment, TOLERANCE))


def test_numbers_of_one_side_alone_are_differences():
    stored = {"1": {"loss": 1.0, "penalty": 0.0}, "samples": {"mean": 0.5}}
    assert not differences({"1": {"loss": 1.001, "penalty": 1e-6}, "samples": {"mean": 0.5}}, stored)
    found = {"1": {"loss": 1.003, "other": 1.0}}
    assert differences(found, stored) == [
        "1 loss: 1.0 -> 1.003",
        "1 other: None -> 1.0",
        "1 penalty: 0.0 -> None",
        "samples mean: 0.5 -> None",
    ]
    assert differences(
        {"5": {"loss": 1.1}, "20": {"loss": 1.1}}, {"5": {"loss": 1.0}, "20": {"loss": 1.0}}, late=0.2
    ) == ["5 loss: 1.0 -> 1.1"]
