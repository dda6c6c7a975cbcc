"""The updates of both networks, against the same updates by hand; counting, EMA, accumulation, stopping, resuming."""

import copy
import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import softplus

from medsynth.contracts import InputError, counter_seed, noise
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.transfer import TransferDiscriminator
from medsynth.gan import GAN, best_rows
from medsynth.generator.mlp import MLPGenerator
from medsynth.lightning.preparation import evaluating
from medsynth.lightning.updating import TrainingDiverged
from medsynth.loss.hinge import Hinge
from medsynth.loss.non_saturating import NonSaturating
from medsynth.loss.wasserstein import Wasserstein
from medsynth.penalty.lecam import LeCam
from medsynth.penalty.r1 import R1
from medsynth.penalty.r2 import R2
from medsynth.penalty.wasserstein_gp import WassersteinGradientPenalty
from medsynth.schedule.linear import Linear
from tests.test_discriminator import TinyBackbone


class PlainGenerator(nn.Module):
    """No batch normalization, so that a batch may be computed in microbatches."""

    latent_dim = 4

    def __init__(self, num_classes=0):
        super().__init__()
        self.embedding = nn.Embedding(max(num_classes, 1), 4)
        self.linear = nn.Linear(4, 16 * 16)

    def forward(self, z, labels=None):
        z = z if labels is None else z + self.embedding(labels)
        return torch.tanh(self.linear(z)).view(-1, 1, 16, 16)


class PixelMean:
    """Metrics with the contract's shape: the distance of the mean intensities."""

    def __init__(self):
        self.real, self.fake, self.has_real = [], [], False

    @staticmethod
    def logged_measures(config):
        return {"distance": "lower"}

    def to(self, device):
        return self

    def reset(self):
        self.fake = []

    def update(self, images, *, real):
        (self.real if real else self.fake).append(images.clone())
        self.has_real = self.has_real or real

    def compute(self):
        real, fake = torch.cat(self.real), torch.cat(self.fake)
        return {"distance": abs(real.mean() - fake.mean()).item(), "num_real": len(real), "num_fake": len(fake)}


class Images(pl.LightningDataModule):
    """64 smooth random images of two classes."""

    def __init__(self, batch_size=8, size=64):
        super().__init__()
        coarse = torch.rand(size, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
        self.images = nn.functional.interpolate(coarse, 16, mode="bilinear")
        self.batch_size = batch_size

    def items(self):
        return [{"image": image, "label": i % 2, "index": i} for i, image in enumerate(self.images)]

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.items(), self.batch_size, drop_last=True)

    def val_dataloader(self):
        return torch.utils.data.DataLoader(self.items()[:20], 8)

    def calibration_batches(self, count):
        return [{"image": images} for images in self.images.split(8)[:count]]

    images_are_fixed = True

    @property
    def num_train(self):
        return len(self.images)

    def ordered_batches(self):
        return torch.utils.data.DataLoader(self.items(), 20)


def gan(generator=None, discriminator=None, **options):
    torch.manual_seed(5)
    settings = {"loss": NonSaturating(), "penalties": {}, "metrics": PixelMean(), "max_images": 32} | options
    return GAN(
        generator=generator or PlainGenerator(options.get("num_classes", 0)),
        discriminator=discriminator
        or DCGANDiscriminator(
            image_size=16, channels=1, width=8, normalization="none", num_classes=options.get("num_classes", 0)
        ),
        generator_optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        discriminator_optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        **settings,
    )


def fit(model, data=None, **options):
    settings = {
        "max_epochs": -1,
        "accelerator": "cpu",
        "val_check_interval": 4,
        "check_val_every_n_epoch": None,
        "enable_checkpointing": False,
    } | options
    trainer = pl.Trainer(
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )
    trainer.fit(model, data or Images())
    return trainer


def transfer(**options):
    return TransferDiscriminator(backbone=TinyBackbone(), **options)


def weights(module):
    return torch.cat([value.detach().flatten() for value in module.parameters()])


@pytest.mark.parametrize("frozen", [False, True], ids=["plain", "frozen features"])
def test_two_steps_are_the_textbook_steps(frozen):
    """Against the loop that every tutorial writes, which runs the discriminator again for each network's update."""
    model = gan(discriminator=transfer() if frozen else None, max_images=16)
    generator, discriminator = copy.deepcopy(model.generator), copy.deepcopy(model.discriminator)
    data = Images()
    fit(model, data)

    discriminator.calibrate([batch["image"] for batch in data.calibration_batches(8)])
    trained = [p for p in discriminator.parameters() if p.requires_grad]
    linear = list(generator.linear.parameters())
    for step in range(2):
        real = data.images[8 * step : 8 * step + 8]
        torch.manual_seed(counter_seed("step", 0, 8 * step, 0))
        z = torch.randn(8, 4)
        loss = softplus(-discriminator(real)).mean() + softplus(discriminator(generator(z).detach())).mean()
        descend(loss, trained)
        for parameter in trained:
            parameter.requires_grad_(False)
        descend(softplus(-discriminator(generator(z))).mean(), linear)
        for parameter in trained:
            parameter.requires_grad_(True)

    torch.testing.assert_close(weights(model.discriminator), weights(discriminator), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(weights(model.generator), weights(generator), rtol=1e-5, atol=1e-7)


def descend(loss, parameters):
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= 0.1 * gradient


class Counting(nn.Module):
    """Counts the images that pass."""

    def __init__(self, module):
        super().__init__()
        self.module, self.images, self.latent_dim = module, 0, getattr(module, "latent_dim", None)

    def forward(self, x, *labels):
        self.images += len(x)
        return self.module(x, *labels)


def test_each_image_passes_the_frozen_part_once():
    discriminator = transfer()
    discriminator.backbone.layers = Counting(discriminator.backbone.layers)
    model = gan(generator=Counting(PlainGenerator()), discriminator=discriminator, max_images=32)
    fit(model, val_check_interval=1000, limit_val_batches=0)
    assert model.generator.images == 32
    calibration = 64
    assert discriminator.backbone.layers.images - calibration == 2 * 32  # 32 real and 32 generated ones


@pytest.mark.parametrize(("max_images", "batch_size"), [(32, 8), (100, 8), (6, 8), (200, 16)])
def test_trains_exactly_max_images(max_images, batch_size):
    """Over several epochs of 64, with a last batch cut short; and validates at the end."""
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
            seen.append(model.images_seen)

    model = gan(max_images=max_images)
    trainer = fit(model, Images(batch_size), callbacks=[Watch()], val_check_interval=1000)
    assert model.images_seen == max_images
    assert seen == [min(batch_size * (i + 1), max_images) for i in range(math.ceil(max_images / batch_size))]
    assert trainer.callback_metrics["val/num_fake"] == 20


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_discriminator_steps(steps):
    model = gan(discriminator_steps=steps, max_images=8 * 7)
    before = weights(model.generator).clone()
    fit(model)
    assert (model.discriminator_updates, model.generator_updates) == (7, 7 // steps)
    assert not torch.equal(weights(model.generator), before)


class Pairing:
    """A relativistic loss with the contract's shape, which notes what it was given."""

    relativistic, boundary = True, None

    def __init__(self):
        self.real = []

    def discriminator(self, *, real, fake):
        return softplus(fake - real).mean()

    def generator(self, *, real, fake):
        self.real.append(real)
        return softplus(real - fake).mean()


def test_a_relativistic_generator_is_given_the_real_logits_of_the_updated_head():
    model = gan(loss=Pairing(), max_images=8)
    data = Images()
    fit(model, data)
    (real,) = model.loss.real
    assert not real.requires_grad
    torch.testing.assert_close(real, model.discriminator(data.images[:8]))


class Listener:
    """An adaptive penalty of the logits with the contract's shape: of state it has a sum, which is also its weight."""

    at, interval = "logits", 1

    def __init__(self):
        self.heard, self.total = [], 0.0

    def __call__(self, *, real, fake):
        return 0.01 * self.total * (real.square().mean() + fake.square().mean())

    def observe(self, *, real_logits, fake_logits, real_signs):
        self.heard.append((real_logits, fake_logits, real_signs))
        self.total += real_logits - fake_logits
        return {"total": self.total}

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("loss", [NonSaturating, Wasserstein])
def test_adaptive_components_observe_the_logits(loss, accumulate):
    """Before its update, on the whole batch; signs are against the loss's boundary, else against generated images."""
    model, data = gan(loss=loss(), penalties={"listener": Listener()}, max_images=8, accumulate=accumulate), Images()
    torch.manual_seed(counter_seed("step", 0, 0, 0))
    z = torch.randn(8, 4)
    with torch.no_grad():
        real, fake = model.discriminator(data.images[:8]), model.discriminator(model.generator(z))
    fit(model, data)
    signs = (real - (0 if loss is NonSaturating else fake)).sign()
    said = [values.mean().item() for values in (real, fake, signs)]
    assert model.penalties["listener"].heard == [pytest.approx(said, abs=1e-6)]


def test_adaptive_components_change_the_step_and_resume_from_a_checkpoint(tmp_path):
    path = tmp_path / "half.ckpt"
    listening, plain = gan(penalties={"listener": Listener()}, max_images=64), gan(max_images=32)
    fit(listening, callbacks=[SaveAndStop(path, 32)], val_check_interval=1000, limit_val_batches=0)
    fit(plain, limit_val_batches=0)
    assert not torch.equal(weights(listening.discriminator), weights(plain.discriminator))
    again = gan(penalties={"listener": Listener()})
    again.on_load_checkpoint(torch.load(path, weights_only=True))
    assert again.penalties["listener"].total == listening.penalties["listener"].total != 0
    with pytest.raises(InputError, match=r"a training with \[listener\] where this one has \[\]"):
        gan().on_load_checkpoint(torch.load(path, weights_only=True))


def test_adaptive_components_need_different_names():
    with pytest.raises(InputError, match="both have a component named same"):
        gan(penalties={"same": Listener()}, augmentations={"same": Darker()})


class Darker:
    """An augmentation with the contract's shape."""

    def __init__(self):
        self.batches = []

    def __call__(self, images):
        self.batches.append(images.detach())
        return images - torch.rand(len(images), 1, 1, 1)


def test_real_and_generated_images_are_augmented_once_and_serve_both_networks():
    darker, head_saw = Darker(), []
    model = gan(augmentations={"darker": darker}, max_images=16)
    model.discriminator.register_forward_pre_hook(lambda *_: pytest.fail("the step calls features and head"))
    original = model.discriminator.head
    model.discriminator.head = lambda features, labels: (
        head_saw.append(features[0].detach()) or original(features, labels)
    )
    data = Images()
    fit(model, data, limit_val_batches=0)
    assert len(darker.batches) == 2 * 2  # generated and real images, two steps
    torch.testing.assert_close(darker.batches[1], data.images[:8])
    real, fake, fake_again = head_saw[:3]
    torch.testing.assert_close(fake, fake_again)
    for plain, seen in ((darker.batches[0], fake), (darker.batches[1], real)):
        shift = (plain - seen).flatten(1)
        assert (shift.std(dim=1) < 1e-6).all()
        assert shift.mean(dim=1).std() > 0.1, "each image draws its own"


def test_scheduled_components_advance_with_the_images_seen():
    class Later(Pairing):
        def __init__(self):
            super().__init__()
            self.advanced = []

        def advance(self, images_seen):
            self.advanced.append(images_seen)

    model = gan(loss=Later(), max_images=32)
    fit(model)
    assert model.loss.advanced == [0, 8, 16, 24]


def test_learning_rate_factors_of_the_discriminators_groups():
    slow, fast = gan(max_images=8), gan(max_images=8)
    groups = slow.discriminator.parameter_groups
    slow.discriminator.parameter_groups = lambda: [group | {"lr_factor": 0.1} for group in groups()]
    before = weights(slow.discriminator).clone()
    fit(slow)
    fit(fast)
    moved = [weights(model.discriminator) - before for model in (slow, fast)]
    torch.testing.assert_close(moved[0], 0.1 * moved[1], rtol=1e-3, atol=1e-7)


def test_options_that_an_optimizer_refuses_are_named():
    model = gan()
    model.optimizer_factories["generator"] = lambda p: torch.optim.Adam(p, lr=-1.0)
    with pytest.raises(InputError, match=r"generator_optimizer cannot be built .*learning rate"):
        fit(model)


def test_a_head_without_second_derivative_is_refused_before_the_first_step():
    """PyTorch has no derivative of the hard sigmoid's derivative."""
    model = gan(penalties={"r1": R1(gamma=1.0, interval=16)})
    model.discriminator.layers.append(nn.Hardsigmoid())
    before = weights(model).clone()
    with pytest.raises(InputError, match=r"penalty=r1 needs second derivatives of .*DCGANDiscriminator.*penalty=none"):
        fit(model)
    torch.testing.assert_close(weights(model), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "options", [{}, {"num_classes": 2}, {"gradient_clip_norm": 5e-4}, {"loss": Pairing()}], ids=" ".join
)
def test_accumulation_changes_nothing_but_memory(options):
    """In microbatches of 3, 3 and 2 images."""
    whole, accumulated = gan(accumulate=1, **options), gan(accumulate=3, **options)
    for model in (whole, accumulated):
        model.optimizer_factories["generator"] = lambda p: torch.optim.SGD(p, lr=100.0)
        fit(model, limit_val_batches=0)
    torch.testing.assert_close(weights(accumulated.generator), weights(whole.generator), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weights(accumulated.discriminator), weights(whole.discriminator), rtol=1e-4, atol=1e-6)


def test_gradient_clip_bounds_both_networks():
    """With plain gradient descent of rate 0.1, a step is as long as 0.1 times the clipped gradient."""
    model = gan(gradient_clip_norm=1e-4, max_images=8)
    networks = (model.generator, model.discriminator)
    before = [weights(network).clone() for network in networks]
    fit(model)
    for network, start in zip(networks, before, strict=True):
        assert (weights(network) - start).norm().item() == pytest.approx(0.1 * 1e-4, rel=1e-2)


def test_weight_clip():
    model = gan(loss=Wasserstein(), weight_clip=0.01)
    fit(model)
    assert weights(model.discriminator).abs().max().item() == pytest.approx(0.01)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_penalty_is_a_term_of_the_discriminators_loss(frozen):
    """The loss is the plain one plus the penalty, and the head's weights move by the penalty's gradient too."""
    outputs, moved = [], []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, model, values, batch, batch_idx):
            outputs.append(values)

    for penalties in ({}, {"wasserstein_gp": WassersteinGradientPenalty(weight=1e-3)}):
        torch.manual_seed(1)
        discriminator = transfer() if frozen else None
        model = gan(loss=Wasserstein(), penalties=penalties, discriminator=discriminator, max_images=8)
        fit(model, callbacks=[Watch()])
        moved.append(weights(model.discriminator.logit))
    plain, penalized = outputs
    difference = plain["fake_logits"] - plain["real_logits"]
    torch.testing.assert_close(plain["discriminator_loss"], difference)
    assert penalized["wasserstein_gp"] > 0
    torch.testing.assert_close(penalized["discriminator_loss"], difference + penalized["wasserstein_gp"])
    assert not torch.allclose(*moved)


class Recorder:
    """A penalty with the contract's shape and the value 1, which notes where it is taken."""

    def __init__(self, at="real", interval=1):
        self.at, self.interval, self.inputs = at, interval, []

    def __call__(self, *, inputs, logits):
        self.inputs.append(inputs[0].detach())
        return 1 + 0 * logits.sum()


def test_penalty_at_intervals_is_as_much_stronger():
    """Updates 3 and 6 of 8 have it: there the loss is the plain one plus three times the penalty."""
    outputs = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, model, values, batch, batch_idx):
            outputs.append(values)

    fit(gan(loss=Wasserstein(), penalties={"one": Recorder(interval=3)}, max_images=64), callbacks=[Watch()])
    assert [update for update, values in enumerate(outputs, start=1) if "one" in values] == [3, 6]
    for values in outputs:
        plain = values["fake_logits"] - values["real_logits"]
        torch.testing.assert_close(values["discriminator_loss"], plain + 3 * values.get("one", 0.0))


def test_penalties_are_taken_at_the_images_that_they_name():
    """R1 at real images, R2 at generated ones, WGAN-GP between them, at a position of its own for each pair."""
    penalties = {name: Recorder(at) for name, at in {"r1": R1.at, "r2": R2.at, "wasserstein_gp": "between"}.items()}
    model, data = gan(penalties=penalties, max_images=8), Images()
    torch.manual_seed(counter_seed("step", 0, 0, 0))
    with torch.no_grad():
        fake = model.generator(torch.randn(8, 4))
    fit(model, data, limit_val_batches=0)
    real, (between,) = data.images[:8], penalties["wasserstein_gp"].inputs
    torch.testing.assert_close(penalties["r1"].inputs, [real])
    torch.testing.assert_close(penalties["r2"].inputs, [fake])
    position = ((between - real) / (fake - real)).flatten(1).median(dim=1).values
    torch.testing.assert_close(between, torch.lerp(real, fake, position.view(-1, 1, 1, 1)))
    assert position.min() >= 0
    assert position.max() <= 1
    assert position.std() > 0.1


def test_perturbed_real_images_have_normal_noise_of_the_batch_s_deviation():
    recorder = Recorder("perturbed")
    recorder.perturbation = 0.3
    model, data = gan(penalties={"dragan": recorder}, max_images=8), Images()
    fit(model, data, limit_val_batches=0)
    real, (perturbed,) = data.images[:8], recorder.inputs
    noise = (perturbed - real) / (0.3 * real.std(correction=0))
    assert noise.mean().item() == pytest.approx(0, abs=0.1)
    assert noise.std().item() == pytest.approx(1, abs=0.06)
    assert noise.abs().max() > 2.5  # normal, not uniform
    assert noise.flatten(1).std(dim=1).min() > 0.8


def test_penalties_of_logits_get_both_sides():
    class OfLogits(Listener):
        def __call__(self, *, real, fake):
            self.seen = real.mean().item(), fake.mean().item()
            return super().__call__(real=real, fake=fake)

    model = gan(penalties={"listener": OfLogits()}, max_images=8)
    fit(model, limit_val_batches=0)
    assert model.penalties["listener"].seen == pytest.approx(model.penalties["listener"].heard[0][:2])


class OfImages:
    """A penalty of whole images with the contract's shape, the logits of images of mid gray; it notes what it gets."""

    at, interval = "images", 1

    def __call__(self, *, real, fake, real_logits, fake_logits, logits):
        self.given = {"real": real, "fake": fake, "real_logits": real_logits, "fake_logits": fake_logits}
        self.again = logits(fake)
        return logits(torch.zeros_like(real)).square().mean()


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("frozen", [False, True], ids=["plain", "frozen features"])
def test_penalties_of_whole_images_get_them_before_augmentation(frozen, accumulate):
    options = {"accumulate": accumulate, "max_images": 8, "loss": Wasserstein()}
    options |= {"discriminator": transfer()} if frozen else {"num_classes": 2}
    penalty, darker, data = OfImages(), Darker(), Images()
    model = gan(penalties={"images": penalty}, augmentations={"darker": darker}, **options)
    fit(model, data, limit_val_batches=0)
    given = penalty.given
    assert torch.equal(given["real"], data.images[8 - 8 // accumulate : 8])
    assert torch.equal(given["fake"], darker.batches[2 * accumulate - 2])
    assert not given["fake"].requires_grad
    assert not torch.allclose(given["fake_logits"], penalty.again), "those of the loss are of augmented images"
    assert all(given[name].requires_grad for name in ("real_logits", "fake_logits"))
    assert penalty.again.requires_grad


def test_a_penalty_of_whole_images_is_a_term_of_the_loss_and_sees_the_logits():
    watched = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, model, values, batch, batch_idx):
            watched.append(values)

    penalty = OfImages()
    fit(gan(penalties={"images": penalty}, loss=Wasserstein(), max_images=8), callbacks=[Watch()])
    (values,) = watched
    plain = values["fake_logits"] - values["real_logits"]
    torch.testing.assert_close(values["discriminator_loss"], plain + values["images"])
    torch.testing.assert_close(penalty.given["fake_logits"], penalty.again)  # without augmentation


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [LeCam, R1], ids=["whole", "head left alone"])
def test_compiled_networks_train_alike(penalty):
    """torch.compile changes rounding alone; a head that a penalty differentiates twice is not compiled."""
    models = []
    for compiled in (False, True):
        torch.manual_seed(1)
        penalties = {"lecam": LeCam(start=1)} if penalty is LeCam else {"r1": R1(gamma=0.1)}
        models.append(gan(discriminator=transfer(), penalties=penalties, compile=compiled, max_images=24))
        fit(models[-1], limit_val_batches=0)
    plain, compiled = models
    torch.testing.assert_close(weights(compiled.generator), weights(plain.generator), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(weights(compiled.discriminator), weights(plain.discriminator), rtol=1e-3, atol=1e-6)
    assert ("head" in vars(compiled.discriminator)) == (penalty is LeCam)
    assert "features" in vars(compiled.discriminator)


def test_labels_reach_both_networks():
    model = gan(num_classes=2, discriminator=None)
    embedding, projection = model.generator.embedding.weight.clone(), model.discriminator.logit.embedding.weight.clone()
    fit(model)
    assert not torch.equal(model.generator.embedding.weight, embedding)
    assert not torch.equal(model.discriminator.logit.embedding.weight, projection)


def test_images_are_generated_and_judged_with_the_labels_of_the_batch():
    made, judged = [], []
    model = gan(num_classes=2, max_images=8)
    generate, head = model.generator.forward, model.discriminator.head
    model.generator.forward = lambda z, labels: made.append(labels) or generate(z, labels)
    model.discriminator.head = lambda features, labels: judged.append(labels) or head(features, labels)
    fit(model, limit_val_batches=0)
    labels = torch.arange(8) % 2
    assert (len(made), len(judged)) == (1, 3)
    assert all(torch.equal(given, labels) for given in (*made, *judged))


def test_the_ema_follows_the_updated_generator():
    """In the first step its half-life is 0.4 images, so that it is at the generator after 8."""
    model = gan(max_images=8)
    model.optimizer_factories["generator"] = lambda p: torch.optim.SGD(p, lr=1000.0)
    before = weights(model.generator).clone()
    fit(model, limit_val_batches=0)
    assert (weights(model.generator) - before).norm() > 0.1
    torch.testing.assert_close(weights(model.ema_generator.module), weights(model.generator), rtol=0, atol=1e-5)


def test_the_noise_of_a_step_follows_from_the_seed_and_the_images_seen():
    """Not from the updates: a run with other ``discriminator_steps`` draws the same."""
    drawn = {}
    for name, options in {"plain": {}, "seed": {"seed": 1}, "steps": {"discriminator_steps": 2}}.items():
        model, seen = gan(max_images=24, **options), []
        model.generator.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        fit(model, limit_val_batches=0)
        drawn[name] = torch.stack(seen)
        assert len(seen) == 3
    assert torch.equal(drawn["steps"], drawn["plain"])
    assert len(drawn["plain"].flatten(1).unique(dim=0)) == 3
    assert not torch.isclose(drawn["seed"], drawn["plain"]).any()


def test_validation_and_samples_use_the_ema():
    model = gan(generator=MLPGenerator(image_size=16, channels=1, widths=(8,)), max_images=64)
    fit(model)
    average, current = model.ema_generator.module.layers[1], model.generator.layers[1]
    assert average.num_batches_tracked == current.num_batches_tracked
    assert int(model.ema_generator.images_averaged) == 64
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.fill_(float("nan"))
    assert torch.isfinite(model.sample(torch.randn(2, 100))).all()


def test_samples_depend_on_noise_alone():
    model = gan(generator=MLPGenerator(image_size=16, channels=1, widths=(8,))).train()
    z = torch.randn(5, 100)
    torch.testing.assert_close(model.sample(z)[:2], model.sample(z[:2]))


@pytest.mark.parametrize("part", ["loss", "gradient"])
@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run_before_it_changes_the_weights(network, part):
    class Breaking(Hinge):
        calls = 0

        def spoil(self, loss):
            Breaking.calls += 1
            if Breaking.calls != 3:
                return loss
            return loss * float("nan") if part == "loss" else loss + (loss * 0).sqrt()

    setattr(
        Breaking, network, lambda self, *, real, fake: self.spoil(getattr(Hinge, network)(self, real=real, fake=fake))
    )
    model = gan(loss=Breaking(), max_images=800)
    with pytest.raises(TrainingDiverged, match=rf"The {network}'s loss is .*nan.*images.*{network}_optimizer\.lr"):
        fit(model, val_check_interval=1000)
    assert torch.isfinite(weights(model)).all()
    assert model.generator_updates == 2


@pytest.mark.parametrize(("images_seen", "times"), [(0, 1), (8, 0)])
def test_a_fresh_training_calibrates_the_discriminator_and_a_resumed_one_does_not(images_seen, times):
    model, calibrated = gan(max_images=16), []
    model.images_seen = images_seen
    model.discriminator.calibrate = calibrated.append
    fit(model, limit_val_batches=0)
    assert len(calibrated) == times


def test_each_validation_generates_from_the_same_noise_and_the_labels_of_the_real_images():
    model, seen = gan(num_classes=2, max_images=32), []
    sample = model.sample
    model.sample = lambda z, labels, source=None: seen.append((z, labels)) or sample(z, labels)
    fit(model, val_check_interval=2)  # after 16 and 32 images
    z, labels = (torch.cat(values).chunk(2) for values in zip(*seen, strict=True))
    expected = noise(20, 4, seed=counter_seed("validation", 0, 0))
    for position in range(2):
        assert torch.equal(z[position], expected)
        assert torch.equal(labels[position], torch.arange(20) % 2)


def test_validation_uses_fixed_noise_and_keeps_the_real_side():
    model = gan(max_images=64)
    fit(model, val_check_interval=2)  # four validations
    assert sum(map(len, model.metrics.real)) == 20
    first = torch.cat(model.metrics.fake)
    assert len(first) == 20
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.validate(model, Images(), verbose=False)
    torch.testing.assert_close(torch.cat(model.metrics.fake), first)


class SaveAndStop(pl.Callback):
    def __init__(self, path, after):
        self.path, self.after = path, after

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        if model.images_seen == self.after:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def test_a_checkpoint_restores_networks_ema_and_counters(tmp_path):
    path = tmp_path / "half.ckpt"
    model = gan(max_images=128)
    fit(model, callbacks=[SaveAndStop(path, 64)], val_check_interval=1000, limit_val_batches=0)
    checkpoint = torch.load(path, weights_only=True)
    again = gan(max_images=128)
    again.on_load_checkpoint(checkpoint)
    again.load_state_dict(checkpoint["state_dict"])
    torch.testing.assert_close(weights(again), weights(model), rtol=0, atol=0)
    assert (again.images_seen, again.generator_updates) == (64, 8)
    assert int(again.ema_generator.images_averaged) == 64


def test_checkpoints_that_do_not_fit(tmp_path):
    path = tmp_path / "half.ckpt"
    fit(gan(max_images=128), callbacks=[SaveAndStop(path, 64)], val_check_interval=1000, limit_val_batches=0)
    checkpoint = torch.load(path, weights_only=True)
    wider = gan(discriminator=DCGANDiscriminator(image_size=16, channels=1, width=16, normalization="none"))
    with pytest.raises(InputError, match=r"another architecture.*the version of medsynth"):
        wider.on_load_checkpoint(checkpoint)
    with pytest.raises(InputError, match="format 99"):
        gan().on_load_checkpoint(checkpoint | {"medsynth": {"format": 99}})
    with pytest.raises(InputError, match="not written by medsynth"):
        gan().on_load_checkpoint({"state_dict": {}})


def test_checkpoints_of_format_1_are_read(tmp_path):
    path = tmp_path / "half.ckpt"
    fit(gan(max_images=128), callbacks=[SaveAndStop(path, 64)], val_check_interval=1000, limit_val_batches=0)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["medsynth"] |= {"format": 1}
    del checkpoint["medsynth"]["adaptive"]
    again = gan(max_images=128)
    again.on_load_checkpoint(checkpoint)
    assert (again.images_seen, again.discriminator_updates, again.generator_updates) == (64, 8, 8)


@pytest.mark.parametrize("option", ["discriminator_steps", "accumulate"])
def test_options_out_of_range(option):
    with pytest.raises(InputError, match=rf"task\.{option}=0"):
        gan(**{option: 0})


@pytest.mark.parametrize("loss", [NonSaturating(), Pairing()], ids=["plain", "relativistic"])
def test_the_generator_learns_from_the_best_fakes(loss):
    """Of 8 images the 3 with the highest mean logits, and the real ones of the same rows."""
    model = gan(loss=loss, top_k=0.4)
    real, fake = torch.randn(8, 2), torch.randn(8, 2, requires_grad=True)
    model._head = lambda features, labels: features
    microbatch = SimpleNamespace(real_features=real, fake_features=fake, labels=None)
    rows = sorted(range(8), key=lambda row: -fake[row].sum().item())[:3]
    expected = loss.generator(real=real[rows], fake=fake[rows])
    value = model._generator_loss(microbatch)
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value, fake)
    assert sorted(gradient.abs().sum(dim=1).nonzero().flatten().tolist()) == sorted(rows)


def test_top_k_follows_its_schedule_and_keeps_one_image():
    model = gan(top_k=0.01, schedules={"task": {"top_k": Linear(1.0, 0.5, 16)}})
    assert len(best_rows(torch.randn(8, 1), 0.01)) == 1
    fit(model)
    assert model.top_k == 0.5


@pytest.mark.parametrize("top_k", [0.0, 1.1])
def test_top_k_out_of_range(top_k):
    with pytest.raises(InputError, match=rf"task\.top_k={top_k}"):
        gan(top_k=top_k)


def test_a_network_trains_again_after_an_error_in_evaluation():
    network = nn.Linear(1, 1)
    with pytest.raises(ZeroDivisionError), evaluating(network):
        1 / int(network.training)
    assert network.training
