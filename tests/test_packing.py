"""PacGAN: packs of images that have one logit together, in networks, penalties, batches and options."""

import functools
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from medsynth.augment.diffaugment import DiffAugment
from medsynth.cli.plan import _sizes
from medsynth.configuration.combinations import check_combinations
from medsynth.contracts import InputError
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.mlp import MLPDiscriminator
from medsynth.discriminator.patch import PatchDiscriminator
from medsynth.discriminator.r3gan import R3GANDiscriminator
from medsynth.discriminator.sngan import SNGANDiscriminator
from medsynth.discriminator.style import StyleDiscriminator
from medsynth.discriminator.vision_aided import VisionAidedDiscriminator
from medsynth.loss.relativistic_pairing import RelativisticPairing
from medsynth.penalty.lecam import LeCam
from medsynth.penalty.r1 import R1
from medsynth.penalty.wasserstein_gp import WassersteinGradientPenalty
from tests.command import TINY, run
from tests.test_conf import compose
from tests.test_discriminator import TinyBackbone
from tests.test_gan import fit, gan

DISCRIMINATORS = {
    "dcgan": functools.partial(DCGANDiscriminator, width=4),
    "sngan": functools.partial(SNGANDiscriminator, width=4),
    "patch": functools.partial(PatchDiscriminator, width=4, layers=1),
    "mlp": functools.partial(MLPDiscriminator, widths=(16, 8)),
    "r3gan": functools.partial(R3GANDiscriminator, width=8, max_width=16, blocks=1, group_width=4),
    "style": functools.partial(StyleDiscriminator, width=4, max_width=8),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_a_pack_is_an_image_with_the_channels_of_its_images(name, channels):
    """The same network for three times as many channels, on images that are joined here."""
    networks = []
    for options in ({"channels": channels, "packing": 3}, {"channels": 3 * channels}):
        torch.manual_seed(0)
        networks.append(DISCRIMINATORS[name](image_size=16, **options).eval())
    images = torch.randn(6, channels, 16, 16)
    joined = torch.stack([torch.cat([*images[:3]]), torch.cat([*images[3:]])])
    packed, wide = networks[0](images), networks[1](joined)
    assert len(packed) == 2
    torch.testing.assert_close(packed, wide)


def test_a_gradient_penalty_is_that_of_a_pack():
    """D(x, y) = 3 sum x + 4 sum y has a gradient of norm 5 sqrt(pixels)."""
    discriminator = DISCRIMINATORS["dcgan"](image_size=16, channels=1, packing=2)
    inputs = tuple(part.requires_grad_(True) for part in discriminator.features(torch.randn(4, 1, 16, 16)))
    logits = (inputs[0] * torch.tensor([3.0, 4.0])[:, None, None]).sum(dim=(1, 2, 3))[:, None]
    assert R1(gamma=2.0)(inputs=inputs, logits=logits).item() == pytest.approx(25 * 256, rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"penalties": {"r1": R1(), "wasserstein_gp": WassersteinGradientPenalty(), "lecam": LeCam(start=1)}},
        {"augmentations": {"diffaugment": DiffAugment()}, "loss": RelativisticPairing(), "accumulate": 2},
    ],
    ids=["penalties", "augmentation"],
)
def test_training_with_packs_counts_images(options):
    discriminator = DISCRIMINATORS["dcgan"](image_size=16, channels=1, packing=2)
    model = gan(discriminator=discriminator, max_images=20, **options)
    before = discriminator.state_dict()["layers.0.weight"].clone()
    fit(model)  # batches of 8, 8 and 4
    assert (model.images_seen, model.discriminator_updates) == (20, 3)
    after = discriminator.state_dict()["layers.0.weight"]
    assert after.shape[1] == 2
    assert ((after - before).abs().amax(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda new: new(packing=0), r"discriminator\.packing=0 must be 1 or more"),
        (lambda new: new(packing=2, num_classes=3), r"discriminator\.packing=2 joins images of several classes"),
        (
            lambda new: new(packing=3)(torch.zeros(8, 1, 16, 16)),
            r"packing=3 does not divide the 8 images",
        ),
        (
            lambda new: VisionAidedDiscriminator(
                trained=new(packing=2), backbone=TinyBackbone(), image_size=16, channels=1
            ),
            r"discriminator\.trained\.packing=2 cannot be used beside heads on a backbone",
        ),
    ],
)
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_what_cannot_be_packed_is_refused(name, build, words):
    with pytest.raises(InputError, match=words):
        build(functools.partial(DISCRIMINATORS[name], image_size=16, channels=1))


def test_labels_and_packs_are_refused_at_composition():
    check_combinations(compose("discriminator.packing=2"))
    check_combinations(compose("conditional=true"))
    with pytest.raises(InputError, match=r"leave out conditional=true or discriminator\.packing"):
        check_combinations(compose("discriminator.packing=2", "conditional=true"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["discriminator.packing=3"],
            "data.batch_size=8 leaves images that discriminator.packing=3 cannot join",
        ),
        (["discriminator.packing=2", "task.accumulate=3"], "choose a multiple of 6, the packing times task.accumulate"),
        (
            ["discriminator.packing=2", "max_images=67"],
            "max_images=67 leaves images that discriminator.packing=2",
        ),
    ],
)
def test_batches_that_leave_images_over_are_refused(monkeypatch, capsys, tmp_path, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, *arguments)
    assert code == 1
    assert sentence in err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("packing", "accumulate", "devices", "sizes"),
    [(1, 1, 8, (2, 8)), (2, 1, 8, (2, 8)), (4, 1, 8, (4, 8)), (8, 1, 1, (8, 16)), (2, 2, 1, (4, 8)), (1, 3, 2, (4, 8))],
)
def test_a_plan_measures_batches_of_whole_packs(packing, accumulate, devices, sizes):
    config = OmegaConf.create(
        {"discriminator": {"packing": packing}, "task": {"accumulate": accumulate}, "plan": {"batch_sizes": None}}
    )
    assert _sizes(config, [devices], SimpleNamespace(batch_size=8, num_train=100)) == sizes
