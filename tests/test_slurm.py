"""On a cluster with SLURM: a job on two nodes that is requeued ends like an uninterrupted one."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import TINY
from tests.test_resume import assert_same

REPOSITORY = Path(__file__).parents[1]
JOB = f"""#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 --mem=4000 --time=10 --requeue --open-mode=append
export OMP_NUM_THREADS=1 PYTHONPATH={REPOSITORY}
srun {sys.executable} -m medsynth train "$@"
"""


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def slurm_is_available():
    """Tell whether two nodes accept jobs."""
    if shutil.which("sinfo") is None:
        return False
    try:
        return sum(map(int, output_of("sinfo", "--noheader", "--states=idle,mix,alloc", "--format=%D").split())) >= 2
    except (subprocess.SubprocessError, ValueError):
        return False


def submit(*options):
    Path("job.sh").write_text(JOB)
    return output_of("sbatch", "--parsable", "--output=out-%j.txt", "job.sh", *TINY, *options)


def status(job):
    """Return the status of the run in the job's folder; None: there is none yet."""
    path = Path("outputs") / f"slurm-{job}" / "summary.json"
    return json.loads(path.read_text())["status"] if path.is_file() else None


def wait_for(condition, job, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, Path(f"out-{job}.txt").read_text()
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.skipif(not slurm_is_available(), reason="needs a SLURM cluster with two nodes that accept jobs")
def test_a_requeued_job_resumes_by_itself(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = ("trainer.num_nodes=2", "max_images=1600", "val_every_images=400", "trainer.log_every_n_steps=1")
    job = submit(*options)
    wait_for((Path("outputs") / f"slurm-{job}" / "checkpoints" / "last.ckpt").is_file, job)
    output_of("scancel", "--signal=USR1", job)
    wait_for(lambda: status(job) == "stopped", job)
    wait_for(lambda: status(job) == "completed", job)  # SLURM starts a requeued job after two minutes
    alone = submit(*options)
    wait_for(lambda: status(alone) == "completed", alone)
    assert_same(Path("outputs") / f"slurm-{job}", Path("outputs") / f"slurm-{alone}")
    text = Path(f"out-{job}.txt").read_text()
    assert text.count("error: Stopped after") == 1
    assert (text.count("Training "), text.count("Trained ")) == (2, 1)
