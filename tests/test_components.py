"""Contracts: a component that lacks a member is refused when the GAN is built; one sentence names the member."""

import pytest
from torch import nn

from medsynth.contracts import (
    Adaptive,
    Augmentation,
    Discriminator,
    Generator,
    GeneratorPenalty,
    InputError,
    Loss,
    Metrics,
    Network,
    Penalty,
    Schedule,
    TrainingData,
    contract_members,
)
from medsynth.data.module import ImageDataModule
from medsynth.loss.hinge import Hinge
from medsynth.penalty.r1 import R1
from medsynth.schedule.constant import Constant
from tests.command import TINY, run
from tests.test_gan import Darker, Listener, PixelMean, PlainGenerator, gan, transfer
from tests.test_generator_penalty import MeanImage

CONTRACTS = {  # option: (contract, an object that fulfills it, options of the GAN with such an object)
    "generator": (Generator, PlainGenerator(), lambda own: {"generator": own}),
    "discriminator": (Discriminator, transfer(), lambda own: {"discriminator": own}),
    "loss": (Loss, Hinge(), lambda own: {"loss": own}),
    "metrics": (Metrics, PixelMean(), lambda own: {"metrics": own}),
    "penalty=own": (Penalty, R1(), lambda own: {"penalties": {"own": own}}),
    "generator_penalty=own": (GeneratorPenalty, MeanImage(), lambda own: {"generator_penalties": {"own": own}}),
    "augment=own": (Augmentation, Darker(), lambda own: {"augmentations": {"own": own}}),
    "penalty=adaptive": (Adaptive, Listener(), lambda own: {"penalties": {"adaptive": own}}),
    "schedules.task.ema_half_life": (
        Schedule,
        Constant(1.0),
        lambda own: {"schedules": {"task": {"ema_half_life": own}}},
    ),
}
# What every torch.nn.Module has cannot be lacking; a component without `observe` is one that does not adapt.
ALWAYS = {"generator": dir(nn.Module), "discriminator": dir(nn.Module), "penalty=adaptive": ["observe"]}
CASES = [
    (option, member)
    for option, (contract, _, _) in CONTRACTS.items()
    for member in contract_members(contract)
    if member not in ALWAYS.get(option, ())
]


def like(component, *, without=None):
    """Return an object of a class ``Own`` with the public members of ``component``, but for one."""
    bases = (nn.Module,) if isinstance(component, nn.Module) else ()
    names = [name for name in dir(component) if name == "__call__" or not name.startswith("_")]
    names = [name for name in names if name != without and not (bases and name in dir(nn.Module))]
    own = type("Own", bases, {})
    for name in names:
        setattr(own, name, getattr(component, name))
    return own()


@pytest.mark.parametrize(("option", "member"), CASES, ids=str)
def test_a_missing_member_is_named(option, member):
    contract, component, options = CONTRACTS[option]
    gan(**options(like(component))).configure_optimizers()  # all members: nothing is refused
    with pytest.raises(InputError) as refusal:
        gan(**options(like(component, without=member))).configure_optimizers()
    assert str(refusal.value) == (
        f"{option}: Own has no {member}, which the contract {contract.__name__} requires "
        "(see medsynth/contracts/): add it to the class."
    )


def test_several_missing_members_are_named_at_once():
    with pytest.raises(InputError, match=r"Constant has no interval and no at, which the contract Penalty .* add them"):
        gan(penalties={"own": Constant(1.0)})


def test_networks_have_to_be_modules():
    with pytest.raises(InputError, match=r"generator: Own is not a torch\.nn\.Module"):
        gan(generator=type("Own", (), {"latent_dim": 4})())


def test_an_unknown_place_of_a_penalty_is_refused():
    nowhere = R1()
    nowhere.at = "nowhere"
    with pytest.raises(
        InputError, match=r"penalty=own: R1\.at is 'nowhere': choose of real, .*, perturbed, logits, images"
    ):
        gan(penalties={"own": nowhere})


def test_a_penalty_at_perturbed_images_says_how_far():
    vague = R1()
    vague.at = "perturbed"
    with pytest.raises(InputError, match="R1 has no perturbation, which the contract PerturbedPenalty requires"):
        gan(penalties={"own": vague})


def test_the_members_of_a_contract_include_those_that_it_extends():
    assert set(contract_members(Network)) == {"parameters", "modules", "state_dict", "train", "eval"}
    assert set(contract_members(Generator)) == {*contract_members(Network), "latent_dim", "__call__"}


def test_the_data_module_has_all_that_a_training_asks_of_its_data():
    assert [name for name in contract_members(TrainingData) if not hasattr(ImageDataModule, name)] == []


class Incomplete:
    """A loss of one's own in which ``relativistic`` was forgotten."""

    boundary = 0.0

    def discriminator(self, *, real, fake):
        return (fake - real).mean()

    def generator(self, *, real, fake):
        return -fake.mean()


def test_the_command_ends_with_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, "loss=hinge", "loss._target_=tests.test_components.Incomplete")
    assert code == 1
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert "loss: Incomplete has no relativistic, which the contract Loss requires" in line
    assert "Traceback" not in err
