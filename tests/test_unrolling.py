"""The unrolled discriminator against finite differences of the paper's equations, and in the step of a GAN."""

import copy

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from medsynth.contracts import InputError, counter_seed
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.unrolling import UnrolledHead
from medsynth.loss.non_saturating import NonSaturating
from medsynth.loss.relativistic_pairing import RelativisticPairing
from tests.test_gan import Images, fit, gan, transfer, weights


class Curved(nn.Module):
    """Logits tanh(x . w) + b, with an ``untrained`` factor; float64."""

    has_frozen_features = False

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7, -0.4, 0.2], dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))
        self.factor = nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def head(self, features, labels=None):
        return (self.factor * torch.tanh(features[0] @ self.weight) + self.bias).unsqueeze(1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def unrolled_loss(fake, real, *, steps, lr, weight=(0.7, -0.4, 0.2), bias=0.1, factor=1.3):
    """The generator's non-saturating loss at the head after ``steps``, whose gradients are written out."""
    weight = np.array(weight)
    for _ in range(steps):
        slopes, logits = {}, {}
        for name, x in (("real", real), ("fake", fake)):
            inner = np.tanh(x @ weight)
            logits[name], slopes[name] = factor * inner + bias, factor * (1 - inner**2)
        # L = mean softplus(-real logits) + mean softplus(fake logits)
        by_real, by_fake = -sigmoid(-logits["real"]) / len(real), sigmoid(logits["fake"]) / len(fake)
        by_weight = (by_real * slopes["real"]) @ real + (by_fake * slopes["fake"]) @ fake
        weight, bias = weight - lr * by_weight, bias - lr * (by_real.sum() + by_fake.sum())
    return np.log1p(np.exp(-(factor * np.tanh(fake @ weight) + bias))).mean()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_its_gradient_is_that_of_the_equations(steps):
    """Central differences of equations 7 to 9 in NumPy, by each number of each generated image."""
    random = np.random.default_rng(0)
    real, fake = random.normal(size=(4, 3)), random.normal(size=(4, 3))
    discriminator, images = Curved(), torch.from_numpy(fake).requires_grad_(True)
    trained = [discriminator.weight, discriminator.bias]
    unrolled = UnrolledHead(discriminator, trained, NonSaturating(), steps=steps, lr=0.8)
    head = unrolled(real=(torch.from_numpy(real),), fake=(images,), labels=None)
    loss = NonSaturating().generator(real=None, fake=head((images,), None))
    np.testing.assert_allclose(loss.item(), unrolled_loss(fake, real, steps=steps, lr=0.8), rtol=1e-12)
    (gradient,) = torch.autograd.grad(loss, images)
    numeric = np.zeros_like(fake)
    for index in np.ndindex(fake.shape):
        step = np.zeros_like(fake)
        step[index] = 1e-6
        ends = [unrolled_loss(fake + sign * step, real, steps=steps, lr=0.8) for sign in (1, -1)]
        numeric[index] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-9)
    assert discriminator.weight.grad is None
    np.testing.assert_array_equal(discriminator.weight.detach(), [0.7, -0.4, 0.2])


def first_step(**options):
    """(the model after one step, the generator's gradient in it)."""
    gradients = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, trainer, model, optimizer):
            if optimizer is trainer.optimizers[0]:
                gradients.append(
                    torch.cat([p.grad.flatten() for p in model.generator.parameters() if p.grad is not None])
                )

    model = gan(max_images=8, **options)
    fit(model, callbacks=[Watch()], limit_val_batches=0)
    return model, gradients[0]


LOSSES = pytest.mark.parametrize("loss", [NonSaturating(), RelativisticPairing()], ids=["plain", "relativistic"])


def first_noise():
    torch.manual_seed(counter_seed("step", 0, 0, 0))
    return torch.randn(8, 4)


@LOSSES
def test_the_step_descends_on_the_loss_at_the_unrolled_head(loss):
    """Against plain steps on a copy of the discriminator for the value, and differences for the gradient."""
    model, gradient = first_step(unrolled_steps=2, unrolled_lr=0.5, loss=loss)
    discriminator, generator = copy.deepcopy(model.discriminator).double(), copy.deepcopy(gan().generator).double()
    real, z = Images().images[:8].double(), first_noise().double()

    def value(vector):
        nn.utils.vector_to_parameters(vector, generator.parameters())
        ahead = copy.deepcopy(discriminator)
        fake = generator(z).detach()
        for _ in range(2):
            logits = [ahead.head(ahead.features(images)) for images in (real, fake)]
            ahead.zero_grad()
            loss.discriminator(real=logits[0], fake=logits[1]).backward()
            torch.optim.SGD(ahead.parameters(), lr=0.5).step()
        logits = [ahead.head(ahead.features(images)) for images in (real, fake)]
        return loss.generator(real=logits[0], fake=logits[1]).item()

    start = nn.utils.parameters_to_vector(generator.parameters()).detach()
    direction = torch.zeros_like(start)
    direction[-len(gradient) :] = gradient.double() / gradient.norm()
    slope = (value(start + 1e-5 * direction) - value(start - 1e-5 * direction)) / 2e-5
    assert slope == pytest.approx(gradient.norm().item(), rel=1e-3)


@LOSSES
def test_the_step_on_frozen_features(loss):
    """The features of real images come from the cache or from the frozen part, those of fakes have a graph."""
    model, gradient = first_step(discriminator=transfer(momentum=0.0), unrolled_steps=2, unrolled_lr=0.5, loss=loss)
    discriminator, generator = copy.deepcopy(model.discriminator), copy.deepcopy(gan().generator)
    trained = [parameter for group in discriminator.parameter_groups() for parameter in group["params"]]
    real, fake = discriminator.features(Images().images[:8]), discriminator.features(generator(first_noise()))
    head = UnrolledHead(discriminator, trained, loss, steps=2, lr=0.5)(real=real, fake=fake, labels=None)
    value = loss.generator(real=head(real, None), fake=head(fake, None))
    expected = torch.autograd.grad(value, list(generator.linear.parameters()))
    torch.testing.assert_close(gradient, torch.cat([slope.flatten() for slope in expected]), rtol=1e-3, atol=1e-5)


def discriminator_with(normalization):
    torch.manual_seed(0)
    return DCGANDiscriminator(image_size=16, channels=1, width=8, normalization=normalization)


@pytest.mark.parametrize("normalization", ["none", "batch", "spectral"])
def test_looking_ahead_leaves_the_discriminator_as_it_is(normalization):
    """Its weights are those of a plain step; no step ahead changes weights, batch statistics or singular vectors."""
    plain, plain_gradient = first_step(discriminator=discriminator_with(normalization))
    ahead, gradient = first_step(discriminator=discriminator_with(normalization), unrolled_steps=3)
    assert torch.equal(weights(plain.discriminator), weights(ahead.discriminator))
    assert not torch.allclose(gradient, plain_gradient, rtol=1e-2)
    _, nearly = first_step(discriminator=discriminator_with(normalization), unrolled_steps=3, unrolled_lr=1e-9)
    if normalization != "spectral":  # whose estimate of the singular vectors is another one after more steps
        torch.testing.assert_close(nearly, plain_gradient, rtol=2e-2, atol=1e-4)
    before = copy.deepcopy(ahead.discriminator.state_dict())
    images = Images().images
    head = ahead.unrolled_head(real=(images[:8],), fake=(images[8:16],), labels=None)
    head((images[:8],), None).sum().backward()
    for name, value in ahead.discriminator.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(parameter.grad is not None for parameter in ahead.discriminator.parameters())


def test_labels_reach_the_unrolled_head():
    model, _ = first_step(num_classes=2, unrolled_steps=1)
    assert model.generator_updates == 1


def test_heads_without_second_derivatives_are_refused():
    class Unsmooth(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return gradient * 2

    model = gan(unrolled_steps=1)
    head = model.discriminator.head
    model.discriminator.head = lambda features, labels=None: Unsmooth.apply(head(features, labels).square())
    with pytest.raises(InputError, match=r"task\.unrolled_steps=1 needs second derivatives .* task\.unrolled_steps=0,"):
        fit(model)


def test_a_head_that_is_differentiated_twice_is_not_compiled(monkeypatch):
    compiled = []
    monkeypatch.setattr(
        "medsynth.lightning.adversarial.compile_networks", lambda *_, head, generate: compiled.append(head)
    )
    for steps in (0, 1):
        fit(gan(compile=True, unrolled_steps=steps, max_images=8), limit_val_batches=0)
    assert compiled == [True, False]


@pytest.mark.parametrize(("option", "value"), [("unrolled_steps", -1), ("unrolled_lr", 0.0)])
def test_options_out_of_range(option, value):
    with pytest.raises(InputError, match=rf"task\.{option}={value} must be"):
        gan(**{option: value})
