"""ADA: each change worked out from the images it makes; how often it is made; the strength; exact resume."""

import csv
import inspect
import math
import signal

import numpy as np
import pytest
import torch
import yaml

from medsynth.augment.ada import AdaptiveAugmentation
from medsynth.augment.geometry import move, resample, rotation, scaling, shift
from medsynth.configuration.compose import conf_folder
from medsynth.contracts import Adaptive, Augmentation, InputError
from tests.command import TINY, run
from tests.test_resume import LONGER, assert_same, stop_at

ALL = ["blit", "geometry", "color"]
NONE = {"translation": 0, "scale": 0, "rotation": 0, "stretch": 0, "shift": 0}  # of what moves images


def ada(**options):
    return AdaptiveAugmentation(**{"batch_size": 8, "strength": 1.0} | options)


def augmented(images, *, seed=0, **options):
    torch.manual_seed(seed)
    return ada(**options)(images)


def random_images(*shape, dtype=torch.float32):
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(7)) * 2 - 1


def assert_share(found, expected):
    """Of booleans, within 4 standard deviations of the binomial distribution."""
    assert abs(found.double().mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / len(found))


def assert_distribution(values, cumulative):
    """The empirical distribution within 2 / sqrt(n) of the right one (p < 0.001)."""
    expected = np.array([cumulative(value) for value in np.sort(values)])
    assert np.abs(expected - np.linspace(0, 1, len(expected))).max() < 2 / np.sqrt(len(expected))


def assert_normal(values, deviation):
    assert_distribution(values, lambda value: (1 + math.erf(value / deviation / math.sqrt(2))) / 2)


def assert_uniform(values, low, high):
    assert_distribution(values, lambda value: min(max((value - low) / (high - low), 0), 1))


# ---- how often -------------------------------------------------------------------------------------------------------


def test_zero_strength_changes_nothing_and_draws_no_random_numbers():
    images = random_images(4, 1, 16, 16)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert ada(strength=0.0)(images) is images
    assert ada(policy=[])(images) is images
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.2, 0.5])
def test_share_of_images_that_stay_bit_for_bit(strength, channels):
    """None of n changes with probability (1 - p)^n; two rotations count as one. Gray images have no saturation."""
    before = random_images(3000, channels, 8, 8)
    for policy, number in (["blit"], 1), (["geometry"], 4), (["color"], 2 + (channels > 1)):
        same = (augmented(before, strength=strength, policy=policy) == before).all(dim=(1, 2, 3))
        assert_share(same, (1 - strength) ** number)
    same = (augmented(before, strength=strength) == before).all(dim=(1, 2, 3))
    assert same.any()
    assert_share(same, (1 - strength) ** (7 + (channels > 1)))


def test_rotation_leaves_images_upright_as_often_as_any_other_change():
    before = random_images(2000, 1, 8, 8)
    after = augmented(before, strength=0.6, policy=["geometry"], **NONE | {"rotation": 180})
    assert_share((after == before).all(dim=(1, 2, 3)), 0.4)


# ---- where to --------------------------------------------------------------------------------------------------------


def blob(count, x=0.0, y=0.0, *, width=2.5, height=2.5):
    """(count, 1, 64, 64): a Gaussian on 0, at x and y from the center, with these standard deviations, in pixels."""
    rows, columns = np.mgrid[:64, :64] - 31.5
    image = np.exp(-(((columns - x) / width) ** 2) / 2 - ((rows - y) / height) ** 2 / 2)
    return torch.tensor(image, dtype=torch.float32).expand(count, 1, -1, -1)


def moments(images):
    """Of what is in each image (N, 1, 64, 64): centers x and y, variances in x and y, covariance; in pixels."""
    rows, columns = np.mgrid[:64, :64] - 31.5
    weights = images[:, 0].double().numpy()
    weights = weights / weights.sum(axis=(1, 2), keepdims=True)
    x, y = ((weights * at).sum(axis=(1, 2)) for at in (columns, rows))
    dx, dy = columns - x[:, None, None], rows - y[:, None, None]
    return x, y, *((weights * product).sum(axis=(1, 2)) for product in (dx**2, dy**2, dx * dy))


def moved(images, **options):
    return augmented(images, policy=["blit", "geometry"], **NONE | options)


def test_translation_moves_by_whole_pixels_and_mirrors_the_border():
    before = random_images(200, 2, 16, 24)
    after = moved(before, translation=0.125)
    found = np.zeros((5, 7), dtype=int)
    for one, other in zip(before.numpy(), after.numpy(), strict=True):
        padded = np.pad(one, ((0, 0), (2, 2), (3, 3)), mode="symmetric")
        fits = [
            (down, right)
            for down in range(5)
            for right in range(7)
            if np.abs(padded[:, down : down + 16, right : right + 24] - other).max() < 1e-5
        ]
        assert len(fits) == 1
        found[fits[0]] += 1
    for counts in (found.sum(axis=0), found.sum(axis=1)):
        assert np.abs(counts - 200 / len(counts)).max() < 4 * np.sqrt(200 / len(counts))


def test_scale():
    _, _, x, y, both = moments(moved(blob(400), scale=0.2))
    np.testing.assert_allclose(x, y, rtol=0.02)
    np.testing.assert_allclose(both, 0, atol=0.05)
    assert_normal(np.log2(x / 2.5**2) / 2, 0.2)


def test_rotation_about_the_center_by_any_angle():
    """The object goes round, and round itself by the same angle."""
    x, y, wide, high, both = moments(moved(blob(400, 9, 0, width=3, height=2), rotation=180))
    np.testing.assert_allclose(np.hypot(x, y), 9, atol=0.02)
    angle = np.arctan2(y, x)
    assert_uniform(angle, -np.pi, np.pi)
    axis = np.arctan2(2 * both, wide - high) / 2
    np.testing.assert_allclose(np.sin(axis - angle), 0, atol=0.02)


def test_rotation_has_a_largest_angle():
    x, y, *_ = moments(moved(blob(400, 9, 0), rotation=20, strength=0.75))
    degrees = np.degrees(np.arctan2(y, x))
    assert 20 < np.abs(degrees).max() < 40.1  # twice
    once_or_twice = 0.25 * 20**2 * 2 * (1 / 3) + 0.5 * 20**2 / 3  # (1 - sqrt(1 - 0.75)) = 0.5 for each of the two
    assert degrees.std() == pytest.approx(math.sqrt(once_or_twice), rel=0.15)


def test_stretch_keeps_the_area():
    _, _, x, y, both = moments(moved(blob(400), stretch=0.15))
    np.testing.assert_allclose(x * y, 2.5**4, rtol=0.05)
    np.testing.assert_allclose(both, 0, atol=0.05)
    assert_normal(np.log2(x / y) / 4, 0.15)


def test_fractional_shift():
    x, y, *_ = moments(moved(blob(400), shift=0.05))
    assert_normal(x, 0.05 * 64)
    assert_normal(y, 0.05 * 64)
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.2
    assert np.abs(x - x.round()).mean() == pytest.approx(0.25, abs=0.05)


def test_flip_mirrors_half_of_the_images():
    before = random_images(600, 1, 8, 12)
    for strength in (1.0, 0.4):
        after = moved(before, flip=True, strength=strength)
        same, mirrored = ((after - image).abs().amax(dim=(1, 2, 3)) < 1e-5 for image in (before, before.flip(3)))
        assert (same ^ mirrored).all()
        assert_share(mirrored, strength / 2)


def test_rotate90_makes_all_quarter_turns_equally_often():
    before = random_images(600, 1, 8, 8)
    for strength in (1.0, 0.4):
        after = moved(before, rotate90=True, strength=strength)
        turned = torch.stack([(after - before.rot90(k, (2, 3))).abs().amax(dim=(1, 2, 3)) < 1e-4 for k in range(4)])
        assert (turned.sum(dim=0) == 1).all()
        for of_k in turned[1:]:
            assert_share(of_k, strength / 4)


def test_no_mirroring_by_default():
    """The corners of a triangle, each in a channel of its own, stay in the same sense of rotation."""
    corners = [(6, 0), (-3, 5), (-3, -5)]
    before = torch.cat([blob(200, *corner, width=2, height=2) for corner in corners], dim=1)
    for flip in (False, True):
        after = moved(before, scale=0.2, rotation=180, stretch=0.2, shift=0.05, translation=0.1, flip=flip)
        (x1, y1), (x2, y2), (x3, y3) = (moments(after[:, channel, None])[:2] for channel in range(3))
        right = torch.tensor((x2 - x1) * (y3 - y1) > (x3 - x1) * (y2 - y1))
        assert right.float().mean() == pytest.approx(0.5 if flip else 1, abs=0.15 if flip else 0)


def test_moves_are_applied_in_order():
    """A shift by 6 pixels to the right and then twice the size, so 12; the maps lead back."""
    one = torch.ones(2)
    x, _, variance, *_ = moments(move(blob(2), [(1.0, shift(-6 * one, 0 * one)), (1.0, scaling(one / 2, one / 2))]))
    np.testing.assert_allclose(x, 12, atol=0.05)
    np.testing.assert_allclose(variance, (2 * 2.5) ** 2, rtol=0.05)


# ---- how images are sampled ------------------------------------------------------------------------------------------

ONE = torch.ones(2, dtype=torch.float64)


def test_integer_shifts_mirroring_and_quarter_turns_do_not_blur():
    images = random_images(2, 3, 9, 9, dtype=torch.float64)
    for maps, expected in (
        (scaling(ONE, ONE), images),
        (scaling(-ONE, ONE), images.flip(3)),
        (rotation(ONE * math.pi / 2), images.rot90(1, (2, 3))),
        (shift(ONE * 2, ONE * 0), torch.cat([images[..., 2:], images[..., 7:].flip(3)], dim=3)),
    ):
        torch.testing.assert_close(resample(images, maps), expected, atol=1e-12, rtol=0)


def test_shift_by_half_a_pixel_is_exact_for_polynomials_of_the_fifth_degree():
    x = torch.arange(24, dtype=torch.float64) - 11.5
    images = (x**5).expand(2, 1, 24, 24)
    halfway = resample(images, shift(ONE / 2, ONE * 0))[..., 8:-8]
    torch.testing.assert_close(halfway, ((x + 0.5) ** 5).expand(2, 1, 24, 24)[..., 8:-8])


def test_moves_take_as_little_from_high_frequencies_as_the_papers_wavelets():
    """The power that is left of a wave, a mean over shifts, worked out for the 12 taps of Daubechies' symlet 6."""
    for cycles, decibels in ((16, -0.46), (20, -0.86), (26, -2.52)):
        angle = 2 * math.pi * cycles / 64 * torch.arange(64, dtype=torch.float64)
        waves = torch.stack([angle.cos(), angle.sin()]).view(2, 1, 1, 64).expand(2, 1, 64, 64)
        power = [resample(waves, shift(ONE * by / 16, ONE * 0))[..., 20:44].square().sum(0).mean() for by in range(16)]
        assert 10 * math.log10(sum(power) / len(power)) == pytest.approx(decibels, abs=0.1)


def test_shrinking_does_not_alias():
    """Stripes of single pixels, which every second pixel would show as all white or all black, turn gray."""
    stripes = (torch.arange(96) % 2 * 2.0 - 1).double().expand(2, 1, 96, 96)
    maps = scaling(2 * ONE, ONE) @ shift(ONE / 4, ONE * 0)
    assert resample(stripes, maps)[..., 46:50].abs().max() < 1e-12


# ---- color -----------------------------------------------------------------------------------------------------------


def changes_of_color(before, after):
    """What was added, the factor about 0 that came then, the factor of the channels about gray; by least squares."""
    gray = [image.double().mean(dim=0).flatten().numpy() for image in (before, after)]
    contrast, added = np.polyfit(*gray, 1)
    np.testing.assert_allclose(gray[1], contrast * gray[0] + added, atol=1e-5)
    if len(before) == 1:
        return added / contrast, np.log2(contrast), 0.0
    one, other = (image.double() - image.double().mean(dim=0) for image in (before, after))
    factor = ((one * other).sum() / (one**2).sum()).item()
    torch.testing.assert_close(other, factor * one, atol=1e-5, rtol=0)
    return added / contrast, np.log2(contrast), np.log2(factor / contrast)


@pytest.mark.parametrize("channels", [1, 3])
def test_color_is_normally_distributed(channels):
    before = random_images(400, channels, 8, 8)
    after = augmented(before, policy=["color"])
    brightness, contrast, saturation = zip(*map(changes_of_color, before, after), strict=True)
    assert_normal(brightness, 0.2)
    assert_normal(contrast, 0.5)
    assert abs(np.corrcoef(np.abs(brightness), contrast)[0, 1]) < 0.2
    if channels > 1:
        assert_normal(saturation, 1)
        assert np.abs(np.corrcoef([brightness, contrast, saturation]) - np.eye(3)).max() < 0.2


def test_colors_are_drawn_independently():
    before = random_images(2000, 3, 4, 4)
    after = augmented(before, policy=["color"], strength=0.4)
    changes = torch.tensor([changes_of_color(*pair) for pair in zip(before, after, strict=True)]).abs() > 1e-4
    for pattern in ([0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1]):
        share = math.prod(0.4 if made else 0.6 for made in pattern)
        assert_share((changes == torch.tensor(pattern, dtype=torch.bool)).all(dim=1), share)


def test_gray_as_three_equal_channels_stays_gray_and_the_same():
    gray = random_images(10, 1, 16, 16)
    expected = augmented(gray, strength=0.8).expand(-1, 3, -1, -1)
    torch.testing.assert_close(augmented(gray.expand(-1, 3, -1, -1), strength=0.8), expected)


# ---- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [*([name] for name in ALL), ALL])
def test_images_draw_their_parameters_independently(policy):
    image = random_images(1, 3, 32, 32)
    after = augmented(image.expand(6, -1, -1, -1), policy=policy)
    assert all(not torch.equal(one, other) for i, one in enumerate(after) for other in after[:i])
    beside_others = augmented(torch.cat([image, torch.full((5, 3, 32, 32), 0.9)]), policy=policy)
    torch.testing.assert_close(beside_others[0], after[0])
    assert torch.equal(augmented(image.expand(6, -1, -1, -1), policy=policy), after)  # same seed
    assert not torch.equal(augmented(image.expand(6, -1, -1, -1), policy=policy, seed=1), after)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("policy", [*([name] for name in ALL), ALL])
def test_gradient_is_exact(policy, strength):
    images = random_images(3, 2, 8, 8, dtype=torch.float64).requires_grad_(True)
    options = {"policy": policy, "strength": strength, "flip": True, "rotate90": True}
    assert torch.autograd.gradcheck(lambda images: augmented(images, **options), images, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept_under_autocast_too(dtype):
    images = random_images(20, 3, 16, 16, dtype=torch.float64).to(dtype)
    plain = augmented(images, strength=0.3)
    assert plain.dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augmented(images, strength=0.3), plain)
    if dtype not in (torch.float32, torch.float64):
        assert torch.equal(augmented(images.float(), strength=0.3).to(dtype), plain)  # rounded once


def test_memory_format_does_not_matter():
    images = random_images(4, 3, 16, 16)
    last = images.to(memory_format=torch.channels_last)
    torch.testing.assert_close(augmented(last), augmented(images))


# ---- strength --------------------------------------------------------------------------------------------------------


def observe(augmentation, *signs):
    return [augmentation.observe(real_logits=9.0, fake_logits=-9.0, real_signs=sign) for sign in signs]


def test_strength_follows_overfitting():
    """Four updates of 50 images in 1,000: 0.2 up or down, by the mean sign since the last time."""
    adaptive = ada(batch_size=50, ramp_images=1000, strength=0.0)
    recorded = observe(adaptive, 1.0, 0.0, 0.5, 1.0)
    assert [values["strength"] for values in recorded] == pytest.approx([0, 0, 0, 0.2])
    assert [values["overfitting"] for values in recorded] == pytest.approx([1, 0.5, 0.5, 0.625])
    assert observe(adaptive, *[0.61] * 8)[-1] == pytest.approx({"strength": 0.6, "overfitting": 0.61})
    assert observe(adaptive, 1.0, 1.0, 1.0, -0.8)[-1] == pytest.approx({"strength": 0.4, "overfitting": 0.55})
    assert observe(adaptive, *[0.5] * 40)[-1]["strength"] == 0.0
    assert observe(adaptive, *[1.0] * 16)[-1]["strength"] == pytest.approx(0.8)
    assert observe(adaptive, *[1.0] * 40)[-1]["strength"] == 1.0
    assert observe(adaptive, *[0.5] * 4)[-1]["strength"] == pytest.approx(0.8)


def test_strength_rises_from_0_to_1_in_ramp_images():
    adaptive = ada(batch_size=32, ramp_images=16_000, strength=0.0, interval=5)
    assert observe(adaptive, *[1.0] * (16_000 // 32 - 1))[-1]["strength"] == pytest.approx(0.99)
    assert observe(adaptive, 1.0)[-1]["strength"] == pytest.approx(1)


def test_strength_is_constant_at_the_target_and_without_a_target():
    assert observe(ada(strength=0.3, target=0.5), *[0.5] * 4)[-1]["strength"] == 0.3
    assert observe(ada(strength=0.3, target=None), *[1.0] * 8)[-1] == {"strength": 0.3, "overfitting": 1.0}


def test_restored_state_continues_bit_for_bit():
    options = {"batch_size": 8, "ramp_images": 100, "strength": 0.1}
    signs = random_images(50).tolist()
    whole, first, second = (ada(**options) for _ in range(3))
    expected = observe(whole, *signs)
    before = observe(first, *signs[:23])  # three updates after an adjustment
    second.load_state_dict(first.state_dict())
    assert before + observe(second, *signs[23:]) == expected
    assert second.state_dict() == whole.state_dict()
    images = random_images(20, 1, 8, 8)
    torch.manual_seed(0)
    one = whole(images)
    torch.manual_seed(0)
    assert torch.equal(second(images), one)


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": ["blit", "cutout"]}, ["augment.ada.policy", "cutout", "[blit,geometry,color]"]),
        ({"policy": "blit,color"}, ["augment.ada.policy", "blit,color"]),
        ({"strength": 1.5}, ["augment.ada.strength=1.5", "from 0 to 1"]),
        ({"target": 2}, ["augment.ada.target=2", "null"]),
        ({"interval": 0}, ["augment.ada.interval=0", "1 or more"]),
        ({"ramp_images": float("nan")}, ["augment.ada.ramp_images=nan"]),
        ({"batch_size": 0}, ["augment.ada.batch_size=0"]),
        ({"rotation": 270}, ["augment.ada.rotation=270", "from 0 to 180"]),
        ({"shift": -0.1}, ["augment.ada.shift=-0.1"]),
        ({"contrast": float("nan")}, ["augment.ada.contrast=nan", "from 0 to 2"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(InputError) as error:
        ada(**options)
    assert all(word in str(error.value) for word in words), error.value


def test_configuration_lists_all_options_with_their_defaults():
    (entry,) = yaml.safe_load((conf_folder() / "augment" / "ada.yaml").read_text()).items()
    name, options = entry
    assert name == "ada"
    assert options.pop("_target_") == f"{AdaptiveAugmentation.__module__}.{AdaptiveAugmentation.__qualname__}"
    assert options.pop("batch_size") == "${data.batch_size}"
    defaults = {key: value.default for key, value in inspect.signature(AdaptiveAugmentation).parameters.items()}
    assert defaults.pop("batch_size") is inspect.Parameter.empty
    assert {**options, "policy": tuple(options["policy"])} == defaults
    made = ada(**options)
    assert isinstance(made, Augmentation)
    assert isinstance(made, Adaptive)


# ---- training --------------------------------------------------------------------------------------------------------

RISING = ("augment=ada", "augment.ada.ramp_images=160", "augment.ada.interval=2", "augment.ada.target=-0.99")


def strengths(folder):
    with (folder / "metrics.csv").open() as file:
        return [float(row["train/ada_strength"]) for row in csv.DictReader(file) if row["train/ada_strength"]]


def test_strength_rises_in_training_and_is_recorded(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, *RISING, "trainer.log_every_n_steps=1", "hydra.run.dir=run")
    assert code == 0, err
    assert strengths(tmp_path / "run") == pytest.approx([0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4])


@pytest.mark.slow
def test_resumed_run_equals_an_uninterrupted_run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = (*LONGER, *RISING, "task.discriminator_steps=2")
    assert run(monkeypatch, capsys, *options, "hydra.run.dir=whole")[0] == 0
    arguments = [*options, "hydra.run.dir=stopped"]
    for images in (24, 56):  # 24: between two adjustments
        with monkeypatch.context() as patch:
            stop_at(patch, images, signal.SIGTERM)
            assert run(patch, capsys, *arguments)[0] == 1
        arguments = ["resume=stopped"]
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 0, err
    assert_same(tmp_path / "stopped", tmp_path / "whole")
    assert strengths(tmp_path / "stopped")[-1] == pytest.approx(0.8)
