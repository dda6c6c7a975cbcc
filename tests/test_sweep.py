"""Sweeps: a training as a process, a job with its record, the plan of a sweep, and the commands.

The fast tests replace trainings by a stub whose end is set by a file; the slow ones train.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from medsynth.cli import sweep as sweep_command
from medsynth.configuration.override_text import quoted
from medsynth.errors import EndCode, InputError
from medsynth.runs.records import read_json
from medsynth.runs.run_end import RunEnd, write_run_end
from medsynth.runs.status import state, this_process
from medsynth.sweep import process, records, thread_budget
from medsynth.sweep.job import Job, composition_hash, run_job
from medsynth.sweep.keep import check_keep, discard_checkpoints
from medsynth.sweep.plan import extended, new_plan, same_arguments, sweep_folder
from medsynth.sweep.process import run_training
from medsynth.sweep.progress import read_rows
from tests.command import TINY, run

# Ends as behavior.json in the current folder says for its seed: completed, diverged, killed, raised, damaged, complete.
STUB = """
import json, os, pathlib, signal, sys
arguments = sys.argv[1:]
values = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
folder = pathlib.Path(values["hydra.run.dir"].strip("'"))
earlier = folder / "config.json"
seed = json.loads(earlier.read_text()) if "resume" in values else values.get("seed", "0")
earlier.write_text(json.dumps(seed))
with open("started.txt", "a") as file:
    file.write(json.dumps({"seed": seed, "resume": "resume" in values, "arguments": arguments}) + "\\n")
behavior = json.loads(pathlib.Path("behavior.json").read_text()) if os.path.exists("behavior.json") else {}
how = behavior.get(seed, "completed")
(folder / "checkpoints").mkdir(exist_ok=True)
for name in ("last.ckpt", "best.ckpt"):
    (folder / "checkpoints" / name).write_text("weights")
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
ends = {
    "completed": ("completed", None),
    "diverged": ("diverged", "The loss is nan."),
    "raised": ("program_error", "RuntimeError: the disk is on fire"),
    "damaged": ("checkpoint_damaged", "last.ckpt is damaged"),
    "complete": ("already_complete", "The run has already seen its max_images"),
}
if how in ("damaged", "complete") and "resume" not in values:
    how = "completed"  # what a training does that starts anew
code, message = ends[how]
status = how if how in ("completed", "diverged") else "failed"
end = {"status": status, "code": code, "reason": message}
pathlib.Path(os.environ["MEDSYNTH_RUN_END"]).write_text(json.dumps(end))
if how in ("completed", "diverged"):
    summary = {**end, "best": {"objective": "val/fd_mini", "value": float(seed)}}
    (folder / "summary.json").write_text(json.dumps(summary))
if how != "completed":
    sys.exit(1)
"""


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Replace trainings by the stub; return a function that sets the end of each seed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "PROGRAM", (sys.executable, "-c", STUB))
    return lambda **behavior: (tmp_path / "behavior.json").write_text(
        json.dumps({seed.strip("s"): how for seed, how in behavior.items()})
    )


def started():
    """Return the seed of each process of the stub, and whether it was resumed."""
    path = Path("started.txt")
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(line["seed"], line["resume"]) for line in lines]


def program(monkeypatch, text):
    monkeypatch.setattr(process, "PROGRAM", (sys.executable, "-c", text))


def job(folder, number, seed="0", composition=None):
    return Job(number, folder / str(number), f"seed={seed}", (f"seed={seed}",), (f"seed={seed}",), composition)


def gone(pid):
    """Tell whether a process has ended; a zombie that nobody has waited for counts."""
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("text", "exit_code", "end"),
    [
        ("report_run_end(RunEnd(EndCode.COMPLETED))", 0, RunEnd(EndCode.COMPLETED)),
        (
            "report_run_end(RunEnd(EndCode.DATA_ERROR, 'a.png is no image.')); sys.exit(1)",
            1,
            RunEnd(EndCode.DATA_ERROR, "a.png is no image."),
        ),
        ("", 0, RunEnd(EndCode.PROGRAM_ERROR, "its process ended without an error and without a summary")),
        (
            "raise MemoryError",
            1,
            RunEnd(EndCode.PROGRAM_ERROR, "its process ended with exit code 1 and no record of why"),
        ),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            -9,
            RunEnd(EndCode.KILLED, "killed by SIGKILL, perhaps for lack of memory"),
        ),
    ],
)
def test_a_process_ends_with_the_record_that_it_wrote_or_with_its_signal(monkeypatch, tmp_path, text, exit_code, end):
    names = "import os, signal, sys; from medsynth.runs.run_end import EndCode, RunEnd, report_run_end;"
    program(monkeypatch, names + text)
    (tmp_path / "run_end.json").write_text(json.dumps({"code": "diverged"}))  # of an earlier attempt
    ended = run_training([], folder=tmp_path)
    assert (ended.exit_code, ended.end) == (exit_code, end)
    assert ended.seconds > 0
    assert [path.name for path in tmp_path.iterdir()] == ["output.log"]


def test_the_summary_says_how_a_process_ended_that_reported_nothing(monkeypatch, tmp_path):
    summary = {"status": "diverged", "code": "diverged", "reason": "The loss is nan."}
    program(
        monkeypatch,
        f"import pathlib; pathlib.Path({str(tmp_path / 'summary.json')!r}).write_text({json.dumps(summary)!r})",
    )
    assert run_training([], folder=tmp_path).end == RunEnd(EndCode.DIVERGED, "The loss is nan.")


def test_a_process_gets_its_threads_and_its_gpu(monkeypatch, tmp_path):
    program(monkeypatch, "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['CUDA_VISIBLE_DEVICES'])")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    run_training([], folder=tmp_path, threads=3, gpu=1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    run_training([], folder=tmp_path, threads=1, gpu=1)
    assert (tmp_path / "output.log").read_text().split("\n")[:2] == ["3 7", "1 1"]


def test_a_watch_stops_a_process_and_all_of_its_children(monkeypatch, tmp_path):
    text = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    program(monkeypatch, text)
    log = tmp_path / "output.log"
    worse = RunEnd(EndCode.PRUNED, "worse than others")
    ended = run_training([], folder=tmp_path, watch=lambda: worse if log.read_text() else None, every=0.1)
    assert ended.end == worse
    assert ended.exit_code == -signal.SIGTERM
    wait_until(lambda: gone(int(log.read_text())))


def test_a_process_that_is_done_when_it_is_stopped_has_completed(monkeypatch, tmp_path):
    write = "pathlib.Path(os.environ['MEDSYNTH_RUN_END']).write_text('{\"code\": \"completed\"}')"
    program(monkeypatch, f"import os, pathlib, time; {write}; time.sleep(60)")
    stop = RunEnd(EndCode.PRUNED, "worse than others")
    done = tmp_path / "run_end.json"
    ended = run_training(
        [], folder=tmp_path, watch=lambda: stop if done.exists() and done.read_text() else None, every=0.1
    )
    assert ended.end == RunEnd(EndCode.COMPLETED)


def test_a_process_is_ended_when_its_parent_is_killed(tmp_path):
    child = (
        "import os, pathlib, time; from medsynth.runs.parent_process import end_with_parent; end_with_parent();"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = (
        "import pathlib, sys; from medsynth.sweep import process;"
        f"process.PROGRAM = (sys.executable, '-c', {child!r});"
        f"process.run_training([], folder=pathlib.Path({str(tmp_path)!r}))"
    )
    log = tmp_path / "output.log"
    waiting = subprocess.Popen([sys.executable, "-c", parent])
    wait_until(lambda: log.exists() and log.read_text())
    assert not gone(int(log.read_text()))
    waiting.kill()
    waiting.wait()
    wait_until(lambda: gone(int(log.read_text())))


@pytest.mark.parametrize("text", ["loss=hinge,seed=1", "a b", "it's", "a\\'b", "C:\\folder\\", "[x]{y}(z)", "100%", ""])
def test_hydra_parses_a_quoted_text_unchanged(text):
    override = OverridesParser.create().parse_override(f"sweep.name={quoted(text)}")
    assert override.value() == text


def test_a_job_is_trained_once_and_recorded(stub, tmp_path):
    record = run_job(job(tmp_path, 0, "3", "a"))
    assert record == read_json(tmp_path / "0" / "job.json")
    wanted = {
        "status": "completed",
        "code": "completed",
        "reason": None,
        "exit_code": 0,
        "attempts": 1,
        "number": 0,
        "name": "seed=3",
    }
    assert wanted.items() <= record.items()
    assert run_job(job(tmp_path, 0, "3", "a"))["status"] == "completed"
    assert run_job(job(tmp_path, 1, "3", "a"))["same_as"] == 0
    assert state(tmp_path / "1").status == "duplicate"
    assert started() == [("3", False)]
    with pytest.raises(InputError, match="another configuration"):
        run_job(job(tmp_path, 0, "4", "b"))


def test_the_end_of_a_job_that_outlived_its_sweep_is_recorded(stub, tmp_path):
    run_job(job(tmp_path, 0))
    record = read_json(tmp_path / "0" / "job.json")
    (tmp_path / "0" / "job.json").write_text(json.dumps(record | {"status": "running", "code": None}))
    assert run_job(job(tmp_path, 0))["status"] == "completed"
    ended = read_json(tmp_path / "0" / "job.json")
    assert (ended["status"], ended["code"], ended["attempts"]) == ("completed", "completed", 1)


def test_failed_and_killed_jobs_are_resumed_and_diverged_ones_are_not(stub, tmp_path):
    stub(s1="killed", s2="raised", s3="diverged")
    first = [run_job(job(tmp_path, int(seed), seed, seed)) for seed in "123"]
    assert [record["status"] for record in first] == ["killed", "failed", "diverged"]
    assert [record["code"] for record in first] == ["killed", "program_error", "diverged"]
    assert first[1]["reason"] == "RuntimeError: the disk is on fire"
    assert first[2]["reason"] == "The loss is nan."
    stub()
    again = [run_job(job(tmp_path, int(seed), seed, seed)) for seed in "123"]
    assert [record["status"] for record in again] == ["completed", "completed", "diverged"]
    assert [record["attempts"] for record in again] == [2, 2, 1]
    spent = [one["seconds"] + two["seconds"] for one, two in zip(first[:2], again[:2], strict=True)]
    assert [row.seconds for row in read_rows(tmp_path)][:2] == pytest.approx(spent)
    assert started()[3:] == [("1", True), ("2", True)]


def test_a_job_that_leaves_neither_error_nor_summary_has_failed(stub, monkeypatch, tmp_path):
    """Whether it was a process or trained in this one: an exit code of 0 alone completes nothing."""
    program(monkeypatch, "")
    records = [run_job(job(tmp_path, 0)), run_job(job(tmp_path, 1), train=lambda: None)]
    for number, record in enumerate(records):
        assert (record["status"], record["code"], record["exit_code"]) == ("failed", "program_error", 0)
        assert state(tmp_path / str(number)).status == "failed"


def test_the_summary_of_an_earlier_attempt_says_nothing_of_this_one(stub, monkeypatch, tmp_path):
    (tmp_path / "0").mkdir()
    earlier = {"status": "stopped", "code": "interrupted", "reason": "stopped by SIGTERM"}
    for name in ("job.json", "summary.json"):
        (tmp_path / "0" / name).write_text(json.dumps(earlier))
    program(monkeypatch, "")
    assert run_job(job(tmp_path, 0))["code"] == "program_error"


def test_a_job_in_this_process_ends_with_its_summary_or_its_error(stub, tmp_path):
    def completes():
        (tmp_path / "0" / "summary.json").write_text(json.dumps({"status": "completed", "code": "completed"}))

    def breaks():
        raise InputError("a.png is no image.", code=EndCode.DATA_ERROR)

    assert run_job(job(tmp_path, 0), train=completes)["status"] == "completed"
    record = run_job(job(tmp_path, 1), train=breaks)
    assert (record["status"], record["code"], record["exit_code"]) == ("failed", "data_error", 1)


@pytest.mark.parametrize("how", ["damaged", "complete"])
def test_a_killed_job_without_a_checkpoint_to_resume_from_starts_anew(stub, tmp_path, how):
    stub(s1="killed")
    assert run_job(job(tmp_path, 1, "1"))["code"] == "killed"
    stub(s1=how)
    assert run_job(job(tmp_path, 1, "1"))["code"] == "completed"
    assert started() == [("1", False), ("1", True), ("1", False)]


def test_records_of_earlier_versions_without_a_code_are_read(stub, tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "job.json").write_text(json.dumps({"status": "diverged", "reason": "The loss is nan."}))
    assert run_job(job(tmp_path, 0))["code"] == "diverged"
    assert started() == []


def test_a_job_that_runs_in_another_process_is_not_started(stub, tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "job.json").write_text(json.dumps({"status": "running", "process": this_process()}))
    assert run_job(job(tmp_path, 0))["status"] == "running"
    assert started() == []


def test_a_run_on_another_machine_is_alive_as_long_as_it_writes(tmp_path):
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps({"status": "running", "process": {"host": "elsewhere", "pid": os.getpid()}}))
    assert state(tmp_path).status == "running"
    long_ago = time.time() - 3600
    os.utime(summary, (long_ago, long_ago))
    assert state(tmp_path).status == "killed"


def test_an_interruption_is_recorded_and_raised(stub, tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(job(tmp_path, 0), train=interrupted)
    assert state(tmp_path / "0") == ("stopped", "the sweep was interrupted")


def test_composition_hash_depends_on_values_but_not_on_order():
    assert composition_hash({"a": 1, "b": {"c": 2}}) == composition_hash({"b": {"c": 2}, "a": 1})
    assert composition_hash({"a": 1}) != composition_hash({"a": 1.0})


def test_records_of_jobs_that_are_done_are_read_once(tmp_path, monkeypatch):
    read = Counter()

    def counted(path):
        read[path.parent.name] += 1
        return read_json(path)

    monkeypatch.setattr(records, "read_json", counted)
    for number in range(12):
        end = lambda number=number: write_run_end(RunEnd(EndCode.COMPLETED), tmp_path / str(number) / "summary.json")  # noqa: E731
        run_job(job(tmp_path, number, composition=str(number)), train=end)
        discard_checkpoints(tmp_path, 2)
        assert len(read_rows(tmp_path)) == number + 1
    assert max(read.values()) <= 6  # not once for each job after it
    shutil.rmtree(tmp_path / "3")
    assert [row.number for row in read_rows(tmp_path)] == [0, 1, 2, *range(4, 12)]


def test_keep_deletes_checkpoints_of_completed_jobs_only(stub, tmp_path):
    stub(s4="killed")
    for seed in "1234":
        run_job(job(tmp_path, int(seed), seed))
    kept = lambda: sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/checkpoints/*"))  # noqa: E731
    everything = kept()
    discard_checkpoints(tmp_path, "all")
    assert kept() == everything
    discard_checkpoints(tmp_path, "last")
    unfinished = ["4/checkpoints/best.ckpt", "4/checkpoints/last.ckpt"]
    assert kept() == [f"{seed}/checkpoints/last.ckpt" for seed in "123"] + unfinished
    discard_checkpoints(tmp_path, 1)
    assert kept() == ["1/checkpoints/last.ckpt", *unfinished]


@pytest.mark.parametrize("keep", [-1, "some", 1.5, True, None])
def test_unknown_keep_is_refused(keep):
    with pytest.raises(InputError, match=r"sweep\.keep="):
        check_keep(keep)


def test_slots_are_exclusive_and_are_freed(tmp_path):
    with thread_budget.slot(tmp_path, 2) as first, thread_budget.slot(tmp_path, 2) as second:
        assert {first, second} == {0, 1}
    with thread_budget.slot(tmp_path, 2) as again:
        assert again == 0


def test_cores_and_gpus_are_divided_among_parallel_jobs(monkeypatch):
    monkeypatch.setattr(thread_budget, "cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [thread_budget.thread_count(parallel) for parallel in (1, 3, 16)] == [None, 2, 1]
    assert [thread_budget.gpu_of(index, 3) for index in range(3)] == [0, 1, 0]
    assert thread_budget.gpu_of(0, 1) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert thread_budget.gpu_of(1, 3) is None


def test_an_extended_plan_keeps_the_numbers_of_its_jobs():
    old = new_plan(["seed=1,2"], [["seed=1"], ["seed=2"]], ["one", "two"], ["seed"])
    new = new_plan(["seed=2,3,1"], [["seed=2"], ["seed=3"], ["seed=1"]], ["two", "three", "one"], ["seed"])
    plan = extended(old, new)
    assert plan["order"] == [1, 2, 0]
    assert plan["jobs"] == [["seed=1"], ["seed=2"], ["seed=3"]]
    assert plan["started"] == old["started"]


def test_a_sweep_is_identified_by_what_it_trains(monkeypatch, tmp_path):
    assert same_arguments(["seed=1,2", "hydra/launcher=joblib"], ["sweep.resume=true", "seed=1,2", "report=false"])
    assert not same_arguments(["seed=1,2"], ["seed=1,2,3"])
    assert not same_arguments(["seed=1,2"], ["seed=1,2", "loss=hinge"])
    monkeypatch.chdir(tmp_path)
    assert [sweep_folder(False, "multirun/a/b", []) for _ in range(3)] == [f"multirun/a/b{n}" for n in ("", "-2", "-3")]


def test_a_sweep_with_failed_jobs_is_resumed_and_extended(stub, monkeypatch, capsys):
    stub(s1="killed", s2="diverged")
    grid = ("-m", "report=false", "loss=hinge")
    code, out, err = run(monkeypatch, capsys, *grid, "seed=1,2,3,3")
    assert code == 1
    assert "job 0 killed: seed=1: killed by SIGKILL" in err
    assert "2 of 4 jobs did not complete (1 killed, 1 diverged)" in err
    assert "job 2 completed: seed=3  val/fd_mini 3" in out
    assert "3 of 4 jobs done" in out
    (sweep,) = Path("multirun").glob("*/*")
    plan = read_json(sweep / "sweep.json")
    assert plan["swept"] == ["seed"]
    assert plan["jobs"][1] == ["report=False", "loss=hinge", "seed=2"]
    assert plan["finished"] >= plan["started"]
    assert read_json(sweep / "3" / "job.json")["same_as"] == 2
    arguments = json.loads(Path("started.txt").read_text().splitlines()[0])["arguments"]
    assert {"sweep.name='seed=1'", "sweep.job=0", f"sweep.folder='{sweep.resolve()}'"} <= set(arguments)

    stub(s1="completed")
    code, out, _ = run(monkeypatch, capsys, *grid, "seed=1,2,3,3", "sweep.resume=true")
    assert code == 1, "the diverged one stays"
    assert started()[3:] == [("1", True)]
    code, _, err = run(monkeypatch, capsys, *grid, "seed=1,2,3,3", "sweep.resume=true")
    assert code == 1
    assert "has nothing left to do: 2 completed, 1 diverged, 1 duplicate" in err

    code, out, err = run(monkeypatch, capsys, *grid, "seed=5,3", f"sweep.resume={sweep}")
    assert code == 0, err
    assert started()[4:] == [("5", False)]
    assert read_json(sweep / "4" / "job.json")["name"] == "seed=5"
    assert len(list(Path("multirun").glob("*/*"))) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["los=hinge,wasserstein"], "los"),
        (["loss=hinge,hinje"], "hinje"),
        (["seed=1,2", "sweep.keep=-1"], "sweep.keep=-1"),
        (["seed=1,2", "sweep.threads=0"], "sweep.threads=0"),
        (["seed=1,2", "sweep.resume=elsewhere"], "sweep.resume=elsewhere is not the folder of a sweep"),
        (["seed=1,2", "sweep.resume=true"], "no sweep with these arguments"),
        (["vary=seeds,losses"], "vary=[seeds,losses]"),
        (["sweep=seeds"], "sweep=seeds is not an option: type vary=seeds"),
        (["sweep=[remedies,losses]"], "type vary=[small_data,losses]"),
        (["seed=1,2", "hydra.sweep.subdir=x"], "hydra.sweep.subdir"),
        (["seed=1,2", "objective=val/nonsense"], "objective=val/nonsense is not logged by this training"),
    ],
)
def test_wrong_options_are_refused_before_the_first_job(stub, monkeypatch, capsys, arguments, sentence):
    code, _, err = run(monkeypatch, capsys, "-m", *arguments)
    assert code == 1
    assert sentence in err
    assert "Traceback" not in err
    assert started() == []


def test_presets_are_combined_and_changed_by_typed_options(stub, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "vary=[gamma,seeds]", "seed=7,8", "penalty.r1.gamma=0.1", "report=false")
    assert code == 0, err
    assert "2 jobs over seed" in out
    assert [seed for seed, _ in started()] == ["7", "8"]


def test_jobs_have_the_objective_of_their_task(stub, monkeypatch, capsys):
    code, out, err = run(
        monkeypatch, capsys, "-m", "task=regression,paired_translation", "data=phantom_pairs", "seed=4", "report=false"
    )
    assert code == 0, err
    assert "task=regression  val/mae 4" in out
    assert "best val/mae" in out
    assert "fd_mini" not in out


def test_a_sweep_of_an_earlier_version_is_resumed(stub, monkeypatch, capsys, tmp_path):
    stub(s1="killed")
    code, _, err = run(monkeypatch, capsys, "vary=seeds", "report=false", "hydra.sweep.dir=s")
    assert code == 1, err
    plan = read_json(Path("s/sweep.json"))
    plan["arguments"] = ["sweep=seeds" if item == "vary=seeds" else item for item in plan["arguments"]]
    Path("s/sweep.json").write_text(json.dumps(plan))
    stub()
    resumed = []
    monkeypatch.setattr(sweep_command, "exit_code_of", lambda command, **options: resumed.append(command) or 0)
    assert run(monkeypatch, capsys, "resume=s", command="sweep")[0] == 0
    code, out, err = run(monkeypatch, capsys, *resumed[0][resumed[0].index("-m", 3) :])
    assert code == 0, err
    assert "3 jobs over seed; 2 are done, 1 are resumed or repeated" in out
    assert same_arguments(["sweep=[seeds,remedies]"], ["vary=[seeds,small_data]"])


@pytest.mark.parametrize("left", [[], ["seed=1,2"]])
def test_arguments_that_were_lost_from_the_record_start_no_other_trainings(stub, monkeypatch, capsys, left):
    stub(s1="killed")
    assert run(monkeypatch, capsys, "-m", "seed=1,2", "max_images=48", "report=false", "hydra.sweep.dir=s")[0] == 1
    plan = read_json(Path("s/sweep.json"))
    Path("s/sweep.json").write_text(json.dumps(plan | {"arguments": left}))
    stub()
    code, _, err = run(monkeypatch, capsys, "-m", *left, "report=false", "hydra.sweep.dir=s", "sweep.resume=true")
    assert code == 1
    assert "s/sweep.json is damaged: its arguments do not make its jobs. Type the sweep's command again" in err
    again = ("-m", "seed=1,2", "max_images=48", "report=false", "hydra.sweep.dir=s", "sweep.resume=true")
    assert run(monkeypatch, capsys, *again)[0] == 0, "the command typed again resumes it"
    assert len(read_json(Path("s/sweep.json"))["jobs"]) == 2


def test_a_sweep_that_cannot_be_finished_ends_with_exit_code_1(stub, monkeypatch, capsys):
    stub()
    monkeypatch.setattr("medsynth.sweep.hydra_callback.states", lambda *_: (_ for _ in ()).throw(MemoryError()))
    code, _, err = run(monkeypatch, capsys, "-m", "seed=1,2", "report=false", "hydra.sweep.dir=s")
    assert code == 1, "Hydra makes a warning of an exception at the end of a sweep"
    assert err.splitlines()[-1].startswith("medsynth train: error: ")


def test_a_folder_without_a_sweep_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for arguments, sentence in ((["resume=nowhere"], "resume=nowhere is not the folder"), ([], "resume=multirun/")):
        code, _, err = run(monkeypatch, capsys, *arguments, command="sweep")
        assert code == 1
        assert sentence in err


# ---- real trainings ----

SHORT = (*TINY, "report=false")


def start(*arguments, folder):
    environment = dict(os.environ, OMP_NUM_THREADS="1", HYDRA_FULL_ERROR="0")
    command = [sys.executable, "-m", "medsynth", "train", "-m", *SHORT, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
def test_a_job_that_is_killed_is_reported_and_resumed(monkeypatch, capfd, tmp_path):
    sweep = start("max_images=320,640", "hydra.sweep.dir=sweep", folder=tmp_path)
    checkpoint = tmp_path / "sweep" / "0" / "checkpoints" / "last.ckpt"
    wait_until(checkpoint.exists, 90)
    listing = subprocess.run(["pgrep", "-P", str(sweep.pid)], capture_output=True, text=True, check=True)
    os.kill(int(listing.stdout.split()[0]), signal.SIGKILL)
    wait_until((tmp_path / "sweep" / "1" / "output.log").exists)
    sweep.send_signal(signal.SIGINT)  # while the second job starts: the sweep is interrupted too
    _, err = sweep.communicate()
    assert sweep.returncode == 130
    assert "killed by SIGKILL" in err
    assert state(tmp_path / "sweep" / "1").status == "stopped"
    monkeypatch.chdir(tmp_path)
    code, _, _ = run(monkeypatch, capfd, "resume=sweep", command="sweep")
    assert code == 0
    assert [state(tmp_path / "sweep" / str(number)).status for number in range(2)] == ["completed"] * 2
    assert read_json(tmp_path / "sweep" / "0" / "job.json")["attempts"] == 2
    assert read_json(tmp_path / "sweep" / "0" / "summary.json")["images_seen"] == 320


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [["joblib", "hydra.launcher.n_jobs=2"], ["submitit_local"]], ids=lambda x: x[0])
def test_other_launchers_report_failed_jobs_too(tmp_path, launcher):
    options = [f"hydra/launcher={launcher[0]}", *launcher[1:], "hydra.sweep.dir=sweep", "data.batch_size=8,65"]
    sweep = start(*options, folder=tmp_path)
    out, err = sweep.communicate()
    assert sweep.returncode == 1, err
    assert "1 of 2 jobs did not complete (1 failed)" in err
    assert [state(tmp_path / "sweep" / number).status for number in "01"] == ["completed", "failed"]
    assert "is more than the 64 training images" in out
    assert read_json(tmp_path / "sweep" / "sweep.json")["finished"]
    command = [sys.executable, "-m", "medsynth", "sweep", "resume=sweep"]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "1 of 2 jobs did not complete (1 failed)" in again.stderr
    assert "Traceback" not in again.stderr
