"""Signals with known answers, and the findings that follow from rows of them."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medsynth.diagnosis.advice import SENTENCES, InUse, advice
from medsynth.diagnosis.appearance import appearance_signals
from medsynth.diagnosis.course import course_signals, typical
from medsynth.diagnosis.diagnose import all_findings, diagnose, fitted_values
from medsynth.diagnosis.features import (
    class_signals,
    copy_signals,
    feature_signals,
    leak_signals,
    predicted_class_signals,
)
from medsynth.diagnosis.history import history_signals
from medsynth.diagnosis.logits import logit_signals, separated
from medsynth.diagnosis.pictures import closest_pairs, evidence, nearest_training
from medsynth.diagnosis.rules import NAMES, REMARKS, RULES
from medsynth.diagnosis.signals import FeatureSets, Observation, signals
from medsynth.diagnosis.stopping import worth_continuing
from medsynth.loss.minimax import Minimax
from medsynth.loss.non_saturating import NonSaturating
from medsynth.loss.relativistic_pairing import RelativisticPairing


def heads(count=64, size=32, *, spread=0.05, brightness=0.1):
    """Ellipses on black, each with a place, size and brightness of its own, and weak noise."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    place = torch.randn(count, 2, 1, 1) * spread
    radius = 0.6 + 0.05 * torch.randn(count, 1, 1)
    inside = ((rows - place[:, 0]) ** 2 * 0.7 + (columns - place[:, 1]) ** 2) < radius**2
    level = 0.2 + brightness * torch.randn(count, 1, 1)
    images = torch.where(inside, level, -0.9) + 0.02 * torch.randn(count, size, size)
    return images[:, None].clamp(-1, 1)


def test_images_of_one_kind_have_signals_near_zero():
    found = appearance_signals(heads(256), heads(256))
    assert {name: value for name, value in found.items() if abs(value) > 0.25} == {}


@pytest.mark.parametrize(
    ("change", "signal", "lowest", "highest"),
    [
        (lambda x: x[:1].repeat(len(x), 1, 1, 1) + 0.02 * torch.randn_like(x), "variation", -20, -4),
        (lambda x: x[:1].repeat(len(x), 1, 1, 1) + 0.02 * torch.randn_like(x), "similarity", 0.2, 1),
        (lambda x: x[:1].repeat(len(x), 1, 1, 1) + 0.02 * torch.randn_like(x), "nearest", -20, -2),
        (lambda x: torch.randn_like(x).clamp(-1, 1), "layout", -40, -4),
        (lambda x: torch.randn_like(x).clamp(-1, 1), "detail", 3, 20),
        (lambda x: x + 0.2 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16), "checkerboard", 2, 20),
        (lambda x: torch.stack([i.roll(int(torch.randint(-9, 10, ())), -1) for i in x]), "position_spread", 1, 9),
        (lambda x: x + 0.3 * torch.randn(len(x), 1, 1, 1), "brightness_spread", 0.5, 9),
        (lambda x: x * (0.5 + torch.rand(len(x), 1, 1, 1)), "contrast_spread", 1, 9),
        (lambda x: x + 0.3, "brightness_shift", 1, 99),
        (lambda x: torch.nn.functional.pad(x[..., 1:-1], (1, 1), value=0.8), "border", 2, 20),
        (lambda x: x.sign(), "extremes", 0.9, 1),
        (lambda x: torch.stack([i.rot90(k % 4, (-2, -1)) for k, i in enumerate(x)]), "axis_agreement", -1, -0.3),
    ],
)
def test_a_change_shows_in_its_signal(change, signal, lowest, highest):
    value = appearance_signals(change(heads(128)), heads(128))[signal]
    assert lowest <= value <= highest


def test_similarity_exists_for_small_images():
    assert math.isfinite(appearance_signals(heads(16, 16), heads(16, 16))["similarity"])


def features(count=200, width=6, *, scale=1.0, center=0.0):
    return center + scale * torch.randn(count, width)


def test_features_of_one_distribution_are_like_training_images():
    found = feature_signals(features(), features(), features())
    for name in ("rank", "variation", "mean_distance", "distance"):
        assert abs(found[name]) < 0.15, name
    for name in ("precision", "recall", "coverage"):
        assert found[name] == pytest.approx(1, abs=0.15), name


def test_features_of_a_line_have_a_low_rank():
    line = torch.randn(200, 1) * torch.ones(6)
    found = feature_signals(line, features(), features())
    assert found["rank"] == pytest.approx(math.log2(1 / 6), abs=0.15)


def test_features_of_one_point_have_no_recall_and_little_variation():
    found = feature_signals(features(scale=0.01), features(), features())
    assert found["recall"] < 0.02
    assert found["variation"] == pytest.approx(2 * math.log2(0.01), abs=0.3)


def test_moved_features_have_a_mean_distance_and_a_distance():
    found = feature_signals(features(center=1.0), features(), features())
    assert found["mean_distance"] == pytest.approx(1, abs=0.3)  # 6 * 1**2 / 6
    assert found["distance"] > 0.2
    assert feature_signals(features(center=9.0), features(), features())["distance"] > 1


def test_copies_are_the_share_beyond_chance():
    training, held_out = features(300), features(200)
    fake = torch.cat([training[:100] + 1e-4, features(100)])
    assert copy_signals(fake, held_out, training)["copies"] == pytest.approx(0.5, abs=0.08)
    assert copy_signals(features(200), held_out, training)["copies"] == pytest.approx(0, abs=0.08)


def test_a_leak_is_the_likeness_to_augmented_images():
    real, augmented = features(), features(center=1.5)
    assert leak_signals(features(center=1.5), real, augmented)["leak"] == pytest.approx(1, abs=0.1)
    assert leak_signals(features(), real, augmented)["leak"] == pytest.approx(-1, abs=0.1)
    assert leak_signals(features(), real, features()) == {}  # an augmentation that changes nothing


def of_classes(labels, shift=3.0, scale=1.0):
    return shift * torch.nn.functional.one_hot(labels, 3).float() + scale * torch.randn(len(labels), 3)


def test_labels_are_informative_agreed_with_ignored_or_shuffled():
    labels = torch.arange(300) % 3
    agreed = class_signals(of_classes(labels), of_classes(labels), labels)
    assert agreed["label_information"] > 0.5
    assert agreed["label_agreement"] == pytest.approx(1, abs=0.1)
    ignored = class_signals(of_classes(labels[torch.randperm(300)]), of_classes(labels), labels)
    assert abs(ignored["label_agreement"]) < 0.2
    shuffled = class_signals(of_classes(labels), of_classes(labels), labels[torch.randperm(300)])
    assert abs(shuffled["label_information"]) < 0.12


def test_a_class_that_collapsed_shows_within_its_class():
    labels = torch.arange(300) % 3
    fake = of_classes(labels)
    fake[labels == 1] = fake[1] + 0.1 * torch.randn(100, 3)
    assert class_signals(fake, of_classes(labels), labels)["within_class"] == pytest.approx(2 * math.log2(0.1), abs=0.5)
    assert class_signals(fake, of_classes(labels), torch.zeros(300)) == {}  # a single class


def test_predicted_classes_are_counted():
    one, four = torch.eye(4)[torch.zeros(100, dtype=torch.int64)], torch.eye(4)[torch.arange(100) % 4]
    assert predicted_class_signals(one, four) == {"classes": pytest.approx(-2)}


@pytest.mark.parametrize("loss", [NonSaturating(), Minimax(), RelativisticPairing()])
def test_the_slope_is_the_derivative_relative_to_an_undecided_logit(loss):
    real, fake = torch.full((50, 1), 2.0), torch.full((50, 1), -3.0)
    found = logit_signals(training=real, held_out=real, fake=fake, loss=loss)
    sigmoid = torch.sigmoid
    expected = {
        NonSaturating: sigmoid(torch.tensor(3.0)) / 0.5,
        Minimax: sigmoid(torch.tensor(-3.0)) / 0.5,
        RelativisticPairing: sigmoid(torch.tensor(5.0)) / 0.5,
    }[type(loss)]
    assert found["slope"] == pytest.approx(float(expected), rel=1e-4)
    assert found["saturated"] == float(expected < 0.05)


def test_logits_tell_how_much_the_discriminator_knows():
    normal = torch.randn
    known = logit_signals(training=normal(400, 1) + 4, held_out=normal(400, 1), fake=normal(400, 1), loss=Minimax())
    assert known["overfitting"] == pytest.approx(1, abs=0.1)
    assert known["training_separated"] > 0.95
    assert known["separated"] == pytest.approx(0.5, abs=0.06)
    assert known["gap"] == pytest.approx(4, abs=0.4)
    fair = logit_signals(training=normal(400, 1) + 4, held_out=normal(400, 1) + 4, fake=normal(400, 1), loss=Minimax())
    assert abs(fair["overfitting"]) < 0.1
    assert fair["training_separated"] == pytest.approx(0.5, abs=0.06)


def test_separated_is_the_area_under_the_curve():
    assert separated(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0])) == pytest.approx((1 + 1.5 + 2) / 6)


def steps(generator_loss, **others):
    return {"generator_loss": list(generator_loss), **{name: list(values) for name, values in others.items()}}


def test_a_loss_that_circles_oscillates_and_noise_does_not():
    time = np.arange(512)
    rng = np.random.default_rng(0)
    circling = np.sin(time / 15) + 0.1 * rng.normal(size=512)
    assert course_signals(steps(circling), {})["oscillation"] > 0.6
    assert course_signals(steps(rng.normal(size=512)), {})["oscillation"] < 0.35
    assert course_signals(steps(np.ones(512)), {})["oscillation"] == 0


def test_a_slope_is_found_in_spite_of_outliers():
    rng = np.random.default_rng(0)
    loss = np.linspace(0, 1, 512) + 0.05 * rng.normal(size=512)
    loss[::50] = 40
    found = course_signals(steps(loss), {})
    assert found["generator_slope"] > 10
    assert found["roughness"] == pytest.approx(0.05 / 0.5, rel=0.3)
    assert found["generator_loss"] == pytest.approx(0.5, abs=0.02)


def test_gradient_norms_are_compared_with_those_of_the_beginning():
    first = {"generator_gradient_norm": [4.0] * 30, "generator_loss": [1.0] * 30}
    assert typical(first) == {"generator_gradient_norm": 4.0}
    found = course_signals({"generator_gradient_norm": [0.5] * 30}, typical(first))
    assert found["generator_gradient"] == pytest.approx(-3)
    assert "generator_slope" not in course_signals(steps([1.0] * 5), {})  # too few steps


def rows_of(objectives, every=100, **signal):
    rows = []
    for number, value in enumerate(objectives, start=1):
        own = {"objective": value, **signal} | history_signals(number * every, value, rows)
        rows.append({"images_seen": number * every, "signals": own})
    return rows


def test_the_history_knows_the_best_and_the_power_law():
    rows = rows_of([16 / n for n in range(1, 9)])
    assert rows[-1]["signals"]["history.doubling"] == pytest.approx(1, abs=0.01)  # halved by each doubling
    assert rows[-1]["signals"]["history.since_best"] == 0
    turned = rows_of([4.0, 2.0, 1.0, 2.0, 4.0])[-1]["signals"]
    assert turned["history.worse"] == pytest.approx(2)
    assert turned["history.since_best"] == pytest.approx(0.4)


def test_a_training_that_rises_is_not_worth_continuing_and_one_that_falls_is():
    assert worth_continuing(rows_of([16 / n for n in range(1, 9)]))
    assert not worth_continuing(rows_of([4.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert worth_continuing(rows_of([4.0, 1.0, 2.0, 3.0, 4.0, 5.0]))  # too few validations to say
    assert worth_continuing(rows_of([4.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]))  # it does not fall, nor does it rise


FITTED = {
    "thresholds": {f"{rule.key}.{c.signal}": 0.0 for rule in RULES for c in rule.conditions},
    "confidence": {"copying": 0.9},
    "measured": {"copying": {"augment=translation_cutout": "better in 3 of 4"}},
}


def copying(*values):
    return [{"images_seen": 10 * (n + 1), "signals": {"features.copies": v}} for n, v in enumerate(values)]


def names(rows, fitted=FITTED):
    return [finding.name for finding in diagnose(rows, fitted)]


def test_a_rule_holds_in_a_row_up_to_the_last_validation():
    assert names(copying(-1, -1, 1, 1)) == ["copying"]
    assert names(copying(-1, -1, -1, 1)) == []  # once
    assert names(copying(-1, -1, 1, 1, -1)) == []  # no longer
    assert names(copying(1, 1)) == []  # the first validations are left out
    (found,) = diagnose(copying(-1, -1, 1, 1, 1), FITTED)
    assert (found.onset, found.last, found.confidence) == (30, 50, 0.9)
    assert found.evidence == {"features.copies": 1}
    assert "copies" in found.text()
    assert "Try augment=translation_cutout (better in 3 of 4) or penalty=lecam." in found.text()
    (other,) = diagnose(copying(-1, -1, 1, 1), FITTED, InUse({"augment": ("translation_cutout",)}))
    assert other.measured == ""  # that was measured of another override


def test_a_finding_that_passed_is_known_to_the_whole_run():
    assert list(all_findings(copying(-1, -1, 1, 1, -1, -1), FITTED)) == ["copying"]


def test_a_signal_that_was_not_measured_shows_nothing():
    rows = copying(-1, -1, 1, 1)
    rows[-1]["signals"] = {}
    assert names(rows) == []


def test_every_finding_has_words_and_advice_and_thresholds():
    fitted = fitted_values()
    for rule in RULES:
        assert all(f"{rule.key}.{c.signal}" in fitted["thresholds"] for c in rule.conditions)
    for name in NAMES:
        assert SENTENCES[name]
        assert advice(name, InUse())


def test_advice_leaves_out_what_is_in_use_and_joins_penalties():
    assert "penalty=r1" in advice("mode_collapse", InUse())
    in_use = InUse({"penalty": ("r1",), "generator_penalty": ("mode_seeking",)}, {"discriminator": 1e-3})
    assert advice("mode_collapse", in_use) == ("discriminator_optimizer.lr=0.004",)
    assert "penalty=[r1,lecam]" in advice("copying", in_use)
    assert advice("augmentation_leak", InUse({"augment": ()})) == ("augment=translation_cutout",)


def test_advice_has_the_numbers_of_the_run():
    in_use = InUse({}, {"discriminator": 0.05, "generator": 1e-3}, 4000)
    assert advice("too_short", in_use) == ("max_images=8000",)
    assert "discriminator_optimizer.lr=0.01" in advice("discriminator_too_strong", in_use)


@pytest.fixture(scope="module")
def corpus():
    lines = gzip.decompress(Path("scripts/doctor_corpus.jsonl.gz").read_bytes()).decode().splitlines()
    return [json.loads(line) for line in lines]


def found_in(run):
    rows = [
        {"images_seen": seen, "signals": {n: v[k] for n, v in run["signals"].items() if v[k] is not None}}
        for k, seen in enumerate(run["images_seen"])
    ]
    return all_findings(rows)


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        ("one_mode", "mode_collapse"),
        ("one_mode_late", "mode_collapse"),
        ("leak", "augmentation_leak"),
        ("shuffled_labels", "uninformative_labels"),
        ("few_validation_images", "few_validation_images"),
    ],
)
def test_planted_faults_of_stored_runs_are_found(corpus, fault, finding):
    runs = [run for run in corpus if run["fault"] == fault]
    assert len(runs) >= 4
    for run in runs:
        assert finding in found_in(run), (run["composition"], run["images"], run["seed"])


def test_the_default_without_a_planted_fault_has_no_findings(corpus):
    runs = [run for run in corpus if run["fault"] == "none" and run["composition"] == "default"]
    assert len(runs) >= 12
    assert {name for run in runs for name in found_in(run)} <= set(REMARKS)


def test_few_images_are_not_compared():
    found = signals(Observation(fake=heads(8), real=heads(8), objective=1.0, num_val=8))
    assert found == {"objective": 1.0, "num_val": 8.0}


def test_thresholds_are_numbers_that_json_has():
    path = Path("medsynth/diagnosis/thresholds.json")
    assert json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))


def test_the_pictures_of_a_mode_collapse_are_the_pairs_that_are_most_alike():
    fake, real = heads(40), heads(40)
    fake[31] = fake[5] + 0.001
    panels = evidence("mode_collapse", Observation(fake=fake, real=real))
    assert {title: len(images) for title, images in panels.items()} == {"generated pairs": 16, "real pairs": 16}
    first = {tuple(image.flatten().tolist()) for image in panels["generated pairs"][:2]}
    assert first == {tuple(image.flatten().tolist()) for image in fake[[5, 31]]}


def test_pairs_share_no_row_and_are_of_one_class():
    rows = torch.tensor([[0.0], [0.1], [0.25], [5.0], [5.5], [9.0]])
    assert sorted(closest_pairs(rows)[:2]) == [0, 1]
    assert sorted(closest_pairs(rows)) == [0, 1, 2, 3, 4, 5]
    assert [sorted(closest_pairs(rows, torch.tensor([0, 1, 0, 1, 1, 2]))[n : n + 2]) for n in (0, 2)] == [
        [0, 2],
        [3, 4],
    ]


def test_copies_are_shown_with_the_training_image_that_they_copy():
    sets = [features(n, 12) for n in (50, 30, 80)]
    sets[0][7] = 3 * sets[2][61]
    observation = Observation(fake=heads(50), real=heads(30), features=FeatureSets(*sets, raw=features(50, 12)))
    assert nearest_training(observation)[0] == (7, 61)


def test_a_checkerboard_shows_in_the_spectrum_that_is_drawn():
    real = heads(64)
    fake = real + 0.2 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16)
    of_real, of_fake = evidence("checkerboard", Observation(fake=fake, real=real))["spectra"]
    assert divmod(int((of_fake - of_real)[0].argmax()), 17) == (0, 16)  # frequency -1/2 and 1/2
    assert (float(of_real.min()), float(of_fake.max())) == pytest.approx((-1, 1), abs=1e-4)


@pytest.mark.parametrize("name", [*NAMES])
def test_every_finding_has_a_picture_or_none(name):
    labels = torch.arange(32) % 2
    seen = Observation(fake=heads(32), real=heads(32), labels=labels, raw=heads(32), augmented=heads(16))
    for images in evidence(name, seen).values():
        assert images.ndim == 4
        assert torch.isfinite(images).all()
        assert images.abs().max() <= 1.25
