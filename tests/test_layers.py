"""Layers of generators and discriminators: self-attention, its place in each network, what is refused."""

import math

import pytest
import torch
from torch import nn

from medsynth.contracts import InputError
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.patch import PatchDiscriminator
from medsynth.discriminator.r3gan import R3GANDiscriminator
from medsynth.discriminator.sngan import SNGANDiscriminator
from medsynth.generator.dcgan import DCGANGenerator
from medsynth.generator.fastgan import FastGANGenerator
from medsynth.generator.resnet import ResNetGenerator
from medsynth.layers.attention import SelfAttention
from medsynth.loss.hinge import Hinge
from medsynth.penalty.r1 import R1
from tests.test_conf import compose
from tests.test_gan import fit, gan

NETWORKS = {  # constructor, and the resolutions of a network for 16 pixels, channels of the maps by resolution
    "generator dcgan": (lambda **k: DCGANGenerator(width=8, max_width=16, **k), {4: 16, 8: 8}),
    "generator resnet": (lambda **k: ResNetGenerator(width=8, max_width=16, **k), {8: 16, 16: 8}),
    "generator fastgan": (lambda **k: FastGANGenerator(width=4, **k), {4: 64, 8: 32, 16: 16}),
    "discriminator dcgan": (lambda **k: DCGANDiscriminator(width=8, max_width=16, **k), {8: 8, 4: 16}),
    "discriminator spectral": (lambda **k: DCGANDiscriminator(width=8, normalization="spectral", **k), {8: 8, 4: 16}),
    "discriminator sngan": (lambda **k: SNGANDiscriminator(width=8, max_width=16, **k), {8: 8, 4: 16}),
    "discriminator r3gan": (
        lambda **k: R3GANDiscriminator(width=8, max_width=16, blocks=1, **k),
        {16: 8, 8: 16, 4: 16},
    ),
    "discriminator patch": (lambda **k: PatchDiscriminator(width=8, layers=2, **k), {8: 8, 4: 16}),
}
PLACES = [(name, resolution) for name, (_, places) in NETWORKS.items() for resolution in places]


def build(name, **options):
    torch.manual_seed(0)
    return NETWORKS[name][0](image_size=16, channels=1, **options)


def output(name, network):
    torch.manual_seed(1)
    return network(torch.randn(4, network.latent_dim) if name.startswith("generator") else torch.randn(4, 1, 16, 16))


def attention_of(network):
    (layer,) = [module for module in network.modules() if isinstance(module, SelfAttention)]
    return layer


def test_attention_is_the_paper_s_sum_at_each_position():
    layer = SelfAttention(16).double()
    for _ in range(50):  # of the power iteration
        layer(torch.zeros(1, 16, 2, 2, dtype=torch.float64))
    layer.eval()
    nn.init.constant_(layer.gamma, 0.7)
    f, g, h, v = (
        module.parametrizations.weight.original.detach().flatten(1)
        for module in (layer.key, layer.query, layer.value, layer.output)
    )
    f, g, h, v = (matrix / torch.linalg.matrix_norm(matrix, 2) for matrix in (f, g, h, v))
    assert (len(f), len(g), len(h), len(v)) == (2, 2, 8, 16)
    x = torch.randn(2, 16, 4, 6, dtype=torch.float64)
    windows = [(row, column) for row in (0, 2) for column in (0, 2, 4)]
    result = layer(x)
    for image in range(2):
        # the maxima of 2 x 2 positions, of each channel
        keys, values = (
            [
                torch.stack([w @ x[image, :, r + i, c + j] for i in (0, 1) for j in (0, 1)]).amax(dim=0)
                for r, c in windows
            ]
            for w in (f, h)
        )
        for row in range(4):
            for column in range(6):
                here = x[image, :, row, column]
                shares = [math.exp(key @ (g @ here)) for key in keys]
                mean = sum(share * value for share, value in zip(shares, values, strict=True)) / sum(shares)
                torch.testing.assert_close(result[image, :, row, column], here + 0.7 * (v @ mean))


@pytest.mark.parametrize(("name", "resolution"), PLACES)
def test_attention_stands_behind_the_maps_of_its_resolution_and_starts_as_the_identity(name, resolution):
    network = build(name, attention=resolution)
    layer = attention_of(network)
    assert layer.value.parametrizations.weight.original.shape[1] == NETWORKS[name][1][resolution]
    sizes = []
    layer.register_forward_hook(lambda _, inputs, result: sizes.append((inputs[0].shape[-1], result is inputs[0])))
    before = output(name, network.eval())
    nn.init.constant_(layer.gamma, 2.0)
    after = output(name, network)
    assert [size for size, _ in sizes] == [resolution] * 2
    assert (after - before).abs().max() > 1e-5
    nn.init.zeros_(layer.gamma)
    torch.testing.assert_close(output(name, network), before)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_attention_nothing_is_drawn_and_no_weight_added(name):
    default, chosen = build(name), build(name, attention=None).state_dict()
    assert not any("gamma" in key or "attention" in key for key in chosen)
    assert all(torch.equal(chosen[key], value) for key, value in default.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_each_of_its_convolutions_is_normalized_once(name):
    layer = attention_of(build(name, attention=max(NETWORKS[name][1])))
    for convolution in (layer.key, layer.query, layer.value, layer.output):
        assert len(convolution.parametrizations.weight) == 1
        for _ in range(20):
            weight = convolution.weight.detach()
        assert torch.linalg.matrix_norm(weight.flatten(1), 2) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_resolution_without_maps_is_refused(name):
    sizes = ", ".join(map(str, sorted(NETWORKS[name][1])))
    option = rf"{name.split()[0]}\.attention=32: .* no maps of 32 pixels .* one of {sizes}, or null"
    with pytest.raises(InputError, match=option):
        build(name, attention=32)


def test_training_with_attention_in_both_networks_moves_gamma():
    generator, discriminator = (build(f"{side} dcgan", attention=8) for side in ("generator", "discriminator"))
    model = gan(generator=generator, discriminator=discriminator, loss=Hinge(), penalties={"r1": R1()}, max_images=32)
    fit(model)
    for network in (model.generator, model.discriminator):
        assert attention_of(network).gamma.abs() > 0
    assert attention_of(model.ema_generator.module).gamma.abs() > 0


def test_attention_is_an_option_of_both_networks():
    task = compose("generator.attention=32", "discriminator.attention=16").task
    assert (task.generator.attention, task.discriminator.attention) == (32, 16)
    assert compose("backbone=mini", "discriminator.trained.attention=16").task.discriminator.trained.attention == 16
