"""The audit: copies, membership inference and linkage, on images whose leaks are known."""

import dataclasses
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from scipy.stats import norm

from medsynth.audit.alignment import SHIFTS, Alignment, Spectrum, merged
from medsynth.audit.audit import AuditOptions, audit
from medsynth.audit.copies import find_copies
from medsynth.audit.linkage import linkage, same_size
from medsynth.audit.membership import attack
from medsynth.audit.planted import CHANGES, planted, rotated
from medsynth.audit.result import Limits, smallest_auc
from medsynth.audit.spaces import PIXELS, Nearness, Spaces
from medsynth.audit.statistics import (
    attack_estimates,
    design_effect,
    excess_below,
    halves,
    permutation_p,
    true_positive_rate,
)
from medsynth.contracts import InputError
from medsynth.evaluation.audit_sets import logits_of
from medsynth.evaluation.opened_run import with_weights
from medsynth.metrics.feature_store import FeatureStore
from medsynth.metrics.image_set import ImageSet
from medsynth.metrics.nearest import nearest
from medsynth.metrics.roc import auc
from tests.command import run
from tests.test_evaluate import a_run

SIDE = 16
SPLIT = {"training": 160, "held_out": 150, "fake": 200}


def fields(count, seed, *, side=SIDE):
    """Random smooth images: each has its own large structures, and some noise."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, 10, 10, generator=random)
    images = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)
    return (images * 0.5 + 0.02 * torch.randn(images.shape, generator=random)).clamp(-1, 1)


def as_set(name, images, groups=None):
    return ImageSet(name, len(images), lambda numbers: images[list(numbers)], groups=groups)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "features").mkdir()
    return FeatureStore(tmp_path / "features", cache=None, batch_size=64, device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setitem(os.environ, "TQDM_DISABLE", "1")


# The search


def test_nearest_rows_are_those_of_all_pairs(monkeypatch):
    monkeypatch.setattr("medsynth.metrics.nearest._BLOCK", 7)
    monkeypatch.setattr("medsynth.metrics.nearest._REFINED", 3)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 5)), random.normal(size=(33, 5))
    x[3], y[4] = 0, 0
    y[30] = -2 * x[8]
    distances, rows = nearest(x, y, 4)
    norms = np.maximum(np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1), 1e-300)
    expected = 1 - np.abs(x @ y.T) / norms
    assert np.allclose(distances, np.sort(expected, axis=1)[:, :4])
    assert (rows[:3] == np.argsort(expected, axis=1)[:3, :4]).all()
    assert rows[8, 0] == 30
    assert distances[8, 0] == pytest.approx(0, abs=1e-12)
    assert nearest(x, y[:2], 4)[0].shape == (20, 2)


def test_two_searches_are_merged_with_each_row_once():
    distances, rows = merged(
        (np.array([[0.1, 0.4, 0.5]]), np.array([[7, 1, 2]])), (np.array([[0.2, 0.3, 0.6]]), np.array([[7, 3, 4]]))
    )
    assert distances.tolist() == [[0.1, 0.3, 0.4]]
    assert rows.tolist() == [[7, 3, 1]]


def changed_exactly():
    """Changes of an image that alignment takes back, by name."""
    shift = round(float(SHIFTS[-1]) * 64)
    return {
        "flipped": lambda x: x.flip(-1),
        "upside down": lambda x: x.flip(-2),
        "both": lambda x: x.flip(-1, -2),
        "shifted": lambda x: x.roll((shift, 1 - shift), (-2, -1)),
        "flipped and shifted": lambda x: x.flip(-1).roll((2, -3), (-2, -1)),
        "darker, of less contrast": lambda x: 0.3 * x - 0.5,
    }


@pytest.mark.parametrize("change", changed_exactly())
def test_alignment_takes_changes_back(change):
    training, image = fields(40, 0, side=64), fields(1, 1, side=64)
    training[11] = image[0]
    spectrum = Spectrum(64)
    found = spectrum(training).numpy()
    query = spectrum(changed_exactly()[change](image)).numpy()
    distances, rows = Alignment(found, 64).nearest([query], found, 5)
    assert rows[0, 0] == 11
    assert distances[0, 0] == pytest.approx(0, abs=1e-5)
    assert distances[0, 1] > 0.2


def test_rotations_are_tried():
    training = fields(40, 0, side=64)
    query = rotated(training[5:6], 3.0)
    found = Spectrum(64)(training).numpy()
    alignment = Alignment(found, 64)
    straight = alignment.nearest([Spectrum(64)(query).numpy()], found, 5)
    tried = alignment.nearest([Spectrum(64, angle)(query).numpy() for angle in (0.0, -3.0, 3.0)], found, 5)
    assert straight[1][0, 0] == tried[1][0, 0] == 5
    assert tried[0][0, 0] < straight[0][0, 0] / 2


@pytest.mark.parametrize("change", CHANGES)
def test_planted_copies_are_found_and_are_always_the_same(store, change):
    training, held_out = as_set("training", fields(150, 0, side=32)), as_set("held-out", fields(150, 1, side=32))
    copies = planted(training, 40, change=change)
    assert torch.equal(copies.read([3, 4]), copies.read([0, 3, 4])[1:])
    spaces = Spaces(store, {}, training)
    of_held_out = spaces.nearest(held_out, training)[PIXELS].score
    of_copies = spaces.nearest(copies, training)[PIXELS]
    assert (of_copies.score < np.sort(of_held_out)[0]).mean() > 0.9
    again = planted(training, 40, change=change, seed=1).read([0])
    assert not torch.equal(again, copies.read([0]))


def test_next_images_are_of_other_patients(store):
    """Otherwise the slices of one patient, which resemble each other, hide a copy of one of them."""
    images = fields(40, 0)
    images[1:10] = images[0] + 0.01 * torch.randn(9, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    groups = np.repeat(np.arange(4), 10)
    query = as_set("fake", images[:2])
    scores = []
    for known in (None, groups):
        training = as_set("training", images, known)
        scores.append(Spaces(store, {}, training).nearest(query, training)[PIXELS].score[0])
    assert scores[1] < scores[0]


# Statistics


def test_excess_is_beta_binomial():
    equal = excess_below(np.array([0.0, 2.0, 3.0]), np.array([1.0, 4.0, 5.0]), 1)
    assert equal.count == 1
    assert equal.p == pytest.approx(0.5), "with as many controls, each has the lowest score with the same probability"
    three = excess_below(np.array([0.0, 0.1, 0.2]), np.array([1.0, 4.0, 5.0]), 1)
    assert three.p == pytest.approx(6 * 6 / 720), "the three lowest of six"
    none = excess_below(np.array([2.0]), np.array([1.0, 4.0]), 1)
    assert (none.count, none.p) == (0, 1.0)


def test_excess_of_exchangeable_scores_is_as_rare_as_it_says():
    random = np.random.default_rng(0)
    found = [excess_below(random.normal(size=80), random.normal(size=60), 3).p <= 0.05 for _ in range(400)]
    assert np.mean(found) <= 0.06


def test_copies_of_one_image_count_as_one():
    scores = np.array([0.0] * 50 + [2.0] * 50)
    control = np.linspace(1, 2, 99)
    apart = excess_below(scores, control, 1, clusters=np.arange(100))
    same = excess_below(scores, control, 1, clusters=np.zeros(100))
    assert apart.p < 1e-9
    assert same.p > 0.005
    assert same.count == apart.count == 50
    dependent = excess_below(scores, control, 5, clusters=np.arange(100), control_effect=5.0)
    assert dependent.p > excess_below(scores, control, 5, clusters=np.arange(100)).p


def test_design_effect_is_that_of_patients():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 5)
    same = np.repeat(random.normal(size=100), 5)
    assert design_effect(same, groups) == pytest.approx(5, rel=0.15)
    assert design_effect(random.normal(size=500), groups) == pytest.approx(1, abs=0.3)
    assert design_effect(same, None) == 1


def test_area_and_rate_are_known():
    members, others = np.array([3.0, 2.0, 1.0]), np.array([2.0, 0.0])
    assert auc(members, others) == pytest.approx((2 + 1.5 + 1) / 6)
    others = np.arange(200.0)
    assert true_positive_rate(np.array([197.0, 197.5, 198.0, 500.0]), others) == 0.75
    area, rate = attack_estimates(np.arange(50) + 1000.0, np.arange(50.0), seed=0)
    assert (area.value, area.low, rate.value) == (1.0, 1.0, 1.0)
    assert 0.9 < rate.low < 1


def test_intervals_of_an_attack_grow_with_dependence():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    members, others = (np.repeat(random.normal(size=40), 10) for _ in range(2))
    alone, _ = attack_estimates(members, others, seed=0)
    patients, _ = attack_estimates(members, others, groups=(groups, groups), seed=0)
    assert patients.high - patients.low > 2 * (alone.high - alone.low)


def test_permutations_change_sides_by_patient():
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), 20)
    members, others = (np.repeat(random.normal(size=20) + shift, 20) for shift in (0.8, 0))
    alone = permutation_p(members, others, seed=0)
    patients = permutation_p(members, others, groups=(groups, groups), seed=0)
    assert alone < 1e-6 < patients
    others = random.normal(size=400)  # each of a patient of its own
    assert permutation_p(members, others, seed=0) < 1e-6 < permutation_p(members, others, groups=(groups, None), seed=0)
    assert permutation_p(random.normal(size=200) + 1, random.normal(size=200), seed=0) < 1e-6
    assert permutation_p(random.normal(size=200) - 1, random.normal(size=200), seed=0) > 0.99


def test_halves_keep_patients_together():
    groups = np.repeat(np.arange(11), 4)
    first, second = halves(44, groups, np.random.default_rng(0))
    assert not set(groups[first]) & set(groups[second])
    assert sorted([*first, *second]) == list(range(44))
    assert 16 <= len(first) <= 24
    alone = halves(11, None, np.random.default_rng(0))
    assert sorted(map(len, alone)) == [5, 6]


# Copies, attacks, links


def near(scores, rows=None):
    rows = np.arange(len(scores)) if rows is None else rows
    return Nearness(np.asarray(scores), np.asarray(scores), np.asarray(rows)[:, None])


def found_copies(fake, held_out, groups=None, rows=None):
    random = np.random.default_rng(7)
    return find_copies(
        {PIXELS: near(fake, rows)},
        {PIXELS: near(held_out)},
        {PIXELS: near(random.uniform(0, 0.1, 100))},
        groups=groups,
        level=0.0025,
        seed=0,
    )


def test_share_of_copies_has_a_control_of_one_percent():
    random = np.random.default_rng(0)
    held_out, fake = random.uniform(1, 2, 1000), random.uniform(1, 2, 1000)
    honest = found_copies(fake, held_out)
    assert honest.measure.estimate.value == pytest.approx(0.01, abs=0.008)
    assert honest.measure.control.value == pytest.approx(0.006, abs=0.004)
    assert honest.measure.p > 0.01
    assert honest.recall.value == 1
    fake[:50] = 0.5
    caught = found_copies(fake, held_out)
    assert caught.flagged[:50].all()
    assert caught.measure.p < 1e-6
    assert caught.measure.estimate.low > 0.03


def test_one_percent_of_new_images_is_flagged_with_confidence():
    """A threshold at 1 % of the held-out images would flag more than 1 % of new ones in nearly every second audit."""
    random = np.random.default_rng(0)
    new = random.uniform(1, 2, 4000)
    shares = [found_copies(new, random.uniform(1, 2, 600)).flagged.mean() for _ in range(30)]
    assert np.mean(np.array(shares) <= 0.01) >= 0.7
    assert np.mean(shares) > 0.003


def test_smallest_share_is_found_as_often_as_it_says():
    random = np.random.default_rng(0)
    share = found_copies(random.uniform(1, 2, 500), random.uniform(1, 2, 500)).smallest_share
    assert 0.01 < share < 0.05
    times = 0
    for _ in range(40):
        fake, held_out = random.uniform(1, 2, 500), random.uniform(1, 2, 500)
        fake[random.random(500) < share] = 0.5
        times += found_copies(fake, held_out).measure.p <= 0.0025
    assert times >= 24


def test_smallest_share_is_infinite_where_planted_copies_are_missed():
    random = np.random.default_rng(0)
    blind = find_copies(
        {PIXELS: near(random.uniform(1, 2, 500))},
        {PIXELS: near(random.uniform(1, 2, 500))},
        {PIXELS: near(random.uniform(1.5, 2, 100))},
        groups=None,
        level=0.0025,
        seed=0,
    )
    assert blind.smallest_share == float("inf")
    assert blind.recall.value == 0


def test_one_honest_mode_is_no_copy():
    """All images are one, which is by chance the nearest of 200: one draw says little, however often it is repeated."""
    held_out = np.random.default_rng(0).uniform(1, 2, 200)
    once = found_copies(np.full(1000, 0.99), held_out, rows=np.zeros(1000, dtype=int))
    assert once.measure.p >= 1 / 201


def test_threshold_is_one_of_patients():
    """Ten of 200 patients have one image each among the nearest 1 % of the images: that is 5 % of the patients."""
    held_out = np.random.default_rng(0).uniform(1, 2, 1000)
    groups = np.repeat(np.arange(200), 5)
    held_out[:50:5] = np.linspace(0.1, 0.2, 10)
    fake = np.array([0.15] * 5 + [0.9] * 95)
    assert found_copies(fake, held_out).flagged.sum() == 5
    assert found_copies(fake, held_out, groups).flagged.sum() == 0


def test_images_of_one_patient_calibrate_as_one():
    held_out = np.repeat(np.random.default_rng(0).uniform(1, 2, 100), 5)
    fake = np.array([0.5] * 4 + [1.5] * 96)
    patients = found_copies(fake, held_out, np.repeat(np.arange(100), 5))
    alone = found_copies(fake, held_out)
    assert alone.measure.p < patients.measure.p / 4


def test_attack_counts_only_beyond_its_control():
    random = np.random.default_rng(0)
    scores = {"mini": (random.normal(size=300), random.normal(size=200))}
    measures = attack(scores, question="attack_distance", groups=(None, None), seed=0)
    assert [measure.name for measure in measures] == ["attack_distance_auc_mini", "attack_distance_tpr_mini"]
    assert all(measure.p > 0.05 for measure in measures)
    assert all(measure.control.low <= measure.control.value <= measure.control.high for measure in measures)
    leaked = {"": (random.normal(size=300) + 1, random.normal(size=200))}
    auc_measure, tpr_measure = attack(leaked, question="attack_discriminator", groups=(None, None), seed=0)
    assert auc_measure.p < 1e-9
    assert auc_measure.estimate.value > auc_measure.control.high
    assert auc_measure.control.value == pytest.approx(0.5, abs=0.02)
    few = {"": (random.normal(size=300), random.normal(size=200))}
    few[""][0][:30] += 8  # a few members are remembered, and the others are not
    auc_measure, tpr_measure = attack(few, question="attack_discriminator", groups=(None, None), seed=0)
    assert tpr_measure.p < 1e-4
    assert tpr_measure.estimate.value == pytest.approx(0.1, abs=0.03)


def test_an_attack_that_halves_of_the_members_have_too_does_not_count():
    # An area of 0.55 is rare among exchangeable images, where 2,000 are held out, and not between halves of 300.
    members, others = (norm.ppf((np.arange(count) + 0.5) / count) for count in (300, 2000))
    measure, _ = attack({"": (members + 0.18, others)}, question="attack_distance", groups=(None, None), seed=0)
    assert permutation_p(members + 0.18, others, seed=0) < 0.005
    assert measure.estimate.value < measure.control.high
    assert measure.p == 1


def of_patients(count, seed, *, images=3):
    """Images of patients: each has an anatomy, and small differences between its images."""
    anatomy, own = fields(count, seed), fields(count * images, seed + 1000)
    groups = np.repeat(np.arange(count), images) + 100_000 * seed
    return (0.6 * anatomy.repeat_interleave(images, 0) + 0.6 * own).clamp(-1, 1), groups


def test_links_of_training_patients_exceed_those_of_others_only_where_images_leak(store):
    training, held_out = (as_set(f"patients {seed}", *of_patients(40, seed)) for seed in (1, 2))
    order = np.random.default_rng(0).permutation(120)
    spaces = Spaces(store, {}, training := training.subset(order))
    sides = same_size(training, held_out, seed=0)
    assert [side.count for side in sides] == [120, 120]
    spaces.nearest(held_out, training)  # the store knows these sets, in another order
    honest = as_set("honest", of_patients(200, 3, images=1)[0])
    leaking = as_set("leaking", training.read(range(120)))
    of_honest, of_leaking = (linkage(spaces, *sides, fake, seed=0)[0] for fake in (honest, leaking))
    assert of_honest.p > 0.05
    assert of_leaking.p < 1e-4
    assert of_leaking.estimate.value > of_leaking.control.high
    assert of_leaking.control.value > 1 / 40, "images of one patient resemble each other"


def test_links_lead_to_another_image():
    patients = as_set("patients", torch.zeros(4, 1, 2, 2), groups=np.array([0, 0, 1, 1]))
    near = {"to": np.arange(4)[:, None], "from": np.array([[0, 1], [1, 2], [2, 3], [3, 2]])}
    known = {name: {"space": Nearness(np.zeros(4), np.zeros(4), rows)} for name, rows in near.items()}
    spaces = SimpleNamespace(names=("space",), nearest=lambda images, _: known["to" if images is patients else "from"])
    (measure,) = linkage(spaces, patients, patients, as_set("fake", torch.zeros(4, 1, 2, 2)), seed=0)
    assert measure.estimate.value == 0.75  # the second image of the first patient leads to the second patient


def test_links_need_patients():
    known = as_set("known", *of_patients(9, 1))
    assert same_size(known, known, seed=0) is None
    assert same_size(as_set("unknown", fields(30, 0)), known, seed=0) is None


# The whole


def sets(**changed):
    made = {name: fields(count, seed) for seed, (name, count) in enumerate(SPLIT.items())} | changed
    return [as_set(name, made[name]) for name in SPLIT]


def audited(store, *images, **limits):
    options = AuditOptions(planted=40, limits=Limits(**limits))
    return audit(*images, store=store, extractors={}, options=options)


def test_an_honest_sampler_is_private_as_far_as_was_seen(store, few_resamples):
    result = audited(store, *sets(), seen_auc=0.7, seen_copies=0.2)
    assert result.answer == "yes"
    assert result.found == ()
    record = result.to_dict()
    assert record["format"] == 1
    assert f"{result.copies.smallest_share:.1%}" in record["reasons"][0]
    assert record["untold"].keys() == {"attack_discriminator", "linkage"}
    assert {row["question"] for row in record["measures"]} == {"copies", "attack_distance"}
    assert len(record["pairs"]) == 24
    strict = dataclasses.replace(result, limits=Limits(seen_copies=0.001))
    assert strict.answer == "not shown"
    assert "0.1% are asked for" in strict.reasons[0]


def test_a_memorizer_is_caught_and_tolerated_where_that_is_asked_for(store, few_resamples):
    training = fields(SPLIT["training"], 0)
    fake = fields(SPLIT["fake"], 2)
    fake[:40] = training[:40] + 0.05 * torch.randn(40, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    result = audited(store, *sets(fake=fake))
    assert result.answer == "no"
    assert "copies" in {measure.name for measure in result.found}
    assert result.copies.flagged[:40].mean() > 0.9
    assert {fake for fake, _, _ in result.pairs} <= set(range(40))
    assert all(fake == training for fake, training, _ in result.pairs)
    assert "copies of training images" in " ".join(result.reasons)
    tolerant = dataclasses.replace(result, limits=Limits(max_copies=0.5, max_auc=0.5))
    assert "copies" not in {measure.name for measure in tolerant.found}


def test_leaking_logits_are_caught(store, few_resamples):
    random = np.random.default_rng(0)

    def logits(members, held_out):
        return random.normal(size=members.count) + 1, random.normal(size=held_out.count)

    result = audit(*sets(), store=store, extractors={}, logits=logits, options=AuditOptions(planted=40))
    assert {measure.question for measure in result.found} == {"attack_discriminator"}


def test_few_held_out_images_are_refused(store, few_resamples):
    training, held_out, fake = sets()
    with pytest.raises(InputError, match="hold out 20 or more"):
        audited(store, training, held_out.subset(np.arange(19)), fake)


def test_smallest_auc_shrinks_with_images():
    many, few = smallest_auc((1000, 1000), 4, 0.0025), smallest_auc((100, 50), 4, 0.0025)
    assert 0.5 < many < 0.56 < few


# The command


@pytest.fixture
def few_resamples(monkeypatch):
    """Make resampling fast where its numbers do not matter."""
    monkeypatch.setattr("medsynth.audit.statistics.RESAMPLES", 40)
    monkeypatch.setattr("medsynth.audit.membership._REPEATS", 20)


@pytest.fixture
def command(monkeypatch, capsys, tmp_path, few_resamples):
    """Run the command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run(monkeypatch, capsys, *arguments, command="audit")


def saved(folder, images, names="{}"):
    folder.mkdir()
    for number, image in enumerate(images):
        pixels = ((image[0] + 1) * 127.5).round().byte().numpy()
        Image.fromarray(pixels).save(folder / f"{names.format(number)}.png")


QUICK = ("planted=20", "cache=false", "device=cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of images: half of those in copied/ are images of training/."""
    root = tmp_path_factory.mktemp("folders")
    training = fields(60, 0)
    saved(root / "training", training, "p{0}_")
    saved(root / "held", fields(60, 1))
    saved(root / "honest", fields(60, 2))
    saved(root / "copied", torch.cat([training[:30], fields(30, 3)]))
    return root


def test_folders_with_copies_are_refused_by_the_exit_code(command, folders, tmp_path):
    real = [f"real={folders}/training", f"held_out={folders}/held", "extractor=mini", *QUICK]
    code, out, err = command(*real, f"fake={folders}/copied", "out=audit.json")
    assert code == 1
    assert "error" not in err
    record = json.loads((tmp_path / "audit.json").read_text())
    assert record["answer"] == "no"
    assert "copies" in record["found"]
    assert "Private: no" in out
    assert "! copies" in out
    assert record["images"]["training"] == {"source": "real=", "count": 60}
    assert "give run=" in record["untold"]["attack_discriminator"]
    with Image.open(tmp_path / "audit_pairs.png") as sheet:
        assert sheet.width > 6 * 2 * SIDE


def test_an_answer_that_is_not_shown_fails_where_that_is_asked_for(command, folders, tmp_path):
    honest = [f"real={folders}/training", f"held_out={folders}/held", f"fake={folders}/honest", "extractor=[]", *QUICK]
    code, out, err = command(*honest, "strict=true")
    assert code == 1
    assert "error" not in err
    assert "Private: not shown" in out, "60 images are few"
    assert "would have been found" in out
    assert not list(tmp_path.iterdir()), "without out= nothing is written for folders"


def test_a_run_is_audited_with_its_discriminator(command, tmp_path):
    """The discriminator of the checkpoint has weights of its own, by which the logits are."""
    folder = a_run(tmp_path / "run", "data.source.num_images=30", "data.source.num_val=20", "data.source.num_test=21")
    without = ["run=run", "extractor=[]", "num_samples=40", *QUICK]
    code, out, err = command(*without)
    assert code == 0, err
    assert "Private: not shown" in out
    record = json.loads((folder / "audit" / "generator.json").read_text())
    assert "discriminator cannot be built" in record["untold"]["attack_discriminator"]
    assert record["images"]["held_out"]["count"] == 41, "validation and test images"
    assert record["images"]["fake"]["count"] == 40
    config = OmegaConf.load(folder / "config.yaml")
    torch.manual_seed(2)
    discriminator = instantiate(config.discriminator, _convert_="all")
    path = folder / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)["state_dict"]
    state |= {f"discriminator.{name}": value for name, value in discriminator.state_dict().items()}
    torch.save({"state_dict": state}, path)
    code, _, err = command(*without, "split=test")
    assert code == 0, err
    record = json.loads((folder / "audit" / "generator.json").read_text())
    assert record["images"]["held_out"]["count"] == 21
    assert {"attack_discriminator_auc", "attack_discriminator_tpr"} <= {row["name"] for row in record["measures"]}
    assert "attack_discriminator" not in record["untold"]
    assert (folder / "audit" / "generator_pairs.png").is_file()


def test_logits_are_those_of_each_image_whatever_the_batches():
    class Mean(torch.nn.Module):
        def features(self, images):
            return (images,)

        def head(self, features, labels=None):
            value = features[0].mean((1, 2, 3))[:, None] + (0 if labels is None else labels[:, None])
            return torch.cat([value, value + 2], 1)

    training, held_out = as_set("training", fields(11, 0)), as_set("held-out", fields(6, 1))
    sides = [dataclasses.replace(s, labels=np.arange(s.count)) for s in (training, held_out)]
    for conditional in (False, True):
        found = logits_of(Mean(), 4, torch.device("cpu"), conditional=conditional)(*sides)
        for side, values in zip(sides, found, strict=True):
            labels = side.labels if conditional else 0
            assert np.allclose(values, side.read(range(side.count)).mean((1, 2, 3)).numpy() + 1 + labels, atol=1e-6)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Give run=, the folder of a run, or all of real=, held_out= and fake="),
        (["real=here", "fake=here"], "all of real=, held_out= and fake="),
        (["run=here", "real=here"], "Give run="),
        (["run=here", "image_size=32"], "image_size= goes with real=, held_out= and fake="),
        (["real=here", "held_out=here", "fake=here", "split=val"], "split= goes with run="),
        (["real=here", "held_out=nowhere", "fake=here"], "held_out=nowhere does not exist"),
        (["run=nowhere"], "run=nowhere is not the folder of a run"),
        (["run=run", "level=0"], "level=0 must lie between 0 and 1"),
        (["run=run", "max_copies=2"], "max_copies=2 must lie between 0 and 1"),
        (["run=run", "planted=3"], "planted=3 must be 20 or more"),
        (["run=run", "num_samples=1"], "num_samples=1 must be 2 or more"),
        (["run=run", "split=nothing"], "split=nothing is unknown: choose train, val, test, held_out or all"),
        (["run=run", "checkpoint=best"], "checkpoint=best does not exist"),
    ],
)
def test_refuses(command, untrained, tmp_path, arguments, words):
    (tmp_path / "here").mkdir()
    (tmp_path / "run").symlink_to(untrained)
    code, _, err = command(*arguments)
    assert code == 1
    assert words in err
    assert err.count("\n") == 1, err


class Warming(torch.nn.Linear):
    """A network that follows the images seen, as the vision-aided discriminator does for its warm-up."""

    def advance(self, images_seen):
        self.seen = images_seen


def test_discriminator_of_a_checkpoint_is_as_far_in_its_warm_up(tmp_path):
    network = Warming(2, 1)
    state = {f"discriminator.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "medsynth": {"images_seen": 70}}, tmp_path / "last.ckpt")
    assert with_weights(network, tmp_path / "last.ckpt", "discriminator.", kind="discriminator").seen == 70
