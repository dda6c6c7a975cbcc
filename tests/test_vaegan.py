"""task=vaegan: each network's step against the same step by hand, in all its forms."""

import copy

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import logsigmoid

from medsynth.augment.diffaugment import DiffAugment
from medsynth.contracts import InputError, counter_seed
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.generator_penalty.mode_seeking import ModeSeeking
from medsynth.lightning.half_precision import HalfPrecision
from medsynth.loss.minimax import Minimax
from medsynth.loss.relativistic_pairing import RelativisticPairing
from medsynth.penalty.r1 import R1
from medsynth.schedule.linear import Linear
from medsynth.vaegan import VAEGAN
from tests.test_gan import Images, PixelMean, PlainGenerator, descend, fit, transfer, weights
from tests.test_precision import Values
from tests.test_vae import encoder


def vaegan(**options):
    torch.manual_seed(5)
    classes = options.get("num_classes", 0)
    discriminator = DCGANDiscriminator(
        image_size=16, channels=1, width=8, normalization="none", num_classes=classes, packing=options.pop("packing", 1)
    )
    settings = {
        "generator": PlainGenerator(classes),
        "discriminator": discriminator,
        "encoder": encoder(),
        "loss": Minimax(),
        "penalties": {},
        "metrics": PixelMean(),
        "max_images": 16,
        "generator_optimizer": lambda p: torch.optim.SGD(p, lr=0.1),
        "discriminator_optimizer": lambda p: torch.optim.SGD(p, lr=0.1),
    }
    return VAEGAN(**settings | options)


def test_two_steps_are_those_of_the_paper():
    """Larsen et al. 2016, algorithm 1, with the mean of both kinds of generated images in the adversarial loss."""
    model = vaegan(beta=0.7, gamma=0.3)
    networks = [copy.deepcopy(network) for network in (model.generator, model.discriminator, model.encoder)]
    generator, discriminator, encode = networks
    data = Images()
    fit(model, data)
    for step in range(2):
        real = data.images[8 * step : 8 * step + 8]
        torch.manual_seed(counter_seed("step", 0, 8 * step, 0))
        noise, prior = torch.randn(8, 8).chunk(2, dim=1)
        posterior = Normal(encode(real)[0], encode(real)[1].exp().sqrt())
        made, samples = generator(posterior.mean + posterior.stddev * noise), generator(prior)

        def adversarial(made=made, samples=samples, real=real):
            fakes = [logsigmoid(-discriminator(images)).mean() for images in (made, samples)]
            return logsigmoid(discriminator(real)).mean() + sum(fakes) / 2

        descend(-adversarial(made.detach(), samples.detach()), list(discriminator.parameters()))
        likelihood = Normal(discriminator.layers(made), 1).log_prob(discriminator.layers(real)).sum(dim=1).mean()
        divergence = kl_divergence(posterior, Normal(torch.zeros(8, 4), torch.ones(8, 4))).sum(dim=1).mean()
        of_encoder, of_generator = 0.7 * divergence - likelihood, adversarial() - 0.3 * likelihood
        parameters = list(encode.parameters()), list(generator.linear.parameters())
        gradients = [
            torch.autograd.grad(loss, own, retain_graph=True)
            for loss, own in zip((of_encoder, of_generator), parameters, strict=True)
        ]
        with torch.no_grad():
            for own, slopes in zip(parameters, gradients, strict=True):
                for parameter, slope in zip(own, slopes, strict=True):
                    parameter -= 0.1 * slope
    for ours, theirs in zip(
        (model.generator.linear, model.discriminator, model.encoder),
        (generator.linear, discriminator, encode),
        strict=True,
    ):
        torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-4, atol=1e-6)


def built(options):
    return {name: value() if name == "discriminator" else value for name, value in options.items()}


@pytest.mark.parametrize(
    "options",
    [
        {"num_classes": 2},
        {"packing": 2},
        {"loss": RelativisticPairing(), "penalties": {"r1": R1()}, "generator_penalties": {"ms": ModeSeeking()}},
        {"discriminator": transfer, "discriminator_steps": 2},
        {"top_k": 0.5},
    ],
    ids=",".join,
)
def test_what_a_gan_can_do_goes_with_an_encoder(options):
    whole, divided = (vaegan(**built(options), accumulate=count) for count in (1, 2))
    start = weights(whole.encoder).clone()
    for model in (whole, divided):
        fit(model)
        assert (model.images_seen, model.discriminator_updates) == (16, 2)
    assert not torch.equal(weights(whole.encoder), start)
    if not {"top_k", "generator_penalties", "discriminator"} & options.keys():  # which see microbatches as a whole
        torch.testing.assert_close(weights(whole.encoder), weights(divided.encoder), rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(weights(whole.generator), weights(divided.generator), rtol=1e-3, atol=1e-5)


def test_reconstructions_are_compared_without_augmentation():
    """Translation moves an image and its reconstruction apart; their error does not see it."""
    errors = []
    for augmentations in ({}, {"diffaugment": DiffAugment(policy=["translation"], translation=0.5)}):
        model, values = vaegan(augmentations=augmentations, max_images=8), Values()
        model.optimizer_factories["discriminator"] = lambda p: torch.optim.SGD(p, lr=0.0)
        fit(model, limit_val_batches=0, callbacks=[values])
        errors.append(values.steps[0]["reconstruction"])
    assert errors[1] == pytest.approx(errors[0], rel=1e-5)


def test_float16_agrees_with_float32():
    steps = []
    for options in ({}, {"plugins": [HalfPrecision("cpu")]}):
        model, values = (
            vaegan(max_images=32, gamma=0.1, generator_optimizer=lambda p: torch.optim.SGD(p, lr=1e-3)),
            Values(),
        )
        fit(model, limit_val_batches=0, callbacks=[values], **options)
        steps.append(values.steps)
    for exact, half in zip(*steps, strict=True):
        for name in exact:
            assert half[name] == pytest.approx(exact[name], rel=1e-2, abs=1e-2), name


def test_weights_can_be_scheduled():
    line = Linear(start=0.0, end=1.0, images=16)
    model = vaegan(schedules={"task": {"beta": line, "gamma": line, "top_k": Linear(start=1.0, end=0.5, images=16)}})
    fit(model, limit_val_batches=0)
    assert (model.beta, model.gamma, model.top_k) == (0.5, 0.5, 0.75)


@pytest.mark.slow
def test_a_vae_gan_learns_to_reconstruct():
    adam = {f"{name}_optimizer": lambda p: torch.optim.Adam(p, lr=1e-3) for name in ("generator", "discriminator")}
    model = vaegan(beta=0.1, gamma=0.01, max_images=6400, **adam)
    before = (model.reconstruct(Images().images) - Images().images).abs().mean()
    trainer = fit(model, val_check_interval=100)
    assert trainer.callback_metrics["val/reconstruction"] < 0.7 * before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"beta": -0.5}, "task.beta=-0.5 must be 0 or more"),
        ({"gamma": -0.5}, "task.gamma=-0.5 must be 0 or more"),
        ({"top_k": 0.0}, "task.top_k=0.0"),
        ({"encoder": encoder(latent_dim=5)}, "encoder.latent_dim=5 differs"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value[:20],
)
def test_what_cannot_be_trained_is_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        vaegan(**options)
