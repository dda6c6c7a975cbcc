"""Short forms of scripts/fault_trials.py: trainings in processes of their own, with real faults."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medsynth.lightning.checkpoint_io import AtomicCheckpointIO
from tests.command import TINY

ROOT = Path(__file__).parents[1]
SURROUNDINGS = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
def test_faults_lose_nothing(tmp_path):
    """The script reports it by its exit code; it runs in its own process, since it forks."""
    program = [sys.executable, str(ROOT / "scripts" / "fault_trials.py"), "kill", "cut", "memory", "--trials", "3"]
    done = subprocess.run(program, capture_output=True, text=True, env=SURROUNDINGS, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:]}
    assert counts["kill"] == ["3", "3", "0", "0"]
    assert counts["cut"] == ["3", "3", "0", "0"]
    assert [counts["memory"][0], counts["memory"][1], counts["memory"][3]] == ["3", "3", "0"]


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_and_one_resumes(tmp_path):
    program = [sys.executable, "-m", "medsynth", "train", *TINY, "hydra.run.dir=run", "trainer.devices=2"]
    program += ["max_images=100000", "val_every_images=320", "trainer.log_every_n_steps=1"]
    process = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=SURROUNDINGS, cwd=tmp_path
    )
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    try:
        while not last.is_file() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1, err
    assert "resume=run continues from it" in err
    seen = torch.load(last, weights_only=True)["medsynth"]["images_seen"]
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert int(list(csv.DictReader(file))[-1]["step"]) == seen, "the checkpoint is of the step that was the last"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "stopped"
    again = [sys.executable, "-m", "medsynth", "train", "resume=run", "trainer.devices=1", f"max_images={seen + 64}"]
    done = subprocess.run(again, capture_output=True, text=True, env=SURROUNDINGS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Resumed with 1 processes instead of 2" in done.stdout + done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["images_seen"] == seen + 64


def test_a_full_disk_raises_oserror_and_the_last_checkpoint_stays(tmp_path):
    """PyTorch by itself would report an unexpected position in a file."""
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"number": 1}, path)
    (tmp_path / "full.ckpt.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(100_000)}, tmp_path / "full.ckpt")
    assert AtomicCheckpointIO().load_checkpoint(path) == {"number": 1}
    assert not list(tmp_path.rglob("*.tmp"))
