"""Penalties of the generator: their place in its update, and each of them against an independent formula."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from medsynth.contracts import GeneratorPenalty, GeneratorUpdate, InputError, activations, counter_seed
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.mlp import MLPDiscriminator
from medsynth.discriminator.patch import PatchDiscriminator
from medsynth.discriminator.r3gan import R3GANDiscriminator
from medsynth.discriminator.sngan import SNGANDiscriminator
from medsynth.discriminator.style import StyleDiscriminator
from medsynth.discriminator.vision_aided import VisionAidedDiscriminator
from medsynth.generator.dcgan import DCGANGenerator
from medsynth.generator.fastgan import FastGANGenerator
from medsynth.generator.mlp import MLPGenerator
from medsynth.generator.resnet import ResNetGenerator
from medsynth.generator.tomsk import TomskGenerator
from medsynth.generator_penalty.feature_matching import FeatureMatching
from medsynth.generator_penalty.mode_seeking import ModeSeeking
from medsynth.generator_penalty.path_length import PathLength, path_lengths
from medsynth.lightning.preparation import check_generator_derivatives
from medsynth.loss.wasserstein import Wasserstein
from medsynth.planning.measure import cycle
from medsynth.schedule.linear import Linear
from tests.test_discriminator import TinyBackbone
from tests.test_gan import Darker, Images, Listener, fit, gan, transfer, weights

# ---- their place in the generator's update ---------------------------------------------------------------------------


class MeanImage:
    """A penalty with the contract's shape: the mean intensity of the generated images; it notes what it is given."""

    def __init__(self, weight=1.0, interval=1):
        self.weight, self.interval, self.updates = weight, interval, []

    def __call__(self, update: GeneratorUpdate):
        self.updates.append(update)
        return self.weight * update.images.mean()


class Watch(pl.Callback):
    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        self.steps.append(outputs)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("frozen", [False, True], ids=["plain", "frozen features"])
def test_a_penalty_is_given_the_images_their_noise_and_both_sides_features(frozen, accumulate):
    penalty, data = MeanImage(), Images()
    assert isinstance(penalty, GeneratorPenalty)
    options = {"discriminator": transfer()} if frozen else {}
    darker = Darker()
    model = gan(
        generator_penalties={"mean": penalty},
        augmentations={"darker": darker},
        num_classes=0 if frozen else 2,
        max_images=8,
        accumulate=accumulate,
        **options,
    )
    torch.manual_seed(counter_seed("step", 0, 0, 0))
    z = torch.randn(8, 4)
    labels = None if frozen else torch.arange(8) % 2
    with torch.no_grad():
        images = model.generator(z, labels)
    fit(model, data, limit_val_batches=0)
    given = penalty.updates
    assert len(given) == accumulate
    assert torch.equal(torch.cat([update.z for update in given]), z)
    assert frozen or torch.equal(torch.cat([update.labels for update in given]), labels)
    torch.testing.assert_close(torch.cat([update.images for update in given]), images)
    for update in given:
        assert (update.generator, update.discriminator) == (model.generator, model.discriminator)
        assert (update.images.requires_grad, update.real[0].requires_grad) == (True, False)
        assert all(features.requires_grad for features in update.fake)
    if accumulate == 1 and not frozen:  # the features are the augmented images
        (update,) = given
        for seen, plain in ((update.fake[0], images), (update.real[0], data.images[:8])):
            shift = (plain - seen).flatten(1)
            assert shift.std(dim=1).max() < 1e-6
            assert shift.mean(dim=1).std() > 0.1


def test_a_penalty_is_a_term_of_the_generators_loss():
    watches, moved = [], []
    for options in ({}, {"generator_penalties": {"mean": MeanImage(weight=3.0)}}):
        watches.append(Watch())
        model = gan(loss=Wasserstein(), max_images=8, **options)
        before = weights(model.generator)
        fit(model, callbacks=[watches[-1]], limit_val_batches=0)
        moved.append(weights(model.generator) - before)
    (plain,), (penalized,) = (watch.steps for watch in watches)
    torch.testing.assert_close(penalized["generator_loss"], plain["generator_loss"] + penalized["mean"])
    assert "mean" not in plain
    model = gan()
    torch.manual_seed(counter_seed("step", 0, 0, 0))
    images = model.generator(torch.randn(8, 4))
    used = list(model.generator.linear.parameters())
    slopes = torch.autograd.grad(3 * images.mean(), used)
    slope = torch.cat([0 * model.generator.embedding.weight.flatten(), *(slope.flatten() for slope in slopes)])
    torch.testing.assert_close(moved[1] - moved[0], -0.1 * slope, rtol=1e-4, atol=1e-7)
    assert slope.abs().max() > 1e-3


class Silent(Wasserstein):
    """A loss that leaves the generator's penalties alone."""

    def generator(self, *, real, fake):
        return 0 * fake.mean()


def test_a_penalty_at_intervals_of_generator_updates_is_as_much_stronger():
    """Generator updates 3 and 6 of 7, which are the discriminator updates 6 and 12, have it."""
    watch = Watch()
    penalties = {"mean": MeanImage(interval=3)}
    model = gan(loss=Silent(), generator_penalties=penalties, discriminator_steps=2, max_images=112)
    fit(model, callbacks=[watch], limit_val_batches=0)
    assert [step for step, values in enumerate(watch.steps, start=1) if "mean" in values] == [6, 12]
    for values in watch.steps[1::2]:
        torch.testing.assert_close(values["generator_loss"], 3 * values.get("mean", torch.tensor(0.0)))
    assert cycle(model) == 6


def test_a_penalty_that_is_not_due_changes_nothing():
    plain, waiting = gan(max_images=32), gan(generator_penalties={"mean": MeanImage(interval=9)}, max_images=32)
    for model in (plain, waiting):
        fit(model, limit_val_batches=0)
    assert torch.equal(weights(plain), weights(waiting))


def test_the_weight_of_a_penalty_can_be_scheduled_and_its_name_is_recorded():
    schedules = {"generator_penalty": {"mean": {"weight": Linear(2.0, 1.0, 16)}}}
    model = gan(generator_penalties={"mean": MeanImage()}, schedules=schedules, max_images=24)
    fit(model, limit_val_batches=0)
    assert model.generator_penalties["mean"].weight == 1.0
    assert model.describe().endswith("loss NonSaturating + mean")


@pytest.mark.parametrize("group", ["penalties", "augmentations"])
def test_penalties_of_the_generator_have_names_of_their_own(group):
    others = {"penalties": {"same": Listener()}, "augmentations": {"same": Darker()}}
    with pytest.raises(InputError, match="both have a component named same: rename one of them"):
        gan(generator_penalties={"same": MeanImage()}, **{group: others[group]})


# ---- mode seeking ----------------------------------------------------------------------------------------------------


def drawn(count, labels=None, seed=3, size=(2, 5, 5)):
    """Return an update with normal images and noise in float64, of ``count`` images."""
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.normal(size=(count, *size))).requires_grad_(True)
    return GeneratorUpdate(
        generator=None,
        discriminator=None,
        z=torch.from_numpy(random.normal(size=(count, 7))),
        labels=None if labels is None else torch.tensor(labels),
        images=images,
        fake=(),
        real=(),
    )


@pytest.mark.parametrize(
    ("labels", "pairs"),
    [
        (None, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]),
        ([2, 0, 2, 1, 0, 2], [(1, 4), (0, 2), (2, 5)]),
    ],
    ids=["unconditional", "labels"],
)
def test_mode_seeking_is_the_inverse_ratio_of_distances(labels, pairs):
    update = drawn(6, labels)
    images, z = update.images.detach().numpy(), update.z.numpy()
    of_images = np.mean([np.abs(images[i] - images[j]).mean() for i, j in pairs])
    of_noise = np.mean([np.abs(z[i] - z[j]).mean() for i, j in pairs])
    term = ModeSeeking(weight=0.3)(update)
    assert term.item() == pytest.approx(0.3 / (of_images / of_noise + 1e-5), rel=1e-12)
    (slope,) = torch.autograd.grad(term, update.images)
    step = 1e-3 * slope
    moved = dataclasses.replace(update, images=update.images - step)
    assert ModeSeeking(weight=0.3)(moved) < term, "descent makes the images differ more"
    expected = np.zeros_like(images)
    for i, j in pairs:
        sign = np.sign(images[i] - images[j]) / (len(pairs) * images[0].size)
        expected[i] += sign
        expected[j] -= sign
    expected *= -0.3 / (of_images / of_noise + 1e-5) ** 2 / of_noise
    np.testing.assert_allclose(slope.numpy(), expected, rtol=1e-10, atol=1e-15)


def test_mode_seeking_of_equal_images_is_finite_and_without_pairs_zero():
    update = drawn(4)
    equal = dataclasses.replace(update, images=torch.ones(4, 1, 4, 4, requires_grad=True))
    assert ModeSeeking()(equal).item() == pytest.approx(1e5)
    alone = drawn(3, [0, 1, 2])
    term = ModeSeeking()(alone)
    assert term.item() == 0
    assert not torch.autograd.grad(term, alone.images)[0].any()


# ---- feature matching ------------------------------------------------------------------------------------------------


class Fixed:
    """A discriminator with frozen features alone."""

    has_frozen_features = True


def test_feature_matching_is_the_mean_square_of_the_difference_of_mean_features():
    random = np.random.default_rng(5)
    shapes = ((6, 3, 2, 2), (6, 5))
    real, fake = (tuple(torch.from_numpy(random.normal(size=shape)) for shape in shapes) for _ in range(2))
    fake = tuple(features.requires_grad_(True) for features in fake)
    update = dataclasses.replace(drawn(6), discriminator=Fixed(), fake=fake, real=real)
    term = FeatureMatching(weight=0.7)(update)
    differences = [r.numpy().mean(axis=0) - f.detach().numpy().mean(axis=0) for r, f in zip(real, fake, strict=True)]
    expected = 0.7 * np.mean([np.mean(difference**2) for difference in differences])
    assert term.item() == pytest.approx(expected, rel=1e-12)
    for slope, difference in zip(torch.autograd.grad(term, fake), differences, strict=True):
        each = -0.7 * difference / difference.size / 6  # of two tensors: 2 / 2
        np.testing.assert_allclose(slope.numpy(), np.broadcast_to(each, slope.shape), rtol=1e-10)


def discriminators():
    options = {"image_size": 16, "channels": 1}
    yield "dcgan", DCGANDiscriminator(width=4, **options)
    yield "mlp", MLPDiscriminator(widths=(8, 4), **options)
    yield "patch", PatchDiscriminator(width=4, layers=2, **options)
    yield "r3gan", R3GANDiscriminator(width=8, group_width=4, **options)
    yield "sngan", SNGANDiscriminator(width=4, **options)
    yield "style", StyleDiscriminator(width=4, max_width=8, **options)
    yield "transfer", transfer(unfreeze="all")


DISCRIMINATORS = dict(discriminators())


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_activations_are_what_the_logits_are_computed_of(name):
    discriminator = DISCRIMINATORS[name].eval()
    features = discriminator.features(torch.randn(4, 1, 16, 16))
    (last,) = activations(discriminator, features, "x=y")
    assert len(last) == 4
    seen = []
    hook = discriminator.logit.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits = discriminator.head(features)
    hook.remove()
    if name != "transfer":  # which normalizes them first
        assert torch.equal(last, seen[0])
    expected = discriminator.logit(seen[0])
    assert torch.equal(logits, expected)
    assert last.shape != features[0].shape


@pytest.mark.parametrize("warmup", [0, 8])
def test_activations_of_vision_aided_have_the_maps_after_the_warm_up(warmup):
    trained = DCGANDiscriminator(image_size=16, channels=1, width=4)
    discriminator = VisionAidedDiscriminator(
        trained=trained, backbone=TinyBackbone(), image_size=16, channels=1, warmup_images=warmup
    ).eval()
    features = discriminator.features(torch.randn(4, 1, 16, 16))
    found = activations(discriminator, features, "x=y")
    assert torch.equal(found[0], trained.activations(features[:1])[0])
    assert len(found) == len(features)
    assert all(map(torch.equal, found[1:], features[1:]))
    assert len(found) == 1 if warmup else len(found) > 1


def test_a_discriminator_without_activations_is_refused():
    own = SimpleNamespace(has_frozen_features=False)
    with pytest.raises(InputError, match=r"generator_penalty=feature_matching needs .* SimpleNamespace has no frozen"):
        FeatureMatching()(dataclasses.replace(drawn(2), discriminator=own))


# ---- path length -----------------------------------------------------------------------------------------------------


class Squares(nn.Module):
    """``G(z) = (A z)^2``, whose derivative by z is known: rows of A, times 2 A z."""

    latent_dim = 3

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.from_numpy(np.random.default_rng(7).normal(size=(2 * 4 * 4, 3))))

    def forward(self, z, labels=None):
        return (z @ self.a.T).square().view(-1, 2, 4, 4)


def squares(count=5):
    z = torch.from_numpy(np.random.default_rng(8).normal(size=(count, 3)))
    return dataclasses.replace(drawn(count), generator=Squares(), z=z)


def term_by_hand(a, z, y, average):
    """Return the lengths (N,) and the mean square of their distance to ``average``, in NumPy."""
    jacobians = 2 * (z @ a.T)[:, :, None] * a[None]  # (N, pixels, latent)
    lengths = np.sqrt((np.einsum("npl,np->nl", jacobians, y.reshape(len(z), -1) / 4) ** 2).sum(axis=1))
    return lengths, np.mean((lengths - average) ** 2)


def test_path_length_is_the_distance_of_the_lengths_to_their_average():
    update, penalty = squares(), PathLength(weight=0.3, decay=0.9)
    penalty.observe(measured=2.0)
    torch.manual_seed(2)
    y = torch.randn(5, 2, 4, 4, dtype=torch.float64).numpy()
    torch.manual_seed(2)
    term = penalty(update)
    a, z = update.generator.a.detach().numpy(), update.z.numpy()
    lengths, square = term_by_hand(a, z, y, 2.0)
    assert term.item() == pytest.approx(0.3 * square, rel=1e-9)
    assert penalty.measured.item() == pytest.approx(lengths.mean(), rel=1e-9)
    (slope,) = torch.autograd.grad(term, update.generator.a)
    direction = np.random.default_rng(9).normal(size=a.shape)
    ends = [term_by_hand(a + step * direction, z, y, 2.0)[1] for step in (1e-6, -1e-6)]
    assert (slope.numpy() * direction).sum() == pytest.approx(0.3 * (ends[0] - ends[1]) / 2e-6, rel=1e-6)


def test_path_length_averages_begin_at_the_first_lengths():
    update, penalty = squares(), PathLength(decay=0.75)
    torch.manual_seed(0)
    lengths = path_lengths(update).detach()
    torch.manual_seed(0)
    assert penalty(update).item() == pytest.approx(2 * lengths.var(correction=0).item(), rel=1e-9)
    assert penalty.observe(measured=4.0) == {"average": 4.0}
    assert penalty.observe(measured=8.0) == {"average": 5.0}


class SaveState(pl.Callback):
    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        trainer.save_checkpoint(self.path)


def test_path_length_follows_the_whole_batch_and_is_in_checkpoints(tmp_path):
    states = []
    for accumulate in (1, 2):
        watch = Watch()
        model = gan(generator_penalties={"path_length": PathLength(interval=2)}, max_images=32, accumulate=accumulate)
        fit(model, callbacks=[watch, SaveState(tmp_path / "x.ckpt")], limit_val_batches=0)
        assert [("path_length_average" in values) for values in watch.steps] == [False, True, False, True]
        states.append(model.generator_penalties["path_length"].state_dict()["length"])
        assert watch.steps[-1]["path_length_average"] == pytest.approx(states[-1])
    assert states[1] == pytest.approx(states[0], rel=0.3)  # other y, the same images
    checkpoint = torch.load(tmp_path / "x.ckpt", weights_only=True)
    again = gan(generator_penalties={"path_length": PathLength()})
    again.on_load_checkpoint(checkpoint)
    assert again.generator_penalties["path_length"].state_dict() == {"length": states[-1]}
    with pytest.raises(InputError, match=r"a training with \[path_length\] where this one has \[\]"):
        gan().on_load_checkpoint(checkpoint)


GENERATORS = {
    "dcgan": lambda: DCGANGenerator(image_size=16, channels=1, width=4, latent_dim=8),
    "resnet": lambda: ResNetGenerator(image_size=16, channels=1, width=4, latent_dim=8),
    "fastgan": lambda: FastGANGenerator(image_size=16, channels=1, width=4, latent_dim=8),
    "tomsk": lambda: TomskGenerator(image_size=16, channels=1, width=0.05, latent_dim=8),
    "clamp": lambda: ResNetGenerator(image_size=16, channels=1, width=4, latent_dim=8, output="clamp"),
    "mlp": lambda: MLPGenerator(image_size=16, channels=1, widths=(8,), latent_dim=8),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_have_the_second_derivatives_of_path_length(name):
    generator = GENERATORS[name]()
    check_generator_derivatives(generator, None, device=torch.device("cpu"), penalties=["path_length"])
    assert generator.training


def test_a_generator_without_second_derivatives_is_refused_before_the_first_step():
    """PyTorch has no derivative of the hard sigmoid's derivative."""
    model = gan(generator_penalties={"path_length": PathLength()})
    model.generator.linear = nn.Sequential(model.generator.linear, nn.Hardsigmoid())
    with pytest.raises(InputError, match=r"generator_penalty=path_length needs second derivatives of PlainGenerator"):
        fit(model)


def test_a_generator_that_is_differentiated_twice_is_not_compiled(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    monkeypatch.setattr(torch, "compile", lambda function: function)
    for penalties in ({}, {"path_length": PathLength(interval=2)}, {"mode_seeking": ModeSeeking()}):
        fit(gan(generator_penalties=penalties, compile=True, max_images=8), limit_val_batches=0)
    assert len(compiled) == 2


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_path_length_s_decay_out_of_range(decay):
    with pytest.raises(InputError, match=rf"generator_penalty\.path_length\.decay={decay}"):
        PathLength(decay=decay)


# ---- in a training ---------------------------------------------------------------------------------------------------

PENALTIES = {"mode_seeking": ModeSeeking, "feature_matching": FeatureMatching, "path_length": PathLength}


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("num_classes", [0, 2])
def test_a_training_with_a_penalty_in_microbatches(name, num_classes):
    watch, plain = Watch(), gan(num_classes=num_classes, max_images=16, accumulate=2)
    penalties = {name: PENALTIES[name](interval=1)}
    model = gan(num_classes=num_classes, max_images=16, accumulate=2, generator_penalties=penalties)
    fit(model, callbacks=[watch], limit_val_batches=0)
    fit(plain, limit_val_batches=0)
    assert all(values[name] > 0 for values in watch.steps)
    assert not any("measured" in key for values in watch.steps for key in values)
    assert not torch.equal(weights(model.generator), weights(plain.generator))


@pytest.mark.parametrize("name", PENALTIES)
def test_an_interval_below_1_is_refused(name):
    with pytest.raises(InputError, match=rf"generator_penalty\.{name}\.interval=0 must be 1 or more"):
        PENALTIES[name](interval=0)
