"""Discriminators: two parts that make one, what is trained, labels, calibration."""

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

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


def test_calibration_normalizes_real_features():
    discriminator = build("frozen").eval()
    real = [torch.randn(64, 1, 16, 16) * 2 + 1 for _ in range(4)]
    discriminator.calibrate(real)
    assert discriminator.backbone.calibrated_on == 256
    normalized = discriminator._normalized(discriminator.features(torch.cat(real)))
    torch.testing.assert_close(normalized.mean(0), torch.zeros(6), rtol=0, atol=1e-3)
    torch.testing.assert_close(normalized.var(0), torch.ones(6), rtol=1e-2, atol=1e-2)


def test_statistics_follow_both_sides_in_the_heads_own_turn_alone():
    discriminator = build("frozen").train()
    real, fake = torch.randn(64, 1, 16, 16), torch.randn(64, 1, 16, 16) * 3 + 2
    discriminator.calibrate([real])
    start = discriminator.norm.running_mean.clone()
    discriminator.logit.requires_grad_(False)  # the generator's turn
    discriminator(fake)
    torch.testing.assert_close(discriminator.norm.running_mean, start)
    discriminator.logit.requires_grad_(True)
    discriminator(fake)
    expected = 0.99 * start + 0.01 * discriminator.features(fake).mean(0)
    torch.testing.assert_close(discriminator.norm.running_mean, expected)
    discriminator.eval()(fake)
    torch.testing.assert_close(discriminator.norm.running_mean, expected)


def test_real_and_fake_end_on_both_sides_of_zero():
    """With statistics of each batch, or of real images alone, the mean logit of the real ones would stay 0."""
    discriminator = build("frozen").train()
    real, fake = torch.randn(64, 1, 16, 16), torch.randn(64, 1, 16, 16) * 0.2
    discriminator.calibrate([real])
    optimizer = torch.optim.Adam(discriminator.logit.parameters(), lr=0.02)
    for _ in range(100):
        loss = softplus(-discriminator(real)).mean() + softplus(discriminator(fake)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert discriminator(real).mean() > 0.5
    assert discriminator(fake).mean() < -0.5


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
