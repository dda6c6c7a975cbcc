"""Errors of translations: known ones, their intervals by patient, and lesions that are found or not."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from medsynth.contracts import InputError
from medsynth.data.module import ImageDataModule
from medsynth.data.phantom import PhantomPairs
from medsynth.evaluation.translations import KNOWN_IMAGES, PairedEvaluation, check_same_pairs, translations
from medsynth.metrics.cluster_bootstrap import cluster_mean
from medsynth.metrics.interval import mean_interval
from medsynth.report.translation import translation_tables
from tests.command import TINY, run

RNG = np.random.default_rng(0)


class Plus(nn.Module):
    """A translator that adds a number, and noise where it has some."""

    def __init__(self, offset, latent_dim=0):
        super().__init__()
        self.offset, self.latent_dim, self.source_channels = nn.Parameter(torch.tensor(float(offset))), latent_dim, 1

    def forward(self, source, z=None):
        return source + self.offset + (0 if z is None else z[:, :1, None, None])


def data(**options):
    wide = {"kind": "denoising", "window_center": 0, "window_width": 4000, "num_val": 12, "num_images": 4}
    source = PhantomPairs(**{"image_size": 24, **wide, **options})
    return ImageDataModule(source=source, channels=1, image_size=24, batch_size=4, seed=0)


def evaluated(module, network, others=None, *, split="val"):
    return PairedEvaluation(module, split, seed=0, batch_size=5)(network, others or {})


def test_the_mean_of_independent_values_has_about_the_interval_of_students_t():
    values = RNG.normal(3, 2, 400)
    own, expected = cluster_mean(values, None, seed=1), mean_interval(values)
    assert own.value == pytest.approx(expected.value)
    assert own.high - own.low == pytest.approx(expected.high - expected.low, rel=0.08)
    assert cluster_mean(values, None, seed=1) == own


def test_values_of_one_patient_that_are_alike_make_the_interval_as_wide_as_patients_vary():
    patients = RNG.normal(0, 1, 30)
    groups = np.repeat(np.arange(30), 50)
    values = patients[groups] + 0.01 * RNG.normal(size=1500)
    own, of_patients = cluster_mean(values, groups, seed=0), mean_interval(patients)
    assert own.high - own.low == pytest.approx(of_patients.high - of_patients.low, rel=0.15)
    assert own.high - own.low > 5 * (cluster_mean(values, None, seed=0).high - cluster_mean(values, None, seed=0).low)
    shuffled = RNG.permutation(1500)
    assert cluster_mean(values[shuffled], groups[shuffled], seed=0).value == pytest.approx(own.value)


def test_images_without_a_value_are_left_out_and_one_patient_has_no_interval():
    values = np.array([1.0, np.nan, 3.0, 5.0])
    assert cluster_mean(values, None, seed=0).value == 3
    single = cluster_mean(values, np.zeros(4), seed=0)
    assert single.value == 3
    assert np.isnan([single.low, single.high]).all()
    assert np.isnan(cluster_mean(np.full(3, np.nan), None, seed=0).value)
    unequal = cluster_mean(np.array([0.0, 0, 0, 1]), np.array([7, 7, 7, 2]), seed=0)
    assert (unequal.value, unequal.low, unequal.high) == (0.25, 0, 1)


def test_the_errors_of_a_translator_are_those_of_its_formula_beside_the_source_copied():
    module = data(dose=0.25, noise_hu=8)
    result = evaluated(module, Plus(0.01))
    rows = {row["name"]: row for row in result.measures}
    errors = []
    for sample in map(module.val_dataset.__getitem__, range(12)):
        inside = sample["mask"] > 0
        errors.append(2000 * (sample["image"] + 0.01 - sample["target"]).abs()[inside].mean().item())
    assert rows["mae"]["value"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert rows["mae"]["low"] < rows["mae"]["value"] < rows["mae"]["high"]
    assert rows["mae"]["copy_value"] == pytest.approx(8 * np.sqrt(3) * np.sqrt(2 / np.pi), rel=0.05)
    assert rows["mae"]["difference_value"] == pytest.approx(rows["mae"]["value"] - rows["mae"]["copy_value"])
    assert rows["mae"]["difference_low"] > 0
    width = rows["mae"]["high"] - rows["mae"]["low"]
    assert rows["mae"]["difference_high"] - rows["mae"]["difference_low"] < 1.5 * width
    assert (result.count, result.patients, result.unit, result.masked) == (12, None, "HU", True)
    assert "No patients are known" in result.notes[0]
    same = evaluated(module, Plus(0.0))
    assert all(row["difference_value"] == row["difference_low"] == row["difference_high"] == 0 for row in same.measures)


def test_other_runs_are_compared_pair_by_pair():
    module = data(dose=0.25)
    result = evaluated(module, Plus(0.02), {"better": Plus(0.0)})
    ((other,), mae) = result.against, next(row for row in result.against[0]["measures"] if row["name"] == "mae")
    assert other["run"] == "better"
    assert mae["other_value"] == next(row["copy_value"] for row in result.measures if row["name"] == "mae")
    assert 0 < mae["difference_low"] < mae["difference_value"] < mae["difference_high"]
    with pytest.raises(InputError, match="against=x was trained on other data"):
        check_same_pairs(module, data(dose=0.5), "x")
    check_same_pairs(module, data(dose=0.25), "x")


def test_lesions_are_found_by_half_of_their_contrast_and_counted_by_size():
    lesions = {"classes": ["several_lesions"], "lesion_radius": [2.5, 12]}
    options = lesions | {"dose": 1, "noise_hu": 0.5, "window_width": 800}
    module = data(**options)
    result = evaluated(module, Plus(0.0), {"flat": _Flat()})
    by = {of: [row for row in result.lesions if row["of"] == of] for of in (*KNOWN_IMAGES, "translation", "flat")}
    assert [row["smallest_radius"] for row in by["target"]] == [0, 4, 6, 9]
    count = sum(len(module.source.lesions("val", number)) for number in range(12))
    assert sum(row["lesions"] for row in by["target"]) == count
    assert [row["value"] for row in by["translation"]] == [row["value"] for row in by["target"]]
    assert by["target"][-1]["value"] == 1
    assert 0.6 < by["target"][-1]["low"] < 1
    assert {row["value"] for row in by["flat"]} == {0}
    assert [row["value"] for row in by["source copied"]] == [row["value"] for row in by["target"]], "of a full dose"
    for dose, kind in ((1, "mr_to_ct"), (0.02, "denoising")):
        result = evaluated(data(**options | {"kind": kind, "dose": dose, "noise_hu": 6.0}), Plus(0.0), {})
        by = {of: [row["value"] for row in result.lesions if row["of"] == of] for of in KNOWN_IMAGES}
        assert by["conditional mean"] == [1.0] * 4, "the contrast of the mean image, or nearly"
        assert min(by["source copied"]) < 1


class _Flat(Plus):
    def __init__(self):
        super().__init__(0.0)

    def forward(self, source, z=None):
        return super().forward(source, z).mean(dim=(2, 3), keepdim=True).expand_as(source)


def test_noise_of_translations_is_drawn_by_number():
    images = translations(Plus(0.0, latent_dim=3), data(), "val", seed=1)
    together = images.read([3, 5])
    assert torch.equal(images.read([5])[0], together[1])
    assert not torch.equal(translations(Plus(0.0, latent_dim=3), data(), "val", seed=2).read([5])[0], together[1])
    few = translations(Plus(0.0), data(), "val", seed=1, count=3)
    assert torch.equal(few.read([1])[0], data().val_dataset[4]["image"].clamp(-1, 1))


@pytest.mark.slow
def test_a_run_of_a_translation_is_evaluated_translated_by_and_refused_by_others(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = [option for option in TINY if not option.startswith("generator")]
    options += ["task=regression", "data=phantom_pairs", "generator.width=4", "hydra.run.dir=run"]
    code, _, err = run(monkeypatch, capsys, *options)
    assert code == 0, err
    common = ("extractor=pixels", "pairs=4", "cache=false", "device=cpu")
    code, out, err = run(monkeypatch, capsys, "run=run", "against=[run]", *common, command="evaluate")
    assert code == 0, err
    for words in ("16 pairs, values in HU in the mask", "source copied", "against run", "lesions found, by radius"):
        assert words in out
    record = json.loads((tmp_path / "run" / "evaluation" / "generator.json").read_text())
    assert {row["name"] for row in record["translation"]["measures"]} == {"mae", "mse", "psnr", "ssim"}
    assert record["fake"]["count"] == 16
    assert run(monkeypatch, capsys, "folders=[run]", "out=page.html", command="report")[0] == 0
    assert "Translations against their targets: 16 pairs" in (tmp_path / "page.html").read_text()
    code, _, err = run(monkeypatch, capsys, "run=run", *common[:1], "device=cpu", command="audit")
    assert code == 1
    assert "is the run of a translation" in err


def test_a_strangers_record_of_translations_is_left_out():
    good = {"count": 2, "unit": "HU", "masked": False, "measures": [], "against": [], "lesions": []}
    assert translation_tables({"translation": good})
    for bad in ([], "x", {"count": "many"}, good | {"measures": [{"name": "mae"}]}, good | {"lesions": 3}):
        assert translation_tables({"translation": bad}) == []
