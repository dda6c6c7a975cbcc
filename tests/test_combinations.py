"""Choices that do not suit each other: what is refused, what is warned of, and what is not."""

import logging
import re
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from medsynth.configuration.cautions import cautions
from medsynth.configuration.combinations import check_combinations
from medsynth.configuration.least_values import check_least_values
from medsynth.contracts import InputError
from medsynth.finalize import finalize
from tests.test_conf import compose

GAMMA = "+schedule@schedules.penalty.r1.gamma"
NESTED = "augment@penalty.consistency.augmentations"


def ends(start, end):
    return [f"schedules.penalty.r1.gamma.start={start}", f"schedules.penalty.r1.gamma.end={end}"]


DATA = SimpleNamespace(batch_size=8, num_train=100, num_classes=0, source=None)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["loss=wasserstein"], "penalty=wasserstein_gp holds the gradient at each image, but .* discriminator.norm"),
        (["penalty=[dragan,drift]"], "penalty=dragan holds .* type discriminator.normalization=none"),
        (["backbone=mini", "penalty=dragan"], "penalty=dragan .* type discriminator.trained.normalization=none"),
        (["discriminator=projected", "penalty=[wasserstein_gp,dragan]"], "penalty=wasserstein_gp,dragan holds"),
        (["discriminator=transfer", "penalty=[r1,r2]", "penalty.r2.gamma=2"], "penalty.r2.gamma is 2, which suits"),
        (
            ["experiment=r3gan", "discriminator=vision_aided"],
            "penalty.r1.gamma is 2, .* or a gamma of 0.1 or less",
        ),
        (
            ["discriminator=transfer", "penalty=r1", "penalty.r1.gamma=0.1", f"{GAMMA}=linear", *ends(0.0, 3.0)],
            "penalty.r1.gamma is 3, which suits",
        ),
        (
            ["discriminator=transfer", "penalty=r1", f"{GAMMA}=warmup", "schedules.penalty.r1.gamma.then.value=4.0"],
            "penalty.r1.gamma is 4, which suits",
        ),
        (
            ["loss=wasserstein", "discriminator.normalization=none", "task.discriminator_margin=2"],
            "task.discriminator_margin=2 holds the discriminator back",
        ),
        (
            ["penalty=consistency", f"{NESTED}=ada", "penalty.consistency.augmentations.ada.flip=true"],
            "penalty.consistency.augmentations.ada.flip=true exchanges left and right",
        ),
        (["augment=ada", "augment.ada.flip=true"], "augment.ada.flip=true exchanges left and right"),
        (["data=image_folder", "data.flip=both"], "data.flip=both exchanges left and right"),
        (["data=image_folder", "data.flip=horizontal"], "data.flip=horizontal exchanges left and right"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unwise_choices_are_said(overrides, sentence):
    found = cautions(compose(*overrides))
    assert found
    assert re.search(sentence, found[0])


@pytest.mark.parametrize(
    "overrides",
    [
        [],  # R1 with batch normalization is measured to work
        ["penalty=[r1,r2,drift,lecam]"],
        ["loss=wasserstein", "discriminator.normalization=none"],
        ["penalty=dragan", "discriminator=sngan"],
        ["penalty=none"],
        ["experiment=r3gan"],
        ["backbone=mini"],
        ["discriminator=transfer", "penalty=r1"],
        ["augment=[ada,instance_noise]"],
        ["penalty=consistency", f"{NESTED}=ada"],
        ["task.discriminator_margin=2"],
        ["discriminator=transfer", "penalty=r1", f"{GAMMA}=linear", *ends(0.2, 0.02)],
        ["data=image_folder", "data.flip=vertical"],
    ],
    ids=" ".join,
)
def test_nothing_is_said_of_others(overrides):
    assert cautions(compose(*overrides)) == ()


EXTRAGRADIENT = [f"optimizer@{name}=extragradient" for name in ("generator_optimizer", "discriminator_optimizer")]
STANDARD = [
    *EXTRAGRADIENT,
    "generator_optimizer.extrapolation=standard",
    "discriminator_optimizer.extrapolation=standard",
]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (STANDARD[:3], "generator_optimizer.extrapolation=standard .* and discriminator_optimizer does not: type"),
        ([STANDARD[1], STANDARD[3]], "discriminator_optimizer.extrap.* type optimizer@generator_optimizer=extragradi"),
        ([*STANDARD, "task.discriminator_steps=2"], "with task.discriminator_steps=2 both .* leave that out, or type"),
        ([*STANDARD, "task.discriminator_margin=2"], "with task.discriminator_margin=2 both"),
        ([*STANDARD, "trainer.precision=16-mixed"], "with trainer.precision=16-mixed both"),
    ],
    ids=str,
)
def test_networks_that_extrapolate_in_turn_do_so_in_the_same_steps(overrides, sentence):
    with pytest.raises(InputError, match=sentence):
        check_combinations(compose(*overrides))
    check_combinations(compose(*STANDARD))
    check_combinations(compose(*EXTRAGRADIENT, "task.discriminator_steps=2", "task.discriminator_margin=2"))


def finalized(*overrides, batch_size=8):
    config = compose(*overrides, "trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=32-true")
    data = SimpleNamespace(**vars(DATA) | {"batch_size": batch_size})
    return finalize(OmegaConf.create(OmegaConf.to_container(config)), data)


def test_a_training_logs_what_is_unwise(caplog):
    with caplog.at_level(logging.WARNING):
        finalized("loss=wasserstein", "augment=ada", "augment.ada.flip=true")
    said = [record.getMessage() for record in caplog.records]
    assert any("penalty=wasserstein_gp holds" in line for line in said)
    assert any("augment.ada.flip=true exchanges" in line for line in said)


def test_penalties_of_pairs_need_two_images_at_a_time():
    finalized("generator_penalty=mode_seeking", "task.accumulate=4")
    finalized("generator_penalty=feature_matching", "task.accumulate=8")
    with pytest.raises(InputError, match="generator_penalty=mode_seeking compares the images that are computed at a"):
        finalized("generator_penalty=[feature_matching,mode_seeking]", "task.accumulate=8")


def test_layers_of_the_batch_need_two_images_at_a_time():
    finalized("minibatch=std", "task.accumulate=4")
    for overrides in (
        ["task.accumulate=8"],
        ["discriminator.packing=8"],
        ["discriminator.packing=2", "task.accumulate=4"],
    ):
        with pytest.raises(InputError, match="minibatch= compares the images that are computed at a time"):
            finalized("minibatch=std", *overrides)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["generator.width=0"], "generator.width=0 must be above 0"),
        (["generator.max_width=0"], "generator.max_width=0 must be 1 or more"),
        (["generator.latent_dim=-3"], "generator.latent_dim=-3 must be 1 or more"),
        (["generator=mlp", "generator.widths=[8,0]"], r"generator.widths=\[8, 0\] must be 1 or more"),
        (["generator=tomsk", "generator.width=0.0"], "generator.width=0.0 must be above 0"),
        (["generator=tomsk", "generator.levels=0"], "generator.levels=0 must be 1 or more"),
        (["generator=style", "generator.mapping_rate=0.0"], "generator.mapping_rate=0.0 must be above 0"),
        (["generator.channels=0"], "generator.channels=0 must be 1 or more"),
        (["generator.num_classes=-1"], "generator.num_classes=-1 must be 0 or more"),
        (["discriminator.width=-1"], "discriminator.width=-1 must be above 0"),
        (["task=vae", "encoder.width=0"], "encoder.width=0 must be above 0"),
        (["minibatch=discrimination", "minibatch.kernels=0"], "minibatch.kernels=0 must be 1 or more"),
        (["penalty=[r1,r2]", "penalty.r2.interval=0"], "penalty.r2.interval=0 must be 1 or more"),
        (
            ["generator_penalty=path_length", "generator_penalty.path_length.interval=-1"],
            "interval=-1 must be 1 or more",
        ),
        (["task.accumulate=0"], "task.accumulate=0 must be 1 or more"),
        (["task.ema_half_life=-1"], "task.ema_half_life=-1 must be 0 or more"),
        (["callbacks.sample_grid.num_images=0"], "callbacks.sample_grid.num_images=0 must be 1 or more"),
        (["data.num_workers=-1"], "data.num_workers=-1 must be 0 or more"),
        (["generator_optimizer.betas=[0.0]"], "generator_optimizer.betas=.* must be two numbers"),
        (["max_images=-5"], "max_images=-5 must be 2 or more, or null beside max_epochs"),
        (["max_images=null"], "max_images=null must be 2 or more, or null beside max_epochs"),
        (["max_epochs=0"], "max_epochs=0 must be 1 or more, or null"),
        (["val_every_images=1"], "val_every_images=1 must be 2 or more"),
        (["seed=null"], "seed=null must be a number from 0"),
        (["data.batch_size=0"], "data.batch_size=0 must be 1 or more"),
        (["data.image_size=0"], "data.image_size=0 must be 1 or more"),
        (["seed=-1"], "seed=-1 must be from 0 to 4294967295"),
        (["seed=4294967296"], "seed=4294967296 must be from 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_sizes_that_nothing_can_be_built_of_are_refused(overrides, sentence):
    with pytest.raises(InputError, match=sentence):
        check_combinations(compose(*overrides))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["generator.channels=32"], "generator.channels=32 is not that of the images, 1: .*data.channels=32"),
        (["discriminator.channels=3"], "discriminator.channels=3 is not that of the images, 1"),
        (["generator.image_size=32"], "generator.image_size=32 is not that of the images, 64"),
        (["task=vae", "encoder.image_size=32"], "encoder.image_size=32 is not that of the images, 64"),
        (["generator.num_classes=3"], "type conditional=true for classes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_shapes_that_are_not_those_of_the_images_are_refused(overrides, sentence):
    with pytest.raises(InputError, match=sentence):
        check_combinations(compose(*overrides))
    check_combinations(compose("generator.channels=32", "generator._target_=mine.Generator"))


def test_least_sizes_and_classes_of_ones_own_are_not_refused():
    least = ["generator.width=1", "generator.max_width=1", "penalty.r1.interval=1", "data.num_workers=0", "seed=0"]
    check_least_values(compose(*least, "task.ema_half_life=0", "task.ema_rampup=null"))
    check_least_values(compose("data.channels=0"))  # of which the data's own check speaks
    check_least_values(compose("generator._target_=mine.Generator", "generator.width=0"))
