"""Discriminators that are trained from scratch: logits, labels, depth and size by the papers, second derivatives."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from medsynth.contracts import Discriminator, InputError
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.label import ProjectedLogit, ProjectedMap
from medsynth.discriminator.mlp import MLPDiscriminator
from medsynth.discriminator.patch import PatchDiscriminator
from medsynth.discriminator.r3gan import GroupedBottleneck, R3GANDiscriminator
from medsynth.discriminator.sngan import ResidualBlock, SNGANDiscriminator
from medsynth.discriminator.style import HalvingBlock, StyleDiscriminator
from medsynth.layers.equalized import EqualizedConv2d, EqualizedLinear
from medsynth.layers.resampling import blurred, doubled
from medsynth.minibatch.std import MinibatchStd
from tests.test_conf import compose

SMALL = {
    "sngan": lambda **k: SNGANDiscriminator(width=8, max_width=16, **k),
    "patch instance": lambda **k: PatchDiscriminator(width=8, layers=2, **k),
    "patch batch": lambda **k: PatchDiscriminator(width=8, layers=2, normalization="batch", **k),
    "patch spectral": lambda **k: PatchDiscriminator(width=8, layers=2, normalization="spectral", **k),
    "patch none": lambda **k: PatchDiscriminator(width=8, layers=2, normalization="none", **k),
    "mlp": lambda **k: MLPDiscriminator(widths=(16, 8), **k),
    "style": lambda **k: StyleDiscriminator(width=8, max_width=16, **k),
    "r3gan": lambda **k: R3GANDiscriminator(width=8, max_width=16, blocks=1, group_width=4, **k),
}


def embed(discriminator):
    """Away from zero, where labels start to matter; a normalized one is there from the start."""
    embedding = discriminator.logit.embedding
    if not is_parametrized(embedding):
        nn.init.normal_(embedding.weight)


@pytest.mark.parametrize("image_size", [16, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("name", SMALL)
def test_forward_is_head_after_features(name, num_classes, channels, image_size):
    discriminator = SMALL[name](image_size=image_size, channels=channels, num_classes=num_classes).eval()
    assert isinstance(discriminator, Discriminator)
    images = torch.randn(4, channels, image_size, image_size)
    labels = torch.tensor([0, 1, 2, 0]) if num_classes else None
    logits = discriminator(images, labels)
    patches = (image_size // 4 - 2) ** 2 if name.startswith("patch") else 1
    assert logits.shape == (4, patches)
    assert logits.std(dim=0).min() > 0, "different images must get different logits"
    features = discriminator.features(images)
    assert isinstance(features, tuple)
    torch.testing.assert_close(logits, discriminator.head(features, labels))


@pytest.mark.parametrize("name", SMALL)
def test_label_enters_every_logit(name):
    discriminator = SMALL[name](image_size=16, channels=1, num_classes=3).eval()
    embed(discriminator)
    images = torch.randn(2, 1, 16, 16)
    first, second = discriminator(images, torch.tensor([0, 0])), discriminator(images, torch.tensor([1, 1]))
    assert (first - second).abs().min() > 0


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_projected_map_is_a_projected_logit_at_each_position(kernel_size):
    projected = ProjectedMap(5, 3, kernel_size=kernel_size)
    nn.init.normal_(projected.embedding.weight)
    maps, labels = torch.randn(2, 5, 4, 4), torch.tensor([2, 0])
    logits = projected(maps, labels)
    side = 5 - kernel_size
    assert logits.shape == (2, side * side)
    for image in range(2):
        for row in range(side):
            for column in range(side):
                window = maps[image, :, row : row + kernel_size, column : column + kernel_size]
                expected = (projected.convolution.weight[0] * window).sum() + projected.convolution.bias[0]
                expected = expected + projected.embedding.weight[labels[image]] @ window.mean(dim=(1, 2))
                torch.testing.assert_close(logits[image, row * side + column], expected, rtol=1e-4, atol=1e-5)


def test_projected_map_of_one_position_agrees_with_projected_logit():
    projected, logit = ProjectedMap(5, 3), ProjectedLogit(5, 3, bias=True)
    nn.init.normal_(projected.embedding.weight)
    logit.embedding.load_state_dict(projected.embedding.state_dict())
    logit.linear.load_state_dict(
        {"weight": projected.convolution.weight.flatten(1), "bias": projected.convolution.bias}
    )
    features, labels = torch.randn(4, 5), torch.tensor([0, 1, 2, 2])
    torch.testing.assert_close(projected(features[:, :, None, None], labels), logit(features, labels))


def penalty(discriminator, images, labels):
    """Mean squared norm of the gradient with respect to the images, as in R1."""
    inputs = images.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(inputs, labels).sum(), inputs, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()


@pytest.mark.parametrize("name", SMALL)
def test_second_derivative_is_the_penalty_s_slope(name):
    """In double precision, along a random direction of the weights, against a central difference."""
    torch.manual_seed(0)
    discriminator = SMALL[name](image_size=16, channels=1, num_classes=2).double().eval()
    embed(discriminator)
    images, labels = torch.randn(3, 1, 16, 16, dtype=torch.float64), torch.tensor([0, 1, 1])
    weights = list(discriminator.parameters())
    gradients = torch.autograd.grad(penalty(discriminator, images, labels), weights, allow_unused=True)
    direction = [torch.randn_like(weight) for weight in weights]
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None)

    def moved(distance):
        with torch.no_grad():
            for weight, d in zip(weights, direction, strict=True):
                weight.add_(d, alpha=distance)
        return penalty(discriminator, images, labels).detach()

    step = 1e-9  # no unit crosses its kink
    above = moved(step)
    below = moved(-2 * step)
    assert slope.abs() > 1e-6
    torch.testing.assert_close((above - below) / (2 * step), slope.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_penalty_trains_the_first_layer(name):
    discriminator = SMALL[name](image_size=16, channels=1).train()
    value = penalty(discriminator, torch.randn(4, 1, 16, 16), None)
    value.backward()
    first = next(parameter for parameter in discriminator.parameters() if parameter.dim() >= 2)
    assert value > 0
    assert first.grad.isfinite().all()
    assert first.grad.abs().sum() > 0


@pytest.mark.parametrize("name", SMALL)
def test_reduced_precision(name):
    discriminator = SMALL[name](image_size=16, channels=1, num_classes=2).train()
    images, labels = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 0, 1])
    exact = discriminator(images, labels)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = discriminator(images, labels).float()
    assert (rounded - exact).abs().max() < 0.1 * (1 + exact.abs().max())


@pytest.mark.parametrize("name", ["sngan", "patch spectral"])
def test_every_layer_has_the_largest_singular_value_one(name):
    discriminator = SMALL[name](image_size=16, channels=1, num_classes=3).train()
    layers = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding)]
    with torch.no_grad():
        for layer in layers:  # as if trained: the first estimates no longer hold
            layer.parametrizations.weight.original.normal_(std=3)
        for _ in range(200):
            discriminator(torch.randn(2, 1, 16, 16), torch.tensor([0, 1]))
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        torch.testing.assert_close(largest, torch.ones(()), rtol=0.02, atol=0)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_sngan_counts_as_the_paper_s_table_for_32_pixels():
    """Two blocks down and two plain ones of 128 maps, 3x3 convolutions with bias, 1x1 where a shortcut needs one."""
    with torch.device("meta"):
        discriminator = SNGANDiscriminator(image_size=32, channels=3, width=128, max_width=128)
    plain = 2 * (128 * 128 * 9 + 128)
    first = (3 * 128 * 9 + 128) + (128 * 128 * 9 + 128) + (3 * 128 + 128)
    down = plain + (128 * 128 + 128)
    assert parameters(discriminator) == first + down + 2 * plain + 129 == 1_053_825


@pytest.mark.parametrize(
    ("image_size", "maps", "side"),
    [
        (16, (8, 16, 32, 64), 4),
        (32, (8, 16, 32, 64), 8),
        (64, (8, 16, 32, 64, 64), 4),
        (128, (8, 16, 32, 64, 64, 64), 4),
    ],
)
def test_sngan_depth_follows_from_the_size(image_size, maps, side):
    discriminator = SNGANDiscriminator(image_size=image_size, channels=1, width=8, max_width=64)
    assert tuple(block.convolution2.out_channels for block in discriminator.blocks) == maps
    assert discriminator.blocks(torch.randn(1, 1, image_size, image_size)).shape == (1, maps[-1], side, side)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("downsample", [False, True])
def test_sngan_block_in_the_paper_s_order(downsample, first):
    """ReLU, convolution, ReLU, convolution, mean of 2 x 2; the shortcut's convolution, then its mean."""
    block = ResidualBlock(2, 3, downsample=downsample, first=first)
    x = torch.randn(2, 2, 4, 4)
    branch = block.convolution2(block.convolution1(x if first else x.clamp(min=0)).clamp(min=0))
    expected = branch + block.shortcut(x)
    if downsample:
        expected = expected.view(2, 3, 2, 2, 2, 2).mean(dim=(3, 5))
    torch.testing.assert_close(block(x), expected)


def test_sngan_cuts_the_input_of_all_blocks_but_the_first():
    discriminator = SNGANDiscriminator(image_size=32, channels=1, width=4)
    assert [isinstance(block.activation, nn.ReLU) for block in discriminator.blocks] == [False, True, True, True]


def test_sngan_sums_over_positions():
    discriminator = SNGANDiscriminator(image_size=16, channels=1, width=4).eval()
    discriminator.blocks = nn.Identity()
    maps = torch.randn(2, 32, 4, 4)
    expected = discriminator.logit.linear(maps.relu().flatten(2).sum(dim=2))
    torch.testing.assert_close(discriminator(maps), expected)


@pytest.mark.parametrize(("layers", "pixels"), [(1, 16), (2, 34), (3, 70)])
def test_patch_sees_as_many_pixels_as_the_paper_says(layers, pixels):
    discriminator = PatchDiscriminator(image_size=128, channels=1, layers=layers, width=2, normalization="none")
    for parameter in discriminator.parameters():  # nothing cancels
        nn.init.constant_(parameter, 0.1)
    images = torch.ones(1, 1, 128, 128, requires_grad=True)
    logits = discriminator(images)
    side = 128 // 2**layers - 2
    assert logits.shape == (1, side * side)
    logits.view(side, side)[side // 2, side // 2].backward()
    rows, columns = images.grad[0, 0].nonzero().unbind(dim=1)
    assert len(rows) == pixels * pixels
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == pixels


def test_patch_counts_as_the_paper():
    """C64-C128-C256-C512 and one map: 4x4 convolutions, a bias where no normalization follows, else its two vectors."""
    with torch.device("meta"):
        discriminator = PatchDiscriminator(image_size=256, channels=3, normalization="batch")
    first, last = 3 * 64 * 16 + 64, 512 * 16 + 1
    inner = (64 * 128 + 128 * 256 + 256 * 512) * 16 + 2 * (128 + 256 + 512)
    assert parameters(discriminator) == first + inner + last == 2_765_633


@pytest.mark.parametrize("name", ["instance", "batch", "spectral", "none"])
def test_patch_normalizations(name):
    discriminator = SMALL[f"patch {name}"](image_size=16, channels=1)
    kinds = {type(module).__name__ for module in discriminator.modules()}
    present = {"instance": "InstanceNorm2d", "batch": "BatchNorm2d", "spectral": "_SpectralNorm"}
    assert kinds & set(present.values()) == ({present[name]} if name in present else set())


def convolved(x, layer, stride=1, padding=0):
    """The sum over the window of each position, with the weights' scale, position by position."""
    x = nn.functional.pad(x, [padding] * 4)
    size = layer.weight.shape[2]
    scale = 1 / (layer.weight.shape[1] * size**2) ** 0.5
    rows = []
    for row in range(0, x.shape[2] - size + 1, stride):
        for column in range(0, x.shape[3] - size + 1, stride):
            window = x[:, None, :, row : row + size, column : column + size]
            rows.append((layer.weight * window).sum(dim=(2, 3, 4)) * scale + (0 if layer.bias is None else layer.bias))
    side = (x.shape[2] - size) // stride + 1
    return torch.stack(rows, dim=2).unflatten(2, (side, side))


def smoothed(x, margin):
    """Every 4 x 4 window's sum, weighted by the products of 1, 3, 3, 1 eighths."""
    x = nn.functional.pad(x, [margin] * 4)
    taps = (1 / 8, 3 / 8, 3 / 8, 1 / 8)
    side = x.shape[2] - 3
    return sum(a * b * x[:, :, i : i + side, j : j + side] for i, a in enumerate(taps) for j, b in enumerate(taps))


def rectified(x):
    return 2**0.5 * torch.where(x > 0, x, 0.2 * x)


def test_resampling_by_the_filter():
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(blurred(x, margin=2, gain=4.0), 4 * smoothed(x, 2))
    spread = x.new_zeros(2, 3, 12, 12)
    spread[:, :, ::2, ::2] = x
    torch.testing.assert_close(doubled(x), 4 * smoothed(spread, 2)[:, :, :-1, :-1])
    flat = doubled(torch.ones(1, 1, 6, 6))
    torch.testing.assert_close(flat[:, :, 1:-1, 1:-1], torch.ones(1, 1, 10, 10))


def test_style_block_in_the_paper_s_order():
    """Convolution, activation, blur, convolution of stride 2, activation; a blurred 1x1 shortcut; their scaled sum."""
    block = HalvingBlock(3, 5).double()
    nn.init.normal_(block.convolution1.bias)
    nn.init.normal_(block.convolution2.bias)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    branch = rectified(convolved(x, block.convolution1, padding=1))
    branch = rectified(convolved(smoothed(branch, 2), block.convolution2, stride=2))
    shortcut = convolved(smoothed(x, 1), block.shortcut, stride=2)
    torch.testing.assert_close(block(x), (branch + shortcut) / 2**0.5)
    assert block(x).shape == (2, 5, 4, 4)


def test_equalized_layers_keep_the_mean_square_whatever_their_width():
    torch.manual_seed(0)
    for width in (8, 128):
        dense = EqualizedLinear(width, 64)(torch.randn(256, width))
        maps = EqualizedConv2d(width, 32, 3)(torch.randn(32, width, 8, 8))[:, :, 1:-1, 1:-1]
        assert dense.square().mean().item() == pytest.approx(1, abs=0.2)
        assert maps.square().mean().item() == pytest.approx(1, abs=0.2)


def test_equalized_layers_move_by_equal_parts_of_their_scale():
    """An update of Adam of 0.01 for each weight changes the result by 0.01 times the scale, and the rate's part."""
    for rate in (1.0, 0.01):
        layer = EqualizedLinear(16, 1, bias=1.0, rate=rate)
        assert layer.weight.std().item() == pytest.approx(1 / rate, rel=0.6)
        before = layer(torch.ones(1, 16))
        with torch.no_grad():
            layer.weight += 0.01
            layer.bias += 0.01
        assert (layer(torch.ones(1, 16)) - before).item() == pytest.approx(rate * (0.01 * 16 / 4 + 0.01), rel=1e-2)
        nn.init.zeros_(layer.weight)
        assert EqualizedLinear(4, 1, bias=1.0, rate=rate)(torch.zeros(1, 4)).item() == pytest.approx(1)


def test_style_counts_as_the_paper_s_network_for_1024_pixels():
    """Configuration F: 29 million weights, one map more at 4 x 4 pixels."""
    with torch.device("meta"):
        discriminator = StyleDiscriminator(image_size=1024, channels=3, minibatch=lambda *_: MinibatchStd(512, 16))
    maps = [32, 64, 128, 256] + [512] * 5
    blocks = sum(9 * a * a + a + 9 * a * b + b + a * b for a, b in itertools.pairwise(maps))
    last = 9 * 513 * 512 + 512 + 512 * 16 * 512 + 512 + 513
    assert parameters(discriminator) == 3 * 32 + 32 + blocks + last == 29_012_513


def test_style_brings_the_standard_deviation_of_the_batch():
    assert compose("discriminator=style").task.discriminator.minibatch.group == 4
    assert not compose("discriminator=style", "minibatch=none").task.discriminator.minibatch


def test_r3gan_blocks_start_as_the_identity():
    discriminator = R3GANDiscriminator(image_size=32, channels=1, width=8, max_width=32)
    blocks = [module for module in discriminator.modules() if isinstance(module, GroupedBottleneck)]
    assert len(blocks) == 4 * 2
    for block in blocks:
        x = torch.randn(2, block.reduce.out_channels, 5, 5)
        torch.testing.assert_close(block(x), x, rtol=0, atol=0)
        nn.init.normal_(block.reduce.weight)
        assert not torch.allclose(block(x), x)


def test_r3gan_initial_scale_is_fixup_s():
    """Four stages of two blocks: 8 ** (-1/4) below the weights that keep the variance under leaky ReLU."""
    discriminator = R3GANDiscriminator(image_size=32, channels=1, width=128, max_width=128)
    block = next(module for module in discriminator.modules() if isinstance(module, GroupedBottleneck))
    scale = (2 / (1 + 0.2**2)) ** 0.5 * 8**-0.25
    assert block.expand.weight.std().item() == pytest.approx(scale / 128**0.5, rel=0.03)
    assert block.grouped.weight.std().item() == pytest.approx(scale / (16 * 9) ** 0.5, rel=0.03)


def test_r3gan_counts_as_the_paper_s_network_for_32_pixels():
    """768 maps, expanded to 1,536 in groups of 16; four stages of two blocks; a depthwise basis and a linear unit."""
    with torch.device("meta"):
        discriminator = R3GANDiscriminator(image_size=32, channels=3, width=768, max_width=768)
    block = 768 * 1536 + 1536 + 1536 * 16 * 9 + 1536 + 1536 * 768
    assert parameters(discriminator) == 3 * 768 + 8 * block + 768 * 16 + 768 == 20_683_776
    assert not any("Norm" in type(module).__name__ for module in discriminator.modules())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: SNGANDiscriminator(image_size=48, channels=1), ["data.image_size=48", "64"]),
        (lambda: SNGANDiscriminator(image_size=8, channels=1), ["data.image_size=8", "16"]),
        (lambda: StyleDiscriminator(image_size=48, channels=1), ["data.image_size=48", "style", "64"]),
        (lambda: R3GANDiscriminator(image_size=48, channels=1), ["data.image_size=48", "64"]),
        (lambda: R3GANDiscriminator(image_size=32, channels=1, blocks=0), ["discriminator.blocks=0"]),
        (lambda: SNGANDiscriminator(image_size=32, channels=1, dropout=1.0), ["discriminator.dropout=1.0"]),
        (lambda: PatchDiscriminator(image_size=32, channels=1, dropout=-0.1), ["discriminator.dropout=-0.1"]),
        (lambda: MLPDiscriminator(image_size=32, channels=1, widths=[]), ["discriminator.widths=[]"]),
        (lambda: MLPDiscriminator(image_size=32, channels=1, widths=[8, 0]), ["discriminator.widths=[8, 0]"]),
        (lambda: R3GANDiscriminator(image_size=32, channels=1, width=20), ["discriminator.group_width=16", "40"]),
        (lambda: PatchDiscriminator(image_size=32, channels=1, layers=4), ["discriminator.layers=4", "48", "size=32"]),
        (lambda: PatchDiscriminator(image_size=32, channels=1, layers=0), ["discriminator.layers=0"]),
        (
            lambda: PatchDiscriminator(image_size=32, channels=1, normalization="layer"),
            ["discriminator.normalization=layer", "instance, batch, spectral or none"],
        ),
    ],
)
def test_wrong_options_are_refused(build, words):
    with pytest.raises(InputError) as refusal:
        build()
    assert all(word in str(refusal.value) for word in words)


def test_mlp_is_dense_layers_with_leaky_relu():
    """In float64 with NumPy, of images of three channels and of an odd size."""
    discriminator = MLPDiscriminator(image_size=5, channels=3, widths=(7, 4)).double()
    images = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    x = images.numpy().reshape(2, 75)
    first, second, last = (m for m in discriminator.modules() if isinstance(m, nn.Linear))
    for layer in (first, second):
        x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        x = np.where(x > 0, x, 0.2 * x)
    expected = x @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(discriminator(images).detach(), expected, rtol=1e-12)


WITH_DROPOUT = SMALL | {"dcgan": lambda **k: DCGANDiscriminator(width=8, **k)}


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout_leaves_out_whole_maps_before_the_logit(name):
    torch.manual_seed(0)
    discriminator = WITH_DROPOUT[name](image_size=16, channels=1, dropout=0.25).train()
    layers = [module for module in discriminator.modules() if isinstance(module, nn.Dropout | nn.Dropout2d)]
    assert len(layers) == (2 if name == "mlp" else 1)
    seen = {}
    layers[-1].register_forward_hook(lambda module, inputs, output: seen.update(before=inputs[0], after=output))
    discriminator.logit.register_forward_pre_hook(lambda module, inputs: seen.update(logit=inputs[0]))
    discriminator(torch.randn(64, 1, 16, 16))
    torch.testing.assert_close(seen["logit"].flatten(1), seen["after"].flatten(1))
    before, after = (seen[key].reshape(64, seen[key].shape[1], -1) for key in ("before", "after"))
    dropped = (after == 0).all(dim=2)
    torch.testing.assert_close(after[~dropped], before[~dropped] / 0.75)
    assert 0.2 < dropped.float().mean() < 0.35
    discriminator.eval()(torch.randn(4, 1, 16, 16))
    assert torch.equal(seen["before"], seen["after"])


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_no_dropout_draws_no_random_numbers(name):
    discriminator = WITH_DROPOUT[name](image_size=16, channels=1).train()
    images = torch.randn(4, 1, 16, 16)
    state = torch.get_rng_state()
    discriminator(images)
    assert torch.equal(torch.get_rng_state(), state)


def test_patch_accepts_its_smallest_image_size():
    assert PatchDiscriminator(image_size=24, channels=1, width=4)(torch.randn(2, 1, 24, 24)).shape == (2, 1)
