"""Endings are data: nothing that medsynth does depends on the words of a message."""

import json
import re
from pathlib import Path

import pytest

from medsynth.runs.layout import read_json
from medsynth.runs.run_end import RunEnd
from medsynth.search.objective import make_objectives
from medsynth.search.search import Search, Settings
from medsynth.search.space import Choices
from medsynth.search.study import open_study, quiet
from medsynth.sweep import job as jobs
from medsynth.sweep import process
from medsynth.sweep.job import run_job
from tests.command import run
from tests.test_search import Stub
from tests.test_sweep import STUB, job

PACKAGE = Path(__file__).parents[1] / "medsynth"


@pytest.fixture
def no_messages(monkeypatch):
    """Return a function that replaces the message of every end by "x" from then on."""
    construct = RunEnd.__init__

    def without_words(self, code, message=None, requeue=False):
        construct(self, code, None if message is None else "x", requeue)

    return lambda: monkeypatch.setattr(RunEnd, "__init__", without_words)


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


def test_a_command_reports_its_end_to_the_process_that_waits_for_it(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSYNTH_RUN_END", str(tmp_path / "end.json"))
    for arguments, code in ((["los=hinge"], "bad_option"), (["--cfg", "job"], "completed")):
        run(monkeypatch, capsys, *arguments)
        assert read_json(tmp_path / "end.json")["code"] == code


WORDS_DECIDE = re.compile(
    r"""\bin\ (\w+\.)*reason\b(?!s)             # "damaged" in ended.reason
    | \breason\)?\.(starts|ends)with           # reason.startswith("killed by")
    | (==|!=)\ *(\w+\.)*reason\b | \.reason\ *(==|!=)
    | \bre\.\w+\([^()]*(reason|output|_?OUTPUT|LOG)\b""",
    re.VERBOSE,
)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_branch_depends_on_the_words_of_a_message(path):
    found = [line.strip() for line in path.read_text().splitlines() if WORDS_DECIDE.search(line)]
    found = [line for line in found if not re.search(r"\bfor\b.*\bin\b", line)]
    assert not found
