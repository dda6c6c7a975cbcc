"""Exact resume: runs stopped and resumed against uninterrupted ones; checkpoints, signals, refusals."""

import csv
import hashlib
import io
import json
import os
import random
import signal
import time
from types import SimpleNamespace

import pytest
import torch

from medsynth.errors import InputError
from medsynth.gan import GAN
from medsynth.generator.export import read_generator
from medsynth.lightning import checkpoint_io
from medsynth.lightning.checkpoint_io import AtomicCheckpointIO, damage
from medsynth.lightning.last_checkpoint import LastCheckpoint
from medsynth.lightning.resume_checkpoint import check_checkpoint
from medsynth.lightning.stop_signals import StopSignals
from medsynth.runs.launcher_environment import requeue
from medsynth.runs.layout import older, older_ones
from medsynth.runs.provenance import fingerprint
from medsynth.runs.resume import read_composition
from medsynth.runs.status import this_process
from tests.command import TINY, run
from tests.files import write_images

LONGER = (*TINY, "max_images=128", "val_every_images=48", "trainer.log_every_n_steps=1")


def stop_at(patch, images, number, *, validating=False, step=GAN):
    """Send this process signal ``number`` in the step, or in the validation, at which ``images`` have been seen."""
    name = "validation_step" if validating else "training_step"
    original = getattr(step, name)

    def signalled(self, batch, batch_index):
        values = original(self, batch, batch_index)
        if self.images_seen == images:
            os.kill(os.getpid(), number)
        return values

    patch.setattr(step, name, signalled)


def assert_same(first, second):
    """Check that the files of two runs are bit for bit the same, except for times and folders."""
    one, two = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (first, second))
    assert one["medsynth"] == two["medsynth"]
    for counts in ("epoch_loop.batch_progress", "epoch_progress"):
        assert one["loops"]["fit_loop"][counts] == two["loops"]["fit_loop"][counts]
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][name]), name
    torch.testing.assert_close(one["optimizer_states"], two["optimizer_states"], rtol=0, atol=0)
    assert rows(first) == rows(second)
    assert (first / "diagnosis.jsonl").read_bytes() == (second / "diagnosis.jsonl").read_bytes()
    for name in ("samples/latest.png", *(f"samples/{path.name}" for path in (first / "samples").iterdir())):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    best = [torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True) for folder in (first, second)]
    assert best[0]["medsynth"] == best[1]["medsynth"]
    exported = [read_generator(folder / "generator.safetensors") for folder in (first, second)]
    assert exported[0][1] == exported[1][1]
    assert all(map(torch.equal, *(generator.state_dict().values() for generator, _ in exported)))
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (first, second)]
    assert summaries[0]["best"] == summaries[1]["best"]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        timing = {"trainer/images_per_second", "trainer/data_wait"}
        return [{name: v for name, v in row.items() if name not in timing} for row in csv.DictReader(file)]


TERM, INT, USR1, USR2 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2
STOPS = [
    [(48, USR2, False), (64, TERM, False), (96, INT, True), (128, INT, False)],  # 64: the end of an epoch
    [(8, TERM, False), (24, USR1, False), (48, TERM, False), (64, INT, False), (72, TERM, False)],
    [(48, TERM, True), (56, TERM, False), (96, INT, False), (128, TERM, True)],
]


@pytest.mark.parametrize("stops", [STOPS[0], *(pytest.param(s, marks=pytest.mark.slow) for s in STOPS[1:])], ids=len)
def test_a_run_stopped_several_times_equals_an_uninterrupted_one(stops, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = (
        *LONGER,
        "task.accumulate=2",
        "task.discriminator_steps=2",
        "penalty=[r1,lecam]",
        "penalty.lecam.start=3",
    )
    assert run(monkeypatch, capsys, *options, "hydra.run.dir=whole")[0] == 0
    arguments = [*options, "hydra.run.dir=stopped"]
    handlers = [signal.getsignal(number) for number in (TERM, INT, USR1, USR2)]
    for images, number, validating in stops:
        with monkeypatch.context() as patch:
            stop_at(patch, images, number, validating=validating)
            code, _, err = run(monkeypatch, capsys, *arguments)
        assert code == 1
        assert f"Stopped after {images} images. The last good checkpoint is stopped/checkpoints/last.ckpt" in err
        assert [signal.getsignal(number) for number in (TERM, INT, USR1, USR2)] == handlers
        summary = json.loads((tmp_path / "stopped" / "summary.json").read_text())
        assert (summary["status"], summary["images_seen"]) == ("stopped", images)
        arguments = ["resume=stopped"]
    (tmp_path / "stopped").rename(tmp_path / "moved")
    code, _, err = run(monkeypatch, capsys, "resume=moved")
    assert code == 0, err
    assert json.loads((tmp_path / "moved" / "summary.json").read_text())["status"] == "completed"
    assert_same(tmp_path / "moved", tmp_path / "whole")
    names = sorted(path.name for path in (tmp_path / "moved" / "checkpoints").iterdir())
    assert names == ["best.ckpt", "last-1.ckpt", "last.ckpt"]


FOLDER = ("data=image_folder", "data.root=images", "data.image_size=16", "data.batch_size=8")


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(24, 96), (48, 64), (8, 120)], ids=str)
def test_a_run_stopped_with_workers_flips_and_schedules_equals_an_uninterrupted_one(
    monkeypatch, capsys, tmp_path, stops
):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images", 80, size=(16, 16))
    own = [option for option in LONGER if "data." not in option]
    options = (
        *own,
        *FOLDER,
        "data.num_workers=2",
        "data.flip=horizontal",
        "discriminator=vision_aided",
        "discriminator.warmup_images=64",
        "discriminator.width=8",
        "augment=diffaugment",
    )
    assert run(monkeypatch, capsys, *options, "hydra.run.dir=whole")[0] == 0
    arguments = [*options, "hydra.run.dir=stopped"]
    for images in stops:
        with monkeypatch.context() as patch:
            stop_at(patch, images, signal.SIGTERM)
            assert run(monkeypatch, capsys, *arguments)[0] == 1
        arguments = ["resume=stopped"]
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 0, err
    assert_same(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.slow
def test_max_time_ends_with_a_checkpoint_and_counts_from_each_start(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = (*TINY, "max_images=100000", "val_every_images=100000", "hydra.run.dir=run")
    assert run(monkeypatch, capsys, *options, "trainer.max_time=00:00:00:01")[0] == 0
    seen = [json.loads((tmp_path / "run" / "summary.json").read_text())["images_seen"]]
    assert run(monkeypatch, capsys, "resume=run")[0] == 0
    seen.append(json.loads((tmp_path / "run" / "summary.json").read_text())["images_seen"])
    assert 0 < seen[0] < seen[1] < 100000
    assert [int(row["step"]) for row in rows(tmp_path / "run") if row["val/fd_mini"]] == seen
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["seconds"] > 2, "of both parts"
    code, _, err = run(monkeypatch, capsys, "resume=run", "trainer.max_time=null", f"max_images={seen[1] + 8}")
    assert code == 0, err
    assert run(monkeypatch, capsys, *TINY, f"max_images={seen[1] + 8}", "hydra.run.dir=whole")[0] == 0
    weights = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("run", "whole")
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


# Checkpoints


@pytest.fixture
def checkpoint(tmp_path):
    """Write checkpoints/last.ckpt of the folder ``run`` four times; each holds its number."""
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    for number in range(4):
        content = {"number": number, "weights": torch.full((500,), float(number))}
        AtomicCheckpointIO().save_checkpoint(content, path, storage_options={"keep": 2})
    return path


def test_older_checkpoints_are_kept_undamaged(checkpoint):
    there = older_ones(checkpoint)
    assert there == [checkpoint, older(checkpoint, 1), older(checkpoint, 2)]
    assert [AtomicCheckpointIO().load_checkpoint(path)["number"] for path in there] == [3, 2, 1]
    assert [damage(path) for path in there] == [None] * 3
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["last-1.ckpt", "last-2.ckpt", "last.ckpt"]


def test_the_oldest_of_several_checkpoints_is_given_up(tmp_path):
    path = tmp_path / "last.ckpt"
    for number in range(1, 7):
        AtomicCheckpointIO().save_checkpoint({"number": number}, path, storage_options={"keep": 3})
    assert [AtomicCheckpointIO().load_checkpoint(each)["number"] for each in older_ones(path)] == [6, 5, 4, 3]


def test_the_time_of_a_resumed_run_includes_that_before(tmp_path):
    callback = LastCheckpoint(dirpath=str(tmp_path))
    checkpoint = {"resume": {"seconds": 1000.0, "processes": 1}, "callbacks": {}}
    trainer, model = SimpleNamespace(world_size=1), SimpleNamespace(images_seen=8, max_images=16)
    callback.on_load_checkpoint(trainer, model, checkpoint)
    callback.on_fit_start(trainer, model)
    assert 1000 <= callback.seconds < 1060


def test_any_cut_and_any_flipped_bit_is_detected(checkpoint):
    whole = checkpoint.read_bytes()
    chance = random.Random(0)
    for _ in range(100):
        checkpoint.write_bytes(whole[: chance.randrange(len(whole) - 80)])
        assert damage(checkpoint)
        changed = bytearray(whole)
        changed[chance.randrange(len(whole) - 80)] ^= 1 << chance.randrange(8)
        checkpoint.write_bytes(changed)
        assert damage(checkpoint)
    for length in range(1, 80):  # of the digest itself: the rest is what was written, or refused
        checkpoint.write_bytes(whole[:-length])
        assert damage(checkpoint) or torch.load(checkpoint, weights_only=True)["number"] == 3


def test_the_digest_is_of_all_blocks_and_of_no_byte_more():
    content = bytes(range(256)) * (20 * 2**10)  # 5 MiB, in blocks of 4
    expected = hashlib.sha256(content[:-3]).hexdigest().encode()
    assert checkpoint_io._digest(io.BytesIO(content), len(content) - 3) == expected


def test_a_checkpoint_without_a_digest_is_checked_by_the_archives_checksums(checkpoint):
    torch.save({"weights": torch.arange(1000)}, checkpoint)
    assert damage(checkpoint) is None
    changed = bytearray(checkpoint.read_bytes())
    changed[len(changed) // 2] ^= 1
    checkpoint.write_bytes(changed)
    assert "is not what was written" in damage(checkpoint)


class Model:
    """Stub of a GAN with the members that ``check_checkpoint`` uses."""

    images_seen, max_images = 0, 100

    def on_load_checkpoint(self, checkpoint):
        self.images_seen = checkpoint["number"]


def test_the_newest_undamaged_checkpoint_is_used(checkpoint, caplog):
    folder = checkpoint.parents[1]
    assert check_checkpoint(folder, Model()) == checkpoint
    assert not caplog.messages
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert check_checkpoint(folder, Model()) == older(checkpoint, 1)
    assert len(caplog.messages) == 1
    assert "last.ckpt is damaged" in caplog.messages[0]
    assert caplog.messages[0].endswith("last-1.ckpt.")
    for path in older_ones(checkpoint):
        path.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"last.ckpt is damaged .* and .*last-2.ckpt is damaged .*no older"):
        check_checkpoint(folder, Model())


class Data:
    """Stub of a data module with the members that ``fingerprint`` uses."""

    num_train, num_val, description = 10, 4, "four gray images"

    def __init__(self, value, content="gray"):
        self.value, self.content = value, content

    def val_batch(self, count):
        return {"image": torch.full((count, 1, 4, 4), self.value)}


def test_other_data_is_refused_unless_allowed(tmp_path, caplog):
    content = {"number": 8, "resume": {"data_fingerprint": fingerprint(Data(0.5))}, "medsynth": {"format": 2}}
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "checkpoints" / "last.ckpt")
    check_checkpoint(tmp_path, Model(), Data(0.5))
    for other in (Data(-0.5), Data(0.5, content="green")):
        with pytest.raises(InputError, match=r"than four gray images: .*resume_data=any"):
            check_checkpoint(tmp_path, Model(), other)
    check_checkpoint(tmp_path, Model(), Data(-0.5), any_data=True)
    assert "other data than before" in caplog.messages[-1]
    AtomicCheckpointIO().save_checkpoint(content | {"medsynth": {"format": 1}}, tmp_path / "checkpoints" / "last.ckpt")
    check_checkpoint(tmp_path, Model(), Data(-0.5))  # its fingerprint was computed in another way
    assert "whether the data are the same is not checked" in caplog.messages[-1]


def test_a_run_that_has_seen_more_than_max_images_is_refused(checkpoint):
    model = Model()
    model.max_images = 2
    with pytest.raises(InputError, match=r"has already seen 3 images, more than max_images=2"):
        check_checkpoint(checkpoint.parents[1], model)


def test_checkpoints_of_other_formats_are_refused():
    for format in (0, 3, 99):
        with pytest.raises(InputError, match=f"of format {format}; this version of medsynth reads format"):
            GAN.on_load_checkpoint(None, {"medsynth": {"format": format}})


# What resume= refuses

GONE = this_process() | {"pid": 2**22 + 1}  # a number that Linux gives to no process


@pytest.fixture
def composed(tmp_path):
    """Write the composition of a run that has not ended; return its folder."""
    text = "max_images: 64\nmax_epochs: 2\ngenerator_optimizer: {lr: 0.1}\ndata: {image_size: 16}\n"
    (tmp_path / "composition.yaml").write_text(text)
    return tmp_path


def test_durations_can_be_changed_and_components_cannot(composed):
    config = read_composition(composed, ["resume=x", "max_images=96"])
    assert (config.max_images, config.max_epochs) == (96, None), "max_images takes precedence"
    assert read_composition(composed, ["resume_data=any", "data.image_size=16"]).resume_data == "any"
    for override, words in {
        "generator_optimizer.lr=1": "optimizers continue as",
        "generator=mlp": "its own components",
        "resume_data=what": "choose same or any",
        "data.image_size=32": "the networks are built for data.image_size=16",
    }.items():
        with pytest.raises(InputError, match=words):
            read_composition(composed, [override])


def test_a_finished_run_says_how_to_extend_it(composed):
    summary = {"status": "completed", "images_seen": 64}
    (composed / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InputError, match=r"has already seen its max_images=64: .*max_images=128"):
        read_composition(composed, ["resume=x"])
    for override in ("max_images=96", "max_epochs=3"):
        read_composition(composed, ["resume=x", override])
    (composed / "summary.json").write_text(json.dumps(summary | {"status": "running", "process": GONE}))  # at its end
    read_composition(composed, ["resume=x"])


def test_a_run_that_is_still_running_is_refused(composed):
    running = {"status": "running", "process": this_process() | {"pid": os.getppid()}}
    (composed / "summary.json").write_text(json.dumps(running))
    with pytest.raises(InputError, match=f"still running, as process {os.getppid()} on"):
        read_composition(composed, [])
    again = running["process"] | {"started": time.time() - 10 * 365 * 86400}  # its number was given to another since
    for process in (again, this_process(), GONE):
        (composed / "summary.json").write_text(json.dumps({"status": "running", "process": process}))
        read_composition(composed, [])


def impossible(*_):
    raise InputError("no step is possible")


@pytest.mark.slow
def test_a_resume_that_fails_before_its_first_step_changes_no_file(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, capsys, *TINY, "hydra.run.dir=run")[0] == 0
    files = {
        path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.suffix in (".yaml", ".json", ".csv")
    }
    with monkeypatch.context() as patch:
        patch.setattr(GAN, "training_step", impossible)
        code, _, err = run(monkeypatch, capsys, "resume=run", "max_images=96", "seed=3")
    assert code == 1
    assert "no step is possible" in err
    assert {path: path.read_bytes() for path in files} == files
    assert run(monkeypatch, capsys, "resume=run", "max_images=96")[0] == 0
    assert "max_images: 96" in (tmp_path / "run" / "config.yaml").read_text()


# Signals


@pytest.fixture
def signals():
    handlers = {number: signal.getsignal(number) for number in (TERM, INT, USR1, USR2)}
    heard = StopSignals()
    heard.listen()
    yield heard
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_the_first_signal_is_remembered_and_a_second_one_ends_at_once(signals, monkeypatch):
    signals.patient = True
    os.kill(os.getpid(), TERM)
    os.kill(os.getpid(), TERM)  # the same request, passed on by a parent
    assert signals.requested
    assert not signals.requeue
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), INT)


def test_before_the_first_step_a_signal_ends_at_once(signals):
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), TERM)


def test_slurm_is_asked_to_requeue_the_job(signals, monkeypatch, tmp_path, caplog):
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ "$2" != 8 ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    signals.patient = True
    os.kill(os.getpid(), USR1)
    assert signals.requeue
    assert not requeue({})
    assert requeue({"SLURM_JOB_ID": "7"})
    assert not caplog.messages
    assert requeue({"SLURM_JOB_ID": "8"})
    assert "refused to requeue job 8" in caplog.messages[0]
    assert requeue({"SLURM_JOB_ID": "10", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3"})
    assert (tmp_path / "asked").read_text().splitlines() == ["requeue 7", "requeue 8", "requeue 9_3"]


@pytest.mark.slow
def test_slurm_is_asked_after_everything_is_written(signals, monkeypatch, capsys, tmp_path):
    """SLURM ends the job at once. After a requeue the run is resumed even if its summary says that it is running."""
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "scontrol"
    program.write_text("#!/bin/sh\ngrep -h status outputs/slurm-7/summary.json > asked\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with monkeypatch.context() as patch:
        stop_at(patch, 40, USR1)
        assert run(monkeypatch, capsys, *TINY)[0] == 1
    assert "stopped" in (tmp_path / "asked").read_text()
    summary = tmp_path / "outputs" / "slurm-7" / "summary.json"
    lost = {"host": "another", "pid": 1, "started": time.time(), "slurm": [7, 0]}
    summary.write_text(json.dumps({"status": "running", "process": lost}))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    code, _, err = run(monkeypatch, capsys, *TINY)
    assert code == 0, err
    assert "40/64" in err, "it resumed where it was stopped"
    assert json.loads(summary.read_text())["status"] == "completed"


def test_training_images_that_were_exchanged_are_detected(monkeypatch, capsys, tmp_path):
    """The exchanged images have the same names and sizes, and none of them is in the validation set."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images", 40, size=(16, 16))
    own = [option for option in TINY if "data." not in option]
    options = (*own, *FOLDER, "data.val_fraction=0.25", "hydra.run.dir=run")
    assert run(monkeypatch, capsys, *options, "max_images=32")[0] == 0
    changed = sorted((tmp_path / "images").rglob("*.png"))
    originals = [path.read_bytes() for path in changed]
    again = ("resume=run", "max_images=64")
    assert run(monkeypatch, capsys, *again)[0] == 0  # the same data
    for path, content in zip(changed, reversed(originals), strict=True):
        path.write_bytes(content)
    code, _, err = run(monkeypatch, capsys, "resume=run", "max_images=96")
    assert code == 1
    assert "was trained on other data" in err
