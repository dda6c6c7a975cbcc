"""Layers that compare the images of a batch, against their formulas worked out in float64 with NumPy."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from medsynth.configuration import combinations
from medsynth.contracts import InputError, MinibatchLayer
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.mlp import MLPDiscriminator
from medsynth.discriminator.r3gan import R3GANDiscriminator
from medsynth.discriminator.sngan import SNGANDiscriminator
from medsynth.discriminator.style import StyleDiscriminator
from medsynth.minibatch.discrimination import MinibatchDiscrimination
from medsynth.minibatch.std import MinibatchStd
from medsynth.penalty.r1 import R1
from tests.command import TINY, run
from tests.test_conf import compose
from tests.test_gan import fit, gan

LAYERS = {"std": MinibatchStd, "discrimination": functools.partial(MinibatchDiscrimination, kernels=3, dimensions=2)}
DISCRIMINATORS = {
    "dcgan": functools.partial(DCGANDiscriminator, width=4),
    "sngan": functools.partial(SNGANDiscriminator, width=4),
    "mlp": functools.partial(MLPDiscriminator, widths=(16, 8)),
    "style": functools.partial(StyleDiscriminator, width=4, max_width=8),
    "r3gan": functools.partial(R3GANDiscriminator, width=8, max_width=16, blocks=1, group_width=4),
}


def random(*size):
    return torch.from_numpy(np.random.default_rng(0).normal(size=size))


@pytest.mark.parametrize("positions", [(), (2, 3)])
@pytest.mark.parametrize(
    ("images", "group", "sizes"), [(8, 4, [4, 4]), (11, 4, [6, 5]), (3, 4, [3]), (7, 2, [3, 2, 2]), (1, 4, [1])]
)
def test_std_is_the_mean_deviation_of_each_group(images, group, sizes, positions):
    features = random(images, 5, *positions)
    expected, start = [], 0
    for size in sizes:
        flat = features.numpy()[start : start + size].reshape(size, -1)
        expected += [np.mean(np.sqrt(flat.var(axis=0) + 1e-8))] * size
        start += size
    layer = MinibatchStd(5, 6, group=group)
    out = layer(features)
    assert out.shape == (images, 6, *positions)
    torch.testing.assert_close(out[:, :5], features, rtol=0, atol=0)
    statistics = out[:, 5:].reshape(images, -1).numpy()
    np.testing.assert_allclose(statistics, np.repeat(np.array(expected)[:, None], statistics.shape[1], 1), rtol=1e-6)


@pytest.mark.parametrize("positions", [(), (2, 3)])
def test_discrimination_sums_the_closeness_of_all_images(positions):
    features = random(4, 5, *positions)
    layer = MinibatchDiscrimination(5, int(np.prod(positions)), kernels=3, dimensions=2).double()
    weight = layer.weight.detach().numpy()
    assert weight.shape == (5 * int(np.prod(positions)), 3, 2)
    expected = np.zeros((4, 3))
    for kernel in range(3):
        rows = [features.numpy()[image].reshape(-1) @ weight[:, kernel] for image in range(4)]
        for image in range(4):
            expected[image, kernel] = sum(np.exp(-np.abs(rows[image] - other).sum()) for other in rows)
    out = layer(features)
    assert out.shape == (4, 8, *positions)
    torch.testing.assert_close(out[:, :5], features, rtol=0, atol=0)
    found = out[:, 5:].reshape(4, 3, -1).detach().numpy()
    np.testing.assert_allclose(found, np.repeat(expected[:, :, None], found.shape[2], 2), rtol=1e-6)


def test_discrimination_starts_at_the_scale_of_the_features():
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(400, 16, kernels=10, dimensions=5)
    coordinates = torch.einsum("ni,ibc->nbc", torch.randn(50, 6400), layer.weight)
    assert coordinates.std().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("name", LAYERS)
def test_layer_says_how_many_features_it_adds(name):
    layer = LAYERS[name](5, 1)
    assert isinstance(layer, MinibatchLayer)
    assert layer(random(4, 5).float()).shape == (4, 5 + layer.added)


@pytest.mark.parametrize("name", LAYERS)
def test_equal_images_are_seen_and_have_finite_second_derivatives(name):
    torch.manual_seed(0)
    layer = LAYERS[name](5, 1)
    equal, varied = torch.ones(4, 5, requires_grad=True), torch.randn(4, 5)
    same, different = layer(equal)[:, 5:].mean(), layer(varied)[:, 5:].mean()
    assert same < 1e-3 * different if name == "std" else same.item() == pytest.approx(4)
    (gradient,) = torch.autograd.grad(layer(equal).square().sum(), equal, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), equal)
    assert second.isfinite().all()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_look_at_the_batch_with_the_layer_alone(name, layer):
    torch.manual_seed(0)
    options = {"image_size": 16, "channels": 1, "num_classes": 2}
    images, labels = torch.randn(8, 1, 16, 16), torch.tensor([0, 1] * 4)
    plain = DISCRIMINATORS[name](**options).eval()
    comparing = DISCRIMINATORS[name](minibatch=LAYERS[layer], **options).eval()
    for network, depends in ((plain, False), (comparing, True)):
        for embedding in (m for m in network.modules() if isinstance(m, nn.Embedding)):
            embedding.requires_grad_(False)
        whole, alone = network(images, labels), network(images[:1], labels[:1])
        assert whole.shape == (8, 1)
        assert bool((whole[:1] - alone).abs() > 1e-5) == depends


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_without_a_layer_nothing_is_drawn_and_no_weight_added(name):
    networks = []
    for options in ({}, {"minibatch": {}}, {"minibatch": None}):
        torch.manual_seed(0)
        networks.append(DISCRIMINATORS[name](image_size=16, channels=1, **options).state_dict())
    assert not any("compare" in key for key in networks[0])
    for other in networks[1:]:
        assert list(other) == list(networks[0])
        assert all(torch.equal(other[key], value) for key, value in networks[0].items())


@pytest.mark.parametrize("layer", LAYERS)
def test_training_with_a_penalty_microbatches_and_a_last_batch_that_no_group_divides(layer):
    discriminator = DCGANDiscriminator(image_size=16, channels=1, width=8, minibatch=LAYERS[layer])
    model = gan(discriminator=discriminator, penalties={"r1": R1()}, accumulate=3, max_images=19)
    fit(model)
    assert model.images_seen == 19
    assert all(weight.isfinite().all() for weight in model.discriminator.state_dict().values())


def test_a_layer_without_the_contract_is_refused():
    with pytest.raises(InputError, match="minibatch: Identity has no added, which the contract MinibatchLayer"):
        DCGANDiscriminator(image_size=16, channels=1, minibatch=lambda channels, positions: nn.Identity())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: MinibatchStd(4, 1, group=1), r"minibatch\.group=1"),
        (lambda: MinibatchDiscrimination(4, 1, kernels=0), r"minibatch\.kernels=0"),
        (lambda: MinibatchDiscrimination(4, 1, dimensions=0), r"minibatch\.dimensions=0"),
    ],
)
def test_options_out_of_range(build, words):
    with pytest.raises(InputError, match=words):
        build()


def test_the_trained_discriminator_beside_a_backbone_gets_the_layer():
    discriminator = compose("backbone=mini", "minibatch=std", "minibatch.group=8").task.discriminator
    assert (discriminator.trained.minibatch.group, "minibatch" in discriminator) == (8, False)
    assert not compose().task.discriminator.minibatch


@pytest.mark.parametrize("discriminator", ["transfer", "projected", "grid", "patch"])
def test_discriminators_without_a_place_for_the_layer_refuse_it(monkeypatch, discriminator):
    monkeypatch.setattr(combinations, "choices_with", lambda group, *options: ["dcgan", "sngan"])  # composes them all
    config = compose("minibatch=discrimination", f"discriminator={discriminator}")
    with pytest.raises(InputError, match=r"minibatch=discrimination has no effect .*=dcgan or sngan\."):
        combinations.check_combinations(config)


def test_the_command_refuses_the_layer_in_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(combinations, "choices_with", lambda group, *options: ["dcgan", "sngan", "vision_aided"])
    code, _, err = run(monkeypatch, capsys, *TINY, "minibatch=std", "discriminator=patch", "discriminator.layers=1")
    assert code == 1
    assert err == (
        "medsynth train: error: minibatch=std has no effect on this discriminator, which has no layer that compares "
        "the images of a batch: choose minibatch=none or discriminator=dcgan, sngan or vision_aided.\n"
    )
