"""Generators: shapes, range, weight counts, labels, what they refuse; and the exported file."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.utils.parametrize import is_parametrized

from medsynth.contracts import Generator, InputError
from medsynth.generator.dcgan import DCGANGenerator
from medsynth.generator.ema import EMA
from medsynth.generator.export import read_generator, save_generator
from medsynth.generator.fastgan import FastGANGenerator, SkipLayerExcitation
from medsynth.generator.label import ConditionalBatchNorm2d
from medsynth.generator.mlp import MLPGenerator
from medsynth.generator.output import bounded
from medsynth.generator.resnet import ResNetGenerator, UpsamplingBlock
from medsynth.generator.tomsk import ParallelUpsampling, PointwiseTransposed, TomskGenerator

SMALL = {
    "tomsk": lambda **k: TomskGenerator(width=0.25, base_channels=32, **k),
    "dcgan": lambda **k: DCGANGenerator(width=8, **k),
    "mlp": lambda **k: MLPGenerator(widths=(16, 32), **k),
    "sagan": lambda **k: ResNetGenerator(width=8, max_width=16, attention=8, spectral=True, **k),
    "resnet": lambda **k: ResNetGenerator(width=8, max_width=16, **k),
    "fastgan": lambda **k: FastGANGenerator(width=4, **k),
}


@pytest.mark.parametrize("image_size", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SMALL)
def test_shape_and_range(name, channels, image_size):
    generator = SMALL[name](image_size=image_size, channels=channels)
    assert isinstance(generator, Generator)
    images = generator(3 * torch.randn(4, generator.latent_dim))
    assert images.shape == (4, channels, image_size, image_size)
    assert images.abs().max() <= 1
    assert images.std(dim=0).mean() > 1e-4, "different noise must make different images"


@pytest.mark.parametrize("name", SMALL)
def test_label_changes_the_image(name):
    generator = SMALL[name](image_size=16, channels=1, num_classes=3).eval()
    z = torch.randn(1, generator.latent_dim)
    first, second = generator(z, torch.tensor([0])), generator(z, torch.tensor([2]))
    assert not torch.allclose(first, second)


def weights(module):
    """As the paper counts: running means and variances included, PyTorch's batch counters not."""
    return sum(value.numel() for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked"))


def test_tomsk_full_size_is_within_one_percent_of_the_paper():
    count = weights(TomskGenerator(image_size=256, channels=1, levels=6))
    assert count == 17_154_289  # the docstring's figure
    assert abs(count / 17_074_528 - 1) < 0.01


def test_tomsk_levels_have_the_papers_wiring():
    """Six levels in the table's wiring cost 13,797,888 + 6,656 * C0 weights without biases and norms."""
    generator = TomskGenerator(image_size=256, channels=1, levels=6, base_channels=100)
    convolutions = sum(
        parameter.numel() for name, parameter in generator.levels.named_parameters() if ".norm." not in name
    )
    assert convolutions == 13_797_888 + 6_656 * 100
    assert [level.norm.num_features for level in generator.levels] == [3 * 2**power * 8 for power in (6, 5, 4, 3, 2, 1)]


def test_tomsk_pointwise_transposed_convolution_is_the_librarys():
    layer = PointwiseTransposed(4, 3, 1, stride=2, output_padding=1, bias=False).double()
    library = torch.nn.ConvTranspose2d(4, 3, 1, stride=2, output_padding=1, bias=False).double()
    library.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    gradients = []
    for module in (layer, library):
        inputs = x.clone().requires_grad_()
        module(inputs).square().sum().backward()
        gradients += [inputs.grad, module.weight.grad]
    torch.testing.assert_close(layer(x), library(x))
    torch.testing.assert_close(gradients[:2], gradients[2:])


def test_tomsk_branches_are_parallel():
    """Each branch sees the level's input: with two of them silenced, the third's maps are unchanged."""
    level = ParallelUpsampling(4, 2).eval()
    x = torch.randn(1, 4, 3, 3)
    before = level(x)[:, 4:6]
    torch.nn.init.zeros_(level.convolved[0].weight)
    torch.nn.init.zeros_(level.transposed3[0].weight)
    after = level(x)
    torch.testing.assert_close(after[:, 4:6], before)
    assert after[:, :4].abs().max() == 0
    # a 1x1 transposed convolution of stride 2 fills one pixel in four
    assert (level.transposed1(x)[..., 1::2, :] == 0).all()


def test_clamped_values_have_a_gradient_that_leads_back():
    """The gradient is that of the images, but for values beyond the margin that a descent would move further away."""
    values = torch.tensor([-3.0, -3.0, -1.9, -0.5, 0.25, 1.9, 2.5, 2.5], dtype=torch.float64, requires_grad=True)
    images = bounded(values, "clamp")
    assert images.tolist() == [-1, -1, -1, -0.5, 0.25, 1, 1, 1]
    upstream = torch.tensor([-2.0, 2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -7.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(images, values, upstream, create_graph=True)
    assert gradient.tolist() == [-2, 0, 3, -4, 5, -6, 7, 0]
    (second,) = torch.autograd.grad(gradient.sum(), upstream)
    assert second.tolist() == [1, 0, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("generator_class", [ResNetGenerator, FastGANGenerator])
def test_a_generator_driven_to_black_comes_back_from_there_unless_it_ends_with_tanh(generator_class):
    distances = {}
    for output in ("clamp", "tanh"):
        torch.manual_seed(0)
        generator = generator_class(image_size=16, channels=1, width=4, output=output)
        with torch.no_grad():
            generator.output.weight.zero_()
            generator.output.bias.fill_(-12)
        optimizer = torch.optim.Adam([generator.output.bias], lr=0.5)
        for _ in range(30):
            optimizer.zero_grad()
            images = generator(torch.randn(2, generator.latent_dim))
            (images + 0.8).square().mean().backward()
            optimizer.step()
        distances[output] = (images + 0.8).abs().mean().item()
    assert distances["clamp"] < 0.1
    assert distances["tanh"] == pytest.approx(0.2, abs=1e-3)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_resnet_counts_as_the_paper_s_table_for_32_pixels():
    """Dense to 4 x 4 x 256, three blocks of 256 maps with a 1x1 shortcut, batch normalization and a 3x3 convolution."""
    with torch.device("meta"):
        generator = ResNetGenerator(image_size=32, channels=3, width=256, max_width=256)
    dense = 128 * 256 * 16 + 256 * 16
    block = 2 * (256 + 256) + 2 * (256 * 256 * 9 + 256) + (256 * 256 + 256)
    assert parameters(generator) == dense + 3 * block + 2 * 256 + (256 * 3 * 9 + 3) == 4_276_739


def test_resnet_widths_for_128_pixels_are_the_paper_s():
    with torch.device("meta"):
        generator = ResNetGenerator(image_size=128, channels=3)
    assert generator.dense.out_features == 1024 * 4 * 4
    assert [block.convolution1.out_channels for block in generator.blocks] == [1024, 512, 256, 128, 64]


def test_sagan_counts_and_normalizes_as_the_authors_network_for_128_pixels():
    """SNGAN's, each convolution and the dense layer normalized, attention behind the 256 maps of 32 pixels."""
    with torch.device("meta"):
        generator = ResNetGenerator(image_size=128, channels=3, spectral=True, attention=32)
        plain = ResNetGenerator(image_size=128, channels=3)
    assert parameters(generator) == parameters(plain) + 2 * 256 * 32 + 2 * 256 * 128 + 1
    layers = [module for module in generator.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == 1 + 5 * 3 + 1
    assert all(is_parametrized(layer) for layer in layers)


def test_spectral_generator_divides_each_weight_by_its_largest_singular_value():
    generator = ResNetGenerator(image_size=16, channels=1, width=4, spectral=True)
    for _ in range(30):
        generator(torch.randn(2, 128))
    weights = [generator.dense.weight, generator.blocks[0].convolution1.weight, generator.output.weight]
    for weight in weights:
        assert torch.linalg.matrix_norm(weight.detach().flatten(1), 2) == pytest.approx(1, abs=1e-2)


def repeated(x):
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def interpolated(x):
    """New pixels lie a quarter of a pixel beside old ones: 3/4 of the nearer and 1/4 of the farther; edges continue."""
    for dim in (2, 3):
        size = x.shape[dim]
        before, after = (x.index_select(dim, (torch.arange(size) + step).clamp(0, size - 1)) for step in (-1, 1))
        x = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim=dim + 1).flatten(dim, dim + 1)
    return x


@pytest.mark.parametrize(("upsampling", "enlarged"), [("nearest", repeated), ("bilinear", interpolated)])
def test_resnet_block_in_the_paper_s_order(upsampling, enlarged):
    """Normalization, ReLU, enlargement, convolution, normalization, ReLU, convolution; the enlarged input beside it."""
    block = UpsamplingBlock(3, 2, upsampling, num_classes=0)

    def active(x):
        mean, variance = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), unbiased=False, keepdim=True)
        return ((x - mean) / (variance + 1e-5).sqrt()).clamp(min=0)

    x = torch.randn(4, 3, 4, 4)
    expected = block.convolution2(active(block.convolution1(enlarged(active(x))))) + block.shortcut(enlarged(x))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet", "fastgan"])
def test_every_normalization_follows_the_label(name):
    generator = SMALL[name](image_size=16, channels=1, num_classes=4)
    generator(torch.randn(3, generator.latent_dim), torch.tensor([1, 3, 3])).square().sum().backward()
    norms = [module for module in generator.modules() if isinstance(module, ConditionalBatchNorm2d)]
    assert len(norms) == {"resnet": 5, "fastgan": 3}[name]
    for norm in norms:
        for embedding in (norm.scale, norm.offset):
            assert (embedding.weight.grad.abs().sum(dim=1) > 0).tolist() == [False, True, False, True]


def test_fastgan_counts_as_the_paper_s_network_for_256_pixels():
    """Maps 1024, 512, 256, 128, 128, 64, 32 from 4 to 256 pixels, twice as many before each gate, three excitations."""
    with torch.device("meta"):
        generator = FastGANGenerator(image_size=256, channels=3)
    first = 256 * 2048 * 16 + 2 * 2048
    pairs = [(1024, 512), (512, 256), (256, 128), (128, 128), (128, 64), (64, 32)]
    upsampling = sum(inputs * 2 * outputs * 9 + 2 * 2 * outputs for inputs, outputs in pairs)
    excitation = sum(low * high * 16 + high * high for low, high in [(1024, 128), (512, 64), (256, 32)])
    assert parameters(generator) == first + upsampling + excitation + 32 * 3 * 9 + 3 == 24_037_603


@pytest.mark.parametrize(("value", "output"), [(-0.8, "tanh"), (0.5, "tanh"), (-0.8, "clamp"), (0.5, "clamp")])
def test_fastgan_starts_at_the_initial_value(value, output):
    generator = FastGANGenerator(image_size=16, channels=1, width=4, initial_value=value, output=output)
    images = generator(torch.randn(16, 256))
    assert abs(images.mean().item() - value) < 0.03


@pytest.mark.parametrize(
    ("image_size", "pairs"),
    [(16, {16: 4}), (32, {32: 4}), (64, {64: 4}), (128, {64: 4, 128: 8}), (256, {64: 4, 128: 8, 256: 16})],
)
def test_fastgan_excites_from_a_sixteenth_of_the_resolution(image_size, pairs):
    generator = FastGANGenerator(image_size=image_size, channels=1, width=4).eval()
    sides = {}
    for name, excitation in generator.excitations.items():
        excitation.register_forward_hook(
            lambda _, inputs, output, name=name: sides.update({(int(name), output.shape[-1]): inputs[0].shape[-1]})
        )
    generator(torch.randn(1, 256))
    assert sides == {(high, high): low for high, low in pairs.items()}


def test_skip_layer_excitation_is_the_paper_s_formula():
    """high * sigmoid(W2 leaky_relu(W1 * pooled)), one gate for each channel."""
    excitation = SkipLayerExcitation(3, 5)
    low, high = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 16, 16)
    first, second = (parameter.detach() for parameter in excitation.parameters())
    pooled = low.view(2, 3, 4, 2, 4, 2).mean(dim=(3, 5)).flatten(1)  # 2 x 2 pixels for each of 4 x 4 positions
    hidden = pooled @ first.flatten(1).T
    hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    gate = 1 / (1 + torch.exp(-(hidden @ second.flatten(1).T)))
    torch.testing.assert_close(excitation(low, high), high * gate[:, :, None, None])


def test_conditional_batch_norm_by_hand():
    norm = ConditionalBatchNorm2d(3, 2)
    for embedding in (norm.scale, norm.offset):
        torch.nn.init.normal_(embedding.weight)
    x, labels = 2 * torch.randn(6, 3, 4, 4) + 1, torch.tensor([0, 1, 1, 0, 1, 1])
    mean = x.mean(dim=(0, 2, 3), keepdim=True)  # over all classes
    variance = x.var(dim=(0, 2, 3), unbiased=False, keepdim=True)
    normalized = (x - mean) / (variance + 1e-5).sqrt()
    for row, label in enumerate(labels):
        expected = normalized[row] * norm.scale.weight[label].view(3, 1, 1) + norm.offset.weight[label].view(3, 1, 1)
        torch.testing.assert_close(norm(x, labels)[row], expected, rtol=1e-4, atol=1e-5)


def test_conditional_batch_norm_without_classes_is_batch_norm():
    norm, plain = ConditionalBatchNorm2d(3, 0), torch.nn.BatchNorm2d(3)
    x = torch.randn(6, 3, 4, 4)
    torch.testing.assert_close(norm(x), plain(x), rtol=0, atol=0)
    assert parameters(norm) == parameters(plain)
    torch.testing.assert_close(norm.eval()(x), plain.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", SMALL)
def test_images_depend_on_the_noise_alone(name):
    generator = SMALL[name](image_size=16, channels=1).eval()
    z = torch.randn(4, generator.latent_dim)
    images = generator(z)
    torch.manual_seed(1)
    torch.testing.assert_close(generator(z), images, rtol=0, atol=0)
    torch.testing.assert_close(generator(z[2:3]), images[2:3])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: TomskGenerator(image_size=48, channels=1, levels=5), ["image_size=48", "32"]),
        (lambda: TomskGenerator(image_size=50, channels=1), ["image_size=50"]),
        (lambda: DCGANGenerator(image_size=48, channels=1), ["image_size=48", "64"]),
        (lambda: DCGANGenerator(image_size=4, channels=1), ["image_size=4"]),
        (
            lambda: ResNetGenerator(image_size=64, channels=1, upsampling="cubic"),
            ["generator.upsampling=cubic", "bilinear"],
        ),
        (lambda: ResNetGenerator(image_size=64, channels=1, output="relu"), ["generator.output=relu", "clamp", "tanh"]),
        (lambda: FastGANGenerator(image_size=64, channels=1, output="none"), ["generator.output=none", "clamp"]),
        (lambda: ResNetGenerator(image_size=48, channels=1), ["data.image_size=48", "resnet", "64"]),
        (lambda: ResNetGenerator(image_size=4, channels=1), ["data.image_size=4", "8"]),
        (lambda: FastGANGenerator(image_size=48, channels=1), ["data.image_size=48", "fastgan", "64"]),
        (lambda: FastGANGenerator(image_size=8, channels=1), ["data.image_size=8", "16"]),
        (lambda: FastGANGenerator(image_size=2048, channels=1), ["data.image_size=2048"]),
        (lambda: FastGANGenerator(image_size=16, channels=1, initial_value=-1), ["generator.initial_value=-1", "-0.8"]),
    ],
)
def test_unsuitable_sizes_are_refused(build, words):
    with pytest.raises(InputError) as refusal:
        build()
    assert all(word in str(refusal.value) for word in words)


CONFIG = {"_target_": "medsynth.generator.dcgan.DCGANGenerator", "image_size": 16, "channels": 1, "width": 8}


def test_export_and_load(tmp_path):
    generator = DCGANGenerator(image_size=16, channels=1, width=8)
    generator(torch.randn(8, 100))  # moves the running statistics, which must travel too
    save_generator(tmp_path / "generator.safetensors", generator, config=CONFIG, card={"seed": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["generator.safetensors"]
    loaded, card = read_generator(tmp_path / "generator.safetensors")
    z = torch.randn(2, 100)
    assert card == {"seed": 3}
    torch.testing.assert_close(loaded(z), generator.eval()(z), rtol=0, atol=0)


@pytest.mark.parametrize("generator_class", [ResNetGenerator, FastGANGenerator])
def test_export_and_load_a_conditional_average(tmp_path, generator_class):
    options = {"image_size": 16, "channels": 1, "width": 4, "num_classes": 3}
    generator = generator_class(**options)
    average = EMA(generator, half_life=10, rampup=1)
    z, labels = torch.randn(6, generator.latent_dim), torch.tensor([0, 1, 2, 0, 1, 2])
    generator(z, labels)
    average.update(generator, images_seen=20)
    config = {"_target_": f"{generator_class.__module__}.{generator_class.__name__}", **options}
    save_generator(tmp_path / "generator.safetensors", average.module, config=config, card={})
    loaded, _ = read_generator(tmp_path / "generator.safetensors")
    torch.testing.assert_close(loaded(z, labels), average.module(z, labels), rtol=0, atol=0)


def damaged(path):
    path.write_bytes(b"not a safetensors file")


def foreign(path):
    save_file({"a": torch.zeros(1)}, path)


def written_with(**changes):
    def write(path):
        config = CONFIG | changes.pop("config", {})
        description = {"format": 1, "config": config, "card": {}} | changes
        network = DCGANGenerator(image_size=16, channels=1, width=8)
        save_file(network.state_dict(), path, metadata={"medsynth": json.dumps(description)})

    return write


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, "no generator at"),
        (damaged, "damaged"),
        (foreign, "not written by medsynth"),
        (written_with(format=99), "format 99"),
        (written_with(config={"_target_": "os.system"}), "not one of medsynth's generators"),
        (written_with(config={"_target_": "medsynth.generator.dcgan.Missing"}), "cannot build"),
        (written_with(config={"width": 16}), "do not fit"),
    ],
)
def test_load_refuses(tmp_path, write, words):
    path = tmp_path / "generator.safetensors"
    write(path)
    with pytest.raises(InputError, match=words):
        read_generator(path)
