"""Endings are data: nothing that medsynth does depends on the words of a message."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medsynth.errors import EndCode, InputError
from medsynth.gan import GAN
from medsynth.runs.records import read_json
from medsynth.runs.run_end import RunEnd, end_of, error_of, read_run_end, write_run_end
from medsynth.runs.status import STATUSES
from medsynth.search.objective import make_objectives
from medsynth.search.search import Search, Settings
from medsynth.search.space import Choices
from medsynth.search.study import open_study, quiet
from medsynth.sweep import job as jobs
from medsynth.sweep import process
from medsynth.sweep.job import run_job
from tests.command import TINY, run
from tests.test_search import Stub
from tests.test_sweep import STUB, job

PACKAGE = Path(__file__).parents[1] / "medsynth"


@pytest.fixture
def no_messages(monkeypatch):
    """Return a function that replaces the message of every end and of every error of ours by "x" from then on."""
    construct, construct_error = RunEnd.__init__, InputError.__init__

    def without_words(self, code, message=None, requeue=False):
        construct(self, code, None if message is None else "x", requeue)

    def error_without_words(self, message, *, code=None):
        construct_error(self, "x", code=code)

    def replace():
        monkeypatch.setattr(RunEnd, "__init__", without_words)
        monkeypatch.setattr(InputError, "__init__", error_without_words)

    return replace


def without_reasons(records):
    """Drop what differs between two executions of the same jobs: times, processes and messages."""
    return [
        {key: record.get(key) for key in ("status", "code", "attempts", "same_as", "exit_code")} for record in records
    ]


def resumed_jobs(monkeypatch, folder):
    """Run jobs of a sweep that end in all ways, run them again, and return what became of them."""
    monkeypatch.setattr(process, "PROGRAM", (process.sys.executable, "-c", STUB))
    folder.mkdir()
    monkeypatch.chdir(folder)
    behavior = folder / "behavior.json"
    behavior.write_text(json.dumps({"1": "killed", "2": "raised", "3": "diverged", "4": "killed", "5": "killed"}))
    first = [run_job(job(folder, number, str(number), str(number % 6))) for number in range(1, 8)]
    behavior.write_text(json.dumps({"4": "damaged", "5": "complete"}))
    again = [run_job(job(folder, number, str(number), str(number % 6))) for number in range(1, 8)]
    lines = [json.loads(line) for line in (folder / "started.txt").read_text().splitlines()]
    return without_reasons(first), without_reasons(again), [(line["seed"], line["resume"]) for line in lines]


def searched_trials(monkeypatch, folder):
    """Search with pruned, failed and repeated trials, and one that was interrupted and is resumed."""
    folder.mkdir()
    levels = {"minimax": 10.0, "hinge": 10.0, "least_squares": 90.0}
    stopping = []

    def curve(options):
        if options["loss"] == "non_saturating":
            raise RuntimeError("the loss is nan")
        level = levels[options["loss"]]
        for value in (level + 3, level + 2, level + 1, level):
            if stopping:
                stopping.pop()._stop.set()
            yield value

    monkeypatch.setattr(jobs, "run_training", Stub(curve))
    objectives = make_objectives(["val/fd_mini"], None)
    images = {"val_every_images": 10_000, "max_images": 40_000}
    settings = {
        "folder": folder,
        "fixed": (),
        "space": (Choices("loss", (*levels, "non_saturating")),),
        "objectives": objectives,
        "composition": str,
        "prunes": True,
        "every": 0.01,
    }
    with quiet():
        study = open_study(folder, objectives, sampler="random", pruner="median", seed=3, startup=2, **images)
        search = Search(study, Settings(trials=1, **settings, **images), say=lambda line: None)
        stopping.append(search)
        search.run()
        Search(study, Settings(trials=12, **settings, **images), say=lambda line: None).run()
    records = [read_json(folder / str(trial.number) / "job.json") for trial in study.trials]
    return without_reasons(records), [(trial.state, trial.value, trial.params) for trial in study.trials]


@pytest.mark.parametrize("scenario", [resumed_jobs, searched_trials])
def test_nothing_changes_when_every_message_is_x(monkeypatch, tmp_path, no_messages, scenario):
    before = scenario(monkeypatch, tmp_path / "words")
    no_messages()
    assert scenario(monkeypatch, tmp_path / "none") == before
    reasons = {read_json(path).get("reason") for path in (tmp_path / "none").glob("*/job.json")}
    assert reasons == {None, "x"}


def test_all_ends_occur_in_these_scenarios(monkeypatch, tmp_path):
    first, again, _ = resumed_jobs(monkeypatch, tmp_path / "jobs")
    assert [record["code"] for record in first] == [
        *("killed", "program_error", "diverged", "killed", "killed", "completed", "duplicate")
    ]
    assert [record["code"] for record in again] == [
        *("completed", "completed", "diverged", "completed", "completed", "completed", "duplicate")
    ]
    records, _ = searched_trials(monkeypatch, tmp_path / "trials")
    assert {record["code"] for record in records} == {"completed", "pruned", "diverged", "duplicate"}
    assert records[0]["attempts"] == 2


@pytest.mark.parametrize("requeue", [False, True])
@pytest.mark.parametrize("code", EndCode)
def test_every_end_is_read_as_it_was_written(tmp_path, code, requeue):
    end = RunEnd(code, "a sentence", requeue)
    write_run_end(end, tmp_path / "end.json")
    assert read_run_end(tmp_path / "end.json") == end
    assert read_run_end(end.record()) == end
    assert end.status in STATUSES
    assert error_of(end).code == code
    assert [path.name for path in tmp_path.iterdir()] == ["end.json"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("completed", EndCode.COMPLETED),
        ("stopped", EndCode.INTERRUPTED),
        ("diverged", EndCode.DIVERGED),
        ("failed", EndCode.PROGRAM_ERROR),
        ("killed", EndCode.KILLED),
        ("duplicate", EndCode.DUPLICATE),
    ],
)
def test_records_of_earlier_versions_have_a_status_alone(status, code):
    end = read_run_end({"medsynth": "0.1.0", "status": status, "reason": "a sentence"})
    assert end == RunEnd(code, "a sentence")
    assert end.status == status


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), EndCode.INTERRUPTED),
        (SystemExit("stopped"), EndCode.INTERRUPTED),
        (MemoryError(), EndCode.OUT_OF_MEMORY),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), EndCode.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), EndCode.OUT_OF_MEMORY),
        (RuntimeError("any other"), EndCode.PROGRAM_ERROR),
    ],
    ids=lambda value: type(value).__name__,
)
def test_ends_by_errors_of_python_and_of_libraries(error, code):
    assert end_of(error).code == code


def test_no_end_is_read_where_there_is_none(tmp_path):
    assert read_run_end(tmp_path / "missing.json") is None
    (tmp_path / "damaged.json").write_text('{"code": "compl')
    assert read_run_end(tmp_path / "damaged.json") is None
    assert read_run_end({"status": "running"}) is None
    assert read_run_end({"code": "of a later version"}) is None


# Commands and the record of their end


@pytest.fixture
def ended(monkeypatch, capsys, tmp_path):
    """Return a function that runs a command and returns its exit code, its recorded end and its stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSYNTH_RUN_END", str(tmp_path / "end.json"))

    def of(*arguments, command="train"):
        (tmp_path / "end.json").unlink(missing_ok=True)
        code, _, err = run(monkeypatch, capsys, *arguments, command=command)
        return code, read_run_end(tmp_path / "end.json"), err

    return of


def fail_at(monkeypatch, images, error):
    """Raise ``error`` in the first step after ``images`` have been seen."""
    step = GAN.training_step

    def failing(self, batch, batch_index):
        if self.images_seen >= images:
            raise error
        return step(self, batch, batch_index)

    monkeypatch.setattr(GAN, "training_step", failing)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (["--cfg", "job"], 0, EndCode.COMPLETED),
        (["los=hinge"], 1, EndCode.BAD_OPTION),
        (["loss=hinges"], 1, EndCode.BAD_OPTION),
        (["penalty=[r1,r3]"], 1, EndCode.BAD_OPTION),
        ([*TINY, "+generator.depth=3"], 1, EndCode.BAD_OPTION),
        ([*TINY, "max_images=65"], 1, EndCode.BAD_OPTION),
        (["resume=nowhere"], 1, EndCode.BAD_OPTION),
        (["data=image_folder", "data.root=damaged"], 1, EndCode.DATA_ERROR),
        (["hydra.run.dir=file/run"], 1, EndCode.CANNOT_WRITE),
        ([*TINY, "generator_optimizer.lr=1e30", "discriminator_optimizer.lr=1e30"], 1, EndCode.DIVERGED),
    ],
    ids=lambda value: str(value[-1]) if isinstance(value, list) else "",
)
def test_a_command_reports_its_end_to_the_process_that_waits_for_it(ended, tmp_path, arguments, exit_code, code):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "damaged").mkdir()
    for number in range(3):
        (tmp_path / "damaged" / f"{number}.png").write_bytes(b"no image")
    exited, end, err = ended(*arguments)
    assert (exited, end.code) == (exit_code, code), err
    if code != EndCode.COMPLETED:
        assert err.splitlines()[-1] == f"medsynth train: error: {end.message}"


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), EndCode.OUT_OF_MEMORY, "raise task.accumulate"),
        (MemoryError(), EndCode.OUT_OF_MEMORY, "raise task.accumulate"),
        (OSError(28, "No space left on device", "run/x"), EndCode.CANNOT_WRITE, "Cannot write run/x: No space left"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), EndCode.KILLED, "data.num_workers=0"),
        (InputError("one sentence", code=EndCode.DATA_ERROR), EndCode.DATA_ERROR, "one sentence"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_in_a_step_end_in_one_sentence(ended, monkeypatch, tmp_path, error, code, says):
    fail_at(monkeypatch, 0, error)
    exited, end, err = ended(*TINY, "hydra.run.dir=run")
    assert (exited, end.code) == (1, code)
    assert says in end.message
    assert err.splitlines()[-1] == f"medsynth train: error: {end.message}"
    assert read_run_end(tmp_path / "run" / "summary.json") == end


def test_a_fault_of_the_program_shows_its_traceback(ended, monkeypatch, tmp_path):
    fail_at(monkeypatch, 0, ZeroDivisionError("a fault"))
    with pytest.raises(ZeroDivisionError, match="a fault"):  # Python prints what is raised here
        ended(*TINY, "hydra.run.dir=run")
    for name in ("end.json", "run/summary.json"):
        assert read_run_end(tmp_path / name) == RunEnd(EndCode.PROGRAM_ERROR, "ZeroDivisionError: a fault")


def trainings(monkeypatch, folder):
    """Interrupt, fail, resume and finish a run, and damage its checkpoints; return how each command ended."""
    capture = type("Capture", (), {"readouterr": staticmethod(lambda: ("", ""))})
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MEDSYNTH_RUN_END", str(folder / "end.json"))
    stop = GAN.training_step

    def stopped(self, batch, batch_index):
        if self.images_seen == 24:
            os.kill(os.getpid(), signal.SIGUSR1)
        return stop(self, batch, batch_index)

    def end(*arguments):
        code, _, _ = run(monkeypatch, capture, *arguments)
        record, summary = read_run_end(folder / "end.json"), read_json(folder / "run" / "summary.json")
        assert record.message in (None, summary.get("reason")) or record.code != summary["code"]
        seen = summary.get("images_seen")
        return code, record.code, record.status, record.requeue, summary["status"], summary["code"], seen

    ends = []
    with monkeypatch.context() as patch:
        patch.setattr(GAN, "training_step", stopped)
        ends.append(end(*TINY, "hydra.run.dir=run"))
    with monkeypatch.context() as patch:
        fail_at(patch, 40, torch.OutOfMemoryError("CUDA out of memory."))
        ends.append(end("resume=run"))
    ends += [end("resume=run"), end("resume=run"), end(*TINY, "hydra.run.dir=run", "resume=auto")]
    ends += [end(*TINY, "hydra.run.dir=run")]
    for path in (folder / "run" / "checkpoints").iterdir():
        path.write_bytes(b"damaged")
    return [*ends, end("resume=run", "max_images=96")]


@pytest.mark.parametrize("words", [pytest.param("as they are", marks=pytest.mark.slow), "x"])
def test_trainings_end_and_are_resumed_the_same_when_every_message_is_x(monkeypatch, tmp_path, no_messages, words):
    if words == "x":
        no_messages()
    assert trainings(monkeypatch, tmp_path / "runs") == [
        (1, "interrupted", "stopped", True, "stopped", "interrupted", 32),
        (1, "out_of_memory", "failed", False, "failed", "out_of_memory", 40),
        (0, "completed", "completed", False, "completed", "completed", 64),
        (1, "already_complete", "completed", False, "completed", "completed", 64),
        (0, "completed", "completed", False, "completed", "completed", 64),
        (1, "bad_option", "failed", False, "completed", "completed", 64),
        (1, "checkpoint_damaged", "failed", False, "completed", "completed", 64),
    ]
    assert (read_run_end(tmp_path / "runs" / "end.json").message == "x") == (words == "x")


# For all processes of a command: the folder of this file comes first in PYTHONPATH, and Python imports it at its start.
IN_EACH_PROCESS = """
import os, signal, sys

fault, words = os.environ["TEST_FAULT"], os.environ["TEST_WORDS"]
if words == "x":
    from medsynth.errors import InputError
    from medsynth.runs.run_end import RunEnd

    plain, described = InputError.__init__, RunEnd.__init__
    InputError.__init__ = lambda self, message, *, code=None: plain(self, "x", code=code)
    RunEnd.__init__ = lambda self, code, message=None, requeue=False: described(
        self, code, None if message is None else "x", requeue
    )
if "RANK" in os.environ:
    import torch
    from medsynth.gan import GAN

    step = GAN.training_step

    def failing(self, batch, batch_index):
        if self.images_seen == 16 and self.global_rank == 1:
            if fault == "interrupted":
                os.kill(os.getppid(), signal.SIGUSR1)
            else:
                raise {"out_of_memory": torch.OutOfMemoryError, "program_error": ZeroDivisionError}[fault]("a fault")
        return step(self, batch, batch_index)

    if fault != "diverged":
        GAN.training_step = failing
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", ["as they are", "x"])
@pytest.mark.parametrize(
    ("fault", "status", "requeue"),
    [
        ("interrupted", "stopped", True),
        ("out_of_memory", "failed", False),
        ("diverged", "diverged", False),
        ("program_error", "failed", False),
    ],
)
def test_two_processes_end_as_one_does(tmp_path, fault, status, requeue, words):
    (tmp_path / "sitecustomize.py").write_text(IN_EACH_PROCESS)
    path = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    environment = os.environ | {"PYTHONPATH": path, "TEST_FAULT": fault, "TEST_WORDS": words, "OMP_NUM_THREADS": "1"}
    options = [*TINY, "hydra.run.dir=run", "trainer.devices=2"]
    if fault == "diverged":
        options += ["generator_optimizer.lr=1e30", "discriminator_optimizer.lr=1e30"]
    environment["MEDSYNTH_RUN_END"] = str(tmp_path / "end.json")
    program = [sys.executable, "-m", "medsynth", "train", *options]
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    end, summary = read_run_end(tmp_path / "end.json"), read_run_end(tmp_path / "run" / "summary.json")
    assert (done.returncode, end.code, end.status, end.requeue) == (1, fault, status, requeue), done.stderr
    assert (summary.code, summary.status) == (fault, status)
    assert ("Traceback" in done.stderr) == (fault == "program_error")
    assert (end.message == "x") == (words == "x")


# The program's text

WORDS_DECIDE = re.compile(
    r"""\bin\ (\w+\.)*(reason|message)\b                                  # "damaged" in ended.reason
    | \bin\ str\((\w+\.)*(reason|message|error|cause|exception)\)         # "damaged" in str(error)
    | \b(reason|message|str\(\w+\))\)?\.(starts|ends)with                # reason.startswith("killed by")
    | (==|!=)\ *(\w+\.)*(reason|message)\b | \.(reason|message)\ *(==|!=)
    | \bre\.\w+\(.*\b(reason|message|error|cause|output|_?OUTPUT|LOG)\b""",
    re.VERBOSE,
)
WORDS_OF_LIBRARIES = {  # errors for which a library has neither a class nor an attribute
    "runs/run_end.py": ("DataLoader worker", "DefaultCPUAllocator"),
    "configuration/composition_errors.py": ("got an unexpected keyword argument", "full_key: "),
    "lightning/checkpoint_io.py": ("inline_container",),
}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_branch_depends_on_the_words_of_a_message(path):
    allowed = WORDS_OF_LIBRARIES.get(path.relative_to(PACKAGE).as_posix(), ())
    for line in path.read_text().splitlines():
        decides = WORDS_DECIDE.search(line) and not re.search(r"\bfor\b.*\bin\b", line)
        assert not decides or any(words in line for words in allowed), line


@pytest.mark.parametrize("line", ['if "damaged" in ended.reason:', 'if reason.startswith("killed by"):'])
def test_such_a_branch_would_be_found(line):
    assert WORDS_DECIDE.search(line)
