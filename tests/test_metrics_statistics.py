"""Intervals that cover, ratios that are 1 for real images, and copies that are counted: known answers by simulation."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from medsynth.metrics import baseline as baseline_module
from medsynth.metrics.baseline import Sides, baseline, subset_size, subsets
from medsynth.metrics.frechet import frechet, frechet_value
from medsynth.metrics.interval import count_interval, distance_interval, mean_interval, share_interval
from medsynth.metrics.kernel import gaussian_kernel, kernel
from medsynth.metrics.measures import of_features
from medsynth.metrics.memorization import distinct, memorization
from medsynth.metrics.neighbors import Neighbors, precision_recall_density_coverage
from medsynth.metrics.pairwise import observe_pairs
from medsynth.metrics.subsampling import sampling_variance

DIMENSIONS = 32
SPREAD = 1 / np.sqrt(1 + np.arange(DIMENSIONS))


def features(count, seed, *, shift=0.0, scale=1.0):
    """Draw normal features; only the first dimension is shifted."""
    rows = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)) * SPREAD * scale
    return rows + shift * np.eye(DIMENSIONS)[0]


def part_that_holds(estimates, expected=None):
    """Return the part of the intervals that hold the expected value: by default, the mean of the values."""
    expected = np.mean([one.value for one in estimates]) if expected is None else expected
    return np.mean([one.low <= expected <= one.high for one in estimates])


# Intervals


@pytest.mark.parametrize(
    ("measure", "count", "other"),
    [
        (frechet, 100, {"shift": 1.0}),
        (frechet, 150, {"scale": 1.4}),
        (kernel, 100, {"shift": 1.5}),
        (gaussian_kernel, 100, {"shift": 1.5}),
    ],
)
def test_intervals_of_distances_cover_the_mean_at_this_n(measure, count, other):
    found = [measure(features(count, 2 * seed), features(count, 2 * seed + 1, **other)) for seed in range(200)]
    assert 0.93 <= part_that_holds(found) <= 0.985


def test_the_interval_of_a_distance_is_wider_upwards():
    wide = distance_interval(4.0, 1.0, 1.0)
    assert (wide.low, wide.value) == (pytest.approx(4 - 1.96, abs=1e-3), 4)
    # The upper end u is as far above as the error at u allows: its variance is u / 4.
    assert (wide.high - 4) ** 2 == pytest.approx(1.959964**2 * wide.high / 4)
    even = distance_interval(-1.0, 4.0, 0.0)
    assert (even.low, even.high) == pytest.approx((-1 - 3.92, -1 + 3.92), abs=1e-3)


@pytest.mark.parametrize(("share", "count"), [(0.5, 100), (0.1, 100), (0.02, 300), (0.998, 1000), (0.001, 300)])
def test_intervals_of_shares_cover(share, count):
    shares = np.random.default_rng(0).binomial(count, share, size=800) / count
    found = [share_interval(float(one), count, one * (1 - one) / count) for one in shares]
    assert 0.925 <= part_that_holds(found, share) <= 0.995


def test_shares_of_0_and_1_have_intervals():
    nothing, everything = share_interval(0.0, 200, 0.0), share_interval(1.0, 200, 0.0)
    assert nothing.low == 0
    assert 0.01 < nothing.high < 0.015  # 3 / 200 by the rule of three
    assert (everything.low, everything.high) == pytest.approx((1 - nothing.high, 1))
    correlated = share_interval(0.5, 100, 4 * 0.25 / 100)  # worth 25 independent images
    assert correlated.high - correlated.low == pytest.approx(2 * 2.04 * 0.1, rel=0.1)
    assert math.isnan(share_interval(0.5, 10, math.nan).low)


def test_intervals_of_counts_cover():
    for mean in (0.02, 0.5, 2.0):
        counts = np.random.default_rng(1).poisson(5 * mean, size=(1000, 100)) / 5
        found = [count_interval(float(row.mean()), 100, float(row.var(ddof=1)) / 100, unit=5) for row in counts]
        assert 0.93 <= part_that_holds(found, mean) <= 0.985, mean
    assert 0 < count_interval(0.0, 100, 0.0, unit=5).high < 0.03


def test_intervals_of_means_cover():
    found = [mean_interval(np.random.default_rng(seed).normal(size=8)) for seed in range(1000)]
    assert 0.93 <= part_that_holds(found, 0.0) <= 0.97
    assert math.isnan(mean_interval(np.ones(1)).low)


def test_subsampling_finds_the_variance_of_means_and_of_extremes():
    """The variance of a mean falls as 1 / N; that of the largest of N exponential values does not fall at all."""
    ratios = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        x, y = random.exponential(size=200), random.exponential(size=160)

        def statistic(rows, columns, x=x, y=y):
            return np.array([x[rows].mean() - y[columns].mean(), x[rows].max()])

        ratios.append(sampling_variance(statistic, (200, 160), smallest=5, seed=seed))
    means, extremes = np.array(ratios).T
    assert means.mean() == pytest.approx(1 / 200 + 1 / 160, rel=0.25)
    assert extremes.mean() == pytest.approx(math.pi**2 / 6, rel=0.3)
    too_few = sampling_variance(lambda rows, columns: np.zeros(2), (19, 50), smallest=5, seed=0)
    assert np.isnan(too_few).tolist() == [True, True]


def test_subsampling_of_many_images_looks_at_small_groups():
    largest = []

    def statistic(rows, columns):
        largest.append((len(rows), len(columns)))
        return np.array([rows.mean() + columns.mean()])

    sampling_variance(statistic, (3000, 1000), smallest=10, seed=0)
    assert max(largest) == (500, 200)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_of_precision_and_its_relatives_cover(shift):
    found = [
        precision_recall_density_coverage(features(100, 2 * seed), features(100, 2 * seed + 1, shift=shift))
        for seed in range(200)
    ]
    for name in found[0]:
        assert 0.90 <= part_that_holds([one[name] for one in found]) <= 0.995, name


# Baselines


def overlap_and_distance(real, fake):
    neighbors = Neighbors(len(real), len(fake), k=5)
    observe_pairs(real, fake, [neighbors])
    return neighbors.values() | {"fd": frechet_value(real, fake)}


@pytest.mark.parametrize("training", [600, None])
@pytest.mark.parametrize(("num_real", "num_fake"), [(300, 300), (300, 1000), (1000, 100), (300, 2000)])
def test_new_real_images_have_the_ratio_1_at_any_numbers(num_real, num_fake, training):
    ratios = []
    for seed in range(0, 12, 3):
        sides = Sides(
            features(num_real, seed),
            features(num_fake, seed + 1),
            None if training is None else features(training, seed + 2),
        )
        found = baseline(overlap_and_distance, sides, seed=0)
        assert found.count == (min(num_real, num_fake, training) if training else min(num_real // 2, num_fake))
        ratios.append([found.of_fake[name] / found.of_real[name] for name in found.of_real])
    np.testing.assert_allclose(np.mean(ratios, axis=0), 1, atol=0.1)


def test_a_baseline_at_another_number_of_images_would_mislead():
    """The fault that equal numbers avoid: the distance of 100 images is a multiple of that of 1,000."""
    real, fake, training = features(1000, 0), features(100, 1), features(1000, 2)
    assert frechet_value(real, fake) / frechet_value(real, training) > 2


def test_subsets_share_no_image_and_use_training_images_where_there_are_enough():
    real, fake, training = np.arange(6), np.arange(10, 14), np.arange(20, 29)
    sides = Sides(real[:, None], fake[:, None], training[:, None])
    assert subset_size(sides) == 4
    found = list(subsets(sides, seed=0))
    assert len(found) == baseline_module.SUBSETS
    assert {len(rows) for subset in found for rows in subset} == {4}
    assert set(np.concatenate([subset.other_real for subset in found]).ravel()) == set(training)
    few = Sides(real[:, None], fake[:, None], training[:2, None])
    for subset in subsets(few, seed=0):  # halves of the reference are more than two training images
        assert not set(subset.real.ravel()) & set(subset.other_real.ravel())
        assert set(subset.real.ravel()) | set(subset.other_real.ravel()) == set(real)
    assert len(list(subsets(Sides(real[:, None], real[:, None], real[:, None]), seed=0))) == 1
    assert baseline(overlap_and_distance, Sides(real[:3, None], fake[:, None], None), seed=0) is None


def test_measures_have_ratios_at_equal_numbers_and_unbiased_distances_have_none():
    extractor = SimpleNamespace(name="plain", num_features=32)
    sides = Sides(features(60, 0), features(40, 1, shift=2.0), features(80, 2))
    found = {measure.name: measure for measure in of_features(extractor, sides, seed=0)}
    assert {name for name, measure in found.items() if math.isnan(measure.ratio)} == {
        "kd_plain",
        "gaussian_kd_plain",
        "copies_plain",
        "reference_copies_plain",
    }
    distance = found["fd_plain"]
    assert distance.num_baseline == (40, 40)
    assert distance.ratio == distance.at_baseline / distance.baseline > 3
    assert distance.value < distance.at_baseline, "fewer images, more bias"
    assert not any(name.startswith("mifd") for name in found)


# Copies


@pytest.mark.parametrize("re_encoded", [0.0, 0.02])
@pytest.mark.parametrize("duplicates", [0.0, 0.05, 0.1, 0.2])
def test_copies_are_counted_whatever_part_of_the_held_out_images_are_copies(duplicates, re_encoded):
    random = np.random.default_rng(3)
    training, held_out, honest = (features(400, seed, shift=3.0) for seed in (0, 1, 2))

    def copied(count):
        rows = training[random.choice(len(training), count)]
        return rows + re_encoded * SPREAD * random.standard_normal(rows.shape)

    number = round(duplicates * len(held_out))
    held_out[:number] = copied(number)
    copies, new = memorization(training, copied(300), held_out), memorization(training, honest, held_out)
    assert copies.copies.value >= 0.95
    assert copies.copies.low > 0.9
    assert new.copies.low <= 0.05
    assert abs(new.held_out_copies - number) <= 4
    assert new.distance.value == pytest.approx(new.held_out_distance.value, rel=0.1)


def test_memorization_distance_is_the_mean_cosine_distance():
    training, held_out, fake = features(90, 0), features(50, 1), features(70, 2)
    cosine = np.abs(fake @ training.T / np.linalg.norm(fake, axis=1)[:, None] / np.linalg.norm(training, axis=1))
    found = memorization(training, fake, held_out)
    assert found.distance.value == pytest.approx((1 - cosine.max(1)).mean(), rel=1e-6)
    assert found.by_chance == 0.05
    few = memorization(training, fake, held_out[:9])
    assert few.by_chance == pytest.approx(1 / (10 - few.held_out_copies))


def test_the_share_of_copies_is_right():
    training, held_out, fake = features(300, 0, shift=3.0), features(300, 1, shift=3.0), features(300, 2, shift=3.0)
    fake[:90] = training[:90]
    found = memorization(training, fake, held_out).copies
    assert found.low < 0.3 + 0.7 * 0.05 < found.high
    assert found.high - found.low < 0.16


def test_an_image_at_the_threshold_itself_is_a_copy():
    """Of ten held-out images the nearest one is the threshold, so that one of them is as near as that."""
    random = np.random.default_rng(0)
    training, held_out = random.normal(size=(50, 8)), random.normal(size=(10, 8))
    found = memorization(training, held_out, held_out)
    assert found.copies.value == pytest.approx(0.1)


def test_nothing_is_said_of_copies_where_no_held_out_image_is_new():
    training = features(50, 0)
    found = memorization(training, training, training[:20])
    assert math.isnan(found.copies.value)
    assert found.held_out_copies == 20


def test_distinct_images_are_not_taken_for_copies():
    """Distances to the nearest of many points are a power of an exponential variable."""
    taken = [(~distinct(np.random.default_rng(seed).exponential(size=200) ** (1 / 8))).mean() for seed in range(50)]
    assert np.mean(taken) < 0.01
    constant = np.full(20, 0.3)
    assert distinct(constant).all()
