"""What is said of few held-out images, few patients and unequal classes: in training, previews and reports."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from medsynth.data.cautions import cautions
from medsynth.evaluation.cautions import cautions as of_evaluation
from medsynth.evaluation.evaluation_sets import EvaluationSets
from medsynth.metrics.image_set import ImageSet
from medsynth.report.page import write_report
from tests.files import prepared, warnings_of, write_images
from tests.run_folders import write_run


def said(images, *, labels=(), names=(), patients=None, given=(), balanced=False):
    counted = {
        name: [label for label, count in enumerate(own) for _ in range(count)] for name, own in dict(labels).items()
    }
    return cautions(images, labels=counted, class_names=names, patients=patients, given=given, balanced=balanced)


def test_enough_images_of_enough_patients_need_no_caution():
    labels = {"train": [90, 10], "val": [98, 2]}
    assert said({"train": 100, "val": 100, "test": 10}, patients={"val": 5, "test": 5}) == ()
    assert said({"train": 100, "val": 100}, labels=labels, names=("a", "b")) == ()
    assert said({"train": 100, "val": 100}, labels={"train": [100], "val": [100]}, names=("a",)) == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"images": {"train": 216, "val": 24}},
            ["24 validation images are few", "data.val_fraction=0.42", "vary=seeds"],
        ),
        (
            {"images": {"train": 100, "val": 99}},
            ["99 validation images", "data.val_fraction=0.3 to hold out more, or add"],
        ),
        ({"images": {"train": 900, "val": 99}, "given": {"val"}}, ["Add images to this split of the data"]),
        (
            {"images": {"train": 500, "val": 120}, "patients": {"val": 1}},
            ["120 validation images are of 1 patient: ", "describe this patient", "data.val_fraction=0.3"],
        ),
        (
            {"images": {"train": 500, "val": 120, "test": 110}, "patients": {"val": 5, "test": 4}},
            ["110 test images are of 4 patients: ", "these patients", "data.test_fraction=0.2"],
        ),
        (
            {
                "images": {"train": 101, "val": 100},
                "labels": {"train": [1000, 100], "val": [98, 2]},
                "names": ("a", "b"),
            },
            ["1,000 training images of a, 100 of b", "data.balance_classes=true"],
        ),
        (
            {"images": {"val": 100}, "labels": {"train": [100, 0], "val": [90, 10]}, "names": ("a", "b")},
            ["No training image is of the classes b, which"],
        ),
        (
            {"images": {"val": 100}, "labels": {"train": [50, 49], "val": [99, 1]}, "names": ("a", "b")},
            ["Fewer than 2 validation images are of b:"],
        ),
    ],
)
def test_each_caution_says_what_to_type(options, words):
    (sentence,) = said(options.pop("images"), **options)
    for word in words:
        assert word in sentence


def test_balanced_classes_may_be_unequal():
    labels = {"train": [1000, 10], "val": [98, 2]}
    assert said({"train": 1010, "val": 100}, labels=labels, names=("a", "b"), balanced=True) == ()


def test_a_training_and_its_summary_have_the_cautions(tmp_path, caplog):
    for number in range(6):
        write_images(tmp_path / "common" / f"patient_{number}", 10, start=10 * number)
    write_images(tmp_path / "rare" / "patient_7", 2, start=200)
    write_images(tmp_path / "rare" / "patient_8", 2, start=220)
    data = prepared(tmp_path)
    assert len(data.cautions) == 3
    assert set(data.cautions) <= set(warnings_of(caplog))
    for sentence, words in zip(data.cautions, ("few", "patient", "unequal"), strict=True):
        assert words in sentence
    balanced = prepared(tmp_path, balance_classes=True)
    assert not any("unequal" in sentence for sentence in balanced.cautions)
    labels = [int(label) for batch in balanced.train_dataloader() for label in batch["label"]]
    assert sum(labels) in (len(labels) // 2, -(-len(labels) // 2), len(labels) // 2 - 1)


def test_the_report_of_a_run_has_the_cautions(tmp_path):
    folder = write_run(tmp_path / "run", options={"seed": 1}, data_cautions=["24 validation images are few."])
    assert "24 validation images are few." in write_report([folder], tmp_path / "report.html").read_text()


def test_the_page_of_a_sweep_has_each_caution_once_with_its_runs(tmp_path):
    few, unequal = "24 validation images are few.", "The classes are unequal."
    folders = [
        write_run(tmp_path / str(seed), options={"seed": seed}, data_cautions=[few, unequal][:seed]) for seed in (1, 2)
    ]
    text = write_report(folders, tmp_path / "report.html").read_text()
    assert text.count(few) == text.count(unequal) == 1
    assert re.search(rf"<[^>]*>{few}", text), "it holds of all"
    assert re.search(rf">[^<>]+: {unequal}", text), "it holds of one, which is named"


def sets_of(labels, count=200, **options):
    def of(name, labels):
        return ImageSet(name, count, lambda numbers: torch.zeros(len(numbers), 1, 8, 8), labels)

    return EvaluationSets(
        of("reference", None if labels is None else np.array(labels)),
        of("generated", None if labels is None else np.array(labels)),
        None,
        ("a", "b"),
        sources=("", ""),
        notes=(),
        image_size=8,
        channels=1,
        **options,
    )


@pytest.mark.parametrize(
    ("sets", "per_class", "words"),
    [
        (sets_of(None), False, []),
        (sets_of(None, 100), False, []),
        (sets_of([0] * 180 + [1] * 20), False, []),
        (sets_of([0] * 182 + [1] * 18), False, ["182 images of a and 18 of b", "per_class=true"]),
        (sets_of([0] * 182 + [1] * 18), True, []),
        (sets_of(None, 99), False, ["99 reference images are few", "add some", "99 generated", "generate more"]),
        (
            sets_of(None, 24, split="val"),
            False,
            ["24 reference", "data.test_fraction=", "24 generated", "num_samples=100"],
        ),
        (sets_of(None, split="test", patients=5), False, []),
        (sets_of(None, split="test", patients=4), False, ["200 reference images are of 4 patients"]),
        (sets_of(None, split="test", patients=1), False, ["of 1 patient:"]),
    ],
)
def test_an_evaluation_has_cautions_of_its_own(sets, per_class, words):
    text = " ".join(of_evaluation(sets, per_class=per_class))
    assert bool(text) == bool(words)
    for word in words:
        assert word in text
