"""Figures of a run for a paper: their numbers, their files, and their place in the page."""

import csv
import dataclasses
import json
import logging
import re

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.decomposition import PCA

from medsynth.contracts import Intensity
from medsynth.errors import EndCode
from medsynth.figures import run_figures
from medsynth.figures.completion import complete_report
from medsynth.figures.embedding import embed, methods
from medsynth.figures.numbers import classes, histogram, path_between, spectrum, spread_out
from medsynth.figures.run_figures import Limits, write_figures
from medsynth.metrics.appearance import intensity_histograms, radial_spectra
from medsynth.report import drawings
from medsynth.report.drawings import draw_images, write_table
from medsynth.report.figure_files import TITLES, read_figures, read_measures
from medsynth.report.page import write_report
from medsynth.report.runs import read_run
from medsynth.runs.run_folder import RunResult
from tests.command import TINY, run
from tests.run_folders import write_run
from tests.test_report_pages import Page, data_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Train one tiny conditional run with figures; return its folder and what it printed."""
    folder = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(drawings, "_FOR_A_PAPER", ("svg",))  # a PDF takes longer than all the rest
        monkeypatch.setattr(run_figures, "Limits", lambda: Limits(images=16, training=32))
        printed = []
        capture = type("Capture", (), {"readouterr": staticmethod(lambda: ("", ""))})
        monkeypatch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        tiny = [option for option in TINY if not option.startswith("report")]
        code, _, _ = run(monkeypatch, capture, *tiny, "report=true", "conditional=true", "hydra.run.dir=run")
    assert code == 0
    return folder / "run", "\n".join(printed)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_figure_of_a_run_has_its_files_and_its_numbers(finished):
    folder, _ = finished
    figures = {figure.name: figure for figure in read_figures(folder)}
    assert {"samples", "nearest", "interpolation", "embedding", "intensities", "spectrum"} <= set(figures)
    for figure in figures.values():
        assert set(figure.endings) == {"csv", "svg"}, figure.name
        assert len(figure.caption) > 20
        assert rows(figure.folder / f"{figure.name}.csv")
        assert "<svg" in (figure.folder / f"{figure.name}.svg").read_text()
    record = json.loads((folder / "report" / "figures.json").read_text())
    assert record["images"] == {"real": 16, "generated": 16, "training": 32}
    assert {row["set"] for row in rows(folder / "report" / "embedding.csv")} == {"real", "generated"}
    measured = {row["name"]: row for row in read_measures(folder)["measures"]}
    assert measured["fd_mini"]["baseline"] > 0


def test_the_page_and_the_closing_text_name_the_figures(finished):
    folder, printed = finished
    page = Page((folder / "report.html").read_text())
    assert [heading for heading in page.headings if heading == "Figures"]
    links = [link["href"] for link in page.all("a") if not link["href"].startswith("#")]
    assert "report/nearest.svg" in links
    assert all((folder / link).is_file() for link in links)
    assert "Real images have" in page.text, "the baseline of the measures is in the verdict"
    shown = data_of((folder / "report.html").read_text())["figures"]
    assert {"figure-embedding", "figure-intensities", "figure-spectrum"} <= set(shown)
    assert re.search(r"^report +run/report.html$", printed, re.MULTILINE)
    assert re.search(r"^figures +run/report$", printed, re.MULTILINE)
    files = json.loads((folder / "summary.json").read_text())["files"]
    assert (files["report"], files["figures"]) == ("run/report.html", "run/report")


def test_figures_that_fail_leave_the_run_complete(finished, monkeypatch, caplog):
    folder, _ = finished
    monkeypatch.chdir(folder.parent)
    sweep = {"folder": None}
    config = OmegaConf.create({"report": "auto", "figures": "auto", "sweep": sweep, "trainer": {"accelerator": "cpu"}})
    result = RunResult(folder, EndCode.COMPLETED, {"files": {}}, config)
    asked = []

    def fail(folder, **_):
        asked.append(folder)
        raise RuntimeError("no memory")

    monkeypatch.setattr(run_figures, "write_figures", fail)
    assert complete_report(result) is result
    assert asked == [folder]
    assert "The figures could not be made: RuntimeError: no memory" in caplog.text
    for change in ({"figures": False}, {"report": False}, {"sweep": {"folder": "multirun"}}):
        unasked = dataclasses.replace(result, config=OmegaConf.create({**config, **change}))
        assert complete_report(unasked) is unasked
    assert asked == [folder], "not asked for, or a job of a sweep"


def test_points_have_no_figures(finished, monkeypatch):
    folder, _ = finished
    monkeypatch.setattr(run_figures, "_LEAST_SIZE", 32)
    assert write_figures(folder, device="cpu", trust=True) is None


def test_intensities_are_shares_in_the_units_of_the_data():
    images = torch.linspace(-1, 1, 3 * 256).reshape(3, 1, 16, 16)
    table = histogram(
        intensity_histograms(images), intensity_histograms(torch.ones_like(images)), Intensity(-1000, 1000, "HU")
    )
    assert (table[0]["from"], table[-1]["to"]) == (-1000, 1000)
    assert sum(row["real"] for row in table) == pytest.approx(1)
    assert max(row["real"] for row in table) < 1.2 / len(table)
    assert [row["generated"] for row in table][-1] == pytest.approx(1)


def test_white_noise_has_its_variance_at_all_frequencies():
    noise = 0.1 * torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    table = spectrum(radial_spectra(noise), radial_spectra(0.1 * noise))
    assert [row["cycles"] for row in table] == list(range(1, 24))
    assert np.mean([row["real"] for row in table[2:]]) == pytest.approx(-20, abs=0.3)
    assert np.mean([row["generated"] for row in table[2:]]) == pytest.approx(-40, abs=0.5)


def test_a_path_between_noises_keeps_their_length_and_equal_angles():
    first, last = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 3.0])
    path = path_between(first, last, 5).double()
    assert torch.allclose(path[0].float(), first, atol=1e-5)
    assert torch.allclose(path[-1].float(), last, atol=1e-5)
    assert torch.allclose(path.norm(dim=1), torch.full((5,), 3.0, dtype=torch.float64), atol=1e-5)
    cosines = (path[1:] * path[:-1]).sum(1) / 9
    assert torch.allclose(cosines, torch.full((4,), np.cos(np.pi / 8), dtype=torch.float64), atol=1e-6)
    assert torch.allclose(path_between(first, first, 3), first.expand(3, -1))


def test_the_plane_is_that_of_the_principal_components():
    rng = np.random.default_rng(0)
    real, fake = (rng.normal(size=(40, 6)) * [5, 3, 1, 1, 1, 0] + shift for shift in (0, 1))
    a, b, axes = embed(real, fake, "PCA", seed=0)
    both = (np.concatenate([real, fake])[:, :5] - real[:, :5].mean(0)) / real[:, :5].std(0)
    reference = PCA(2).fit(both)
    expected = reference.transform(both)
    found = np.concatenate([a, b])
    assert np.allclose(np.abs(found), np.abs(expected))
    assert f"{reference.explained_variance_ratio_[0]:.0%}" in axes
    assert methods()[0] == "PCA"


def test_features_without_differences_are_one_point():
    real, fake, axes = embed(np.ones((3, 4)), np.zeros((2, 4)), "PCA", seed=0)
    assert (real.shape, fake.shape) == ((3, 2), (2, 2))
    assert not real.any()
    assert axes == "The features of all real images are equal."


@pytest.mark.skipif("UMAP" not in methods(), reason="umap-learn is not installed")
@pytest.mark.parametrize("count", [2, 8, 100])
def test_umap_keeps_two_groups_apart_and_draws_few_points(count, recwarn):
    noise = np.random.default_rng(0).normal(size=(2, count, 16))
    real, fake, _ = embed(noise[0], noise[1] + 20, "UMAP", seed=0)
    assert (real.shape, fake.shape) == ((count, 2), (count, 2))
    assert np.isfinite([*real, *fake]).all()
    if count == 100:
        between = np.linalg.norm(real.mean(0) - fake.mean(0))
        assert between > 2 * max(real.std(), fake.std())
    assert not recwarn.list


def test_the_nearest_images_are_shown_first_and_others_over_the_range():
    distances = np.array([0.5, 0.1, 0.9, 0.2, 0.7, 0.3, 0.8])
    assert spread_out(distances, 4) == [1, 3, 5, 2]
    assert sorted(spread_out(distances, 20)) == list(range(7))


def test_classes_are_measured_apart_where_they_have_enough_images():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [60, 60, 3])
    real, fake = rng.normal(size=(123, 4)), rng.normal(size=(123, 4))
    fake[labels == 1] += 100
    table = classes(real, fake, (labels, labels), ["glioma", "none", "rare"], seed=0)
    assert [row["class"] for row in table] == ["glioma", "none"]
    assert table[0]["precision"] > 0.5
    assert table[1]["precision"] == table[1]["recall"] == 0
    assert table[0]["precision_low"] <= table[0]["precision"] <= table[0]["precision_high"]


def test_names_with_formulas_are_drawn_as_they_are(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    images = np.zeros((2, 1, 8, 8), dtype=np.float32)
    assert draw_images(tmp_path, "a", [(r"cost $\frac{1$", images), ("", images)], columns=["1", "2"])
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert caplog.text == "", "the terminal of a training shows what libraries log"


def test_figures_of_a_stranger_are_text_and_numbers(tmp_path):
    folder = write_run(tmp_path / "java script:alert(1)", options={"seed": 1})
    (folder / "report").mkdir()
    hostile = "<script>alert(1)</script>"
    listed = [
        {"name": "spectrum", "caption": hostile},
        {"name": "../../secret", "caption": "a"},
        {"name": ["nearest"], "caption": 7},
        7,
    ]
    (folder / "report" / "figures.json").write_text(json.dumps({"figures": listed}))
    write_table(folder / "report" / "spectrum.csv", [{"cycles": hostile, "real": "nan", "generated": 1e400}])
    (folder / "report" / "measures.json").write_text('{"measures": 7}')
    found = read_run(folder)
    assert [figure.name for figure in found.figures] == ["spectrum"]
    assert found.measures is None
    page = Page(write_report([folder], tmp_path / "report.html").read_text())
    assert hostile in page.text
    links = [link["href"] for link in page.all("a") if not link["href"].startswith("#")]
    assert links == ["java%20script%3Aalert%281%29/report/spectrum.csv"]
    (folder / "report" / "figures.json").write_text("[" * 200)
    assert read_run(folder).figures == ()
    assert set(TITLES) >= {"samples", "classes"}
