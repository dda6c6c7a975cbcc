"""Float16 with a scaler for each network: agrees with float32; an overflow of one network leaves the other alone."""

import json

import pytest
import torch

from medsynth.lightning.half_precision import HalfPrecision
from medsynth.loss.hinge import Hinge
from medsynth.penalty.r1 import R1
from tests.command import TINY, run
from tests.test_gan import fit, weights
from tests.test_precision import Values, convolutional, steps


def half(scale=2.0**12, **options):
    """(the model after four steps, what each returned, the plugin); the generator begins with its own ``scale``."""
    values, plugin = Values(), HalfPrecision("cpu")
    plugin.scalers["generator"] = torch.amp.GradScaler("cpu", init_scale=scale)
    model = convolutional(**options)
    fit(model, plugins=[plugin], callbacks=[values], limit_val_batches=0)
    return model, values.steps, plugin


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"penalties": {"r1": R1(gamma=0.1, interval=1)}},
        {"gradient_clip_norm": 1e-2, "loss": Hinge()},
        {"accumulate": 2},
    ],
    ids=" ".join,
)
def test_float16_agrees_with_float32(options):
    """Losses, penalties and the norms of unscaled gradients, over four steps, to half a percent."""
    exact_model, exact = steps(**options)
    model, values, _ = half(**options)
    for step, (ours, theirs) in enumerate(zip(values, exact, strict=True)):
        for name in theirs:
            assert ours[name] == pytest.approx(theirs[name], rel=5e-3, abs=5e-3), (step, name)
    assert not torch.equal(weights(model.generator), weights(exact_model.generator)), "float16 was not at work"


def test_an_overflow_of_one_network_leaves_the_other_alone():
    start = convolutional()
    model, _, plugin = half(scale=2.0**40)
    assert torch.equal(weights(model.generator), weights(start.generator)), "infinite gradients were descended on"
    assert plugin.scalers["generator"].get_scale() == 2.0**36  # halved in each of four steps
    assert plugin.scalers["discriminator"].get_scale() == 2.0**12
    assert not torch.equal(weights(model.discriminator), weights(start.discriminator))


def test_scalers_are_resumed():
    first, second = HalfPrecision("cpu"), HalfPrecision("cpu")
    first.scalers["generator"] = torch.amp.GradScaler("cpu", init_scale=8.0)
    first.scalers["generator"].scale(torch.ones(()))
    second.load_state_dict(first.state_dict())
    assert second.scalers["generator"].get_scale() == 8.0
    assert second.scalers["discriminator"].get_scale() == 2.0**12


@pytest.mark.slow
def test_a_training_in_float16_keeps_its_scalers_in_its_checkpoint(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = [option for option in TINY if "precision" not in option]
    code, _, err = run(monkeypatch, capsys, *options, "trainer.precision=16-mixed", "hydra.run.dir=run")
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["precision"] == "16-mixed"
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["HalfPrecision"]
    assert {network: state["_growth_tracker"] for network, state in saved.items()} == {
        "generator": 8,
        "discriminator": 8,
    }
    code, _, err = run(monkeypatch, capsys, "resume=run", "max_images=96")
    assert code == 0, err
