"""Modes caught, shares and divergences against values worked out from the counts."""

import math

import numpy as np
import pytest
import torch

from medsynth.configuration.objectives import logged_measures
from medsynth.contracts import InputError, Metrics
from medsynth.data.modes import GaussianRing
from medsynth.metrics.modes import ModeMetrics, mode_values
from medsynth.report.points import drawable
from tests.command import run

LITTLE = [
    *["data=gaussian_ring", "generator=mlp", "discriminator=mlp", "metrics=modes", "trainer=cpu"],
    *["generator.widths=[16]", "discriminator.widths=[16]", "generator.latent_dim=2", "data.batch_size=16"],
    *["data.source.num_images=64", "data.source.num_val=64", "data.source.num_test=64"],
    *["max_images=64", "val_every_images=64", "report=false"],
]


class FirstPixel:
    """The mode is the value of the first pixel."""

    num_modes = 4

    def modes(self, images):
        return images[:, 0, 0, 0].long()


def images(*modes):
    return torch.tensor(modes, dtype=torch.float32)[:, None, None, None]


def test_values_of_known_counts():
    counts = torch.tensor([2, 5, 0, 3, 0])  # two of no mode, five and three of two modes of four
    values = mode_values(counts)
    assert values["modes_caught"] == 2
    assert values["good_images"] == pytest.approx(0.8)
    # Outcomes: none 0.2 against 0, the modes 0.5, 0, 0.3, 0 against 0.25 each.
    assert values["modes_tv"] == pytest.approx((0.2 + 0.25 + 0.25 + 0.05 + 0.25) / 2)
    q, p = np.array([5 / 8, 3 / 8]), 1 / 4
    assert values["modes_kl"] == pytest.approx(float((q * np.log(q / p)).sum()))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([0, 7, 7, 7, 7], (4, 1.0, 0.0, 0.0)),
        ([0, 9, 0, 0, 0], (1, 1.0, 0.75, math.log(4))),
        ([9, 0, 0, 0, 0], (0, 0.0, 1.0, math.log(4))),
    ],
)
def test_values_at_the_ends(counts, expected):
    values = mode_values(torch.tensor(counts))
    names = ("modes_caught", "good_images", "modes_tv", "modes_kl")
    assert [values[name] for name in names] == pytest.approx(list(expected))


def test_sides_are_counted_apart_and_generated_images_forgotten():
    metrics = ModeMetrics(reader=FirstPixel())
    assert isinstance(metrics, Metrics)
    assert not metrics.has_real
    metrics.update(images(0, 1), real=True)
    metrics.update(images(2, 3), real=True)
    metrics.update(images(1, 1, -1), real=False)
    assert metrics.has_real
    values = metrics.compute()
    assert (values["num_modes"], values["num_real"], values["num_fake"]) == (4, 4, 3)
    assert (values["real_modes_caught"], values["real_modes_tv"], values["real_good_images"]) == (4, 0, 1)
    assert (values["modes_caught"], values["good_images"]) == (1, pytest.approx(2 / 3))
    metrics.reset()
    metrics.update(images(0, 1, 2, 3), real=False)
    again = metrics.compute()
    assert (again["num_real"], again["num_fake"], again["modes_tv"]) == (4, 4, 0)


def test_batches_make_no_difference():
    shown = images(*[0, 1, 1, 3, -1, 2, 2, 2])
    whole, divided = ModeMetrics(reader=FirstPixel()), ModeMetrics(reader=FirstPixel())
    for metrics, size in ((whole, 8), (divided, 3)):
        for real in (True, False):
            for batch in shown.split(size):
                metrics.update(batch, real=real)
    assert whole.compute() == divided.compute()


def test_what_is_logged_is_computed_and_its_direction_is_right():
    metrics = ModeMetrics(reader=FirstPixel())
    for real in (True, False):
        metrics.update(images(0, 1, 2), real=real)
    measures = logged_measures({"_target_": "medsynth.metrics.modes.ModeMetrics"})
    assert set(measures) < set(metrics.compute())
    perfect, worse = mode_values(torch.tensor([0, 3, 3, 3])), mode_values(torch.tensor([1, 3, 0, 4]))
    for name, better in measures.items():
        assert (perfect[name] < worse[name]) == (better == "lower")


def test_wrong_choices_are_refused():
    with pytest.raises(InputError, match="data=gaussian_ring"):
        ModeMetrics(reader=object())
    with pytest.raises(InputError, match="modes_caught cannot be minimized"):
        ModeMetrics(reader=FirstPixel(), objective="modes_caught")
    metrics = ModeMetrics(reader=FirstPixel())
    with pytest.raises(InputError, match="NaN"):
        metrics.update(images(float("nan")), real=False)
    with pytest.raises(InputError, match="both sides"):
        metrics.compute()


def test_a_training_counts_modes_and_draws_points(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, capsys, *LITTLE, "hydra.run.dir=r")[0] == 0
    rows = (tmp_path / "r/metrics.csv").read_text().splitlines()
    values = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert float(values["val/num_fake"]) == 64
    assert float(values["val/real_modes_caught"]) == 8
    assert 0 <= float(values["val/modes_tv"]) <= 1
    assert (tmp_path / "r/samples/latest.png").exists()
    code, out, _ = run(monkeypatch, capsys, "run=r", "extractor=pixels", "pairs=4", command="evaluate")
    assert code == 0
    assert "fd_pixels" in out
    assert "spectrum" not in out
    generated = ("run=r", "num_samples=4", "out=g", "format=npy")
    assert run(monkeypatch, capsys, *generated, command="generate")[0] == 0


def test_a_preview_draws_points(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, capsys, "data=gaussian_grid", "out=p", command="data")[0] == 0
    assert (tmp_path / "p/contact_sheet.png").exists()


def test_data_without_modes_are_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *LITTLE[1:7], "data.image_size=16", "data.batch_size=4", "max_images=8")
    assert code != 0
    assert "data=gaussian_ring" in err
    code, _, err = run(monkeypatch, capsys, *LITTLE, "metrics=mini")  # the embedded network takes no points
    assert code != 0
    assert "metrics=modes" in err


def test_points_are_drawn_where_they_are():
    shown = drawable(np.array([[-1.0, 1.0], [1.0, -1.0]], dtype=np.float32)[:, :, None, None])
    assert shown.shape == (1, 1, 160, 160)
    assert shown[0, 0, 0, 0] == shown[0, 0, -1, -1] == -1, "upper left and lower right"
    assert shown[0, 0, 0, -1] == shown[0, 0, 80, 80] == 1
    images = np.zeros((2, 3, 1, 1))
    assert drawable(images) is images


def test_the_ring_itself_is_a_baseline():
    ring = GaussianRing()
    metrics = ModeMetrics(reader=ring)
    for real, split in ((True, "val"), (False, "test")):
        metrics.update(ring.images(split, 2500), real=real)
    values = metrics.compute()
    assert values["modes_caught"] == values["real_modes_caught"] == 8
    assert values["modes_tv"] < 0.03
    assert values["modes_kl"] < 0.01
