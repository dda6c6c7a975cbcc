"""Folders of runs: named by time or by SLURM job, and found again when a run is resumed."""

import json
import os

import pytest

from medsynth.errors import InputError
from medsynth.runs.placement import changed_options, choose_folder, is_resumed, remove_unused
from medsynth.runs.status import this_process
from tests.command import TINY, run

BY_TIME = ("outputs", "2026-01-31/12-00-00")
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_RESTART_COUNT", "TORCHELASTIC_RUN_ID")


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Remove the environment of launchers, and work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)


def slurm(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))


def a_run(folder, *options):
    """Write the files by which the folder of a run with a checkpoint is recognized."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    (folder / "composition.yaml").write_text(json.dumps({"overrides": list(options)}))
    return folder


def test_runs_of_one_second_have_folders_of_their_own(tmp_path):
    folders = [choose_folder(None, *BY_TIME) for _ in range(3)]
    assert folders == [f"outputs/2026-01-31/12-00-00{end}" for end in ("", "-2", "-3")]
    (tmp_path / folders[1] / "summary.json").write_text("{}")
    remove_unused()
    assert [path.name for path in tmp_path.glob("outputs/*/*")] == ["12-00-00-2"]


def test_the_folder_is_named_after_the_slurm_job(monkeypatch):
    slurm(monkeypatch, JOB_ID=12)
    assert [choose_folder(None, *BY_TIME) for _ in range(2)] == ["outputs/slurm-12", "outputs/slurm-12-2"]
    slurm(
        monkeypatch, JOB_ID=13, STEP_ID=0, NTASKS=4, PROCID=3
    )  # as srun's other processes get it, without any exchange
    assert [choose_folder(None, *BY_TIME) for _ in range(2)] == ["outputs/slurm-13"] * 2
    slurm(monkeypatch, STEP_ID=1)
    assert choose_folder("auto", *BY_TIME) == "outputs/slurm-13.1"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun inside of a job: its processes have a store
    monkeypatch.delenv("SLURM_NTASKS")
    assert choose_folder(None, *BY_TIME).startswith("outputs/2026")


def test_a_requeued_job_finds_its_runs_by_their_options(monkeypatch, tmp_path):
    slurm(monkeypatch, JOB_ID=12, RESTART_COUNT=1)
    first = a_run(tmp_path / "outputs" / "slurm-12", "loss=hinge", "resume=auto")
    a_run(tmp_path / "outputs" / "slurm-12-2")
    (tmp_path / "outputs" / "slurm-12-3").mkdir()  # ended before it had written anything
    assert choose_folder(None, *BY_TIME, ["loss=hinge", "sweep.keep=1"]) == "outputs/slurm-12"
    assert choose_folder(None, *BY_TIME, []) == "outputs/slurm-12-2"
    assert choose_folder(None, *BY_TIME, ["loss=minimax"]) == "outputs/slurm-12-4"
    assert is_resumed(None, first, named=True, in_sweep=False)
    assert not is_resumed(None, tmp_path / "outputs" / "slurm-12-4", named=True, in_sweep=False)


def test_a_run_is_only_resumed_or_refused_and_never_overwritten(monkeypatch, tmp_path):
    there = a_run(tmp_path / "there")
    with pytest.raises(InputError, match=r"there already holds a run: resume it by resume=.*there, have it"):
        is_resumed(None, there, named=True, in_sweep=False)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert not is_resumed(None, there, named=True, in_sweep=True)  # a sweep knows its jobs itself
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    assert is_resumed("auto", there, named=True, in_sweep=False)
    (there / "checkpoints" / "last.ckpt").rename(there / "checkpoints" / "last-1.ckpt")  # the newer one was damaged
    assert is_resumed("auto", there, named=True, in_sweep=False)
    assert is_resumed("there", there, named=True, in_sweep=False)
    assert not is_resumed("auto", tmp_path / "new", named=True, in_sweep=False)


def test_changed_options_are_compared_by_their_last_value(tmp_path):
    there = a_run(tmp_path / "there", "loss=hinge", "seed=1", "resume=auto", "seed=2")
    assert changed_options(there, ["seed=2", "loss=hinge", "resume=auto"]) == []
    assert changed_options(there, ["seed=1", "max_images=10"]) == ["seed=1", "max_images=10"]
    a_run(tmp_path / "again", "resume_data=any")
    assert changed_options(tmp_path / "again", ["resume_data=any"]) == ["resume_data=any"], (
        "it holds for one start alone"
    )


def test_resume_auto_starts_resumes_and_recognizes_a_complete_run(monkeypatch, capsys, tmp_path):
    options = (*TINY, "hydra.run.dir=run", "resume=auto")
    assert run(monkeypatch, capsys, *options, "max_images=32")[0] == 0
    code, _, err = run(monkeypatch, capsys, *TINY, "hydra.run.dir=run")
    assert (code, err.count("\n")) == (1, 1)
    assert "error: run already holds a run: resume it by resume=run, have it" in err
    for expected, options_now in (("64 images", options), ("The run run is complete.", options)):
        code, out, err = run(monkeypatch, capsys, *options_now)
        assert code == 0, err
        assert expected in out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["images_seen"]) == ("completed", 64)
    code, _, err = run(monkeypatch, capsys, *options, "loss=hinge")
    assert (code, err.count("\n")) == (1, 1)
    assert "loss=hinge cannot be combined with resume=" in err
    for options, message in (
        ((), "resume=auto needs hydra.run.dir=outputs/name"),
        (["seed=1,2", "-m"], "sweep.resume=true"),
    ):
        code, _, err = run(monkeypatch, capsys, "resume=auto", *TINY, *options)
        assert (code, err.count("\n")) == (1, 1)
        assert message in err


def test_a_running_run_without_a_checkpoint_is_refused(monkeypatch, capsys, tmp_path):
    (tmp_path / "run").mkdir()
    process = this_process() | {"pid": os.getppid()}
    (tmp_path / "run" / "summary.json").write_text(json.dumps({"status": "running", "process": process}))
    for option in ("resume=auto", "resume=null"):
        code, _, err = run(monkeypatch, capsys, *TINY, "hydra.run.dir=run", option)
        assert (code, err.count("\n")) == (1, 1)
        assert f"still running, as process {os.getppid()}" in err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "running"
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.slow
def test_loggers_continue_a_run_that_is_resumed_automatically(monkeypatch, capsys, tmp_path):
    """The loggers' own identifiers of the run stay the same."""
    slurm(monkeypatch, JOB_ID=5)
    options = (*TINY, "logger=mlflow", "max_epochs=null", "logger.mlflow.uri=sqlite:///mlflow.db")
    known = tmp_path / "outputs" / "slurm-5" / "loggers.json"
    assert run(monkeypatch, capsys, *options, "max_images=32", "resume=auto")[0] == 0
    first = known.read_text()
    slurm(monkeypatch, RESTART_COUNT=1)
    composition = known.parent / "composition.yaml"
    composition.write_text(composition.read_text().replace("max_images: 32", "max_images: 64"))
    code, _, err = run(monkeypatch, capsys, *options, "max_images=32", "resume=auto")
    assert code == 0, err
    assert known.read_text() == first
    assert "resume=auto" not in composition.read_text()
