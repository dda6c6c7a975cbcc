"""Classifier two-sample tests, label agreement, and copies of the reference, with known answers."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from medsynth.metrics.baseline import Sides
from medsynth.metrics.label_agreement import label_agreement
from medsynth.metrics.measures import of_features
from medsynth.metrics.roc import auc, auc_variance
from medsynth.metrics.two_sample import two_sample_auc


def rows(count, seed, *, shift=0.0, scale=1.0, width=8):
    values = scale * np.random.default_rng(seed).standard_normal((count, width))
    values[:, 0] += shift
    return values.astype(np.float32)


def test_equal_distributions_cannot_be_told_apart_and_moved_ones_as_well_as_theory_says():
    equal = two_sample_auc(rows(800, 0), rows(800, 1))
    assert equal.low < 0.5 < equal.high
    assert equal.high - equal.low < 0.1
    moved = two_sample_auc(rows(2000, 0), rows(2000, 1, shift=1.0))
    assert moved.value == pytest.approx(norm.cdf(1 / 2**0.5), abs=0.03)  # of the best possible classifier
    assert two_sample_auc(rows(100, 0), rows(100, 1, shift=20.0)).value == 1


def test_a_smaller_spread_is_seen_though_the_means_are_equal():
    assert two_sample_auc(rows(300, 0), rows(300, 1, scale=0.6)).low > 0.75


def test_the_unit_of_a_feature_does_not_matter():
    real, fake = rows(100, 0), rows(100, 1, shift=1.0)
    unit = np.array([1e-3, 1e4, 1, 1, 1, 1, 1, 50], dtype=np.float32)
    assert two_sample_auc(real * unit, fake * unit).value == pytest.approx(two_sample_auc(real, fake).value, abs=1e-3)


def test_area_and_variance_are_those_of_the_definition():
    random = np.random.default_rng(0)
    real, fake = np.round(random.normal(0, 1, 60), 1), np.round(random.normal(1, 1, 40), 1)  # with ties
    value, variance = auc(fake, real), auc_variance(fake, real)
    assert value == pytest.approx(roc_auc_score([0] * 60 + [1] * 40, np.concatenate([real, fake])))
    wins = (fake[:, None] > real) + 0.5 * (fake[:, None] == real)  # DeLong's placements, pair by pair
    expected = wins.mean(1).var(ddof=1) / 40 + wins.mean(0).var(ddof=1) / 60
    assert variance == pytest.approx(expected)


def labelled(count, seed, *, width=8):
    labels = np.arange(count) % 3
    values = rows(count, seed, width=width)
    values[np.arange(count), labels] += 4.0
    return values, labels


def test_labels_that_are_shown_and_shuffled_ones():
    (real, of_real), (fake, of_fake), (training, of_training) = (labelled(300, seed) for seed in range(3))
    shown, of_reference = label_agreement(Sides(real, fake, training), Sides(of_real, of_fake, of_training))
    assert of_reference.value > 0.95
    assert shown.low < of_reference.value < shown.high + 0.02
    shuffled = np.random.default_rng(0).permutation(of_fake)
    lost, _ = label_agreement(Sides(real, fake, None), Sides(of_real, shuffled, None))
    assert lost.low < 1 / 3 < lost.high


def test_images_of_one_class_alone_have_no_agreement():
    real, of_real = labelled(30, 0)
    assert label_agreement(Sides(real, real, None), Sides(np.zeros_like(of_real), of_real, None)) is None


def test_copies_of_the_reference_are_told_from_new_images():
    extractor = SimpleNamespace(name="plain", num_features=8)
    real, training = rows(200, 0), rows(300, 1)
    found = {
        name: {m.name: m for m in of_features(extractor, Sides(real, fake, training), seed=0)}
        for name, fake in {"new": rows(200, 2), "seen": real + 0.01 * rows(200, 3)}.items()
    }
    assert found["new"]["reference_copies_plain"].value < 0.15
    assert found["seen"]["reference_copies_plain"].value > 0.95
    assert found["seen"]["copies_plain"].value < 0.15
    assert found["new"]["c2st_plain"].baseline == pytest.approx(0.5, abs=0.1)
    assert found["new"]["c2st_plain"].num_baseline == (200, 200)
