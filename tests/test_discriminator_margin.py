"""Updates that are left out while the discriminator leads: weights, counters, logs, resuming, several processes."""

import pytest
import pytorch_lightning as pl
import torch

from medsynth.contracts import InputError
from medsynth.lightning.half_precision import HalfPrecision
from tests.test_gan import Listener, SaveAndStop, fit, gan, weights
from tests.test_processes import WORLD, in_processes, trained


class Log(pl.Callback):
    """Values of each step, the discriminator's weights after it, and who stepped."""

    def __init__(self):
        self.values, self.weights = [], []

    def on_train_batch_end(self, trainer, model, values, batch, batch_idx):
        self.values.append({name: value.item() for name, value in values.items()})
        self.weights.append(weights(model.discriminator).clone())
        assert all(parameter.grad is None for parameter in model.discriminator.parameters()), "left for the next step"


def logged(margin, *, max_images=128, plugins=(), **options):
    """(model, log) of 16 steps in which the discriminator leads more and more without a limit."""
    model, log = gan(discriminator_margin=margin, max_images=max_images, **options), Log()
    fit(model, callbacks=[log], val_check_interval=1000, limit_val_batches=0, plugins=list(plugins))
    return model, log


def leads(log):
    return [values["real_logits"] - values["fake_logits"] for values in log.values]


@pytest.fixture(scope="module")
def margin():
    """A lead that some steps have and others not."""
    return sorted(leads(logged(None)[1]))[8]


def test_a_step_is_left_out_exactly_where_the_lead_is_above_the_margin(margin):
    model, log = logged(margin)
    start = weights(gan().discriminator)
    left_out = [lead > margin for lead in leads(log)]
    assert 2 < sum(left_out) < 14
    for number, (before, after) in enumerate(zip([start, *log.weights], log.weights, strict=False)):
        assert torch.equal(before, after) == left_out[number], number
    assert [values["skipped"] for values in log.values] == torch.tensor(left_out).cumsum(0).tolist()
    assert (model.images_seen, model.discriminator_updates, model.generator_updates) == (128, 16, 16)
    assert model.discriminator_skipped == sum(left_out)
    assert all("discriminator_gradient_norm" in values for values in log.values)


def test_without_a_margin_nothing_is_logged_of_it():
    model, log = logged(None)
    assert model.discriminator_skipped == 0
    assert not any("skipped" in values for values in log.values)


def test_a_margin_that_is_never_reached_changes_nothing():
    for one, other in zip(logged(None)[1].weights, logged(1e6)[1].weights, strict=True):
        assert torch.equal(one, other)


def test_the_generator_has_its_turns_while_the_discriminator_waits():
    model, log = logged(1e-9, discriminator_steps=2)
    assert model.generator_updates == 8
    assert model.discriminator_skipped >= 12
    assert not torch.equal(weights(model.generator), weights(gan().generator))
    assert [("generator_loss" in values) for values in log.values] == [False, True] * 8


@pytest.mark.parametrize("accumulate", [1, 4])
def test_microbatches_decide_together(margin, accumulate):
    _, log = logged(margin, accumulate=accumulate)
    _, whole = logged(margin)
    assert [values["skipped"] for values in log.values] == [values["skipped"] for values in whole.values]
    torch.testing.assert_close(log.weights[-1], whole.weights[-1], rtol=1e-4, atol=1e-5)


def test_adaptive_components_observe_steps_that_are_left_out(margin):
    listener = Listener()
    logged(margin, penalties={"listener": listener})
    assert len(listener.heard) == 16


def test_float16_is_left_out_too(margin):
    """Its scaler measures the gradients of each step, also where the optimizer is not called."""
    plugin = HalfPrecision("cpu")
    model, _ = logged(margin, plugins=[plugin])
    assert 2 < model.discriminator_skipped < 14
    assert plugin.scalers["discriminator"].state_dict()["_growth_tracker"] == 16


def test_a_resumed_run_counts_on(margin, tmp_path):
    _, log = logged(margin)
    path = tmp_path / "half.ckpt"
    half = gan(discriminator_margin=margin, max_images=128)
    fit(half, callbacks=[SaveAndStop(path, 64)], val_check_interval=1000, limit_val_batches=0)
    again = gan(discriminator_margin=margin, max_images=128)
    checkpoint = torch.load(path, weights_only=True)
    again.on_load_checkpoint(checkpoint)
    assert again.discriminator_skipped == half.discriminator_skipped == log.values[7]["skipped"]
    del checkpoint["medsynth"]["discriminator_skipped"]  # as earlier versions wrote it
    gan().on_load_checkpoint(checkpoint)


def test_two_processes_decide_as_one(margin, tmp_path):
    one = trained(0, 1, discriminator_margin=margin, max_images=96)
    assert 0 < one["outputs"][-1]["skipped"] < len(one["outputs"])
    for other in in_processes(lambda rank: trained(rank, WORLD, discriminator_margin=margin, max_images=96), tmp_path):
        assert [it["skipped"] for it in other["outputs"]] == [it["skipped"] for it in one["outputs"]]
        torch.testing.assert_close(other["discriminator"], one["discriminator"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [0, -1.0])
def test_a_margin_has_to_be_above_zero(value):
    with pytest.raises(InputError, match=rf"task\.discriminator_margin={value} must be above 0, or null"):
        gan(discriminator_margin=value)
