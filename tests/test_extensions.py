"""Components of the user's own: each is one .py and one yaml in a folder given by --config-dir, and nothing else."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from tests.command import TINY, run

FILES = {
    "extensions/margin_loss.py": """
        class MarginLoss:
            relativistic = False
            boundary = 0.0

            def __init__(self, *, margin):
                self.margin = margin

            def discriminator(self, *, real, fake):
                return (self.margin - real).relu().mean() + (self.margin + fake).relu().mean()

            def generator(self, *, real, fake):
                return -fake.mean()
    """,
    "conf/loss/margin.yaml": """
        _target_: extensions.margin_loss.MarginLoss
        margin: 0.5
    """,
    "extensions/logit_penalty.py": """
        class LogitPenalty:
            at = "logits"
            interval = 1

            def __init__(self, *, weight):
                self.weight = weight

            def __call__(self, *, real, fake):
                return self.weight * (real.square().mean() + fake.square().mean())
    """,
    "conf/penalty/small_logits.yaml": """
        small_logits:
          _target_: extensions.logit_penalty.LogitPenalty
          weight: 0.01
    """,
    "extensions/pooled.py": """
        from torch import nn


        class PooledDiscriminator(nn.Module):
            has_frozen_features = True

            def __init__(self, *, backbone, width):
                super().__init__()
                self.backbone = backbone.freeze().eval()
                self.layers = nn.Sequential(nn.Linear(backbone.num_features, width), nn.ReLU(), nn.Linear(width, 1))

            def features(self, images):
                return self.backbone.frozen_part(images)

            def head(self, features, labels=None):
                return self.layers(features[0])

            def forward(self, images, labels=None):
                return self.head(self.features(images), labels)

            def parameter_groups(self):
                return [{"params": list(self.layers.parameters())}]

            def calibrate(self, batches):
                self.backbone.calibrate(batches)
    """,
    "conf/discriminator/pooled.yaml": """
        _target_: extensions.pooled.PooledDiscriminator
        backbone: ${backbone}
        width: 8
    """,
    "extensions/incomplete_loss.py": """
        class IncompleteLoss:
            boundary = 0.0

            def discriminator(self, *, real, fake):
                return fake.mean() - real.mean()

            def generator(self, *, real, fake):
                return -fake.mean()
    """,
    "conf/loss/incomplete.yaml": """
        _target_: extensions.incomplete_loss.IncompleteLoss
    """,
}


@pytest.fixture(autouse=True)
def _folder_of_extensions(monkeypatch, tmp_path) -> None:
    """Write the extensions to an empty folder, work there, and import Python modules from it."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def train(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Return the exit code of a tiny training with the extensions' folder of choices, and what it wrote to stderr."""
    typed = ("--config-dir", "conf", *TINY, "hydra.run.dir=run", *arguments)
    code, _, err = run(monkeypatch, capsys, *typed)
    return code, err


def test_training_with_a_loss_a_penalty_and_a_discriminator_of_ones_own(monkeypatch, capsys):
    code, err = train(monkeypatch, capsys, "loss=margin", "penalty=small_logits", "discriminator=pooled")
    assert code == 0, err
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["status"] == "completed"
    rows = Path("run/metrics.csv").read_text()
    assert "small_logits" in rows.splitlines()[0], "the penalty's values are logged under its name"


def test_penalty_of_ones_own_beside_r1(monkeypatch, capsys):
    code, err = train(monkeypatch, capsys, "penalty=[r1,small_logits]", "max_images=32")
    assert code == 0, err


def test_discriminator_of_ones_own_is_named_among_those_that_use_a_backbone(monkeypatch, capsys):
    code, err = train(monkeypatch, capsys, "discriminator=dcgan", "backbone=mini")
    assert code == 1
    assert "grid or pooled or projected or transfer or vision_aided" in err


def test_backbone_is_used_by_a_discriminator_of_ones_own(monkeypatch, capsys):
    code, err = train(monkeypatch, capsys, "discriminator=pooled", "backbone=mini", "backbone.weights=random")
    assert code == 0, err
    config = Path("run/config.yaml").read_text()
    assert "extensions.pooled.PooledDiscriminator" in config


def test_loss_that_lacks_a_member_of_its_contract_is_refused_in_one_sentence(monkeypatch, capsys):
    code, err = train(monkeypatch, capsys, "loss=incomplete")
    assert code == 1
    assert err.count("\n") == 1
    assert "IncompleteLoss" in err
    assert "relativistic" in err
