"""Measures on images themselves: similarity of pairs, intensities, power spectra. Known answers and references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics
from monai.metrics.regression import MultiScaleSSIMMetric, compute_ssim_and_cs
from scipy.stats import wasserstein_distance
from torch.nn.functional import avg_pool2d, interpolate, pad

from medsynth.contracts import InputError, Intensity
from medsynth.metrics import pairs
from medsynth.metrics.appearance import (
    ROUNDING_POWER,
    IntensityDistance,
    SpectrumDistance,
    intensity_distance,
    intensity_histograms,
    radial_spectra,
    spectrum_distance,
)
from medsynth.metrics.interval import Estimate
from medsynth.metrics.pairs import (
    draw_pairs,
    lpips_network,
    lpips_of_pairs,
    ms_ssim,
    ms_ssim_of_pairs,
    scale_exponents,
)


def noise(count, *, size=16, channels=1, sigma=0.2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator, dtype=torch.float64) * sigma


def smooth(count, *, size=64, seed=0):
    coarse = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return interpolate(coarse, size, mode="bilinear")


def measured(distance, real, fake, *, batch=100):
    for side, images in ((True, real), (False, fake)):
        for block in images.split(batch):
            distance.update(block, real=side)
    return distance.compute()


# ---------------------------------------------------------------------------------------------------------- pairs


def test_pairs_are_disjoint_and_follow_from_the_seed():
    drawn = draw_pairs(11, pairs=100, seed=0)
    assert drawn.shape == (5, 2)
    assert len(set(drawn.ravel().tolist())) == 10
    assert draw_pairs(11, pairs=3, seed=0).tolist() == drawn[:3].tolist() == draw_pairs(11, pairs=3, seed=0).tolist()
    assert draw_pairs(11, pairs=3, seed=1).tolist() != drawn[:3].tolist()


def test_as_many_scales_as_there_is_room_for():
    rooms = {11: 1, 21: 1, 22: 2, 43: 2, 44: 3, 64: 3, 88: 4, 128: 4, 176: 5, 512: 5}
    for size, number in rooms.items():
        exponents = scale_exponents(size)
        assert len(exponents) == number
        assert sum(exponents) == pytest.approx(1)
        assert exponents[0] / exponents[-1] == pytest.approx(pairs.EXPONENTS[0] / pairs.EXPONENTS[number - 1])
    with pytest.raises(InputError, match="11 pixels"):
        scale_exponents(10)


@pytest.mark.parametrize("size", [16, 28, 64, 100, 176])
def test_ms_ssim_at_all_sizes(size):
    images = smooth(4, size=size)
    first, second = images[:2], images[2:]
    torch.testing.assert_close(ms_ssim(first, first), torch.ones(2))
    assert ((ms_ssim(first, second) >= 0) & (ms_ssim(first, second) < 0.9)).all()
    torch.testing.assert_close(ms_ssim(first, second), ms_ssim(second, first))


def monai_terms(first, second, *, border):
    """Mean SSIM and contrast of MONAI, which leaves out a border of 5 pixels; ``border`` mirrors as many beforehand."""
    if border:
        first, second = (pad(images, (5, 5, 5, 5), mode="reflect") for images in (first, second))
    terms = compute_ssim_and_cs(first, second, 2, kernel_size=(11, 11), kernel_sigma=(1.5, 1.5), data_range=2.0)
    return [term.mean(dim=(1, 2, 3)) for term in terms]


def test_ms_ssim_agrees_with_monai_but_for_the_border_of_the_coarsest_scale():
    first, second = smooth(8, seed=1), smooth(8, seed=1) + 0.3 * smooth(8, seed=2)
    exponents = scale_exponents(64)
    reference = MultiScaleSSIMMetric(2, data_range=2.0, weights=exponents, reduction="none")(first, second).flatten()
    inside, mirrored = [], 1.0
    images = (first, second)
    for scale, exponent in enumerate(exponents):
        similarity, contrast = monai_terms(*images, border=False)
        last = scale == len(exponents) - 1
        inside.append((similarity if last else contrast).relu() ** exponent)
        mirrored = mirrored * (monai_terms(*images, border=True)[0] if last else contrast).relu() ** exponent
        images = tuple(avg_pool2d(image, 2) for image in images)
    torch.testing.assert_close(math.prod(inside), reference, rtol=1e-5, atol=0)  # the terms are MONAI's own
    ours = ms_ssim(first, second)
    torch.testing.assert_close(ours, mirrored, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours, reference, rtol=0, atol=0.1)
    assert not torch.allclose(ours, reference, rtol=1e-3)


def test_sets_of_pairs_rank_by_diversity():
    diverse = smooth(24, size=32)
    alike = diverse[:1] + 0.05 * diverse
    values = [
        ms_ssim_of_pairs(images, pairs=100, seed=0) for images in (diverse, alike, diverse[:1].repeat(24, 1, 1, 1))
    ]
    assert values[0].value < 0.5 < 0.9 < values[1].value < 1
    assert values[2].value == pytest.approx(1)
    assert values[0].low < values[0].value < values[0].high
    assert ms_ssim_of_pairs(diverse, pairs=100, seed=0) == values[0]


def test_value_is_the_mean_over_the_drawn_pairs():
    images = smooth(300, size=12)  # more than one block of pairs
    drawn = draw_pairs(300, pairs=1000, seed=3)
    expected = ms_ssim(images[drawn[:, 0]], images[drawn[:, 1]]).mean().item()
    assert ms_ssim_of_pairs(images, pairs=1000, seed=3).value == pytest.approx(expected, rel=1e-5)


def test_lpips_takes_any_network_and_prepares_its_input():
    shapes = []

    def network(first, second):
        shapes.append((tuple(first.shape), tuple(second.shape)))
        return (first - second).abs().mean(dim=(1, 2, 3), keepdim=True)

    levels = torch.linspace(-1, 1, 4)[:, None, None, None].expand(4, 1, 32, 32)
    drawn = draw_pairs(4, pairs=2, seed=5)
    expected = np.abs(np.diff(np.linspace(-1, 1, 4)[drawn])).mean()
    assert lpips_of_pairs(levels, pairs=2, seed=5, network=network).value == pytest.approx(expected, rel=1e-6)
    assert shapes == [((2, 3, 64, 64), (2, 3, 64, 64))]
    with pytest.raises(InputError, match="1 or 3 channels"):
        lpips_of_pairs(torch.zeros(4, 2, 32, 32), pairs=2, seed=5, network=network)


def test_lpips_network_is_torchmetrics(tmp_path, monkeypatch):
    """With random weights in the place of ImageNet's, in PyTorch's cache, where the code looks for them."""
    import torchvision

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / pairs.LPIPS_WEIGHTS["squeeze"].url.rsplit("/", 1)[-1]
    file.parent.mkdir()
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), file)
    network = lpips_network("squeeze")
    images = smooth(4).expand(-1, 3, -1, -1)
    ours = lpips_of_pairs(images, pairs=2, seed=0, network=network).value
    drawn = torch.from_numpy(draw_pairs(4, pairs=2, seed=0))
    metric = torchmetrics.image.LearnedPerceptualImagePatchSimilarity("squeeze")
    assert ours == pytest.approx(metric(images[drawn[:, 0]], images[drawn[:, 1]]).item(), rel=1e-5)
    assert ours > 0


def test_lpips_without_weights_says_where_they_go(tmp_path, monkeypatch):
    def refuse(url, timeout):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(pairs.urllib.request, "urlopen", refuse)
    with pytest.raises(InputError, match=r"alexnet-owt-7be5be79\.pth.*ms_ssim"):
        lpips_network("alex")
    with pytest.raises(InputError, match="alex, vgg, squeeze"):
        lpips_network("resnet")


def test_damaged_download_is_not_kept(tmp_path, monkeypatch):
    import io

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(pairs.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"half a file"))
    with pytest.raises(InputError, match="damaged"):
        lpips_network("squeeze")
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("images", "number", "words"),
    [
        (torch.zeros(1, 1, 16, 16), 5, "2 or more"),
        (torch.zeros(4, 1, 16, 16), 0, "pairs=0"),
        (torch.full((4, 1, 16, 16), torch.nan), 5, "NaN"),
        (torch.zeros(4, 1, 8, 8), 5, "11 pixels"),
    ],
)
def test_pairs_refuse(images, number, words):
    with pytest.raises(InputError, match=words):
        ms_ssim_of_pairs(images, pairs=number, seed=0)


# ----------------------------------------------------------------------------------------------------- intensities


def test_shifted_intensities_are_the_shift_apart():
    images = noise(20).clamp(-0.6, 0.6)
    for shift in (0.1, -0.3):
        value = measured(IntensityDistance(intensity=Intensity(-1000, 400, "HU")), images, images + shift)
        assert value["intensity_distance"].value == pytest.approx(abs(shift), rel=1e-6)
        assert value["intensity_distance_physical"].value == pytest.approx(abs(shift) * 700, rel=1e-6)
        assert value["intensity_distance"].low <= abs(shift) <= value["intensity_distance"].high


def test_intensity_distance_agrees_with_scipy():
    real, fake = noise(12, seed=1), 0.6 * noise(17, seed=2) + 0.1 * noise(17, seed=3) ** 2
    value = measured(IntensityDistance(), real, fake)["intensity_distance"].value
    expected = wasserstein_distance(real.clamp(-1, 1).flatten(), fake.clamp(-1, 1).flatten())
    assert value == pytest.approx(expected, abs=2 / 1024)  # a level apart at most
    assert value == pytest.approx(expected, rel=0.01)


def test_histograms_keep_means_and_mass():
    images = torch.tensor([-1.0, 1.0, -0.12345, 0.0, 3.0, -7.0]).view(6, 1, 1, 1)
    rows = intensity_histograms(images)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-6)
    levels = np.linspace(-1, 1, rows.shape[1])
    np.testing.assert_allclose(rows @ levels, images.clamp(-1, 1).flatten(), atol=1e-6)


def test_interval_covers_the_truth():
    """Images differ in brightness more than their pixels do: an interval over pixels would be far too short."""
    covered, simulations = 0, 100
    for number in range(simulations):
        generator = torch.Generator().manual_seed(number)
        brightness = torch.randn(60, 1, 1, 1, generator=generator) * 0.1
        images = brightness + 0.05 * torch.randn(60, 1, 4, 4, generator=generator)
        value = measured(IntensityDistance(), images[:30], images[30:] + 0.2)["intensity_distance"]
        covered += value.low <= 0.2 <= value.high
    assert 0.85 <= covered / simulations <= 1


def test_intervals_of_equal_distributions_hold_the_expected_value():
    """The expected distance is not 0: that of finite sets is biased upwards, and that of resampled sets twice."""
    found: list[Estimate] = []
    for seed in range(60):
        brightness = torch.randn(60, 1, 1, 1, generator=torch.Generator().manual_seed(seed)) * 0.1
        rows = intensity_histograms(brightness.expand(-1, 1, 4, 4))
        found.append(intensity_distance(rows[:30], rows[30:], seed=seed))
    expected = np.mean([one.value for one in found])
    assert np.mean([one.low <= expected <= one.high for one in found]) > 0.9
    assert np.mean([one.low for one in found]) < 0.5 * expected


# --------------------------------------------------------------------------------------------------------- spectra


def test_white_noise_has_its_variance_at_all_frequencies():
    rows = radial_spectra(noise(400, size=32, channels=3, sigma=0.3))
    assert rows.shape == (400, 23)  # 16 * sqrt(2) cycles per image
    np.testing.assert_allclose(rows.mean(axis=0)[1:], 0.09, rtol=0.08)
    assert (
        0.05 < rows.mean(axis=0)[0] < 0.085
    )  # the mean was taken off, and through the window a part of its neighbours


def test_a_wave_is_found_at_its_frequency():
    x = torch.arange(64) / 64
    waves = torch.stack([torch.sin(2 * math.pi * k * x).expand(64, 64) for k in (5, 12, 20)])[:, None]
    assert (radial_spectra(waves).argmax(axis=1) + 1).tolist() == [5, 12, 20]


def test_a_gain_is_found_in_decibels():
    images = noise(50, size=16)
    value = measured(SpectrumDistance(), images, images * 2)["spectrum_distance"]
    assert value.value == pytest.approx(20 * math.log10(2), rel=1e-3)


def test_blurred_noise_differs_by_the_filter():
    """Circular averaging of 2x2 pixels has the gain (cos(pi u / n) cos(pi v / n))^2 in power, at frequencies u, v."""
    size = 32
    images = noise(600, size=size, sigma=0.3)
    blurred = sum(images.roll(shift, (-2, -1)) for shift in ((0, 0), (0, 1), (1, 0), (1, 1))) / 4
    frequency = np.fft.fftfreq(size, 1 / size)
    gain = np.outer(*[np.cos(np.pi * frequency / size) ** 2] * 2)
    # The window mixes neighbouring frequencies: its power spectrum is the kernel of the mixture.
    window = np.outer(*[np.hanning(size + 2)[1:-1]] * 2)
    mixing = np.abs(np.fft.fft2(window)) ** 2 / (size**2 * np.square(window).sum())
    gain = np.fft.ifft2(np.fft.fft2(gain) * np.fft.fft2(mixing)).real
    ring = np.hypot(*np.meshgrid(frequency, frequency)).round().astype(int).ravel()
    expected = (np.bincount(ring, gain.ravel()) / np.bincount(ring))[1:]
    decibels = 10 * np.log10((0.09 * expected + ROUNDING_POWER) / (0.09 + ROUNDING_POWER))
    value = measured(SpectrumDistance(), images, blurred)["spectrum_distance"]
    assert value.value == pytest.approx(np.sqrt(np.mean(decibels**2)), rel=0.02)
    assert value.low < value.value < value.high


def test_a_checkerboard_too_faint_for_eight_bits_does_not_count():
    images = smooth(20, size=16)
    board = (-1.0) ** (torch.arange(16)[:, None] + torch.arange(16))
    faint, plain = (measured(SpectrumDistance(), images, images + size * board) for size in (1e-5, 0.1))
    assert faint["spectrum_distance"].value < 0.1
    assert plain["spectrum_distance"].value > 10


# ------------------------------------------------------------------------------------------------------------ both


@pytest.mark.parametrize("kind", [IntensityDistance, SpectrumDistance])
def test_batches_and_order_make_no_difference(kind):
    real, fake = noise(40), noise(30, seed=1) * 1.3
    (value,) = measured(kind(), real, fake).values()
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    (again,) = measured(kind(), real[shuffled], fake.flip(0), batch=7).values()
    for field in ("value", "low", "high"):
        assert getattr(again, field) == pytest.approx(getattr(value, field), rel=1e-5)
    assert value.low < value.value < value.high


@pytest.mark.parametrize("kind", [IntensityDistance, SpectrumDistance])
def test_equal_sets_have_no_distance_and_other_draws_little(kind):
    (same,) = measured(kind(), noise(60), noise(60)).values()
    (other,) = measured(kind(), noise(60), noise(60, seed=1)).values()
    (apart,) = measured(kind(), noise(60), noise(60, seed=1) * 1.5).values()
    assert same.value == 0 == same.low
    assert 0 < other.value < apart.value / 5
    assert other.low < apart.low


@pytest.mark.parametrize("kind", [IntensityDistance, SpectrumDistance])
def test_bad_images_are_refused(kind):
    with pytest.raises(InputError, match="generated images have NaN"):
        kind().update(torch.full((2, 1, 16, 16), torch.nan), real=False)
    with pytest.raises(InputError, match="no real images"):
        kind().compute()
    with pytest.raises(InputError, match="2 or more images on each side, and there are 1 generated"):
        measured(kind(), noise(4), noise(1))


def test_spectra_of_different_sizes_are_refused():
    with pytest.raises(InputError, match="one size"):
        spectrum_distance(radial_spectra(noise(4)), radial_spectra(noise(4, size=32)), seed=0)
