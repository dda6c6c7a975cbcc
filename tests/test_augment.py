"""DiffAugment: what each policy does to images, worked out from outside; independence, differentiability, cost."""

import inspect

import numpy as np
import pytest
import torch
import yaml

from medsynth.augment.diffaugment import DiffAugment
from medsynth.augment.instance_noise import InstanceNoise
from medsynth.configuration.compose import conf_folder
from medsynth.contracts import Augmentation, InputError
from medsynth.schedule.linear import Linear
from tests.test_gan import fit, gan

ALL = ["color", "translation", "cutout"]


def augmented(images, policy, *, seed=0, **options):
    torch.manual_seed(seed)
    return DiffAugment(policy=policy, **options)(images)


def random_images(*shape, dtype=torch.float32):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(7)) * 2 - 1


# ---- color -----------------------------------------------------------------------------------------------------------


def changes_of_color(before, after):
    """Shift of the mean, factor of the gray image about its mean, factor of the channels about gray; by least squares.

    Raises an assertion where the change is not of this kind.
    """
    before, after = before.double().numpy(), after.double().numpy()
    shift = after.mean() - before.mean()
    gray = [image.mean(axis=0, keepdims=True) for image in (before, after)]
    contrast = factor(gray[0] - before.mean(), gray[1] - after.mean())
    return shift, contrast, factor(before - gray[0], after - gray[1]) / contrast if len(before) > 1 else None


def factor(before, after):
    ratio = (before * after).sum() / (before**2).sum()
    np.testing.assert_allclose(after, ratio * before, atol=1e-5)
    return ratio


def assert_uniform(values, low, high):
    """All of the range, nothing beyond; the empirical distribution within 2 / sqrt(n) of the even one (p < 0.001)."""
    position = (np.sort(values) - low) / (high - low)
    assert -1e-5 < position[0] < 10 / len(position)
    assert -1e-5 < 1 - position[-1] < 10 / len(position)
    assert np.abs(position - np.linspace(0, 1, len(position))).max() < 2 / np.sqrt(len(position))


def test_color_draws_each_change_uniformly_for_each_image():
    before = random_images(400, 3, 8, 8)
    after = augmented(before, ["color"])
    shifts, contrasts, saturations = zip(*map(changes_of_color, before, after), strict=True)
    assert_uniform(shifts, -0.5, 0.5)
    assert_uniform(contrasts, 0.5, 1.5)
    assert_uniform(saturations, 0, 2)
    correlation = np.corrcoef([shifts, contrasts, saturations])
    assert np.abs(correlation - np.eye(3)).max() < 0.2  # 4 standard deviations


def test_color_of_one_channel_is_brightness_and_contrast():
    before = random_images(50, 1, 8, 8)
    after = augmented(before, ["color"], brightness=0.2, contrast=0.1)
    shifts, contrasts, _ = zip(*map(changes_of_color, before, after), strict=True)
    assert_uniform(shifts, -0.2, 0.2)
    assert_uniform(contrasts, 0.9, 1.1)


def test_gray_as_three_equal_channels_stays_gray_and_the_same():
    gray = random_images(10, 1, 16, 16)
    for policy in (*([name] for name in ALL), ALL):
        expected = augmented(gray, policy).expand(-1, 3, -1, -1)
        torch.testing.assert_close(augmented(gray.expand(-1, 3, -1, -1), policy), expected)


def test_nothing_is_clipped():
    after = augmented(torch.cat([torch.ones(50, 1, 8, 8), -torch.ones(50, 1, 8, 8)]), ["color"])
    assert after.max() > 1.3
    assert after.min() < -1.3


# ---- translation -----------------------------------------------------------------------------------------------------


def shift_of(before, after, fill):
    """The only shift in whole pixels, up to 8, that makes ``after`` of ``before`` and fills the rest."""
    channels, height, width = before.shape
    padded = np.full((channels, height + 16, width + 16), fill, dtype=np.float32)
    padded[:, 8:-8, 8:-8] = before
    shifts = [(down, right) for down in range(-8, 9) for right in range(-8, 9)]
    found = [
        (down, right)
        for down, right in shifts
        if np.array_equal(after, padded[:, 8 - down : 8 - down + height, 8 - right : 8 - right + width])
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("fill", [0.0, -1.0])
def test_translation_moves_by_whole_pixels_and_fills(fill):
    before = random_images(300, 2, 16, 24)
    after = augmented(before, ["translation"], fill=fill)
    shifts = np.array([shift_of(*pair, fill) for pair in zip(before.numpy(), after.numpy(), strict=True)])
    down, right = (np.bincount(shifts[:, axis] + reach, minlength=2 * reach + 1) for axis, reach in ((0, 2), (1, 3)))
    assert (len(down), len(right)) == (5, 7)  # an eighth of 16 is 2, of 24 is 3
    for counts in (down, right):
        mean = len(before) / len(counts)
        assert np.abs(counts - mean).max() < 4 * np.sqrt(mean)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.25


def test_translation_of_images_too_small_for_it_does_nothing():
    before = random_images(4, 1, 7, 7)
    assert torch.equal(augmented(before, ["translation"]), before)


# ---- cutout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "side"), [(16, 8), (18, 9)])
def test_cutout_hides_a_square_centered_anywhere(size, side):
    before = random_images(600, 2, size, size)
    after = augmented(before, ["cutout"], fill=-1.0)
    hidden = (after == -1).all(dim=1)
    assert torch.equal(after[:, 0][~hidden], before[:, 0][~hidden])
    whole = 0
    for mask in hidden.numpy():
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == len(rows) * len(columns)  # all rows and columns between the corners: a rectangle
        for lines in (rows, columns):
            assert np.ptp(lines) == len(lines) - 1
            assert len(lines) == side or 0 in lines or size - 1 in lines  # cut off by the border alone
            assert side // 2 <= len(lines) <= side
        whole += mask.sum() == side**2
    # The centers are spread evenly. In one direction half of them leave the square whole, the others three quarters of
    # it on average: (1 / 2 * 1 / 2 + 1 / 2 * 3 / 8)^2 of the image is hidden, and a quarter of the squares is whole.
    assert hidden.float().mean() == pytest.approx((7 / 16) ** 2, abs=0.02)
    assert whole / len(hidden) == pytest.approx(0.25, abs=0.08)
    frequency = hidden.float().mean(dim=0)  # of a pixel: at most 1 / 4, in the corners 1 / 16
    assert frequency.max() < 0.25 + 0.08
    assert frequency.min() > 0.0625 - 0.04
    torch.testing.assert_close(frequency, frequency.flip(0, 1), atol=0.1, rtol=0)


# ---- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [*([name] for name in ALL), ALL])
def test_images_draw_their_parameters_independently(policy):
    """Equal images come out different; an image comes out the same whatever stands beside it in the batch."""
    image = random_images(1, 3, 32, 32)
    after = augmented(image.expand(6, -1, -1, -1), policy)
    assert all(not torch.equal(one, other) for i, one in enumerate(after) for other in after[:i])
    beside_others = augmented(torch.cat([image, torch.full((5, 3, 32, 32), 0.9)]), policy)
    assert torch.equal(beside_others[0], after[0])
    assert torch.equal(augmented(image.expand(6, -1, -1, -1), policy), after)  # same seed
    assert not torch.equal(augmented(image.expand(6, -1, -1, -1), policy, seed=1), after)


def test_order_of_the_policy_does_not_matter():
    images = random_images(5, 3, 16, 16)
    assert torch.equal(augmented(images, ALL), augmented(images, ALL[::-1]))


def test_filled_pixels_keep_their_value():
    """Color comes first: in images that are all 1 what is filled in is exactly 0, and what is not is of one value."""
    for image in augmented(torch.ones(20, 1, 16, 16), ["cutout", "translation", "color"]):
        assert len(image.unique()) == 2
        assert (image == 0).any()


def test_edge_continues_a_moved_image_by_its_outermost_pixels():
    images = random_images(40, 2, 16, 16)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="replicate")
    moves = set()
    for image, around in zip(augmented(images, ["translation"], fill="edge"), padded, strict=True):
        fits = [(y, x) for y in range(5) for x in range(5) if torch.equal(image, around[:, y : y + 16, x : x + 16])]
        assert len(fits) == 1
        moves.update(fits)
    assert len(moves) > 12


def test_edge_hides_a_square_by_the_mean_of_the_margin():
    """The margin's 60 pixels are counted once each; the corners are no exception."""
    images = random_images(20, 2, 16, 16)
    margin = torch.ones(16, 16, dtype=torch.bool)
    margin[1:-1, 1:-1] = False
    assert margin.sum() == 60
    for before, after in zip(images, augmented(images, ["cutout"], fill="edge"), strict=True):
        changed = (before != after).all(dim=0)
        assert changed.any()
        for channel in range(2):
            torch.testing.assert_close(after[channel][changed].unique(), before[channel][margin].mean()[None])


@pytest.mark.parametrize("fill", ["gray", "edge"])
@pytest.mark.parametrize("policy", [*([name] for name in ALL), ALL])
def test_gradient_is_exact(policy, fill):
    images = random_images(1, 2, 8, 8, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda images: augmented(images, policy, fill=fill), images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dtype_is_kept_under_autocast_too(dtype):
    images = random_images(4, 3, 16, 16, dtype=torch.float64).to(dtype)
    plain = augmented(images, ALL)
    assert plain.dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augmented(images, ALL), plain)


def test_bfloat16_rounds_once():
    images = random_images(20, 3, 16, 16).to(torch.bfloat16)
    assert torch.equal(augmented(images, ALL), augmented(images.float(), ALL).to(torch.bfloat16))


def test_memory_format_does_not_matter():
    images = random_images(4, 3, 16, 16)
    last = images.to(memory_format=torch.channels_last)
    torch.testing.assert_close(augmented(last, ALL), augmented(images, ALL))


def test_no_policy_or_no_strength_is_no_change():
    images = random_images(4, 3, 16, 16)
    assert DiffAugment(policy=[])(images) is images
    off = {"brightness": 0, "saturation": 0, "contrast": 0, "translation": 0, "cutout": 0}
    torch.testing.assert_close(augmented(images, ALL, **off), images)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": ["color", "flip"]}, ["augment.diffaugment.policy", "flip", "[color,translation,cutout]"]),
        ({"policy": "color,cutout"}, ["augment.diffaugment.policy", "color,cutout"]),
        ({"contrast": 1.5}, ["augment.diffaugment.contrast=1.5", "from 0 to 1"]),
        ({"translation": -0.1}, ["augment.diffaugment.translation=-0.1"]),
        ({"cutout": float("nan")}, ["augment.diffaugment.cutout=nan"]),
        ({"fill": -1024}, ["augment.diffaugment.fill=-1024", "edge, gray"]),
        ({"fill": "black"}, ["augment.diffaugment.fill=black", "edge, gray"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(InputError) as error:
        DiffAugment(**options)
    assert all(word in str(error.value) for word in words), error.value


def test_configuration_lists_all_options_with_their_defaults():
    (entry,) = yaml.safe_load((conf_folder() / "augment" / "diffaugment.yaml").read_text()).items()
    name, options = entry
    assert name == "diffaugment"
    assert options.pop("_target_") == f"{DiffAugment.__module__}.{DiffAugment.__qualname__}"
    defaults = {key: value.default for key, value in inspect.signature(DiffAugment).parameters.items()}
    assert {**options, "policy": tuple(options["policy"])} == defaults
    assert isinstance(DiffAugment(**options), Augmentation)


# ---- instance noise --------------------------------------------------------------------------------------------------


def test_instance_noise_is_normal_independent_and_differentiable():
    torch.manual_seed(0)
    images = torch.full((64, 2, 16, 16), 0.5, dtype=torch.float64, requires_grad=True)
    out = InstanceNoise(sigma=0.2)(images)
    noise = (out - images).detach() / 0.2
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert noise.pow(4).mean().item() == pytest.approx(3, abs=0.15)  # the kurtosis of a normal distribution
    assert abs(torch.corrcoef(noise.flatten(1)[:2])[0, 1]) < 0.2
    (gradient,) = torch.autograd.grad(out.sum(), images)
    assert torch.equal(gradient, torch.ones_like(gradient))


def test_instance_noise_decreases_by_a_schedule():
    noise = InstanceNoise(sigma=0.4)
    fit(gan(augmentations={"noise": noise}, schedules={"augment": {"noise": {"sigma": Linear(0.1, 0.0, 16)}}}))
    assert noise.sigma == 0
    images = torch.randn(2, 1, 4, 4)
    assert torch.equal(noise(images), images)
    with pytest.raises(InputError, match=r"augment\.instance_noise\.sigma=-1"):
        InstanceNoise(sigma=-1)
