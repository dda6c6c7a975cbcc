"""Penalties of the generator: their place in its update, and each of them against an independent formula."""

import pytest
import pytorch_lightning as pl
import torch

from medsynth.contracts import GeneratorPenalty, GeneratorUpdate, InputError, counter_seed
from medsynth.loss.wasserstein import Wasserstein
from medsynth.planning.measure import cycle
from medsynth.runs.provenance import describe
from medsynth.schedule.linear import Linear
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
    assert describe(model).endswith("loss NonSaturating + mean")


@pytest.mark.parametrize("group", ["penalties", "augmentations"])
def test_penalties_of_the_generator_have_names_of_their_own(group):
    others = {"penalties": {"same": Listener()}, "augmentations": {"same": Darker()}}
    with pytest.raises(InputError, match="both have a component named same: rename one of them"):
        gan(generator_penalties={"same": MeanImage()}, **{group: others[group]})
