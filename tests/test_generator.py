"""Generators: shapes, range, weight counts, labels, what they refuse; and the exported file."""

import json

import pytest
import torch
from safetensors.torch import save_file

from medsynth.contracts import Generator, InputError
from medsynth.generator.dcgan import DCGANGenerator
from medsynth.generator.export import load_generator, save_generator
from medsynth.generator.mlp import MLPGenerator
from medsynth.generator.tomsk import ParallelUpsampling, TomskGenerator

SMALL = {
    "tomsk": lambda **k: TomskGenerator(width=0.25, base_channels=32, **k),
    "dcgan": lambda **k: DCGANGenerator(width=8, **k),
    "mlp": lambda **k: MLPGenerator(widths=(16, 32), **k),
}


@pytest.mark.parametrize("image_size", [16, 32])
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


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: TomskGenerator(image_size=48, channels=1, levels=5), ["image_size=48", "32"]),
        (lambda: TomskGenerator(image_size=50, channels=1), ["image_size=50"]),
        (lambda: DCGANGenerator(image_size=48, channels=1), ["image_size=48", "64"]),
        (lambda: DCGANGenerator(image_size=4, channels=1), ["image_size=4"]),
    ],
)
def test_sizes_that_cannot_be_made(build, words):
    with pytest.raises(InputError) as refusal:
        build()
    assert all(word in str(refusal.value) for word in words)


CONFIG = {"_target_": "medsynth.generator.dcgan.DCGANGenerator", "image_size": 16, "channels": 1, "width": 8}


def test_export_and_load(tmp_path):
    generator = DCGANGenerator(image_size=16, channels=1, width=8)
    generator(torch.randn(8, 100))  # moves the running statistics, which must travel too
    save_generator(tmp_path / "generator.safetensors", generator, config=CONFIG, card={"seed": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["generator.safetensors"]
    loaded, card = load_generator(tmp_path / "generator.safetensors")
    z = torch.randn(2, 100)
    assert card == {"seed": 3}
    torch.testing.assert_close(loaded(z), generator.eval()(z), rtol=0, atol=0)


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
        load_generator(path)
