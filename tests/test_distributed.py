"""Several processes on one CPU, by gloo: the same training as one process with the same batch, and how it ends.

The exchange itself is in test_processes.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medsynth.contracts import InputError
from medsynth.data.module import ImageDataModule
from medsynth.data.sampler import BlockSampler, ResumableBatchSampler
from medsynth.data.source import Datasets
from medsynth.lightning import distributed as parallel
from medsynth.lightning.checkpoint_io import damage
from medsynth.lightning.process_launch import check_processes
from medsynth.report.run_files import Damage, read_metrics
from medsynth.runs.launcher_environment import rank, started_by_launcher
from tests.command import TINY, run


class Plain(torch.nn.Module):
    """A generator in which no image looks at the others of its batch, as batch normalization would."""

    def __init__(self, image_size: int, channels: int, latent_dim: int, **_: object):
        super().__init__()
        self.latent_dim, self.shape = latent_dim, (channels, image_size, image_size)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(latent_dim, 64), torch.nn.Tanh(), torch.nn.Linear(64, channels * image_size**2)
        )

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return self.layers(z).tanh().view(-1, *self.shape)


SHAREABLE = (
    "generator._target_=tests.test_distributed.Plain",
    "discriminator=r3gan",
    "discriminator.width=8",
    # Adam would make a step of full length of a gradient that is nothing but the rounding of a sum.
    "+generator_optimizer.eps=1e-3",
    "+discriminator_optimizer.eps=1e-3",
)


@pytest.mark.parametrize("world_size", [2, 4])
def test_shares_of_all_processes_are_the_batches_of_one(world_size):
    options = {"num_samples": 40, "batch_size": 8, "seed": 3, "endless": False}
    whole = list(ResumableBatchSampler(**options))
    shares = [list(ResumableBatchSampler(**options, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for number, batch in enumerate(whole):
        assert sorted(index for share in shares for index in share[number]) == sorted(batch)
        assert all(share[number] == batch[rank::world_size] for rank, share in enumerate(shares))


@pytest.mark.parametrize(("count", "world_size"), [(17, 2), (64, 3), (5, 5)])
def test_each_validation_image_goes_to_one_process(count, world_size):
    dealt = [list(BlockSampler(count, 4, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert sorted(index for batches in dealt for batch in batches for index in batch) == list(range(count))
    assert all(batch == list(range(batch[0], batch[-1] + 1)) for batches in dealt for batch in batches)


def test_without_other_processes_nothing_is_exchanged():
    weight = torch.ones(2, requires_grad=True)
    weight.grad = torch.tensor([1.0, 2.0])
    parallel.average_gradients([weight])
    assert weight.grad.tolist() == [1.0, 2.0]
    values = {"loss": torch.tensor(1 / 3)}
    assert parallel.averaged(values) == values
    parallel.leave_processes()


def options(**trainer):
    return {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"} | trainer


@pytest.mark.parametrize(
    ("trainer", "environment", "said"),
    [
        ({"devices": 1000}, {}, r"trainer\.devices=1000 is more than the \d+ processor cores"),
        ({"devices": "many"}, {}, r"trainer\.devices=many is no number"),
        ({"devices": 0}, {}, r"trainer\.devices=0 is no number"),
        ({"devices": None}, {}, r"trainer\.devices=null is no number"),
        ({"accelerator": "gpu"}, {}, r"trainer\.accelerator=gpu needs a GPU of CUDA, which PyTorch does not find"),
        ({"accelerator": "mps"}, {}, r"trainer\.accelerator=mps needs Apple's GPU, which PyTorch does not find"),
        ({"accelerator": "tpu"}, {}, r"trainer\.accelerator=tpu is unknown: choose auto, cpu, gpu, cuda or mps"),
        ({"accelerator": None}, {}, r"trainer\.accelerator=null is unknown"),
        ({"strategy": "fsdp"}, {}, r"trainer\.strategy=fsdp cannot train two networks"),
        ({"num_nodes": 2}, {}, r"trainer\.num_nodes=2 needs a launcher"),
        ({"devices": 1}, {"WORLD_SIZE": "4", "RANK": "0"}, "asks for 1 process, but 4 were started"),
        ({"devices": 2, "num_nodes": 3}, {"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}, "asks for 6 processes, but 4"),
    ],
)
def test_impossible_numbers_of_processes_are_refused_in_one_sentence(trainer, environment, said, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=said):
        check_processes(options(**trainer), environment)


def test_the_launcher_is_known_by_its_environment():
    assert check_processes(options(devices=1), {}) == 1
    assert not started_by_launcher({"SLURM_NTASKS": "4"}), "a batch script that was not started by srun is one process"
    of_slurm = {"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3"}
    assert started_by_launcher(of_slurm)
    assert rank(of_slurm) == 3
    assert rank({"WORLD_SIZE": "2", "RANK": "1"}) == 1
    assert rank({}) == 0


def test_a_batch_that_cannot_be_shared_is_refused():
    module = ImageDataModule(source=None, channels=1, image_size=16, batch_size=9, seed=0)
    module._datasets = Datasets([0] * 20, [0] * 2)
    module.trainer = SimpleNamespace(global_rank=0, world_size=2)
    with pytest.raises(InputError, match=r"data\.batch_size=9 cannot be divided among 2 processes"):
        module.train_dataloader()


def train(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    program = [sys.executable, "-m", "medsynth", "train", *TINY, f"hydra.run.dir={folder}", *options]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])} | environment
    return subprocess.run(program, capture_output=True, text=True, env=surroundings, cwd=folder.parent)


def state(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_two_processes_train_as_one_does(monkeypatch, capsys, tmp_path):
    """Weights of both networks and the EMA after 10 updates, losses, gradient norms, and all metrics."""
    monkeypatch.chdir(tmp_path)
    options = (*SHAREABLE, "max_images=80", "trainer.log_every_n_steps=1", "metrics.parts.mini.kernel=true")
    options += ("penalty=[r1,lecam]", "penalty.lecam.start=3")  # whose averages are of the whole batch
    code, _, err = run(monkeypatch, capsys, *TINY, *options, "hydra.run.dir=one")
    assert code == 0, err
    done = train(tmp_path / "two", *options, "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained") == 1, "the first process alone speaks"
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=1e-5, atol=1e-6, msg=lambda said, name=name: f"{name}: {said}"
        )
    curves = [read_metrics(tmp_path / folder / "metrics.csv", Damage(), growing=False) for folder in ("one", "two")]
    assert curves[0].keys() == curves[1].keys()
    for name, (steps, values) in curves[0].items():
        assert curves[1][name][0] == steps
        if not name.startswith("trainer/") or name == "trainer/images_seen":
            np.testing.assert_allclose(curves[1][name][1], values, rtol=2e-3, atol=1e-4, err_msg=name)
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert (summary["images_seen"], summary["generator_updates"]) == (80, 10)
    assert summary["environment"]["processes"] == 2


@pytest.mark.slow
def test_a_frozen_backbone_stays_as_it_is_in_all_processes(tmp_path):
    """Its running statistics are none of what is averaged: the generator's backward pass needs them untouched."""
    options = ("backbone=mini", "discriminator=transfer", "max_images=32", "task.feature_cache.enabled=true")
    done = train(tmp_path / "run", *options, "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["images_seen"]) == ("completed", 32)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_and_it_can_be_resumed(tmp_path):
    options = ("trainer.devices=2", "max_images=100000", "val_every_images=320")
    program = [sys.executable, "-m", "medsynth", "train", *TINY, f"hydra.run.dir={tmp_path / 'run'}", *options]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings)
    try:
        wait_for(lambda: (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file(), process)
        os.kill(workers(process.pid)[1], signal.SIGKILL)
        began = time.monotonic()
        _, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert time.monotonic() - began < 60
    assert process.returncode == 1
    lines = [line for line in err.splitlines() if "error" in line]
    assert len(lines) == 1, err
    assert "of 2 was ended by SIGKILL" in lines[0]
    assert "resume=" in lines[0]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["code"]) == ("killed", "killed")
    assert "SIGKILL" in summary["reason"]
    seen = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["medsynth"]["images_seen"]
    done = train(tmp_path / "run", f"resume={tmp_path / 'run'}", f"max_images={seen + 320}")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["images_seen"] == seen + 320


@pytest.mark.slow
def test_torchrun_trains_in_its_own_processes(tmp_path):
    program = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "medsynth", "train", *TINY]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    options = {"capture_output": True, "text": True, "env": surroundings, "cwd": tmp_path}
    done = subprocess.run([sys.executable, *program, "trainer.devices=2"], **options)
    assert done.returncode == 0, done.stderr
    assert (done.stdout.count("Training "), done.stdout.count("Trained ")) == (1, 1)
    (summary,) = tmp_path.glob("outputs/*/*/summary.json")  # the processes have agreed on one folder
    assert json.loads(summary.read_text())["status"] == "completed"
    done = subprocess.run([sys.executable, *program, "trainer.devices=2", f"resume={summary.parent}"], **options)
    assert "has already seen its max_images=64" in done.stderr


@pytest.mark.slow
def test_processes_that_diverge_end_with_one_error(tmp_path):
    done = train(
        tmp_path / "run", "trainer.devices=2", "generator_optimizer.lr=1e30", "discriminator_optimizer.lr=1e30"
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "gradient norm" in line
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "diverged"


@pytest.mark.slow
def test_processes_do_not_outlive_the_one_that_started_them(tmp_path):
    options = ("trainer.devices=2", "max_images=100000", "val_every_images=320")
    program = [sys.executable, "-m", "medsynth", "train", *TINY, f"hydra.run.dir={tmp_path / 'run'}", *options]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=surroundings)
    wait_for(lambda: (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file(), process)
    left = workers(process.pid)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in left):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] in ("stopped", "running")
    assert damage(tmp_path / "run" / "checkpoints" / "last.ckpt") is None


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), TORCHRUN], ids=["own", "torchrun"])
def test_processes_that_are_asked_to_stop_write_everything_before_they_end(tmp_path, launcher):
    """Each of them is asked, and the one that started them is not. SLURM is asked for another start, last of all."""
    program = tmp_path / "scontrol"
    program.write_text("#!/bin/sh\ngrep -h status run/summary.json > asked\n")
    program.chmod(0o755)
    options = ("hydra.run.dir=run", "trainer.devices=2", "max_images=100000", "val_every_images=320")
    command = [sys.executable, *launcher, "-m", "medsynth", "train", *TINY, *options]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    surroundings |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "3"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings, cwd=tmp_path
    )
    try:
        wait_for(lambda: (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file(), process)
        for worker in workers(process.pid):
            os.kill(worker, signal.SIGUSR1)
        _, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 1
    assert len([line for line in err.splitlines() if "error: Stopped after" in line]) == 1, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "stopped"
    assert "stopped" in (tmp_path / "asked").read_text()
    seen = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["medsynth"]["images_seen"]
    assert summary["images_seen"] == seen


def workers(parent: int) -> list[int]:
    """Processes of the training below ``parent``, the first one first."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = path.read_bytes().split(b"\0")
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        own = [word for word in words if word.startswith(b"RANK=")]
        trains = b"medsynth.cli.worker" in command or b"medsynth\0train" in command
        if own and trains and descends(int(path.parent.name), parent):
            found[int(own[0].partition(b"=")[2])] = int(path.parent.name)
    return [found[number] for number in sorted(found)]


def descends(process: int, parent: int) -> bool:
    while process > 1:
        if process == parent:
            return True
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.2)
