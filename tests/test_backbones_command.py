"""``medsynth backbones``: the table, its files, and what it refuses."""

from __future__ import annotations

import csv
import json
import re

import pytest

from medsynth.backbone.availability import MEASURED
from tests.command import run

NAMES = "names=[mini,mobilenet_v2,nasnet_mobile]"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """In an empty folder, with empty caches of weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_table(monkeypatch, capsys, tmp_path):
    code, out, _ = run(monkeypatch, capsys, NAMES, "out=table.csv", command="backbones")
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 120
    titles, *rows = lines[:4]
    assert (
        " ".join(titles.split()) == "backbone parameters headless paper's top-1 top-5 pixels 2nd derivative pretrained"
    )
    assert [" ".join(row.split()) for row in rows] == [
        "mini 311,569 310,408 64, 32 yes embedded",
        "mobilenet_v2 3,538,984 2,257,984 3,538,984 0.713 0.901 224, 32 yes download",
        "nasnet_mobile 5,326,716 4,269,716 5,326,716 0.744 0.919 224, 32 yes none",
    ]
    assert [" ".join(line.split()) for line in lines[5:9]] == [
        "backbone timm model features levels",
        "mini medsynth_mini 128 16 16 32 64 128",
        "mobilenet_v2 mobilenetv2_100 1,280 16 24 32 96 320",
        "nasnet_mobile nasnet_mobile 1,056 32 44 264 528 1056",
    ]
    for row in rows:  # right-aligned under their titles
        assert row[: titles.index("parameters") + len("parameters")].endswith(("311,569", "3,538,984", "5,326,716"))
    with (tmp_path / "table.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["timm model"] for row in written] == ["medsynth_mini", "mobilenetv2_100", "nasnet_mobile"]
    assert written[1]["levels"] == "16 24 32 96 320"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"], "nothing else is written"


def test_markdown_and_names_of_the_users_own(monkeypatch, capsys, tmp_path):
    mine = tmp_path / "conf" / "backbone"
    mine.mkdir(parents=True)
    (mine / "vit.yaml").write_text("defaults: [base/timm@_here_, _self_]\nmodel_name: test_vit\nweights: random\n")
    arguments = ("--config-dir", "conf", "names=vit", "out=table.md")
    code, out, _ = run(monkeypatch, capsys, *arguments, command="backbones")
    assert code == 0
    assert re.search(r"test_vit +64 +6 of 64$", out, re.MULTILINE)
    titles, rule, row = (tmp_path / "table.md").read_text().splitlines()
    cells = dict(zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (titles, row)), strict=True))
    assert rule.count("---") == len(cells)
    assert (cells["backbone"], cells["timm model"], cells["pixels"]) == ("vit", "test_vit", "160 only")
    assert cells["2nd derivative"] == "not fused"


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("names=timm", ["names=timm", "resnet50"]),
        ("names=[resnet5]", ["names=resnet5", "resnet50", "mini"]),
        ("out=table.txt", ["out=table.txt", ".csv, .json or .md"]),
        ("out=nowhere/table.csv", ["out=nowhere/table.csv", "folder that exists"]),
        ("name=mini", ["name", "did you mean names"]),
    ],
)
def test_mistakes(monkeypatch, capsys, tmp_path, argument, words):
    code, out, err = run(monkeypatch, capsys, argument, command="backbones")
    assert code == 1
    assert err.startswith("medsynth backbones: error: ")
    assert all(word in err for word in words), err
    assert not out
    assert not list(tmp_path.iterdir())


def test_timm_needs_a_model_name(monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "backbone=timm")
    assert code == 1
    assert "backbone.model_name= is needed" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_stored_measurements_are_those_of_this_installation(monkeypatch, capsys, tmp_path):
    code, _, err = run(monkeypatch, capsys, "measure=true", "out=measured.json", command="backbones")
    assert code == 0, err
    assert json.loads((tmp_path / "measured.json").read_text()) == list(MEASURED)


@pytest.mark.slow
def test_table_of_all_backbones(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, command="backbones")
    assert code == 0
    assert len(out.splitlines()) == 1 + 2 * 13 + 1 + 5
    assert "nasnet_large" in out
    assert re.search(r"efficientnet_lite0 .* packaged", out)
