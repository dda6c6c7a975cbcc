"""The mathematics on features: against torch-fidelity, plain definitions and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from sklearn.metrics import pairwise_distances
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kernel_mmd
from torch_fidelity.metric_prc import prc_features_to_metric

from medsynth.contracts import counter_seed
from medsynth.metrics import frechet as frechet_module
from medsynth.metrics import pairwise
from medsynth.metrics.frechet import Gaussian, GaussianSum, frechet, frechet_distance, gaussian
from medsynth.metrics.inception_score import inception_score, inception_score_of_splits
from medsynth.metrics.kernel import gaussian_kernel, kernel, kernel_subsets
from medsynth.metrics.memorization import memorization
from medsynth.metrics.neighbors import precision_recall_density_coverage

POLYNOMIAL = {
    "kid_kernel": "poly",
    "kid_kernel_poly_degree": 3,
    "kid_kernel_poly_gamma": None,
    "kid_kernel_poly_coef0": 1,
}


def features(count, dimensions, *, seed, mean=0.0, scale=1.0):
    return (mean + scale * np.random.default_rng(seed).normal(size=(count, dimensions))).astype(np.float32)


def mixed(count, *, seed, mean=0.0, scale=1.0, dimensions=24):
    """Features with a covariance that is not diagonal."""
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions)) / dimensions**0.5
    return (features(count, dimensions, seed=seed, scale=scale) @ mixing + mean).astype(np.float32)


# Fréchet distance


@pytest.mark.parametrize(("num_real", "num_fake"), [(300, 200), (60, 500), (15, 12), (2, 3)])
def test_frechet_agrees_with_torch_fidelity(num_real, num_fake):
    real, fake = mixed(num_real, seed=0), mixed(num_fake, seed=1, mean=0.3, scale=1.4)
    statistics = [fid_features_to_statistics(torch.from_numpy(side).double()) for side in (real, fake)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    # Where covariances are singular, theirs adds 1e-6 to the diagonals or takes roots of rounded zeros.
    tolerance = 1e-6 if min(num_real, num_fake) > 24 else 1e-3
    assert frechet(real, fake).value == pytest.approx(theirs, rel=tolerance)


def test_frechet_in_closed_form():
    """Of Gaussians with diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    rng = np.random.default_rng(0)
    means, deviations = rng.normal(size=(2, 7)), rng.uniform(0.1, 3, size=(2, 7))
    one, two = (Gaussian(mean, np.diag(sd**2), 100) for mean, sd in zip(means, deviations, strict=True))
    expected = ((means[0] - means[1]) ** 2).sum() + ((deviations[0] - deviations[1]) ** 2).sum()
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-10)


def test_frechet_of_fewer_images_than_features_is_exact():
    real, fake = mixed(20, seed=0, dimensions=200), mixed(30, seed=1, mean=0.1, dimensions=200)
    direct = frechet_distance(gaussian(real), gaussian(fake))
    assert frechet(real, fake).value == pytest.approx(direct, rel=1e-6)


def test_statistics_do_not_depend_on_parts_or_order(monkeypatch):
    rows = mixed(500, seed=3, mean=1000.0).astype(np.float64)
    whole = gaussian(rows)
    np.testing.assert_allclose(whole.covariance, np.cov(rows.T), rtol=1e-10, atol=1e-12)
    for order, size in ((np.arange(500), 7), (np.random.default_rng(0).permutation(500), 64)):
        total, halves = GaussianSum(), [GaussianSum(), GaussianSum()]
        for number, start in enumerate(range(0, 500, size)):
            total.update(rows[order[start : start + size]])
            halves[number % 2].update(rows[order[start : start + size]])
        halves[0].merge(halves[1])
        for result in (total.result(), halves[0].result()):
            np.testing.assert_allclose(result.mean, whole.mean, rtol=1e-12)
            np.testing.assert_allclose(result.covariance, whole.covariance, rtol=1e-9, atol=1e-11)
    monkeypatch.setattr(frechet_module, "_BLOCK", 33)
    fake = mixed(300, seed=4)
    blocks = frechet(rows, fake)
    monkeypatch.undo()
    assert (blocks.value, blocks.low) == pytest.approx((frechet(rows, fake).value, frechet(rows, fake).low), rel=1e-9)


# Kernel distances


def test_kernel_distance_agrees_with_torch_fidelity():
    real, fake = mixed(80, seed=0), mixed(80, seed=1, mean=0.2)
    theirs = kernel_mmd(real.astype(np.float64), fake.astype(np.float64), **POLYNOMIAL)
    assert kernel_subsets(real, fake, subset_size=80, subsets=1, seed=0)[0] == pytest.approx(theirs, rel=1e-9)
    assert kernel(real, fake).value == pytest.approx(theirs, rel=1e-9)


def test_kernel_subsets_are_those_of_the_definition():
    """Each subset has the arithmetic of torch-fidelity; which ones are drawn is up to the seed."""
    real, fake = mixed(90, seed=0), mixed(70, seed=1, mean=0.5)
    mean, spread = kernel_subsets(real, fake, subset_size=50, subsets=200, seed=1)
    rng = np.random.RandomState(5)
    theirs = []
    for _ in range(200):
        x, y = (side[rng.choice(len(side), 50, replace=False)].astype(np.float64) for side in (real, fake))
        theirs.append(kernel_mmd(x, y, **POLYNOMIAL))
    assert mean == pytest.approx(np.mean(theirs), abs=4 * np.std(theirs) / 200**0.5)
    assert spread == pytest.approx(np.std(theirs), rel=0.3)
    assert kernel_subsets(real, fake, subset_size=50, subsets=20, seed=1) != kernel_subsets(
        real, fake, subset_size=50, subsets=20, seed=2
    )


@pytest.mark.parametrize("measure", [kernel, gaussian_kernel])
def test_kernel_distances_are_unbiased(measure):
    def same(seed):
        return features(60, 5, seed=2 * seed), features(40, 5, seed=2 * seed + 1)

    values = [measure(*same(seed)).value for seed in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 200**0.5


def test_a_set_against_itself_is_a_set_against_its_copy():
    rows = mixed(50, seed=0)
    for measure in (kernel, gaussian_kernel, frechet):
        assert measure(rows, rows).value == pytest.approx(measure(rows, rows.copy()).value, abs=1e-9)


def test_precision_and_recall_agree_with_torch_fidelity():
    real, fake = features(150, 6, seed=0), features(110, 6, seed=1, mean=0.5, scale=0.8)
    options = {"prc_neighborhood": 3, "prc_batch_size": 50, "save_cpu_ram": False, "verbose": False}
    theirs = prc_features_to_metric(torch.from_numpy(fake), torch.from_numpy(real), **options)
    ours = precision_recall_density_coverage(real, fake, k=3)
    for name in ("precision", "recall"):
        assert ours[name].value == pytest.approx(theirs[name], rel=1e-6)


def test_what_comes_from_pairs_does_not_depend_on_blocks(monkeypatch):
    real, fake = mixed(130, seed=0), mixed(90, seed=1, mean=0.2)

    def all_values():
        neighbors = precision_recall_density_coverage(real, fake, k=3).values()
        return [(one.value, one.low, one.high) for one in (kernel(real, fake), gaussian_kernel(real, fake), *neighbors)]

    whole = all_values()
    monkeypatch.setattr(pairwise, "_BLOCK", 32)
    np.testing.assert_allclose(all_values(), whole, rtol=1e-9)


def test_the_gaussian_kernel_does_not_depend_on_the_scale_of_the_features():
    real, fake = mixed(100, seed=0), mixed(100, seed=1, mean=0.2)
    assert gaussian_kernel(1000 * real, 1000 * fake, seed=0).value == pytest.approx(
        gaussian_kernel(real, fake, seed=0).value, rel=1e-4
    )


# Inception score


def test_inception_score_agrees_with_torch_fidelity():
    logits = features(230, 9, seed=0, scale=3.0)
    theirs = isc_features_to_metric(torch.from_numpy(logits).double(), splits=1, shuffle=False)
    ours = inception_score_of_splits(logits, splits=1, seed=0)
    assert ours[0] == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert ours[1] == 0
    order = np.random.default_rng(counter_seed("inception_score", 3)).permutation(230)
    theirs = isc_features_to_metric(
        torch.from_numpy(logits[order]).double(), splits=7, shuffle=False
    )  # 230 = 7 * 32 + 6
    assert inception_score_of_splits(logits, splits=7, seed=3) == pytest.approx(
        (theirs["inception_score_mean"], theirs["inception_score_std"]), rel=1e-6
    )


def test_inception_score_of_sure_and_of_unsure_predictions():
    sure = 50.0 * np.eye(4)[np.arange(400) % 4]
    assert inception_score(sure, splits=1, seed=0).value == pytest.approx(4, rel=1e-3)
    unsure = inception_score(np.zeros((40, 4)), splits=4, seed=0)
    assert (unsure.value, unsure.low, unsure.high) == pytest.approx((1, 1, 1))
    estimate = inception_score(features(500, 6, seed=1, scale=2.0), splits=1, seed=0)
    assert estimate.low < estimate.value < estimate.high


# Neighbors


def by_definition(real, fake, k):
    """Precision, recall, density and coverage written out from the papers, with all distances at once."""
    within_real, within_fake = pairwise_distances(real), pairwise_distances(fake)
    real_radii, fake_radii = (np.sort(within, axis=1)[:, k] for within in (within_real, within_fake))
    between = pairwise_distances(real, fake)
    return {
        "precision": (between < real_radii[:, None]).any(0).mean(),
        "recall": (between < fake_radii[None]).any(1).mean(),
        "density": (between < real_radii[:, None]).sum(0).mean() / k,
        "coverage": (between.min(1) < real_radii).mean(),
    }


@pytest.mark.parametrize("k", [1, 5])
def test_neighbors_agree_with_the_definitions_and_with_prdc(k, monkeypatch):
    real, fake = features(150, 6, seed=0).astype(float), features(110, 6, seed=1, mean=0.5, scale=0.8).astype(float)
    expected = by_definition(real, fake, k)
    assert expected == pytest.approx(compute_prdc(real, fake, k), rel=1e-9)
    for block in (1024, 37):
        monkeypatch.setattr(pairwise, "_BLOCK", block)
        found = precision_recall_density_coverage(real, fake, k=k)
        assert {name: one.value for name, one in found.items()} == pytest.approx(expected, rel=1e-6)
        assert all(one.low <= one.value <= one.high for one in found.values())


MODES = 20.0 * np.eye(5)


def of_modes(chosen, each, seed):
    return np.concatenate([features(each, 5, seed=seed + mode) + MODES[mode] for mode in chosen])


def test_recall_and_coverage_fall_in_step_with_lost_modes():
    real = of_modes(range(5), 60, seed=0)
    for kept in range(1, 6):
        found = precision_recall_density_coverage(real, of_modes(range(kept), 60, seed=100))
        for name in ("recall", "coverage"):
            assert found[name].value == pytest.approx(kept / 5, abs=0.12), name
        assert found["precision"].value > 0.8


def test_precision_and_density_fall_with_outliers_added():
    real = of_modes(range(5), 60, seed=0)
    good = of_modes(range(5), 60, seed=100)
    values = []
    for outliers in (0, 100, 300):
        fake = np.concatenate([good, 200 + features(outliers, 5, seed=7)])
        found = precision_recall_density_coverage(real, fake)
        values.append([found[name].value for name in ("precision", "density", "coverage")])
    assert all(later < earlier for name in (0, 1) for earlier, later in itertools.pairwise(column(values, name)))
    assert column(values, 2)[0] == column(values, 2)[2], "coverage asks for the real images only"


def column(rows, number):
    return [row[number] for row in rows]


# Order


@pytest.mark.parametrize(
    "measure",
    [
        lambda a, b: [frechet(a, b)],
        lambda a, b: [kernel(a, b), gaussian_kernel(a, b, seed=0)],
        lambda a, b: precision_recall_density_coverage(a, b).values(),
        lambda a, b: [(found := memorization(a, b, mixed(50, seed=5))).distance, found.copies],
    ],
    ids=["frechet", "kernel", "neighbors", "memorization"],
)
def test_values_do_not_depend_on_the_order_of_generated_images(measure):
    real, fake = mixed(120, seed=0), mixed(90, seed=1, mean=0.2)
    shuffled = fake[np.random.default_rng(0).permutation(90)]
    for before, after in zip(measure(real, fake), measure(real, shuffled), strict=True):
        assert after.value == pytest.approx(before.value, rel=1e-9, abs=1e-12)
