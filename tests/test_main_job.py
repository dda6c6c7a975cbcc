"""The main job and the reference system at full size: slow, to be run before a release."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[1] / "train.py"


@pytest.mark.slow
def test_the_main_job_learns(tmp_path):
    """The distance to the real images halves, within 4 GiB of memory. For durations see the README."""
    as_typed = {
        name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"
    }  # which tests set for themselves
    program = {"cwd": tmp_path, "env": as_typed, "capture_output": True, "text": True, "check": True}
    job = subprocess.run([sys.executable, TRAIN], **program)
    (path,) = tmp_path.glob("outputs/*/*/summary.json")
    summary = json.loads(path.read_text())
    assert summary["status"] == "completed"
    assert summary["peak_memory_gib"] < 4
    lines = (path.parent / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("val/fd_pixels")
    values = [float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column]]
    assert values[-1] < values[0] / 2
    assert "img/s" in job.stderr
    assert "medsynth generate run=" in job.stdout


@pytest.mark.slow
def test_the_full_size_reference_system_takes_a_step(tmp_path):
    """256 px, six levels, Xception with random weights calibrated on the data: 38 million parameters."""
    options = (
        "experiment=tomsk",
        "backbone.weights=random",
        "data.source.num_images=16",
        "data.source.num_val=4",
        "data.batch_size=2",
        "max_epochs=null",
        "max_images=4",
        "val_every_images=4",
        "hydra.run.dir=run",
    )
    subprocess.run([sys.executable, TRAIN, *options], cwd=tmp_path, capture_output=True, check=True)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert "TomskGenerator (17.1" in summary["trained"]
    assert "frozen legacy_xception (random, calibrated on 16 images)" in summary["trained"]
    assert summary["images_seen"] == 4
