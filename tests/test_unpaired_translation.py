"""CycleGAN and CUT: the steps against the same steps by hand, the pool of images, contrasted patches, resuming."""

import copy
import sys

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import softplus

from medsynth.augment.ada import AdaptiveAugmentation
from medsynth.contracts import InputError, counter_seed
from medsynth.cut import CUT
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.layers.patch_nce import PatchFeatures, draw_positions, patch_nce
from medsynth.lightning import image_pool
from medsynth.lightning.image_pool import ImagePool
from medsynth.loss.non_saturating import NonSaturating
from medsynth.loss.relativistic_pairing import RelativisticPairing
from medsynth.penalty.lecam import LeCam
from medsynth.penalty.r1 import R1
from medsynth.unpaired_translation import UnpairedTranslation
from tests.command import run
from tests.test_gan import PixelMean, descend, fit, weights
from tests.test_processes import WORLD, in_processes
from tests.test_resume import assert_same, stop_at
from tests.test_translation import TINY, Pairs, PlainTranslator, regression, sgd, translation


class ShownTranslator(PlainTranslator):
    """A translator that shows its input and the values of its convolution."""

    encoding_channels = (1, 1)

    def encoding(self, source, z=None):
        maps = source.new_zeros(len(source), 2, *source.shape[2:])
        return (source, self.convolution(torch.cat([source, maps], dim=1)))

    def forward(self, source, z=None):
        return super().forward(source, source.new_zeros(len(source), 2) if z is None else z)


def discriminator():
    return DCGANDiscriminator(image_size=16, channels=1, width=8, normalization="none")


def cyclegan(**options):
    torch.manual_seed(5)
    settings = {"loss": NonSaturating(), "penalties": {}, "max_images": 16, "pool_size": 0, "channels": 1}
    settings |= {"discriminator": discriminator(), "source_discriminator": discriminator()}
    return UnpairedTranslation(
        generator=ShownTranslator(),
        inverse=ShownTranslator(),
        generator_optimizer=sgd,
        discriminator_optimizer=sgd,
        metrics=PixelMean(),
        image_size=16,
        **settings | options,
    )


def cut(**options):
    torch.manual_seed(5)
    small = {"patches": 12, "patch_features": 6, "channels": 1}
    settings = small | {"loss": NonSaturating(), "penalties": {}, "max_images": 16}
    return CUT(
        generator=ShownTranslator(),
        discriminator=discriminator(),
        generator_optimizer=sgd,
        discriminator_optimizer=sgd,
        metrics=PixelMean(),
        **settings | options,
    )


def apart(one, other):
    return (one - other).abs().mean()


def test_two_steps_of_unpaired_translation_are_those_of_cyclegan():
    """Zhu et al. 2017, equation 3 and section 5.2; the discriminators see what the translators made before."""
    model, data = cyclegan(cycle_weight=3.0, identity_weight=0.4), Pairs()
    names = ("generator", "inverse", "discriminator", "source_discriminator")
    forward, back, judge, judge_source = (copy.deepcopy(getattr(model, name)) for name in names)
    fit(model, data)
    for step, batch in enumerate(data.batches(2)):
        source, target = batch["image"], batch["target"]
        torch.manual_seed(counter_seed("step", 0, 8 * step, 0))
        z, z_back = torch.randn(8, 4).chunk(2, dim=1)
        made, made_source = forward(source, z), back(target, z_back)
        adversarial = softplus(-judge(made)).mean() + softplus(-judge_source(made_source)).mean()
        cycle = apart(back(made), source) + apart(forward(made_source), target)
        identity = apart(forward(target), target) + apart(back(source), source)
        descend(adversarial + 3 * cycle + 3 * 0.4 * identity, [*forward.parameters(), *back.parameters()])
        made, made_source = made.detach(), made_source.detach()
        loss = softplus(-judge(target)).mean() + softplus(judge(made)).mean()
        loss = loss + softplus(-judge_source(source)).mean() + softplus(judge_source(made_source)).mean()
        descend(loss, [*judge.parameters(), *judge_source.parameters()])
    for name, expected in zip(names, (forward, back, judge, judge_source), strict=True):
        torch.testing.assert_close(weights(getattr(model, name)), weights(expected), rtol=1e-5, atol=1e-7)


def test_two_steps_of_cut_contrast_patches_of_sources_and_of_targets():
    """Park et al. 2020, equations 3 to 6, with gradients through the patches of translations alone."""
    model, data = cut(nce_weight=0.7, identity_weight=0.3), Pairs()
    forward, judge, layers = (copy.deepcopy(m) for m in (model.generator, model.discriminator, model.patch_features))
    fit(model, data)
    for step, batch in enumerate(data.batches(2)):
        source, target = batch["image"], batch["target"]
        torch.manual_seed(counter_seed("step", 0, 8 * step, 0))
        z = torch.randn(8, 2)
        made = forward(source, z)
        descend(softplus(-judge(target)).mean() + softplus(judge(made.detach())).mean(), list(judge.parameters()))
        loss = softplus(-judge(made)).mean()
        for weight, original, translated in ((0.7, source, made), (0.3, target, forward(target, z))):
            terms = []
            places = [torch.randperm(256)[:12] for _ in range(2)]
            for level, place in enumerate(places):
                with torch.no_grad():
                    keys = layers.layers[level](forward.encoding(original)[level].flatten(2)[:, :, place].mT)
                queries = layers.layers[level](forward.encoding(translated)[level].flatten(2)[:, :, place].mT)
                queries, keys = (x / x.norm(dim=2, keepdim=True) for x in (queries, keys))
                likeness = (queries @ keys.mT / 0.07).exp()
                terms.append(-(likeness.diagonal(dim1=1, dim2=2) / likeness.sum(dim=2)).log().mean())
            loss = loss + weight * sum(terms) / 2
        descend(loss, [*forward.parameters(), *layers.parameters()])
    for ours, expected in ((model.generator, forward), (model.discriminator, judge), (model.patch_features, layers)):
        torch.testing.assert_close(weights(ours), weights(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{}, {"pool_size": 3}, {"loss": RelativisticPairing(), "penalties": {"r1": R1(interval=1)}}],
    ids=["no pool", "pool", "relativistic, R1"],
)
def test_microbatches_do_not_change_the_mathematics(options):
    whole, divided = (cyclegan(**options, accumulate=count) for count in (1, 4))
    for model in (whole, divided):
        fit(model, Pairs())
    for name in ("generator", "inverse", "discriminator", "source_discriminator"):
        ours, theirs = (weights(getattr(model, name)) for model in (whole, divided))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(whole.pool.images, divided.pool.images, rtol=1e-4, atol=1e-6)


# ---- the pool --------------------------------------------------------------------------------------------------------


def numbered(*numbers):
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1)


def test_a_pool_keeps_images_until_it_is_full_and_then_exchanges_half_of_them():
    pool = ImagePool(4, channels=1, image_size=1)
    assert torch.equal(pool.exchange(numbered(1, 2, 3, 4), seed=0), numbered(1, 2, 3, 4))
    assert int(pool.count) == 4
    returned = 0
    for step in range(100):
        before = pool.images.clone()
        new = numbered(10 + step)
        chosen = pool.exchange(new, seed=step)
        if torch.equal(chosen, new):
            assert torch.equal(pool.images, before)
        else:
            returned += 1
            changed = (pool.images != before).flatten()
            assert changed.sum() == 1
            assert torch.equal(pool.images[changed], new)
            assert torch.equal(before[changed], chosen)
    assert 35 <= returned <= 65


def test_a_pool_of_no_images_returns_what_it_gets():
    pool = ImagePool(0, channels=1, image_size=1)
    images = numbered(1, 2)
    assert pool.exchange(images, seed=0) is images


def test_two_processes_have_the_pool_of_one(monkeypatch):
    one = ImagePool(3, channels=1, image_size=1)
    both = [ImagePool(3, channels=1, image_size=1) for _ in range(2)]
    for step in range(20):
        batch = numbered(*(10 * step + np.arange(4)))
        expected = one.exchange(batch, seed=step)
        monkeypatch.setattr(image_pool, "gathered", lambda images, rank, world_size, batch=batch: batch)
        for rank, pool in enumerate(both):
            share = pool.exchange(batch[rank::2], seed=step, rank=rank, world_size=2)
            assert torch.equal(share, expected[rank::2])
            assert torch.equal(pool.images, one.images)
        monkeypatch.undo()


# ---- patches ---------------------------------------------------------------------------------------------------------


def test_the_contrast_is_small_where_patches_are_those_of_their_places():
    features = torch.eye(6, dtype=torch.float64).expand(2, -1, -1)
    own = patch_nce(features, features, temperature=0.1)
    assert own.item() == pytest.approx(-np.log(np.exp(10) / (np.exp(10) + 5)))
    assert patch_nce(features, features.roll(1, dims=1), temperature=0.1) > own + 9


def test_patches_are_those_of_the_drawn_positions():
    layers = PatchFeatures((3, 2), width=5)
    maps = (torch.randn(2, 3, 4, 4), torch.randn(2, 2, 2, 2))
    positions = draw_positions(maps, 8)
    assert [len(place) for place in positions] == [8, 4]
    assert all(len(place.unique()) == len(place) for place in positions)
    features = layers(maps, positions)
    assert [tuple(values.shape) for values in features] == [(2, 8, 5), (2, 4, 5)]
    torch.testing.assert_close(features[0].norm(dim=2), torch.ones(2, 8))
    row, column = divmod(int(positions[0][3]), 4)
    alone = nn.functional.normalize(layers.layers[0](maps[0][:, :, row, column]), dim=1)
    torch.testing.assert_close(features[0][:, 3], alone)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (cyclegan, {"pool_size": -1}, "task.pool_size=-1 must be 0 or more"),
        (cyclegan, {"channels": 3}, "sources have 1 channels where targets have 3"),
        (cyclegan, {"penalties": {"lecam": LeCam()}}, "lecam follows the logits of one discriminator"),
        (
            cyclegan,
            {"augmentations": {"ada": AdaptiveAugmentation(batch_size=8)}},
            "ada follows the logits of one discriminator",
        ),
        (cut, {"nce_weight": -1.0}, "task.nce_weight=-1.0 must be 0 or more"),
        (cut, {"temperature": 0.0}, "task.temperature is too small"),
        (cut, {"channels": 3}, "choose data with equal channels"),
    ],
)
def test_options_out_of_range_are_refused(make, options, words):
    with pytest.raises(InputError, match=words):
        make(**options)


def test_a_translator_without_an_encoding_is_refused():
    with pytest.raises(InputError, match="PlainTranslator has no encoding_channels and no encoding"):
        CUT(generator=PlainTranslator(), channels=1)


STEPS = {"unpaired_translation": UnpairedTranslation, "cut": CUT}


@pytest.mark.parametrize("task", ["unpaired_translation", pytest.param("cut", marks=pytest.mark.slow)])
def test_resumed_runs_are_bit_for_bit_the_same(task, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [*TINY, f"task={task}", "generator.blocks=1", "discriminator=dcgan", "discriminator.width=4"]
    options += ["task.accumulate=2", "data.source.paired=false"]
    options += ["task.pool_size=20"] if task == "unpaired_translation" else ["task.patches=16"]
    assert run(monkeypatch, capsys, *options, "hydra.run.dir=whole")[0] == 0
    arguments = [*options, "hydra.run.dir=stopped"]
    for images, validating in ((40, False), (48, True)):
        with monkeypatch.context() as patch:
            stop_at(patch, images, 15, validating=validating, step=STEPS[task])
            code, _, err = run(monkeypatch, capsys, *arguments)
        assert f"Stopped after {images} images" in err
        arguments = ["resume=stopped"]
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 0, err
    assert_same(tmp_path / "stopped", tmp_path / "whole")


def test_a_task_that_learns_from_pairs_refuses_shuffled_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, "task=regression", "data.source.paired=false")
    assert code == 1
    assert "choose task=unpaired_translation or task=cut" in err


def trained(make, rank, world_size):
    """Train three steps as process ``rank`` of ``world_size``; return all weights and pools by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl.Trainer, "world_size", property(lambda _: world_size))
        patch.setattr(pl.Trainer, "global_rank", property(lambda _: rank))
        model = make(max_images=24)
        fit(model, SharedPairs(rank, world_size), limit_val_batches=0)
    return {name: value.clone() for name, value in model.state_dict().items()}


class SharedPairs(Pairs):
    """The share of a process of each batch of pairs, as ``ResumableBatchSampler`` divides it."""

    def __init__(self, rank, world_size):
        super().__init__()
        self.rank, self.world_size = rank, world_size

    def train_dataloader(self):
        batches = [list(range(start, start + 8))[self.rank :: self.world_size] for start in range(0, 64, 8)]
        return torch.utils.data.DataLoader(self.items(), batch_sampler=batches)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.parametrize("make", [regression, translation, lambda **options: cyclegan(**{"pool_size": 10} | options)])
def test_two_processes_take_the_steps_of_one(make, tmp_path):
    one = trained(make, 0, 1)
    for other in in_processes(lambda rank: trained(make, rank, WORLD), tmp_path):
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)


class Warming(DCGANDiscriminator):
    """A discriminator that follows the images seen, as the vision-aided one does for its warm-up."""

    seen = None

    def advance(self, images_seen):
        self.seen = images_seen


def test_both_discriminators_follow_the_images_seen():
    sides = [Warming(image_size=16, channels=1, width=8, normalization="none") for _ in range(2)]
    model = cyclegan(discriminator=sides[0], source_discriminator=sides[1])
    model.images_seen = 12
    model.begin_step()
    assert [side.seen for side in sides] == [12, 12]


def test_the_weights_that_the_step_has_can_be_scheduled_and_no_others():
    assert cyclegan().own_quantities().keys() == {"task.cycle_weight", "task.identity_weight"}
