"""Short forms of scripts/fault_trials.py and mutation_trial.py, with trainings in processes of their own."""

import csv
import importlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from medsynth.cli.sweep import exit_code_of
from medsynth.data.image_folder import ImageFolder
from medsynth.errors import EndCode, InputError
from medsynth.files import new_folder, replacing
from medsynth.lightning.checkpoint_io import AtomicCheckpointIO
from medsynth.logger.csv import CSVLogger
from medsynth.logger.run_ids import load_id, save_id
from medsynth.report.curves import draw_curves
from medsynth.report.run_files import Damage, read_metrics
from medsynth.report.runs import read_runs
from medsynth.runs.lock import locked
from medsynth.runs.stop_request import StopRequested, stop_requests
from medsynth.search.objective import read_curve
from medsynth.sweep.plan import read_plan, same_arguments, states
from medsynth.sweep.progress import job_table, read_rows
from tests.command import TINY, run
from tests.files import prepared, write_images
from tests.run_folders import write_sweep

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
def test_every_fault_of_the_mutation_trial_can_be_planted():
    program = [sys.executable, str(ROOT / "scripts" / "mutation_trial.py"), "--check"]
    done = subprocess.run(program, capture_output=True, text=True, env=SURROUNDINGS)
    assert done.returncode == 0, done.stderr


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


def test_a_full_disk_raises_oserror_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    """PyTorch by itself would report an unexpected position in a file."""
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"number": 1}, path)
    monkeypatch.setattr("medsynth.files.temporary_name", lambda path: path.with_name(path.name + ".tmp"))
    (tmp_path / "full.ckpt.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(100_000)}, tmp_path / "full.ckpt")
    assert AtomicCheckpointIO().load_checkpoint(path) == {"number": 1}
    assert not list(tmp_path.rglob("*.tmp"))


def test_two_writers_of_a_file_each_write_a_whole_one(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first", "the later one to finish stays"
    assert list(tmp_path.iterdir()) == [path]


def test_of_two_writers_of_a_folder_one_is_refused(tmp_path):
    path = tmp_path / "folder"
    first = new_folder(path)
    (first.__enter__() / "file").write_text("first")
    with new_folder(path) as second:
        (second / "file").write_text("second")
    with pytest.raises(FileExistsError):
        first.__exit__(None, None, None)
    assert (path / "file").read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("state", ["no record yet", "running"])
def test_a_second_training_in_a_folder_is_refused_in_one_sentence(tmp_path, monkeypatch, capsys, state):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medsynth.runs.lock.PATIENCE", 0.2)
    with locked(tmp_path / "run"):
        if state == "running":
            process = {"host": os.uname().nodename, "pid": os.getppid(), "started": time.time()}
            (tmp_path / "run" / "summary.json").write_text(json.dumps({"status": "running", "process": process}))
        before = sorted((tmp_path / "run").iterdir())
        code, _, err = run(monkeypatch, capsys, *TINY, "hydra.run.dir=run")
        assert code == 1
        assert err.count("\n") == 1, err
        assert ("is still running" if state == "running" else "Another process is starting or resuming") in err
        assert [path for path in sorted((tmp_path / "run").iterdir()) if path.name != "train.log"] == before


def test_a_lock_does_not_outlive_its_process_and_its_unfinished_files_are_deleted(tmp_path):
    program = "import pathlib, sys, time; from medsynth.runs.lock import locked\n"
    program += "with locked(pathlib.Path('run')): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=SURROUNDINGS, cwd=tmp_path
    )
    try:
        assert holder.stdout.readline() == "held\n"
        for name in ("metrics.csv.1-a.tmp", "checkpoints/last.ckpt.1-a.tmp", "report.html.1-a.tmp", "metrics.csv"):
            (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "run" / name).write_text("")
        with pytest.raises(InputError, match="Another process"):
            _lock_at_once(tmp_path / "run")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    _lock_at_once(tmp_path / "run")
    left = sorted(str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*"))
    assert left == ["checkpoints", "metrics.csv", "report.html.1-a.tmp"], "a report may be written meanwhile"


def _lock_at_once(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medsynth.runs.lock.PATIENCE", 0)
        with locked(folder):
            pass


def test_too_little_memory_for_the_libraries_is_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    converted = RuntimeError("no element")
    converted.__context__ = MemoryError()
    library = "libtorch_cpu.so: failed to map segment from shared object"
    for error in (ImportError(library), OSError(library), MemoryError(), converted):

        def fail(name, error=error, load=importlib.import_module):
            if name == "medsynth.cli.train":
                raise error
            return load(name)

        with monkeypatch.context() as patch:
            patch.setattr("medsynth.cli.compose.importlib.import_module", fail)
            code, _, err = run(patch, capsys, *TINY)
        assert code == 1
        assert err.count("\n") == 1
        assert err.startswith("medsynth train: error: The memory that this process may use is not enough to load")
    assert not list((tmp_path / "outputs").rglob("summary.json"))


@pytest.mark.parametrize("mebibytes", [18, 22, 25, 38, 120])  # of addresses
@pytest.mark.parametrize("program", [[str(ROOT / "train.py")], ["-m", "medsynth", "train", "-m", "seed=1,2"]])
def test_too_little_memory_for_the_command_line_is_one_sentence(program, mebibytes, tmp_path):
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (mebibytes * 2**20,) * 2)  # noqa: E731
    done = subprocess.run(
        [sys.executable, *program], capture_output=True, text=True, preexec_fn=limit, env=SURROUNDINGS, cwd=tmp_path
    )
    assert done.returncode == 1
    assert (done.stdout, done.stderr.count("\n")) == ("", 1), done.stderr
    assert "error: The memory that this process may use is not enough to load the program's libraries" in done.stderr


def test_a_sweep_that_was_resumed_ends_with_the_command(tmp_path):
    script = "echo $MEDSYNTH_PARENT > parent; trap 'touch in_order; exit 3' TERM; sleep 0.3; kill -TERM $PPID; "
    script += "while :; do sleep 0.05; done"
    with pytest.raises(StopRequested), stop_requests():
        exit_code_of(["sh", "-c", script], cwd=tmp_path, env=os.environ)
    assert (tmp_path / "in_order").is_file()
    assert (tmp_path / "parent").read_text().strip() == str(os.getpid()), "it ends with a process that is killed, too"


WRONG = (None, "x", -1e300, [[1]], {"x": [1]}, True)
BROKEN = ("", "{}", "[1]", "3", "null", "{", "[" * 2000, "no record", "\0" * 64)


def wrong_records(record, depth=2):
    """Yield the record without each of its keys, and with each of its values of another type; two levels of it."""
    for key, value in record.items():
        yield {name: kept for name, kept in record.items() if name != key}
        yield from (record | {key: wrong} for wrong in WRONG)
        if isinstance(value, dict) and depth > 1:
            yield from (record | {key: node} for node in wrong_records(value, depth - 1))


@pytest.mark.parametrize("file", ["sweep.json", "0/job.json", "0/summary.json", "loggers.json"])
def test_records_of_any_content_are_read_or_refused_in_a_sentence(tmp_path, file):
    sweep = tmp_path / "sweep"
    write_sweep(sweep, {"loss": ["hinge", "minimax"]}, failures={1: ("stopped", "Stopped.")})
    plan = json.loads((sweep / "sweep.json").read_text()) | {"compositions": ["a", "b"], "order": [0, 1]}
    (sweep / "sweep.json").write_text(json.dumps(plan))
    save_id(sweep, "wandb", id="abc", project="medsynth", mode="offline")
    path = sweep / file
    contents = [*BROKEN, *map(json.dumps, wrong_records(json.loads(path.read_text())))]
    refused = 0
    for content in contents:
        path.write_text(content)
        runs = read_runs([sweep])
        assert [run.number for run in runs][:2] == [0, 1], content
        rows = read_rows(sweep)
        assert job_table(rows, "val/fd_mini").count("\n") == len(rows), content
        assert all(isinstance(value, str) for value in load_id(sweep, "wandb").values()), content
        try:
            read = read_plan(sweep, "sweep.resume=sweep")
        except InputError:
            refused += 1
        else:
            states(sweep, read)
            same_arguments(read["arguments"], ["loss=hinge"])
    assert refused < len(contents) / 2, "what is whole is used"


TABLE = "step,a,b\n8,1.0,2.0\n16,3.0,\n24,nan,inf\n"
DAMAGED_TABLES = {  # content -> steps of the rows that are whole; None: it is no table of metrics
    TABLE: [8, 16, 24],
    TABLE + "32,1": [8, 16, 24],
    TABLE.replace("16,", "many,"): [8, 24],
    TABLE.replace("3.0", "x"): [8, 24],
    TABLE.replace("8,1.0", "8,1.0,1.0"): [16, 24],
    TABLE.replace("16,", "9" * 30 + ","): [8, 24],
    TABLE.replace("8,", "-8,", 1): [16, 24],
    TABLE.replace("8,1.0", "8,\0"): [16, 24],
    TABLE.replace("3.0", "1" * 200_000): [8, 24],
    "step,a,b\n": [],
    TABLE.replace("step", "row"): None,
    TABLE.removeprefix("step,a,b\n"): None,
    "step,a,a\n8,1,2\n": None,
    "": None,
    "no table\n": None,
    "\udcff\udcfe\0\udc80": None,
}


@pytest.mark.parametrize("content", DAMAGED_TABLES)
def test_a_resumed_run_keeps_the_whole_rows_of_its_metrics(tmp_path, content, monkeypatch):
    if content == TABLE:  # with values that are not finite
        monkeypatch.setattr("medsynth.report.curves.Figure", Figure)
    path = tmp_path / "metrics.csv"
    path.write_bytes(content.encode(errors="surrogateescape"))
    logger = CSVLogger(path=str(path))
    logger.log_metrics({"a": 5.0, "b": 6.0}, step=40)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    whole = DAMAGED_TABLES[content]
    assert [int(row["step"]) for row in rows] == [*(whole or []), 40]
    assert rows[-1] == {"step": "40", "a": "5.0", "b": "6.0"}
    assert read_curve(path, "a")[-1] == (40, 5.0)
    aside = tmp_path / "damaged-metrics.csv"
    assert aside.is_file() == (whole is None), "nothing is thrown away"
    draw_curves(aside if aside.is_file() else path, tmp_path / "curves")


@pytest.fixture
def heeded(number):
    """Give signal ``number`` Python's default handler: nohup starts a process that ignores SIGHUP, a shell SIGINT."""
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield number
    signal.signal(number, before)


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_while_images_are_prepared_leaves_nothing_behind(tmp_path, monkeypatch, capsys, workers, heeded):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medsynth.data.preparing._PARALLEL_FROM", 2)
    write_images(tmp_path / "images", 40, size=(16, 16))
    options = ("data=image_folder", "data.root=images", "data.image_size=16", f"data.prepare_workers={workers}")
    command = (*options, f"data.cache_dir={tmp_path / 'cache'}", "hydra.run.dir=run", "report=false")
    main, read = os.getpid(), ImageFolder.read

    def reading(reader, record):
        if record.name == "017.png":
            os.kill(main, heeded)
            time.sleep(0.5 if workers == 0 else 30)
        return read(reader, record)

    monkeypatch.setattr(ImageFolder, "read", reading)
    started = time.monotonic()
    code, _, err = run(monkeypatch, capsys, *command)
    assert time.monotonic() - started < 20, "no process is waited for until it has read its file"
    assert code == 128 + heeded
    assert "Traceback" not in err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "stopped"
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []
    assert multiprocessing.active_children() == []


def test_lack_of_memory_while_a_file_is_read_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch):
    def reading(reader, record):
        raise MemoryError

    write_images(tmp_path / "images", 10)
    monkeypatch.setattr(ImageFolder, "read", reading)
    with pytest.raises(InputError, match=r"memory of this machine .* data\.prepare_workers=0") as caught:
        prepared(tmp_path / "images", on_error="skip")
    assert caught.value.code == EndCode.OUT_OF_MEMORY


@pytest.mark.parametrize("kind", ["pipe", "huge", "folder"])
def test_metrics_that_are_no_file_of_metrics_stop_neither_a_run_nor_a_report(tmp_path, kind):
    path = tmp_path / "metrics.csv"
    if kind == "pipe":
        os.mkfifo(path)  # whoever opens it waits for a writer
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("step,a\n")
        os.truncate(path, 2**29)  # it takes no room on the disk, and would take half a GiB of memory
    damage = Damage()
    assert read_metrics(path, damage, growing=False) == {}
    assert len(damage) == 1
    logger = CSVLogger(path=str(path))
    logger.log_metrics({"a": 5.0}, step=8)
    assert path.read_text() == "step,a\n8,5.0\n"
    assert (tmp_path / "damaged-metrics.csv").exists()
