"""Usefulness of generated images: arms of equal effort, intervals over seeds and test images, and the answer."""

import dataclasses
import json
import os
import signal
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from medsynth.errors import EndCode, InputError
from medsynth.evaluation.answers import NO, NOT_SHOWN, YES, holm
from medsynth.metrics.classification import classification_measures
from medsynth.metrics.image_set import ImageSet
from medsynth.utility import workers as workers_module
from medsynth.utility.answer import Comparison, answer
from medsynth.utility.arms import Arm, all_arms, default_sizes, members, mixed_order
from medsynth.utility.augmentation import Augmentation
from medsynth.utility.classification import LinearProbe, Network, WholeNetwork
from medsynth.utility.fit import Fit, batches
from medsynth.utility.job import Job, run_job
from medsynth.utility.plan import Plan, seconds_for_a_job
from medsynth.utility.sets import Options, Sets
from medsynth.utility.statistics import Measured, image_groups, measured
from medsynth.utility.study import compare, prepare, run_part
from medsynth.utility.task import Examples
from medsynth.utility.workers import Workers

MINI = Network("medsynth_mini", "embedded")
CLASSES = ("a", "b")


class PixelProbe(LinearProbe):
    """A linear layer on pixels, without a network."""

    def encode(self, images, *, augmented):
        pixels = images.read(range(images.count)).flatten(1).numpy()
        return np.stack([pixels, pixels + 0.01], axis=1) if augmented else pixels[:, None]


PROBE = PixelProbe(MINI, CLASSES, augmentation=Augmentation(), views=1)
QUICK = Options(fit=Fit(steps=1), seeds=2, sizes=(16,))
FEW = dataclasses.replace(QUICK, ratios=(1,))
OPTIONS = Options(fit=Fit(steps=30, learning_rate=1e-2), seeds=3, sizes=(16,))


def blobs(name, count, *, seed, apart=0.06, patients=None):
    """Noise of 8 x 8 pixels, whose mean depends a little on the class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    values = random.normal(0, 0.5, (count, 1, 8, 8)) + apart * (2 * labels - 1)[:, None, None, None]
    images = torch.tensor(values.clip(-1, 1), dtype=torch.float32)
    groups = None if patients is None else np.arange(count) % patients
    return ImageSet(name, count, lambda numbers: images[list(numbers)], labels, {"seed": seed}, groups)


def sets(*, apart=0.06, count=16, copies=False, patients=5):
    """16 training images, 200 test images of few patients, which need few evaluations, and generated images."""
    training = blobs("training", count, seed=1, apart=apart)
    test = blobs("test", 200, seed=2, apart=apart, patients=patients)
    pool = count * 5 * OPTIONS.seeds
    synthetic = blobs("generated", pool, seed=3, apart=apart)
    if copies:
        synthetic = training.subset(np.random.default_rng(0).integers(0, count, pool))
    return Sets(training, test, synthetic)


def test_duplicates_and_mixtures_have_the_same_count():
    real, synthetic = np.arange(100, 110), np.arange(40)
    for ratio in (0.25, 1, 3.7):
        mixed, copied = (
            members(Arm(kind, ratio), 10, real=real, synthetic=synthetic, seed=0) for kind in ("mixed", "duplicated")
        )
        assert mixed.count == copied.count == 10 + round(10 * ratio)
        assert len(copied.synthetic) == 0
        times = np.bincount(copied.real - 100)
        assert times.min() >= 1
        assert times.max() - times.min() <= 1, "copies are spread evenly"
        assert sorted(mixed.real) == sorted(real)
        assert list(mixed.synthetic) == list(range(round(10 * ratio)))


def test_arms_of_a_kind_use_the_first_real_images_alone():
    real, synthetic = np.arange(50)[::-1], np.arange(50)
    for arm in all_arms([1]):
        chosen = members(arm, 5, real=real, synthetic=synthetic, seed=0)
        assert set(chosen.real) <= {49, 48, 47, 46, 45}
        assert (len(chosen.real) == 0) == (arm.kind == "synthetic")
    with pytest.raises(InputError, match="ratios="):
        all_arms([0, 1])


def test_first_parts_have_the_classes_shares_and_few_patients():
    labels, patients = np.repeat([0, 1], [90, 30]), np.arange(120) // 10
    order = mixed_order(labels, patients, 120, seed=0)
    assert sorted(order) == list(range(120))
    for part in (8, 20, 40):
        assert labels[order[:part]].mean() == pytest.approx(0.25, abs=1 / part)
    assert len(set(patients[order[:20]])) <= 4
    assert list(order) != list(mixed_order(labels, patients, 120, seed=1))


def test_all_counts_take_the_same_steps():
    options = Fit(steps=7, batch_size=4)
    for count in (3, 10, 100):
        steps = list(batches(count, options, seed=0))
        assert [len(step) for step in steps] == [4] * 7
        seen = np.bincount(np.concatenate(steps), minlength=count)
        assert seen.max() - seen.min() <= 1, "each example is seen once before any is seen again"


def test_sizes_are_thirds_up_to_all_images():
    assert default_sizes(2700, 2) == [100, 300, 900, 2700]
    assert default_sizes(60, 2) == [20, 60]
    assert default_sizes(5, 2) == [5]


def test_variance_over_images_is_that_of_a_mean():
    """With one image in each group and equal seeds, the interval is Student's of the images."""
    random = np.random.default_rng(0)
    images = random.normal(0.1, 1, 30)
    without = np.array([np.delete(images, number).mean() for number in range(30)])
    result = measured(np.full(4, images.mean()), np.tile(without, (4, 1)))
    half = 2.0452 * images.std(ddof=1) / 30**0.5  # t of 29 degrees of freedom
    assert (result.high - result.low) / 2 == pytest.approx(half, rel=1e-3)


def test_variance_over_seeds_is_that_of_a_mean():
    values = np.array([0.1, 0.3, 0.2, 0.4])
    result = measured(values, np.tile(values[:, None], (1, 5)))
    assert (result.high - result.low) / 2 == pytest.approx(3.1824 * values.std(ddof=1) / 2, rel=1e-3)
    assert result.p == pytest.approx(0.0305, abs=1e-3)  # t = 3.873 with 3 degrees of freedom


def test_a_single_seed_has_no_interval():
    assert np.isnan(measured(np.array([0.2]), np.full((1, 5), 0.2)).low)


@pytest.mark.parametrize("patients", [None, 8])
def test_intervals_hold_the_expected_difference(patients):
    """95 % of the intervals of a known difference hold it, with images of one patient alike, too."""
    random, held, repetitions = np.random.default_rng(0), 0, 200
    patient = None if patients is None else np.arange(160) % 40
    groups = image_groups(None, patient, 160)
    for _ in range(repetitions):
        images = random.normal(0, 1, 160) if patient is None else random.normal(0, 1, 40)[patient]
        values = 0.3 + images + random.normal(0, 0.1, (4, 1)) + random.normal(0, 1, (4, 160))
        without = np.stack([values[:, groups != group].mean(axis=1) for group in range(groups.max() + 1)], axis=1)
        interval = measured(values.mean(axis=1), without)
        held += interval.low <= 0.3 <= interval.high
    assert 0.91 <= held / repetitions <= 0.995


def test_groups_keep_patients_together_and_classes_apart():
    patients, labels = np.arange(90) // 3, np.arange(90) // 3 % 2
    groups = image_groups(labels, patients, 90, most=5)
    assert set(groups) == set(range(5))
    assert all(len(set(groups[patients == patient])) == 1 for patient in range(30))
    assert all(labels[groups == group].mean() == pytest.approx(0.5) for group in range(5))


def test_holm_corrects_by_rank():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])


def gain(value, half=0.02, p=None):
    return Measured(value, value - half, value + half, (0.001 if abs(value) > half else 0.5) if p is None else p)


def compared(*gains):
    return [
        Comparison(f"arm {number}", dict(zip(("duplicated", "real", "augmented"), each, strict=True)))
        for number, each in enumerate(gains)
    ]


def test_the_answer_is_yes_where_an_arm_beats_each_control():
    nothing = (gain(0), gain(0), gain(0))
    assert answer(compared(nothing, (gain(0.1), gain(0.1), gain(0.05))), 0.01)[0] == YES
    assert answer(compared(nothing, (gain(0.1), gain(0.1), gain(0))), 0.01)[0] == NOT_SHOWN
    assert answer(compared(nothing, (gain(0), gain(0.1), gain(0.1))), 0.01)[0] == NOT_SHOWN
    assert answer(compared(nothing, (gain(-0.1), gain(-0.1), gain(-0.1))), 0.01)[0] == NOT_SHOWN


def test_the_answer_is_no_where_every_gain_worth_having_is_excluded():
    small = (gain(0, 0.005), gain(0, 0.05), gain(0, 0.05))
    assert answer(compared(small, small), 0.01)[0] == NO
    assert answer(compared(small, (gain(0, 0.05),) * 3), 0.01)[0] == NOT_SHOWN
    unknown = (gain(0, float("nan"), p=float("nan")),) * 3
    assert answer(compared(small, unknown), 0.01)[0] == NOT_SHOWN


def test_holm_takes_a_single_weak_gain_back():
    weak = (gain(0.03, p=0.03),) * 3
    assert answer(compared(weak), 0.01)[0] == YES
    nothing = (gain(0, 0.005),) * 3
    assert answer(compared(weak, nothing, nothing), 0.01)[0] == NOT_SHOWN


def test_measures_of_a_classifier_are_those_of_their_definitions():
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 3, 200), random.normal(size=(200, 3))
    logits[np.arange(200), labels] += 0.7
    values = classification_measures(torch.tensor(logits), torch.tensor(labels), ("x", "y", "z"))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    areas, recalls, f1s = [], [], []
    for number in range(3):
        own, others = chances[labels == number, number], chances[labels != number, number]
        areas.append((own[:, None] > others).mean())
        right = (logits.argmax(axis=1) == number) & (labels == number)
        recalls.append(right.sum() / (labels == number).sum())
        f1s.append(2 * right.sum() / ((labels == number).sum() + (logits.argmax(axis=1) == number).sum()))
    assert values["auc/y"] == pytest.approx(areas[1])
    assert values["auc"] == pytest.approx(np.mean(areas))
    assert values["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert values["f1"] == pytest.approx(np.mean(f1s))
    assert values["accuracy"] == pytest.approx((logits.argmax(axis=1) == labels).mean())
    ranks = np.argsort(-chances[:, 2])
    hits = labels[ranks] == 2
    assert values["auprc/z"] == pytest.approx((np.cumsum(hits) / np.arange(1, 201))[hits].mean(), abs=1e-6)


def test_classes_without_images_are_left_out():
    values = classification_measures(torch.eye(3)[[0, 1, 0, 1]], torch.tensor([0, 1, 0, 1]), ("x", "y", "z"))
    assert values["auc"] == values["balanced_accuracy"] == values["f1"] == 1
    assert "auc/z" not in values


def test_new_images_help_and_copies_do_not():
    five = dataclasses.replace(OPTIONS, ratios=(5,))
    honest = compare(sets(patients=None), PROBE, five).to_dict()
    assert honest["answer"] == YES
    copies = compare(sets(copies=True, patients=None), PROBE, five).to_dict()
    assert copies["answer"] != YES
    deciding = [d for d in copies["differences"] if d["measure"] == "auc" and d["control"] == "duplicated_5"]
    assert abs(deciding[0]["gain"]) < 0.02
    assert deciding[0]["arm_count"] == deciding[0]["control_count"] == 96
    assert json.loads(json.dumps(honest)) == honest, "plain values"


def test_a_comparison_resumes_where_it_was_interrupted(tmp_path, monkeypatch):
    done = []
    original = workers_module.run_job

    def interrupted(job, material, threads=None):
        if len(done) == 10:
            raise KeyboardInterrupt
        done.append(job)
        return original(job, material, threads)

    monkeypatch.setattr("medsynth.utility.study.seconds_for_a_job", lambda *_: 0.1)
    monkeypatch.setattr(workers_module, "run_job", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(sets(), PROBE, QUICK, folder=tmp_path / "rows")
    files = {path.name for path in (tmp_path / "rows").glob("*-*.json")}
    assert 9 <= len(files) <= 10
    (tmp_path / "rows" / sorted(files)[0]).write_text('{"arm": ')
    again = []
    monkeypatch.setattr(workers_module, "run_job", lambda job, *rest: again.append(job) or original(job, *rest))
    resumed = compare(sets(), PROBE, QUICK, folder=tmp_path / "rows").to_dict()
    assert len(again) == 18 - len(files) + 1, "rows that are there are not computed again, a damaged one is"
    fresh = compare(sets(), PROBE, QUICK).to_dict()
    assert resumed["differences"] == fresh["differences"]


def without_timing(monkeypatch):
    monkeypatch.setattr("medsynth.utility.study.seconds_for_a_job", lambda *_: 0.1)


ERRORS = {
    "diverged": (InputError("A network's training has diverged.", code=EndCode.DIVERGED), EndCode.DIVERGED),
    "memory": (MemoryError(), EndCode.OUT_OF_MEMORY),
    "fault": (ZeroDivisionError("division by zero"), EndCode.PROGRAM_ERROR),
}


@pytest.mark.parametrize(("error", "code"), ERRORS.values(), ids=ERRORS)
def test_a_training_that_fails_is_named_and_alone_repeated(tmp_path, monkeypatch, error, code):
    without_timing(monkeypatch)
    original, again = workers_module.run_job, []

    def failing(job, *rest):
        if job.name in ("mixed_1-16-0", "real-16-1"):
            raise error
        return original(job, *rest)

    monkeypatch.setattr(workers_module, "run_job", failing)
    message = r"^2 of 10 trainings failed \(mixed_1-16-0: .*; real-16-1: .*\)\. The others are done and kept in .*again"
    with pytest.raises(InputError, match=message) as caught:
        compare(sets(), PROBE, FEW, folder=tmp_path)
    assert caught.value.code == code
    failures = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.failed.json")}
    assert {*failures} == {"mixed_1-16-0.failed.json", "real-16-1.failed.json"}
    assert failures["real-16-1.failed.json"] | {"reason": ""} == {
        "arm": "real",
        "size": 16,
        "seed": 1,
        "status": "diverged" if code == EndCode.DIVERGED else "failed",
        "code": code.value,
        "reason": "",
        "requeue": False,
    }
    monkeypatch.setattr(workers_module, "run_job", lambda job, *rest: again.append(job.name) or original(job, *rest))
    compare(sets(), PROBE, FEW, folder=tmp_path)
    assert sorted(again) == ["mixed_1-16-0", "real-16-1"]
    assert not [*tmp_path.glob("*.failed.json")]


class HereExecutor:
    """Runs what it is given in this process; the process of one job dies."""

    started = 0

    def __init__(self, count):
        HereExecutor.started += 1

    def submit(self, function, path, job, *rest):
        future = Future()
        if job.name == "augmented-16-1":
            future.set_exception(TerminatedWorkerError("A worker process was unexpectedly terminated"))
        else:
            future.set_result(function(path, job, *rest))
        return future

    def shutdown(self, **_):
        pass


def test_a_process_that_dies_takes_its_own_training_with_it(tmp_path, monkeypatch):
    without_timing(monkeypatch)
    monkeypatch.setattr(HereExecutor, "started", 0)
    monkeypatch.setattr(workers_module, "ProcessPoolExecutor", HereExecutor)
    two = dataclasses.replace(FEW, jobs=2)
    with pytest.raises(InputError, match=r"1 of 10 trainings failed \(augmented-16-1: its process was ended") as caught:
        compare(sets(), PROBE, two, folder=tmp_path)
    assert caught.value.code == EndCode.KILLED
    assert HereExecutor.started == 3, "a process that died is replaced"
    assert len([*tmp_path.glob("*-*.json")]) == 10
    monkeypatch.setattr(workers_module, "run_job", lambda *_: 1 / 0)
    with pytest.raises(InputError, match="1 of 1 trainings failed"):
        compare(sets(), PROBE, FEW, folder=tmp_path)


class Deadly(LinearProbe):
    """Kills the process in which the second seed's augmented images are trained on, once."""

    def batch(self, examples, positions, *, augmented):
        mark = Path(os.environ["DEADLY_MARK"])
        if augmented and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(examples, positions, augmented=augmented)


@pytest.mark.slow
def test_a_killed_process_ends_its_training_alone(tmp_path, monkeypatch):
    without_timing(monkeypatch)
    monkeypatch.setenv("DEADLY_MARK", str(tmp_path / "mark"))
    task = Deadly(MINI, CLASSES, augmentation=Augmentation(), views=1)
    one = dataclasses.replace(FEW, jobs=1)
    with pytest.raises(InputError, match=r"1 of 10 trainings failed \(augmented-16-0: its process was ended"):
        compare(sets(), task, one, folder=tmp_path / "rows")
    assert len([*(tmp_path / "rows").glob("*-*.json")]) == 10
    compare(sets(), task, one, folder=tmp_path / "rows")
    assert not [*(tmp_path / "rows").glob("*.failed.json")]


def test_parts_of_a_comparison_make_the_whole(tmp_path, monkeypatch):
    without_timing(monkeypatch)
    done, original = [], workers_module.run_job
    monkeypatch.setattr(workers_module, "run_job", lambda job, *rest: done.append(job.name) or original(job, *rest))
    left = [run_part(sets(), PROBE, FEW, part, folder=tmp_path) for part in ("3/3", "1/3", "2/3", "1/3")]
    assert left == [7, 3, 0, 0]
    assert len(done) == len(set(done)) == 10
    compare(sets(), PROBE, FEW, folder=tmp_path)
    assert len(done) == 10
    for part in ("0/3", "4/3", "x", "1", "1/0"):
        with pytest.raises(InputError, match=f"part={part} is not possible"):
            run_part(sets(), PROBE, FEW, part, folder=tmp_path)
    with pytest.raises(InputError, match="part= and budget= do not go together"):
        run_part(sets(), PROBE, dataclasses.replace(FEW, budget=1), "1/3", folder=tmp_path)


def test_rows_of_other_options_are_refused(tmp_path):
    compare(sets(), PROBE, QUICK, folder=tmp_path / "one")
    with pytest.raises(InputError, match=r"one has results of other options or data \(fit\).*out=.*one_2"):
        compare(sets(), PROBE, OPTIONS, folder=tmp_path / "one")


def test_more_seeds_reuse_rows(tmp_path, monkeypatch):
    compare(sets(), PROBE, QUICK, folder=tmp_path)
    again, original = [], workers_module.run_job
    monkeypatch.setattr(workers_module, "run_job", lambda job, *rest: again.append(job.seed) or original(job, *rest))
    monkeypatch.setattr("medsynth.utility.study.seconds_for_a_job", lambda *_: 0.1)
    compare(sets(), PROBE, dataclasses.replace(QUICK, seeds=3), folder=tmp_path)
    assert set(again) == {2}


def test_a_budget_drops_seeds_and_sizes_evenly():
    plan = Plan(all_arms([1]), (10, 30, 90, 270), tuple(range(10)))
    assert plan.within(10_000) == plan
    half = plan.within(len(plan.jobs()) // 3)
    assert len(half.jobs()) <= len(plan.jobs()) // 3
    assert 2 < len(half.seeds) < 10
    assert 1 < len(half.sizes) < 4
    least = plan.within(0)
    assert (least.sizes, least.seeds) == ((270,), (0, 1))


def test_a_budget_is_told(monkeypatch):
    monkeypatch.setattr("medsynth.utility.study.seconds_for_a_job", lambda *_: 6.0)
    said = []
    options = dataclasses.replace(OPTIONS, fit=Fit(steps=1), budget=2, seeds=4, sizes=(8, 16))
    record = compare(sets(), PROBE, options, say=said.append).to_dict()
    assert record["seeds"] * len(record["sizes"]) * 9 <= 20
    assert said[0].startswith("72 of 72 trainings are to be done, about 6 s each: 7 minutes with jobs=0.")
    assert any("budget=2 minutes" in note for note in record["notes"])


def test_the_time_of_a_job_is_extrapolated_over_its_steps(monkeypatch):
    def timed(job, material, threads=None):
        return {"seconds": 2 + 0.5 * material.options.steps}

    monkeypatch.setattr(workers_module, "run_job", timed)
    material = prepare(sets(), PROBE, dataclasses.replace(OPTIONS, fit=Fit(steps=100)))
    plan = Plan(all_arms([1]), (16,), (0, 1))
    assert seconds_for_a_job(plan, Workers(material, 0)) == pytest.approx(2 + 0.5 * 100)


def test_a_failure_of_the_training_that_tells_the_time_ends_nothing(tmp_path, monkeypatch):
    original, said = workers_module.run_job, []

    def failing(job, material, *rest):
        if material.options.steps == 1:
            raise MemoryError
        return original(job, material, *rest)

    monkeypatch.setattr(workers_module, "run_job", failing)
    compare(sets(), PROBE, dataclasses.replace(QUICK, fit=Fit(steps=2)), say=said.append)
    assert said[0].startswith("18 trainings are to be done; how long they take is not known")


def test_smaller_sizes_say_that_the_generator_saw_more():
    options = dataclasses.replace(QUICK, sizes=(8, 16))
    record = compare(sets(), PROBE, options).to_dict()
    assert record["size"] == 16
    corrected = {(d["arm"], d["size"]) for d in record["differences"] if "p_holm" in d}
    assert corrected == {("mixed_0.25", 16), ("mixed_1", 16), ("mixed_5", 16)}
    assert any("The generator saw all of its training images" in note for note in record["notes"])
    assert [part["size"] for part in record["on_synthetic"]] == [8, 16]


def test_too_few_generated_images_are_refused():
    few = dataclasses.replace(sets(), synthetic=blobs("generated", 40, seed=3))
    with pytest.raises(InputError, match="40 generated images"):
        compare(few, PROBE, OPTIONS)


@pytest.mark.parametrize(("name", "value"), [("seeds", 1), ("jobs", -1), ("worthwhile", -1), ("sizes", (17,))])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}="):
        compare(sets(), PROBE, dataclasses.replace(OPTIONS, **{name: value}))


def test_a_probe_sees_augmented_features_in_its_arm_alone():
    probe = LinearProbe(MINI, CLASSES, augmentation=Augmentation(brightness=0.5), views=2)
    training = blobs("training", 4, seed=1)
    features = probe.encode(training, augmented=True)
    assert features.shape == (4, 3, 128)
    assert np.array_equal(features[:, :1], probe.encode(training, augmented=False))
    assert np.array_equal(features, probe.encode(training, augmented=True)), "the same at each time"
    examples = Examples(features, training.labels)
    plain, _ = probe.batch(examples, np.arange(4), augmented=False)
    changed, labels = probe.batch(examples, np.arange(4), augmented=True)
    assert labels.tolist() == [0, 1, 0, 1]
    assert np.array_equal(plain, features[:, 0])
    assert all(not torch.equal(a, b) for a, b in zip(plain, changed, strict=True))


def test_one_arm_alone_is_augmented(monkeypatch):
    asked = {}
    material = prepare(sets(), PROBE, QUICK)
    original = PixelProbe.batch
    for arm in all_arms([1]):
        flags = asked.setdefault(arm.kind, set())

        def recorded(*given, augmented, flags=flags):
            flags.add(augmented)
            return original(*given, augmented=augmented)

        monkeypatch.setattr(PixelProbe, "batch", recorded)
        run_job(Job(arm, 16, 0), material)
    assert {kind for kind, flags in asked.items() if flags == {True}} == {"augmented"}


def test_a_whole_network_is_trained():
    random = Network("medsynth_mini", "random")
    task = WholeNetwork(random, CLASSES, augmentation=Augmentation())
    material = prepare(sets(apart=0.5), task, dataclasses.replace(OPTIONS, fit=Fit(steps=30, batch_size=8)))
    row = run_job(Job(Arm("augmented"), 16, 0), material)
    assert row["values"]["auc"] > 0.9
    assert row == run_job(Job(Arm("augmented"), 16, 0), material) | {"seconds": row["seconds"]}, "the same seed"


def test_augmentation_keeps_range_and_changes_each_image():
    images = torch.rand(6, 1, 8, 8) * 2 - 1
    changed = Augmentation(flip=True, shift=0.25)(images)
    assert changed.shape == images.shape
    assert changed.abs().max() <= 1
    assert all(not torch.equal(a, b) for a, b in zip(images, changed, strict=True))
    same = Augmentation(flip=False, shift=0, brightness=0, contrast=0)(images)
    assert torch.allclose(same, images, atol=1e-6)


@pytest.mark.slow
def test_parallel_processes_give_the_same_rows():
    quick = dataclasses.replace(OPTIONS, fit=Fit(steps=3), seeds=2)
    network = LinearProbe(MINI, CLASSES, augmentation=Augmentation(), views=1)  # of a class that other processes know
    one = compare(sets(), network, quick).to_dict()
    two = compare(sets(), network, dataclasses.replace(quick, jobs=2)).to_dict()
    for mine, theirs in zip(one["differences"], two["differences"], strict=True):
        assert mine["gain"] == pytest.approx(theirs["gain"], abs=1e-4)
