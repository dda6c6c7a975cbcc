"""Discriminators: two parts that make one, what is trained, labels, calibration."""

import pytest
import torch
from torch import nn

from medsynth.contracts import Discriminator, InputError
from medsynth.discriminator.dcgan import DCGANDiscriminator
from medsynth.discriminator.transfer import TransferDiscriminator


class TinyBackbone(nn.Module):
    """A stand-in with the backbone's contract: convolution, batch normalization, pooling to 6 features."""

    num_features = 6

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.calibrated_on = 0
        self.frozen = False

    def forward(self, images):
        return self.layers(images)

    def calibrate(self, batches):
        self.calibrated_on = sum(map(len, batches))

    def freeze(self):
        self.frozen = True
        self.requires_grad_(False).eval()

    def train(self, mode=True):
        return super().train(mode and not self.frozen)


def build(name, **options):
    if name == "dcgan":
        return DCGANDiscriminator(image_size=16, channels=1, width=8, **options)
    return TransferDiscriminator(backbone=TinyBackbone(), frozen=name == "frozen", **options)


NAMES = ["dcgan", "frozen", "fine-tuned"]


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("name", NAMES)
def test_forward_is_head_after_features(name, num_classes):
    discriminator = build(name, num_classes=num_classes).eval()
    assert isinstance(discriminator, Discriminator)
    images = torch.randn(4, 1, 16, 16)
    labels = torch.tensor([0, 1, 2, 0]) if num_classes else None
    logits = discriminator(images, labels)
    assert logits.shape == (4, 1)
    torch.testing.assert_close(logits, discriminator.head(discriminator.features(images), labels))


@pytest.mark.parametrize("name", NAMES)
def test_label_enters_by_projection(name):
    discriminator = build(name, num_classes=3).eval()
    nn.init.normal_(discriminator.logit.embedding.weight)
    images = torch.randn(2, 1, 16, 16)
    first = discriminator(images, torch.tensor([0, 0]))
    second = discriminator(images, torch.tensor([1, 1]))
    assert not torch.allclose(first, second)


def test_frozen_trains_one_weight_per_feature():
    discriminator = build("frozen").train()
    trained = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == 6
    statistics = discriminator.backbone.layers[1].running_mean.clone()
    discriminator(torch.randn(8, 1, 16, 16) + 5)
    torch.testing.assert_close(discriminator.backbone.layers[1].running_mean, statistics)


def test_fine_tuned_trains_the_backbone():
    discriminator = build("fine-tuned").train()
    statistics = discriminator.backbone.layers[1].running_mean.clone()
    discriminator(torch.randn(8, 1, 16, 16) + 5).sum().backward()
    assert discriminator.backbone.layers[0].weight.grad.abs().sum() > 0
    torch.testing.assert_close(discriminator.backbone.layers[1].running_mean, statistics)


def test_transfer_counts_as_the_paper():
    """2,048 trained and 4,096 kept weights stand on Xception's 20,861,480: 20,867,624 in all."""
    backbone = TinyBackbone()
    backbone.num_features = 2048
    head = [v for k, v in TransferDiscriminator(backbone=backbone).state_dict().items() if not k.startswith("backbone")]
    counts = [value.numel() for value in head if value.dim()]  # without the counter of batches
    assert sum(counts) == 2048 + 4096
    assert 20_861_480 + sum(counts) == 20_867_624


def test_calibration_standardizes_real_features_and_stays():
    discriminator = build("frozen")
    real = [torch.randn(64, 1, 16, 16) * 2 + 1 for _ in range(4)]
    discriminator.calibrate(real)
    assert discriminator.backbone.calibrated_on == 256
    standardized = discriminator.features(torch.cat(real))
    torch.testing.assert_close(standardized.mean(0), torch.zeros(6), rtol=0, atol=1e-3)
    torch.testing.assert_close(standardized.var(0), torch.ones(6), rtol=1e-2, atol=1e-2)
    mean = discriminator.norm.running_mean.clone()
    discriminator.train()(torch.randn(8, 1, 16, 16) - 9)
    torch.testing.assert_close(discriminator.norm.running_mean, mean)


def test_a_shift_of_all_fakes_is_seen():
    """Batch statistics would hide it: both batches would have the mean logit 0."""
    discriminator = build("frozen").train()
    real = torch.randn(64, 1, 16, 16)
    discriminator.calibrate([real])
    with torch.no_grad():
        discriminator.logit.linear.weight.fill_(1.0)
    difference = discriminator(real).mean() - discriminator(real * 0.2).mean()
    assert difference.abs() > 0.1


@pytest.mark.parametrize("normalization", ["batch", "spectral", "none"])
def test_dcgan_normalizations(normalization):
    discriminator = DCGANDiscriminator(image_size=32, channels=3, width=8, normalization=normalization)
    kinds = [type(module).__name__ for module in discriminator.modules()]
    assert ("BatchNorm2d" in kinds) == (normalization == "batch")
    assert ("_SpectralNorm" in kinds) == (normalization == "spectral")
    assert discriminator(torch.randn(2, 3, 32, 32)).shape == (2, 1)


def test_dcgan_refuses():
    with pytest.raises(InputError, match=r"discriminator\.normalization=layer"):
        DCGANDiscriminator(image_size=32, channels=1, normalization="layer")
    with pytest.raises(InputError, match="image_size=48"):
        DCGANDiscriminator(image_size=48, channels=1)
