"""Schedules: known values, what can be scheduled, and a resumed run that is exact across a schedule's bend."""

import json
import math
import signal

import pytest
import pytorch_lightning as pl
import torch

from medsynth.contracts import InputError
from medsynth.generator.ema import EMA
from medsynth.lightning.schedules import Schedules, schedulable
from medsynth.penalty.lecam import LeCam
from medsynth.penalty.r1 import R1
from medsynth.schedule.constant import Constant
from medsynth.schedule.cosine import Cosine
from medsynth.schedule.linear import Linear
from medsynth.schedule.warmup import WarmUp
from tests.command import TINY, run
from tests.test_conf import compose
from tests.test_gan import Darker, Images, fit, gan, weights
from tests.test_resume import assert_same, rows, stop_at

HALF = math.sqrt(0.5)
KNOWN = [
    (Constant(0.3), {0: 0.3, 10**9: 0.3}),
    (Linear(2.0, 1.0, 1000), {0: 2.0, 250: 1.75, 500: 1.5, 999: 1.001, 1000: 1.0, 10**9: 1.0}),
    (Cosine(0.0, 1.0, 1000), {0: 0.0, 250: (1 - HALF) / 2, 500: 0.5, 750: (1 + HALF) / 2, 1000: 1.0, 1001: 1.0}),
    (Cosine(2e-4, 5e-5, 300), {0: 2e-4, 100: 1.625e-4, 150: 1.25e-4, 200: 8.75e-5, 300: 5e-5, 10**9: 5e-5}),
    (WarmUp(100, Constant(0.4)), {0: 0.0, 25: 0.1, 99: 0.396, 100: 0.4, 10**9: 0.4}),
    (WarmUp(100, Constant(0.4), start=0.2), {0: 0.2, 50: 0.3, 100: 0.4}),
    (WarmUp(100, Cosine(0.8, 0.0, 200)), {0: 0.0, 50: 0.4, 100: 0.8, 200: 0.4, 300: 0.0, 301: 0.0}),
]


@pytest.mark.parametrize(("schedule", "values"), KNOWN, ids=lambda value: str(value) if callable(value) else "")
def test_known_values(schedule, values):
    """In float64, to its rounding; starts and ends exactly."""
    for images, value in values.items():
        assert schedule(images) == pytest.approx(value, rel=1e-14, abs=1e-15), images
    assert schedule(0) == values[0]
    assert schedule(max(values)) == values[max(values)]


@pytest.mark.parametrize("build", [Linear, Cosine])
def test_a_duration_below_one_image_is_refused(build):
    with pytest.raises(InputError, match=r"images=0 .* must be 1 or more"):
        build(1.0, 0.0, 0)
    with pytest.raises(InputError, match=r"images=0"):
        WarmUp(0, Constant(1.0))


def test_a_warm_up_needs_a_schedule_to_follow():
    with pytest.raises(InputError, match=r"then of a warm-up schedule: float has no __call__.*contract Schedule"):
        WarmUp(10, 2e-4)


@pytest.fixture
def quantities():
    """(what can be scheduled, two Adams of which one has a group of a tenth of the rate, the penalties, the EMA)."""
    layers = [torch.nn.Linear(2, 2) for _ in range(3)]
    groups = [{"params": layers[1].parameters()}, {"params": layers[2].parameters(), "lr_factor": 0.1}]
    optimizers = {
        "generator": torch.optim.Adam(layers[0].parameters(), 1.0, betas=(0.5, 0.999)),
        "discriminator": torch.optim.Adam(groups, 1.0),
    }
    penalties = {"r1": R1(gamma=1), "lecam": LeCam()}
    ema = EMA(layers[0], half_life=1000, rampup=0.05)
    components = {"penalty": penalties, "augment": {"darker": Darker()}}
    return schedulable(optimizers, components, ema), optimizers, penalties, ema


def test_names_of_what_can_be_scheduled(quantities):
    names = list(quantities[0])
    optimizers = [
        f"{name}_optimizer.{key}" for name in ("generator", "discriminator") for key in ("lr", "beta1", "beta2")
    ]
    of_lecam = ["penalty.lecam.weight", "penalty.lecam.decay", "penalty.lecam.start"]
    assert names == [*optimizers, "penalty.r1.gamma", *of_lecam, "task.ema_half_life"]


def test_each_quantity_gets_its_value(quantities):
    names, optimizers, penalties, ema = quantities
    schedules = {
        "generator_optimizer": {"lr": Linear(1.0, 3.0, 100), "beta2": Constant(0.9)},
        "discriminator_optimizer": {"lr": Constant(0.5), "beta1": Constant(0.25)},
        "penalty": {"r1": {"gamma": Cosine(2.0, 0.2, 100)}},
        "task": {"ema_half_life": Linear(0, 500, 100)},
    }
    values = Schedules(schedules, names).apply(50)
    assert values["generator_optimizer.lr"] == 2.0
    assert len(values) == 6
    (group,) = optimizers["generator"].param_groups
    assert (group["lr"], group["betas"]) == (2.0, (0.5, 0.9))
    whole, tenth = optimizers["discriminator"].param_groups
    assert (whole["lr"], tenth["lr"]) == (0.5, pytest.approx(0.05))
    assert whole["betas"] == tenth["betas"] == (0.25, 0.999)
    assert penalties["r1"].gamma == pytest.approx(1.1)
    assert ema.half_life == 250


def test_a_mistyped_name_is_refused_with_the_list(quantities):
    with pytest.raises(
        InputError, match=r"schedules\.penalty\.r1\.gama cannot .*penalty\.r1\.gamma.*task\.ema_half_life"
    ):
        Schedules({"penalty": {"r1": {"gama": Constant(1.0)}}}, quantities[0])
    with pytest.raises(InputError, match=r"schedules\.penalty\.r1\.gamma=1\.0 is not a schedule: .*=cosine"):
        Schedules({"penalty": {"r1": {"gamma": 1.0}}}, quantities[0])


class Values(pl.Callback):
    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        self.steps.append({name: float(value) for name, value in outputs.items()})


def test_a_step_is_taken_with_the_scheduled_values_and_logs_them():
    """A learning rate of 0 in the first step, of the optimizer's own from the second step on."""
    values = Values()
    schedules = {"generator_optimizer": {"lr": lambda images: 0.0 if images == 0 else 0.1}}
    still, moving = gan(schedules=schedules, max_images=8), gan(schedules=schedules, max_images=16)
    before = weights(still.generator).clone()
    fit(still, Images(), limit_val_batches=0)
    assert torch.equal(weights(still.generator), before)
    fit(moving, Images(), callbacks=[values], limit_val_batches=0)
    assert not torch.equal(weights(moving.generator), before)
    assert [step["generator_optimizer.lr"] for step in values.steps] == [0.0, 0.1]


def test_constant_schedules_change_nothing():
    plain = gan(penalties={"r1": R1(gamma=0.3)}, ema_half_life=70)
    schedules = {"penalty": {"r1": {"gamma": Constant(0.3)}}, "task": {"ema_half_life": Constant(70)}}
    schedules["discriminator_optimizer"] = {"lr": Constant(0.1)}
    same = gan(penalties={"r1": R1(gamma=9.0)}, ema_half_life=9, schedules=schedules)
    for model in (plain, same):
        fit(model, limit_val_batches=0)
    assert torch.equal(weights(plain), weights(same))


def test_the_experiment_r3gan_has_the_schedules_of_the_paper():
    config = compose("experiment=r3gan", "max_images=1000")
    for network in ("generator", "discriminator"):
        rate = config.task.schedules[f"{network}_optimizer"]
        assert (rate.lr.start, rate.lr.end, rate.lr.images) == (2e-4, 5e-5, 1000)
        assert (rate.beta2.start, rate.beta2.end) == (0.9, 0.99)
    for penalty in ("r1", "r2"):
        assert (config.task.schedules.penalty[penalty].gamma.start, config.penalty[penalty].interval) == (2.0, 1)


SCHEDULED = (
    "+schedule@schedules.generator_optimizer.lr=warmup_cosine",
    "schedules.generator_optimizer.lr.images=40",
    "schedules.generator_optimizer.lr.then.start=4e-4",
    "schedules.generator_optimizer.lr.then.end=1e-4",
    "schedules.generator_optimizer.lr.then.images=40",
    "+schedule@schedules.discriminator_optimizer.beta2=linear",
    "schedules.discriminator_optimizer.beta2.start=0.9",
    "schedules.discriminator_optimizer.beta2.end=0.99",
    "+schedule@schedules.penalty.r1.gamma=cosine",
    "schedules.penalty.r1.gamma.start=2",
    "schedules.penalty.r1.gamma.end=0.2",
    "schedules.penalty.r1.gamma.images=48",
    "+schedule@schedules.task.ema_half_life=cosine",
    "schedules.task.ema_half_life.start=0",
    "schedules.task.ema_half_life.end=20",
    "penalty.r1.interval=1",
)


@pytest.mark.slow
def test_a_run_stopped_inside_the_warm_up_is_the_run_that_was_not_stopped(monkeypatch, capsys, tmp_path):
    """Bit for bit; stopped before, in and after the bends at 40 and 80 images of the generator's learning rate."""
    monkeypatch.chdir(tmp_path)
    options = (*TINY, *SCHEDULED, "max_images=96", "trainer.log_every_n_steps=1")
    assert run(monkeypatch, capsys, *options, "hydra.run.dir=whole")[0] == 0
    arguments = [*options, "hydra.run.dir=stopped"]
    for images in (24, 48, 80):
        with monkeypatch.context() as patch:
            stop_at(patch, images, signal.SIGTERM)
            assert run(monkeypatch, capsys, *arguments)[0] == 1
        assert json.loads((tmp_path / "stopped" / "summary.json").read_text())["images_seen"] == images
        arguments = ["resume=stopped"]
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 0, err
    assert_same(tmp_path / "stopped", tmp_path / "whole")
    rates = {int(row["step"]): row["train/generator_optimizer.lr"] for row in rows(tmp_path / "stopped")}
    expected = WarmUp(40, Cosine(4e-4, 1e-4, 40))
    assert {step: float(rate) for step, rate in rates.items() if rate} == {
        step: pytest.approx(expected(step - 8)) for step in range(8, 104, 8)
    }


def test_a_mistyped_name_ends_the_command_with_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    mistyped = [option.replace("penalty.r1.gamma", "penalty.r1.gama") for option in SCHEDULED]
    code, _, err = run(monkeypatch, capsys, *TINY, *mistyped)
    assert code == 1
    assert err.count("\n") <= 2
    assert "schedules.penalty.r1.gama cannot be scheduled: choose of generator_optimizer.lr" in err
