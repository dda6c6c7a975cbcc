"""task=vae: the step against the same step by hand, reconstructions, options, and whole runs that are resumed."""

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from medsynth.configuration.combinations import check_combinations
from medsynth.contracts import InputError, counter_seed
from medsynth.encoder.dcgan import DCGANEncoder
from medsynth.generator.trained import load_generator
from medsynth.schedule.constant import Constant
from medsynth.schedule.linear import Linear
from medsynth.vae import VAE
from medsynth.vaegan import VAEGAN
from tests.command import TINY, run
from tests.test_conf import compose
from tests.test_gan import Images, PixelMean, PlainGenerator, descend, fit, weights
from tests.test_resume import LONGER, assert_same, stop_at


def encoder(**options):
    return DCGANEncoder(
        **{"image_size": 16, "channels": 1, "latent_dim": 4, "width": 4, "normalization": "none"} | options
    )


def vae(**options):
    torch.manual_seed(5)
    settings = {"metrics": PixelMean(), "max_images": 16, "generator_optimizer": lambda p: torch.optim.SGD(p, lr=1e-3)}
    networks = {"generator": PlainGenerator(options.get("num_classes", 0)), "encoder": encoder()}
    return VAE(**networks | settings | options)


def test_two_steps_are_those_of_the_evidence_lower_bound():
    """Against PyTorch's distributions: the log likelihood of variance 1 and half the divergence from the prior."""
    model = vae(beta=0.5)
    generator, encode = copy.deepcopy(model.generator), copy.deepcopy(model.encoder)
    parameters = [*generator.linear.parameters(), *encode.parameters()]
    data = Images()
    fit(model, data)
    for step in range(2):
        real = data.images[8 * step : 8 * step + 8]
        torch.manual_seed(counter_seed("step", 0, 8 * step, 0))
        noise = torch.randn(8, 4)
        mean, log_variance = encode(real)
        posterior = Normal(mean, log_variance.exp().sqrt())
        made = generator(posterior.mean + posterior.stddev * noise)
        divergence = kl_divergence(posterior, Normal(torch.zeros(8, 4), torch.ones(8, 4))).sum(dim=1)
        bound = Normal(made, 1).log_prob(real).sum(dim=(1, 2, 3)) - 0.5 * divergence
        descend(-bound.mean() / 100, parameters)  # its rate is 0.1
    torch.testing.assert_close(weights(model.generator.linear), weights(generator.linear), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights(model.encoder), weights(encode), rtol=1e-4, atol=1e-6)
    assert model.generator_updates == model.steps == 2


def test_microbatches_do_not_change_the_mathematics():
    whole, divided = vae(), vae(accumulate=4)
    for model in (whole, divided):
        fit(model)
    torch.testing.assert_close(weights(whole.encoder), weights(divided.encoder), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights(whole.generator), weights(divided.generator), rtol=1e-4, atol=1e-6)


def test_a_validation_reconstructs_by_the_averaged_networks():
    model = vae(max_images=16, num_classes=2, ema_rampup=2.0)  # so that they lag behind
    trainer = fit(model, val_check_interval=2)
    real = Images().images[:20]
    mean, _ = model.ema_encoder.module(real)
    made = model.ema_generator.module(mean, torch.arange(20) % 2)
    assert trainer.callback_metrics["val/reconstruction"].item() == pytest.approx((made - real).abs().mean().item())
    squared = (made - real).square().mean().item()
    assert trainer.callback_metrics["val/reconstruction_mse"].item() == pytest.approx(squared)
    assert (weights(model.ema_encoder.module) - weights(model.encoder)).norm() > 1e-3
    assert torch.equal(model.reconstructions[0], real)
    torch.testing.assert_close(model.reconstructions[1], made)


def test_beta_can_be_scheduled_and_the_average_of_the_encoder_follows_that_of_the_generator():
    schedules = {"task": {"beta": Linear(start=0.0, end=1.0, images=16), "ema_half_life": Constant(5.0)}}
    model = vae(schedules=schedules)
    fit(model, limit_val_batches=0)
    assert model.beta == 0.5
    assert model.ema_encoder.half_life == model.ema_generator.half_life == 5.0


@pytest.mark.slow
def test_a_vae_learns_to_reconstruct_and_to_generate():
    model = vae(beta=0.1, max_images=6400, generator_optimizer=lambda p: torch.optim.Adam(p, lr=1e-3))
    before = (model.reconstruct(Images().images) - Images().images).abs().mean()
    trainer = fit(model, val_check_interval=100)
    assert trainer.callback_metrics["val/reconstruction"] < 0.6 * before
    assert trainer.callback_metrics["val/distance"] < 0.05


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"beta": -1.0}, "task.beta=-1.0 must be 0 or more"),
        ({"accumulate": 0}, "task.accumulate=0"),
        ({"encoder": encoder(latent_dim=5)}, "encoder.latent_dim=5 differs from generator.latent_dim=4"),
        ({"encoder": nn.Identity()}, "encoder: Identity has no latent_dim"),
        ({"generator": nn.Identity()}, "generator: Identity has no latent_dim"),
        ({"metrics": object()}, "metrics: object has no"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value[:20],
)
def test_what_cannot_be_trained_is_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        vae(**options)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["task=vae", "loss=hinge"], "loss= has no effect on task=vae: .* choose task=.* or synthesis or .* or vaegan"),
        (["task=vae", "penalty=[r1,drift]"], "penalty= has no effect"),
        (["task=vae", "augment=ada"], "augment= has no effect"),
        (["task=vae", "discriminator=sngan"], "discriminator= has no effect"),
        (["task=vae", "minibatch=std"], "minibatch= has no effect"),
        (["task=vae", "generator_penalty=mode_seeking"], "generator_penalty= has no effect"),
        (["task=vae", "experiment=r3gan"], "discriminator= has no effect .* or an experiment that chooses it"),
        (["task=vae", "optimizer@discriminator_optimizer=adam"], "discriminator_optimizer= has no effect"),
        (["encoder=dcgan"], "encoder= has no effect on task=synthesis: .* choose task=vae or vaegan"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_choices_without_an_effect_on_the_task_are_refused(overrides, sentence):
    with pytest.raises(InputError, match=sentence):
        check_combinations(compose(*overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["task=vae"],
        ["task=vae", "generator=mlp"],
        ["task=vaegan", "penalty=[r1,drift]", "augment=ada", "minibatch=std"],
    ],
    ids=" ".join,
)
def test_other_choices_are_accepted(overrides):
    check_combinations(compose(*overrides))


def test_a_backbone_has_no_effect_on_a_task_without_a_discriminator(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, "task=vae", "backbone=mini")
    assert code == 1
    assert "backbone=mini has no effect on a task without a discriminator: choose discriminator=" in err


def test_a_plan_knows_no_step_of_an_encoder(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, "task=vae", command="plan")
    assert code == 1
    assert "medsynth plan knows the step of task=synthesis alone: leave out task=" in err


@pytest.mark.parametrize(
    ("task", "step"),
    [pytest.param("vae", VAE, id="vae", marks=pytest.mark.slow), pytest.param("vaegan", VAEGAN, id="vaegan")],
)
def test_a_run_that_was_stopped_equals_an_uninterrupted_one(task, step, monkeypatch, capsys, tmp_path):
    """And it is reported with its reconstructions, and its generator generates."""
    monkeypatch.chdir(tmp_path)
    options = [*LONGER, f"task={task}", "encoder.width=8", "task.accumulate=2", "report=true", "figures=false"]
    assert run(monkeypatch, capsys, *options, "hydra.run.dir=whole")[0] == 0
    arguments = [*options, "hydra.run.dir=stopped"]
    for images, validating in ((48, False), (96, True)):
        with monkeypatch.context() as patch:
            stop_at(patch, images, 15, validating=validating, step=step)
            code, _, err = run(monkeypatch, capsys, *arguments)
        assert f"Stopped after {images} images" in err
        arguments = ["resume=stopped"]
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 0, err
    assert_same(tmp_path / "stopped", tmp_path / "whole")
    page = (tmp_path / "whole" / "report.html").read_text()
    assert "their reconstructions by encoder and generator" in page
    assert "val/reconstruction" in page
    assert load_generator(tmp_path / "whole").sample(2, seed=0).shape == (2, 1, 16, 16)
