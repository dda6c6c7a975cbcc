"""Reconstruction terms against formulas written out, with and without a foreground."""

import pytest
import torch
from skimage.metrics import structural_similarity

from medsynth.contracts import InputError
from medsynth.reconstruction.foreground import foreground_mean
from medsynth.reconstruction.l1 import L1
from medsynth.reconstruction.l2 import L2
from medsynth.reconstruction.perceptual import Perceptual
from medsynth.reconstruction.ssim import SSIM
from tests.test_discriminator import TinyBackbone


def pair(size=16, channels=1):
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 2, channels, size, size, generator=generator, dtype=torch.float64) * 2 - 1
    mask = (torch.rand(2, 1, size, size, generator=generator) > 0.4).double()
    return images[0], images[1], mask


@pytest.mark.parametrize("channels", [1, 3])
def test_l1_and_l2_are_means_over_the_foreground_of_each_image(channels):
    output, target, mask = pair(channels=channels)
    for term, power in ((L1(weight=3.0, outside=0.0), 1), (L2(weight=3.0, outside=0.0), 2)):
        whole = 3 * sum(((o - t).abs() ** power).sum() / o.numel() for o, t in zip(output, target, strict=True)) / 2
        torch.testing.assert_close(term(output, target, None, output), whole)
        masked = sum(
            ((o - t).abs() ** power)[:, m[0] > 0].sum() / (channels * m.sum())
            for o, t, m in zip(output, target, mask, strict=True)
        )
        torch.testing.assert_close(term(output, target, mask, output), 3 * masked / 2)


def test_what_is_outside_of_the_foreground_has_no_gradient():
    output, target, mask = pair()
    for term in (L1(outside=0.0), L2(outside=0.0)):
        moved = output.clone().requires_grad_(True)
        term(moved, target, mask, output).backward()
        assert torch.equal((moved.grad != 0).double(), mask)


@pytest.mark.parametrize(("term", "power"), [(L1(weight=3.0, outside=0.2), 1), (L2(weight=3.0, outside=0.2), 2)])
def test_a_pixel_outside_of_the_foreground_weighs_as_much_as_is_asked_for(term, power):
    output, target, mask = pair()
    expected = 0.0
    for o, t, m in zip(output, target, mask, strict=True):
        error, inside = (o - t).abs() ** power, m.bool().expand_as(o)
        weights = inside.sum() + 0.2 * (~inside).sum()
        expected += (error[inside].sum() + 0.2 * error[~inside].sum()) / weights
    torch.testing.assert_close(term(output, target, mask, output), 3 * expected / 2)


def test_a_weight_outside_of_the_foreground_above_that_inside_is_refused():
    for term in (L1, L2):
        with pytest.raises(InputError, match="from 0 to 1"):
            term(outside=1.5)


def test_an_empty_mask_contributes_nothing():
    output, target, mask = pair()
    mask[0] = 0
    l1 = L1(outside=0.0)
    torch.testing.assert_close(2 * l1(output, target, mask, output), l1(output[1:], target[1:], mask[1:], output))
    assert foreground_mean(output, torch.zeros_like(mask)) == 0


def test_ssim_is_that_of_scikit_image():
    output, target, mask = pair(size=24)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "full": True}
    expected = []
    for o, t, m in zip(output, target, mask, strict=True):
        _, windows = structural_similarity((o[0] / 2 + 0.5).numpy(), (t[0] / 2 + 0.5).numpy(), **options)
        inside = torch.from_numpy(windows)[5:-5, 5:-5]
        expected.append(((1 - inside).mean(), (1 - inside)[m[0, 5:-5, 5:-5] > 0].mean()))
    whole, masked = (torch.stack(values).mean() for values in zip(*expected, strict=True))
    term = SSIM(weight=2.0)
    assert term(output, target, None, output).item() == pytest.approx(2 * whole.item(), abs=1e-5)
    assert term(output, target, mask, output).item() == pytest.approx(2 * masked.item(), abs=1e-5)
    assert term(target, target, None, output).abs() < 1e-6
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert term(output, target, None, output).item() == pytest.approx(2 * whole.item(), abs=1e-5)


class TwoLevels(TinyBackbone):
    """Levels of known values: the images themselves, and their means of 2 x 2 pixels, a hundred times as large."""

    def level_channels(self, count):
        return (1, 1)[: count or 2]

    def levels(self, images, count):
        return (images, 100 * torch.nn.functional.avg_pool2d(images, 2))


def test_perceptual_distance_is_relative_to_each_levels_size():
    output, target, mask = (values.float() for values in pair())
    small = [torch.nn.functional.avg_pool2d(images, 2) for images in (output, target)]
    expected = ((output - target).abs().mean() / target.abs().mean()) + (
        (small[0] - small[1]).abs().mean() / small[1].abs().mean()
    )
    term = Perceptual(backbone=TwoLevels(), weight=4.0)
    torch.testing.assert_close(term(output, target, None, output), 4 * expected / 2)
    moved = output.clone().requires_grad_(True)
    term(moved, target, mask, output).backward()
    assert moved.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in term.backbone.parameters())
