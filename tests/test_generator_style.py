"""StyleGAN2's generator: modulated convolutions, mapping, noise, style mixing, the images of all resolutions."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from medsynth.contracts import Generator, GeneratorUpdate, HasStyles, InputError
from medsynth.generator.ema import EMA
from medsynth.generator.export import read_generator, save_generator
from medsynth.generator.random_input import normal_maps, normal_rows, uniform_rows
from medsynth.generator.style import MappingNetwork, ModulatedConv2d, StyledLayer, StyleGenerator
from medsynth.generator_penalty.path_length import PathLength, path_lengths
from medsynth.lightning.preparation import check_generator_derivatives
from tests.test_conf import compose
from tests.test_gan import fit, gan


def small(image_size=16, channels=1, **options):
    torch.manual_seed(0)
    settings = {"latent_dim": 16, "style_dim": 16, "mapping_layers": 2, "width": 4, "max_width": 8} | options
    return StyleGenerator(image_size=image_size, channels=channels, **settings)


def noisy(generator):
    """Give the noise inputs a strength, as after some training."""
    for layer in generator.layers:
        nn.init.constant_(layer.strength, 0.5)
    return generator


@pytest.mark.parametrize(("image_size", "channels"), [(16, 3), (32, 1), pytest.param(256, 1, marks=pytest.mark.slow)])
def test_shape_range_and_contracts(image_size, channels):
    generator = small(image_size, channels)
    assert isinstance(generator, Generator)
    assert isinstance(generator, HasStyles)
    z = 3 * torch.randn(4, 16)
    images = generator(z)
    assert images.shape == (4, channels, image_size, image_size)
    assert images.abs().max() <= 1
    assert images.std(dim=0).mean() > 1e-3
    styles = generator.styles(z)
    assert styles.shape == (4, 2 * (image_size.bit_length() - 3) + 2, 16)
    torch.testing.assert_close(generator.synthesize(styles, z), images, rtol=0, atol=0)


def test_it_counts_as_the_paper_s_network_for_1024_pixels():
    """Configuration F: 512 maps up to 64 pixels, then half for each doubling; 30 million weights."""
    with torch.device("meta"):
        generator = StyleGenerator(image_size=1024, channels=3)
    maps = [512] * 5 + [256, 128, 64, 32]
    mapping = 8 * (512 * 512 + 512)
    pairs = [(512, 512), *[p for a, b in itertools.pairwise(maps) for p in ((a, b), (b, b))]]
    layers = sum(512 * a + a + 9 * a * b + b + 1 for a, b in pairs)
    images = sum(512 * a + a + 3 * a + 3 for a in maps)
    assert sum(p.numel() for p in generator.parameters()) == mapping + 512 * 16 + layers + images == 30_370_060


# ---- modulated convolutions ------------------------------------------------------------------------------------------


def kernels(layer, w):
    """The kernel of each image (N, outputs, inputs, size, size), by the paper's equations 1 and 3."""
    scales = w @ layer.affine.weight.T / math.sqrt(w.shape[1]) + layer.affine.bias
    found = []
    for row in scales:
        kernel = torch.stack([layer.weight[:, i] * row[i] for i in range(len(row))], dim=1) * layer.gain
        norms = torch.stack([(output**2).sum().sqrt() for output in kernel])
        found.append(kernel / norms[:, None, None, None] if layer.demodulate else kernel)
    return found


@pytest.mark.parametrize(("size", "demodulate"), [(3, True), (1, False)])
def test_modulated_convolution_has_a_kernel_for_each_image(size, demodulate):
    layer = ModulatedConv2d(5, 4, size, 7, demodulate=demodulate).double()
    x, w = torch.randn(3, 5, 6, 6, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    expected = [conv2d(x[i : i + 1], kernel, padding=size // 2) for i, kernel in enumerate(kernels(layer, w))]
    torch.testing.assert_close(layer(x, w), torch.cat(expected), rtol=1e-6, atol=1e-7)
    assert layer.gain == 1 / math.sqrt(5 * size**2)


def filtered(maps, taps, start, height, width):
    """Each pixel's sum over 4 x 4 neighbors from ``start`` on, with zeros outside; pixel by pixel."""
    result = maps.new_zeros(*maps.shape[:2], height, width)
    for row in range(height):
        for column in range(width):
            for i, vertical in enumerate(taps):
                for j, horizontal in enumerate(taps):
                    r, c = row + start + i, column + start + j
                    if 0 <= r < maps.shape[2] and 0 <= c < maps.shape[3]:
                        result[:, :, row, column] += vertical * horizontal * maps[:, :, r, c]
    return result


def spread(maps, size):
    """Put zeros between the pixels of ``maps``, in ``size`` x ``size`` pixels."""
    result = maps.new_zeros(*maps.shape[:2], size, size)
    result[:, :, : 2 * maps.shape[2] : 2, : 2 * maps.shape[3] : 2] = maps
    return result


def test_doubling_convolution_is_zeros_between_a_convolution_and_the_filter():
    layer = ModulatedConv2d(2, 3, 3, 4, double=True).double()
    x, w = torch.randn(2, 2, 4, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    expected = []
    for i, kernel in enumerate(kernels(layer, w)):
        enlarged = conv2d(spread(x[i : i + 1], 7), kernel.flip(2, 3), padding=2)  # 9 x 9 pixels
        expected.append(filtered(enlarged, [1 / 4, 3 / 4, 3 / 4, 1 / 4], -1, 8, 8))
    torch.testing.assert_close(layer(x, w), torch.cat(expected), rtol=1e-6, atol=1e-7)


def test_outputs_start_with_a_mean_square_of_one_whatever_the_styles():
    torch.manual_seed(1)
    layer, w = StyledLayer(64, 32, 16, stream=0), 3 * torch.randn(32, 16)
    z = torch.randn(32, 8)
    plain = layer(torch.randn(32, 64, 10, 10), w, z)[:, :, 1:-1, 1:-1]
    assert plain.square().mean().item() == pytest.approx(2 * 0.52, abs=0.05)  # sqrt(2) leaky_relu of a normal value
    doubling = ModulatedConv2d(64, 32, 3, 16, double=True)
    inside = doubling(torch.randn(32, 64, 16, 16), w)[:, :, 4:-4, 4:-4]
    # A quarter by the zeros between pixels; the filter's squares with a gain of 4 sum to 400 / 256.
    assert inside.square().mean().item() == pytest.approx(400 / 256 / 4, abs=0.05)


# ---- mapping ---------------------------------------------------------------------------------------------------------


def test_mapping_is_the_paper_s_and_learns_at_a_hundredth_of_the_rate():
    mapping = MappingNetwork(6, 5, 2, 0.01, num_classes=3).double()
    z, labels = torch.randn(4, 6, dtype=torch.float64), torch.tensor([0, 2, 2, 1])
    x = z / (z**2).mean(dim=1, keepdim=True).sqrt()
    label = mapping.embedding.weight[labels]
    x = torch.cat([x, label / (label**2).mean(dim=1, keepdim=True).sqrt()], dim=1)
    for layer in mapping.layers:
        x = x @ layer.weight.T * 0.01 / math.sqrt(x.shape[1]) + 0.01 * layer.bias
        x = math.sqrt(2) * torch.where(x > 0, x, 0.2 * x)
    torch.testing.assert_close(mapping(z, labels), x)
    assert mapping.layers[1].weight.std().item() == pytest.approx(100, rel=0.4)
    assert mapping(5 * z, labels).sub(mapping(z, labels)).abs().max() < 1e-6


def test_w_starts_with_the_scale_of_normal_values():
    torch.manual_seed(0)
    w = MappingNetwork(128, 128, 8, 0.01, num_classes=0)(torch.randn(256, 128))
    assert w.square().mean().item() == pytest.approx(1.2, abs=0.5)


# ---- random inputs ---------------------------------------------------------------------------------------------------


def test_random_inputs_are_normal_and_independent():
    z = torch.randn(64, 32)
    maps = normal_maps(z, 32, 32, stream=3).flatten(1)  # (64, 1024)
    assert maps.mean().item() == pytest.approx(0, abs=0.02)
    assert maps.std().item() == pytest.approx(1, abs=0.02)
    assert (maps.abs() < 1.96).float().mean().item() == pytest.approx(0.95, abs=0.005)
    assert maps.isfinite().all()
    for others in (normal_maps(z, 32, 32, stream=4).flatten(1), maps.roll(1, dims=0), maps.roll(1, dims=1)):
        assert abs((maps * others).mean().item()) < 0.02
    assert torch.corrcoef(maps).sub(torch.eye(64)).abs().max() < 0.2
    assert len(torch.unique(maps)) > 0.99 * maps.numel()
    first, second = uniform_rows(torch.randn(4000, 8), 2)
    for values in (first, second):
        histogram = torch.histc(values, 10, 0, 1)
        assert (histogram - 400).abs().max() < 100
    assert abs(((first - 0.5) * (second - 0.5)).mean().item()) < 0.005
    other = normal_rows(z)
    assert other.shape == z.shape
    assert abs((other * z).mean().item()) < 0.1


def test_random_inputs_change_with_any_number_of_the_noise_and_with_nothing_else():
    z = torch.randn(2, 8)
    changed = z.repeat(8, 1, 1)
    for place in range(8):
        changed[place, 0, place] = torch.nextafter(z[0, place], torch.tensor(9.0))
    first = normal_maps(z, 4, 4, stream=0)
    for one in changed:
        again = normal_maps(one, 4, 4, stream=0)
        assert not torch.equal(again[0], first[0])
        assert torch.equal(again[1], first[1])
    assert not torch.equal(normal_maps(z.flip(1), 4, 4, stream=0), first)
    torch.manual_seed(3)
    torch.testing.assert_close(normal_maps(z[1:], 4, 4, stream=0), first[1:], rtol=0, atol=0)


def test_random_inputs_have_the_values_that_they_had():
    """Exported generators would make other images otherwise."""
    z = torch.tensor([[0.5, -1.25]])
    expected = torch.tensor([0.15351275, 0.45579684, -1.5553011, 0.49699479])
    torch.testing.assert_close(normal_maps(z, 2, 2, stream=0).flatten(), expected)


@pytest.mark.parametrize("training", [False, True])
def test_images_depend_on_the_noise_alone(training):
    generator = noisy(small()).train(training)
    z = torch.randn(4, 16)
    images = generator(z)
    torch.manual_seed(1)
    torch.testing.assert_close(generator(z), images, rtol=0, atol=0)
    torch.testing.assert_close(generator(z[2:3]), images[2:3])
    plain = generator.synthesize(generator.styles(z), z.flip(0))
    assert (plain - images).abs().max() > 0.01, "the noise inputs are those of z"


def test_noise_of_a_layer_is_added_with_its_strength():
    layer, w, z = StyledLayer(3, 2, 4, stream=5), torch.randn(2, 4), torch.randn(2, 6)
    nn.init.constant_(layer.strength, 0.7)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 4, 4)
    summed = layer.convolution(x, w) + 0.7 * normal_maps(z, 4, 4, stream=5) + layer.bias.view(1, 2, 1, 1)
    torch.testing.assert_close(layer(x, w, z), math.sqrt(2) * torch.where(summed > 0, summed, 0.2 * summed))
    assert [layer.stream for layer in small().layers] == [0, 1, 2, 3, 4]


# ---- style mixing ----------------------------------------------------------------------------------------------------


def test_style_mixing_has_the_other_w_from_a_uniform_layer_on_in_training_alone():
    generator, z = small(mixing=0.75), torch.randn(4000, 16)
    w, other = generator.mapping(z), generator.mapping(normal_rows(z))
    mixed = generator.styles(z)
    own = (mixed == w[:, None]).all(dim=2)
    assert torch.equal(own | (mixed == other[:, None]).all(dim=2), torch.ones(4000, 6, dtype=torch.bool))
    counts = own.sum(dim=1)
    assert all(row[:count].all() for row, count in zip(own, counts, strict=True))
    shares = torch.bincount(counts, minlength=7)[1:] / 4000
    torch.testing.assert_close(shares, torch.tensor([0.15] * 5 + [0.25]), rtol=0, atol=0.03)
    generator.eval()
    torch.testing.assert_close(generator.styles(z), w[:, None].expand(-1, 6, -1))
    torch.testing.assert_close(small(mixing=0).styles(z[:2]), w[:2, None].expand(-1, 6, -1))


def test_each_style_reaches_the_image_by_its_layers():
    """The first style enters everything, the last the last image alone; each other one its layer and an image."""
    generator, z = small().eval(), torch.randn(1, 16)
    nn.init.zeros_(generator.images[-1].convolution.weight)
    styles = generator.styles(z).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(generator.synthesize(styles, z).sum(), styles)
    assert (gradient.abs().sum(dim=2) > 0).tolist() == [[True, True, True, True, False, False]]


# ---- images of all resolutions ---------------------------------------------------------------------------------------


def test_image_is_the_sum_of_the_doubled_images_of_all_resolutions():
    generator, z = small(image_size=8).eval().double(), torch.randn(1, 16, dtype=torch.float64)
    parts = []
    for layer in generator.images:
        layer.register_forward_hook(lambda _, inputs, output: parts.append(output))
    nn.init.constant_(generator.images[0].convolution.weight, 0.05)
    nn.init.constant_(generator.images[1].convolution.weight, 0.05)
    images = generator(z)
    doubled = filtered(spread(parts[0], 8), [1 / 4, 3 / 4, 3 / 4, 1 / 4], -2, 8, 8)
    torch.testing.assert_close(images, (doubled + parts[1]).clamp(-1, 1))


# ---- training, export, penalties -------------------------------------------------------------------------------------


def test_path_length_is_taken_in_w_as_the_mean_over_layers():
    generator = noisy(small(image_size=8, style_dim=4, output="tanh")).double()
    z, labels = torch.randn(3, 16, dtype=torch.float64), None
    update = GeneratorUpdate(generator=generator, discriminator=None, z=z, labels=labels, images=None, fake=(), real=())
    torch.manual_seed(7)
    found = path_lengths(update)
    torch.manual_seed(7)
    y = torch.randn(3, 1, 8, 8, dtype=torch.float64) / 8
    styles, step = generator.styles(z).detach(), 1e-5
    slopes = torch.zeros_like(styles)
    for layer in range(4):
        for place in range(4):
            ends = []
            for moved in (styles.clone(), styles.clone()):
                moved[:, layer, place] += step if ends else -step
                ends.append((generator.synthesize(moved, z) * y).sum(dim=(1, 2, 3)))
            slopes[:, layer, place] = (ends[1] - ends[0]) / (2 * step)
    expected = sum((slopes[:, layer] ** 2).sum(dim=1) for layer in range(4)).div(4).sqrt()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-8)
    found.sum().backward()
    assert generator.mapping.layers[0].weight.grad.abs().max() > 0


def test_generators_with_styles_have_second_derivatives():
    check_generator_derivatives(small(), None, device=torch.device("cpu"), penalties=["path_length"])


def test_training_with_path_length_export_and_its_average(tmp_path):
    options = {"image_size": 16, "channels": 1, "latent_dim": 16, "style_dim": 16, "width": 4, "max_width": 8}
    generator = StyleGenerator(num_classes=2, **options)
    model = gan(
        generator=generator, generator_penalties={"path_length": PathLength(interval=2)}, max_images=32, num_classes=2
    )
    before = copy.deepcopy(generator.state_dict())
    fit(model)
    unmoved = [key for key, value in model.generator.state_dict().items() if torch.equal(value, before[key])]
    assert unmoved == []
    average = EMA(model.generator, half_life=10, rampup=1)
    config = {"_target_": "medsynth.generator.style.StyleGenerator", "num_classes": 2, **options}
    save_generator(tmp_path / "generator.safetensors", average.module, config=config, card={})
    loaded, _ = read_generator(tmp_path / "generator.safetensors")
    z, labels = torch.randn(3, 16), torch.tensor([0, 1, 1])
    torch.testing.assert_close(loaded(z, labels), average.module(z, labels), rtol=0, atol=0)
    assert (loaded(z, labels) - loaded(z, 1 - labels)).abs().max() > 1e-4


def test_microbatches_and_the_whole_batch_give_equal_images():
    generator = noisy(small())
    z = torch.randn(6, 16)
    torch.testing.assert_close(torch.cat([generator(part) for part in z.chunk(3)]), generator(z), rtol=1e-4, atol=1e-5)


def test_style_is_a_choice():
    generator = compose("generator=style", "generator_penalty=path_length", "conditional=true").task.generator
    assert (generator._target_, generator.mixing) == ("medsynth.generator.style.StyleGenerator", 0.9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 48}, "data.image_size=48 .*generator=style"),
        ({"mixing": 1.5}, r"generator\.mixing=1\.5"),
        ({"mapping_layers": 0}, r"generator\.mapping_layers=0"),
        ({"output": "relu"}, r"generator\.output=relu"),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(InputError, match=words):
        small(**options)
