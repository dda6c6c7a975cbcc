"""Loggers, read back: metrics.csv over resumes and interruptions, and W&B's own offline files."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from medsynth.contracts import InputError
from medsynth.logger.csv import CSVLogger
from medsynth.logger.wandb import build
from tests.command import TINY, run


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_csv_rows_by_step_with_columns_as_they_come(tmp_path):
    logger = CSVLogger(path=str(tmp_path / "metrics.csv"))
    logger.log_metrics({"a": 1.0}, step=8)
    logger.log_metrics({"a": 2.0}, step=16)
    logger.log_metrics({"b": 0.1}, step=16)
    logger.log_metrics({"a": 1 / 3}, step=24)
    assert rows(tmp_path / "metrics.csv") == [
        {"step": "8", "a": "1.0", "b": ""},
        {"step": "16", "a": "2.0", "b": "0.1"},
        {"step": "24", "a": repr(1 / 3), "b": ""},
    ]


def test_csv_resumes_and_forgets_what_is_done_again(tmp_path):
    path = tmp_path / "metrics.csv"
    first = CSVLogger(path=str(path))
    for step in (8, 16, 24):
        first.log_metrics({"a": step}, step=step)
    second = CSVLogger(path=str(path))
    second.log_metrics({"a": 160.0}, step=16)
    second.log_metrics({"a": 240.0}, step=24)
    assert [row["a"] for row in rows(path)] == ["8.0", "160.0", "240.0"]


def test_csv_outlives_a_cut_last_line(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n8,1.0,2.0\n16,3")
    logger = CSVLogger(path=str(path))
    logger.log_metrics({"a": 3.0, "b": 4.0}, step=16)
    assert [(row["step"], row["a"], row["b"]) for row in rows(path)] == [("8", "1.0", "2.0"), ("16", "3.0", "4.0")]


def offline_records(folder):
    """What W&B wrote, by its own reader."""
    (run_folder,) = (folder / "wandb").glob("offline-run-*")
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(run_folder)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def of_type(records, kind):
    return [record[kind] for record in records if record["type"] == kind]


def test_wandb_run_holds_configuration_values_against_images_and_pictures(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, "logger=wandb", "hydra.run.dir=run")
    assert code == 0, err
    records = offline_records(tmp_path / "run")
    config = {key: value for record in of_type(records, "config") for key, value in record["update"].items()}
    assert config["max_images"] == 64
    assert config["data"]["image_size"] == 16
    history = [record["item"] for record in of_type(records, "history")]
    scores = {item["trainer/images_seen"]: item["val/fd_mini"] for item in history if "val/fd_mini" in item}
    expected = {
        float(row["step"]): float(row["val/fd_mini"])
        for row in rows(tmp_path / "run" / "metrics.csv")
        if row["val/fd_mini"]
    }
    assert scores == pytest.approx(expected)
    assert set(scores) == {32, 64}
    pictures = list((tmp_path / "run" / "wandb").glob("offline-run-*/files/media/images/samples*.png"))
    assert len(pictures) == 4  # generated and real, twice
    assert of_type(records, "exit")[0].get("exit_code", 0) == 0


def test_each_job_of_a_sweep_is_a_run_of_its_own_and_failures_are_marked(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    sweep = (
        "generator_optimizer.lr=1e30,1e-4",
        "task.ema_half_life=1000",
        "logger=wandb",
        "hydra.sweep.dir=sweep",
    )
    code, _, err = run(monkeypatch, capsys, "-m", *TINY, "trainer.log_every_n_steps=1", *sweep)
    assert code == 1
    assert "generator" in err
    exits = [of_type(offline_records(tmp_path / "sweep" / job), "exit")[0].get("exit_code", 0) for job in "01"]
    assert exits == [1, 0]
    ids = {path.name for path in (tmp_path / "sweep").glob("*/wandb/offline-run-*")}
    assert len(ids) == 2
    assert wandb.run is None, "a run left open would take in the next job's values"


def test_wandb_mode_is_online_only_where_a_key_is(monkeypatch, tmp_path):
    chosen = []

    def start(mode, **_):
        chosen.append(mode)
        raise InputError("far enough")

    monkeypatch.setattr(wandb, "init", start)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for key in (None, "0" * 40):
        if key:
            monkeypatch.setenv("WANDB_API_KEY", key)
        with pytest.raises(InputError, match="far enough"):
            build(folder=str(tmp_path), mode="auto", project="p")
    assert chosen == ["offline", "online"]


def test_wandb_without_a_connection_goes_on_offline(monkeypatch, tmp_path, caplog):
    init = wandb.init

    def start(mode, **options):
        if mode == "online":
            raise wandb.errors.CommError("no route")
        return init(mode=mode, **options)

    monkeypatch.setattr(wandb, "init", start)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    logger = build(folder=str(tmp_path), mode="online", project="p")
    logger.log_metrics({"a": 1.0, "trainer/images_seen": 3}, step=3)
    logger.close(failed=False)
    assert "kept offline" in caplog.text
    assert of_type(offline_records(tmp_path), "history")[0]["item"]["a"] == 1


def test_wandb_refuses(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(InputError, match="choose auto, online, offline, disabled"):
        build(folder=str(tmp_path), mode="on", project="p")
    with pytest.raises(InputError, match="WANDB_API_KEY"):
        build(folder=str(tmp_path), mode="online", project="p")
