"""The command medsynth search: a stub replaces trainings, except in one slow test."""

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from optuna.trial import TrialState

from medsynth.configuration.compose import conf_folder
from medsynth.configuration.flags import flags_last
from medsynth.configuration.objectives import check_objectives, logged_measures
from medsynth.errors import EndCode, InputError
from medsynth.report.page import write_report
from medsynth.runs.records import read_json
from medsynth.runs.run_end import RunEnd
from medsynth.search.arguments import fold
from medsynth.search.objective import COSTS, Objective, make_objectives, read_curve, value_of
from medsynth.search.plots import search_plots
from medsynth.search.search import Search, Settings
from medsynth.search.search_summary import search_summary
from medsynth.search.space import Choices, Interval
from medsynth.search.space_syntax import parse_space
from medsynth.search.study import best_trials, importances, open_study, quiet
from medsynth.sweep import job as jobs
from medsynth.sweep.process import Ended
from tests.command import TINY, run
from tests.run_folders import write_run
from tests.test_report_pages import Page, data_of

LR = "generator_optimizer.lr=tag(log,interval(1e-5,1e-3))"


class Stub:
    """Replaces run_training: writes the files of a training; its metric is best at a learning rate of 2e-4.

    ``curve`` computes the values of the four validations from the options; an error that it raises ends the process.
    """

    def __init__(self, curve=None):
        self.curve, self.calls = curve or self._bowl, []

    @staticmethod
    def _bowl(options):
        end = 10 + abs(math.log10(float(options["generator_optimizer.lr"]) / 2e-4)) * 20
        return [end + 30, end + 20, end + 10, end]

    def __call__(self, overrides, *, folder, threads=None, gpu=None, watch=None, every=2.0):
        options = dict(text.split("=", 1) for text in overrides)
        self.calls.append(options)
        folder.mkdir(parents=True, exist_ok=True)
        end, seen = RunEnd(EndCode.COMPLETED), []
        try:
            for value in self.curve(options):
                seen.append(value)
                self._write(folder, seen)
                stopped = watch()
                if stopped is not None:
                    end = stopped
                    break
        except RuntimeError as error:
            end = RunEnd(EndCode.DIVERGED, str(error))
        best = min(seen, default=None)
        summary = end.record() | {"seconds": 100.0 / (1 + len(self.calls))}
        summary["best"] = {
            "objective": "val/fd_mini",
            "value": best,
            "images_seen": 10000 * (1 + seen.index(best)) if seen else None,
        }
        (folder / "summary.json").write_text(json.dumps(summary))
        return Ended(0 if end.code is EndCode.COMPLETED else 1, 1.0, end)

    @staticmethod
    def _write(folder, values):
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "train/loss", "val/fd_mini", "val/kd_mini"])
            for number, value in enumerate(values, start=1):
                writer.writerow([10000 * number - 500, 0.5, "", ""])
                writer.writerow([10000 * number - 16 * (number < 4), "", value, value / 100])


SPACE = (Interval("generator_optimizer.lr", 1e-5, 1e-3, log=True), Choices("loss", ("hinge", "minimax")))


@pytest.fixture
def hunt(monkeypatch, tmp_path):
    """``hunt(stub, ...)`` -> study of a search in ``tmp_path``, without Hydra; a second call resumes it."""

    def go(stub, *, space=SPACE, objectives=("val/fd_mini",), pruner="none", startup=10, composition=str, **options):
        monkeypatch.setattr(jobs, "run_training", stub)
        objectives = make_objectives(objectives, None)
        images = {"val_every_images": 10_000, "max_images": 40_000}
        with quiet():
            study = open_study(tmp_path, objectives, sampler="tpe", pruner=pruner, seed=0, startup=startup, **images)
            options = {"trials": 5, "prunes": pruner != "none", "every": 0.01} | options
            settings = Settings(
                folder=tmp_path,
                fixed=(),
                space=space,
                objectives=objectives,
                composition=composition,
                **images | options,
            )
            search = Search(study, settings, say=go.said.append)
            go.search = search
            search.run()
        return study

    go.said = []
    return go


@pytest.mark.slow
def test_the_sampler_finds_the_minimum(hunt):
    study = hunt(Stub(), trials=25)
    assert study.best_value < 12
    assert study.best_trial.number >= 10  # not one of the first, which are drawn at random
    random_best = min(trial.value for trial in study.trials[:10])
    assert study.best_value < random_best
    shares = importances(study, make_objectives(["val/fd_mini"], None))
    assert shares["generator_optimizer.lr"] > 0.8  # the stub looks at nothing else
    assert sum(shares.values()) == pytest.approx(1)


def test_importance_and_best_trial_of_a_maximized_objective(tmp_path):
    objectives = make_objectives(["val/is_mini"], None, {"val/is_mini": "higher"})
    assert objectives == (Objective("val/is_mini", "maximize"),)
    with quiet():
        study = open_study(
            tmp_path,
            objectives,
            sampler="random",
            pruner="none",
            seed=0,
            startup=1,
            val_every_images=1,
            max_images=None,
        )
        for number in range(12):
            trial = study.ask()
            trial.suggest_float("noise", 0, 1)
            study.tell(trial, trial.suggest_float("signal", 0, 1) + number / 1e6)
        assert best_trials(study)[0].params["signal"] == max(trial.params["signal"] for trial in study.trials)
        assert importances(study, objectives)["signal"] > 0.5


def test_a_bad_run_is_pruned(hunt, tmp_path):
    levels = iter([10, 10, 90, 10])

    def curve(options):
        level = next(levels)
        return [level + 3, level + 2, level + 1, level]

    stub = Stub(curve)
    study = hunt(stub, trials=4, pruner="median", startup=4)
    assert [trial.state for trial in study.trials] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.COMPLETE,
    ]
    assert study.trials[2].intermediate_values == {10_000: 93}  # at multiples of val_every_images, not at 9,984
    assert study.trials[3].intermediate_values == {10_000: 13, 20_000: 12, 30_000: 11, 40_000: 10}
    record = read_json(tmp_path / "2/job.json")
    assert (record["status"], record["code"]) == ("stopped", "pruned")
    assert record["reason"] == "pruned: val/fd_mini 93 after 9,984 images, where other trials did better"


def test_no_run_is_pruned_at_its_last_validation(hunt):
    levels = iter([10, 10, 90])
    study = hunt(Stub(lambda options: [next(levels)]), trials=3, pruner="median", startup=4, max_images=10_000)
    assert [trial.value for trial in study.trials] == [10, 10, 90]
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}, "a pruned one has a value, too"


def test_several_objectives_have_a_pareto_front(hunt, tmp_path):
    def curve(options):
        return [20, 10] if options["loss"] == "hinge" else [20, 30]

    study = hunt(Stub(curve), trials=6, objectives=("val/fd_mini", "seconds"))
    front = best_trials(study)
    # The stub's seconds fall from trial to trial: the last hinge is on the front, and of the others only a later one.
    hinge = [trial for trial in study.trials if trial.params["loss"] == "hinge"]
    other = [trial for trial in study.trials if trial.params["loss"] != "hinge" and trial.number > hinge[-1].number]
    assert [trial.number for trial in front] == [hinge[-1].number, *(trial.number for trial in other[-1:])]
    text = search_summary(study, make_objectives(["val/fd_mini", "seconds"], None), "s", [])
    assert "Trials that no other trial beats in all objectives, of 6:" in text
    _, head, *rows = text.strip().splitlines()[: 2 + len(front)]
    assert head.startswith("val/fd_mini (lower)  seconds (lower)  options")
    assert [row.split()[0] for row in rows] == [f"{trial.values[0]:.4g}" for trial in front]


def test_failed_trials_are_reported_and_the_search_continues(hunt, tmp_path):
    def curve(options):
        if options["loss"] == "hinge":
            raise RuntimeError("the generator's loss is NaN")
        return [5]

    study = hunt(Stub(curve), trials=8)
    failed = [trial for trial in study.trials if trial.params["loss"] == "hinge"]
    assert 0 < len(failed) < 8
    assert all(trial.state == TrialState.FAIL for trial in failed)
    assert study.best_value == 5
    assert read_json(tmp_path / f"{failed[0].number}/job.json")["status"] == "diverged"
    assert any("failed: the generator's loss is NaN" in line for line in hunt.said)
    assert f"8 ({len(failed)} failed)" in search_summary(study, make_objectives(["val/fd_mini"], None), "s", [])


def test_a_search_without_a_completed_trial_has_no_summary(hunt):
    study = hunt(Stub(lambda options: [math.nan]), trials=2)
    with pytest.raises(InputError, match=r"None of 2 trials in s completed; .*no finite value of val/fd_mini"):
        search_summary(study, make_objectives(["val/fd_mini"], None), "s", [])


def test_duplicates_are_trained_once(hunt, tmp_path):
    stub = Stub(lambda options: [7 if options["loss"] == "hinge" else 9])
    study = hunt(stub, trials=6, space=SPACE[1:])
    assert len(stub.calls) == 2
    assert {(trial.params["loss"], trial.value) for trial in study.trials} == {("hinge", 7), ("minimax", 9)}
    copies = [read_json(tmp_path / f"{number}/job.json") for number in range(6)]
    assert sum(copy["status"] == "duplicate" for copy in copies) == 4
    assert [trial.params["loss"] for trial in best_trials(study)] == ["hinge"]
    assert not best_trials(study)[0].user_attrs.get("reason")


def test_the_front_of_several_objectives_has_no_duplicates(hunt):
    stub = Stub(lambda options: [7 if options["loss"] == "hinge" else 9])
    study = hunt(stub, trials=6, space=SPACE[1:], objectives=("val/fd_mini", "seconds"))
    losses = [trial.params["loss"] for trial in best_trials(study)]
    assert "hinge" in losses
    assert len(set(losses)) == len(losses)


def test_a_duplicate_of_a_running_trial_waits_for_it(hunt):
    stub = Stub(lambda options: time.sleep(0.5) or [7])
    study = hunt(stub, trials=4, jobs=2, space=(Choices("loss", ("hinge",)),))
    assert len(stub.calls) == 1
    assert [trial.value for trial in study.trials] == [7] * 4


def test_duplicates_of_failed_trials_fail(hunt):
    def curve(options):
        raise RuntimeError("no memory")

    stub = Stub(curve)
    study = hunt(stub, trials=3, space=(Choices("loss", ("hinge",)),))
    assert len(stub.calls) == 1
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 3


def test_an_interrupted_search_stops_its_trainings_and_is_resumed(hunt, tmp_path):
    stub = Stub(lambda options: [7])
    hunt(stub, trials=2)

    def interrupted(options):
        yield 50
        hunt.search._stop.set()  # as run() does when Ctrl-C ends its waiting
        yield 40

    study = hunt(Stub(interrupted), trials=3)
    assert study.trials[2].state == TrialState.RUNNING
    assert read_json(tmp_path / "2/job.json")["reason"] == "the search was interrupted"
    params = study.trials[2].params
    again = Stub(lambda options: [7])
    study = hunt(again, trials=4)
    assert len(again.calls) == 2
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4
    assert study.trials[2].params == params
    assert read_json(tmp_path / "2/job.json")["attempts"] == 2


def test_a_training_that_is_stopped_from_outside_is_a_failed_trial(hunt, monkeypatch, tmp_path):
    def stopped(overrides, *, folder, **options):
        return Ended(1, 1.0, RunEnd(EndCode.INTERRUPTED, "Stopped after 100 images."))

    study = hunt(stopped, trials=1)
    assert study.trials[0].state == TrialState.FAIL


def test_the_first_draws_are_not_repeated_after_a_resume(hunt):
    hunt(Stub(lambda options: [7]), trials=3)
    study = hunt(Stub(lambda options: [7]), trials=6)
    assert len({trial.params["generator_optimizer.lr"] for trial in study.trials}) == 6


def test_no_training_starts_after_the_timeout(hunt):
    stub = Stub(lambda options: time.sleep(0.3) or [7])
    study = hunt(stub, trials=50, timeout=0.2)
    assert len(study.trials) == 1


def test_values_are_those_of_the_exported_generator(tmp_path):
    Stub(lambda options: [9, 5, 8, 7])([], folder=tmp_path, watch=lambda: None)
    assert value_of(tmp_path, "val/fd_mini") == 5
    assert value_of(tmp_path, "seconds") == 50
    for block in ("parameters", "weights"):  # as written now, and by earlier versions
        summary = json.loads((tmp_path / "summary.json").read_text()) | {block: {"generator": 3}}
        (tmp_path / "older").mkdir(exist_ok=True)
        (tmp_path / "older" / "summary.json").write_text(json.dumps(summary))
        assert value_of(tmp_path / "older", "parameters.generator") == 3
    Stub._write(tmp_path, [9, 5, 8, 7])
    summary = json.loads((tmp_path / "summary.json").read_text())
    summary["best"]["images_seen"] = 19_984
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert value_of(tmp_path, "val/kd_mini") == 0.05
    with pytest.raises(InputError, match="no finite value of val/fid"):
        value_of(tmp_path, "val/fid")
    Stub._write(tmp_path, [9, math.inf, 8, 7])
    with pytest.raises(InputError, match="no finite value of val/kd_mini"):
        value_of(tmp_path, "val/kd_mini")


def test_each_objective_has_the_direction_of_its_measure_or_cost():
    names = ["val/fd_mini", "val/precision_mini", "seconds", "images_per_second", "peak_memory_gib"]
    better = {"val/fd_mini": "lower", "val/precision_mini": "higher"}
    directions = [objective.direction for objective in make_objectives(names, None, better)]
    assert directions == ["minimize", "maximize", "minimize", "maximize", "minimize"]


def test_an_incomplete_line_of_metrics_is_not_read(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,val/fd_mini\n100,4.5\n150,\n200,3.")
    assert read_curve(tmp_path / "metrics.csv", "val/fd_mini") == [(100, 4.5)]
    assert read_curve(tmp_path / "metrics.csv", "val/other") == []
    assert read_curve(tmp_path / "none.csv", "val/fd_mini") == []


def names_of(metrics):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return tuple(logged_measures(compose("train", overrides=[f"metrics={metrics}"]).metrics))


def test_logged_measures_are_known_from_the_configuration():
    from medsynth.metrics.inception import InceptionExtractor
    from medsynth.metrics.names import Names
    from medsynth.metrics.pixels import PixelExtractor

    class Published:
        name, canonical = InceptionExtractor.name, True

    class Mini:
        name = "mini"

    def named(extractor):
        names = Names.of(extractor)
        return (names.frechet, names.kernel, names.inception_score)

    assert names_of("mini") == (*named(Mini), named(PixelExtractor)[0])
    assert names_of("inception") == named(Published)


@pytest.mark.parametrize(
    ("objectives", "says"),
    [
        (
            ["val/nonsense"],
            "objective=val/nonsense is not logged by this training: choose val/fd_mini or .*, or one of the costs ",
        ),
        (["fd_mini"], "objective=fd_mini is not logged by this training: "),
    ],
)
def test_an_objective_that_no_training_logs_is_refused(objectives, says):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train")
    check_objectives(config, ["val/kd_mini", "seconds"], costs=COSTS)
    with pytest.raises(InputError, match=says):
        check_objectives(config, objectives, costs=COSTS)


def test_a_space_is_typed_as_in_a_sweep():
    fixed, space = parse_space(
        [
            "data=mednist",
            "loss=hinge,minimax",
            "penalty=[r1,r2],none",
            LR,
            "seed=range(1,10,3)",
            "generator.width=tag(log,int(interval(8,64)))",
        ]
    )
    assert fixed == ("data=mednist",)
    assert space == (
        Choices("loss", ("hinge", "minimax")),
        Choices("penalty", ("[r1,r2]", "none")),
        Interval("generator_optimizer.lr", 1e-5, 1e-3, log=True),
        Interval("seed", 1, 7, step=3, whole=True),
        Interval("generator.width", 8, 64, log=True, whole=True),
    )
    assert space[2].written(0.000123456) == "0.0001235"
    assert space[2].written(0.00099999) == "0.001"
    assert Interval("a", 0, 0.99996).written(0.99996) == "0.99996"  # not beyond the end


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["loss=hinge"], "nothing to search: give an option several values"),
        (["seed=interval(3,3)"], "seed from 3 to 3 is an empty interval"),
        (["seed=range(5,1)"], r"seed=range\(5,1,1\) is empty"),
        (["task.weight_clip=tag(log,interval(0,1))"], "lower end above 0"),
        (["seed=tag(log,range(1,9,2))"], "cannot have steps of 2"),
        (["seed=tag(odd,interval(1,2))"], "seed has the tag odd"),
        (["loss=glob(*)"], "has a pattern: name the choices"),
        (["seed=1,2", "seed=3"], "seed is given twice"),
        (["seed=1,2", "resume=outputs"], "resume= is filled in"),
        (["seed=1,2", "vary=seeds"], "vary= is not an option of a search"),
        (["seed=1,2", "sweep=seeds"], "sweep= is not an option of a search"),
        (["seed=1,2", "a=[b"], "a=.b cannot be read as key=value"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(overrides, says):
    with pytest.raises(InputError, match=says):
        parse_space(overrides)


def test_arguments_of_the_trainings_are_gathered_in_one_option():
    typed = ["loss=hinge,minimax", "search.trials=5", "a='b c','d\"e'", "x=${y}", "--config-dir=my"]
    folded = fold(typed)
    assert (folded[0], folded[2]) == ("search.trials=5", "--config-dir=my")
    assert len(folded) == 3
    assert fold(folded) == folded
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("search", overrides=folded[:2])
    assert config.search._get_node("train")._get_node(1)._value() == typed[2]


@pytest.fixture
def search(monkeypatch, capsys, tmp_path):
    """``search(stub, ...)`` -> (exit code, stdout, stderr) of the command in the folder of the test."""
    monkeypatch.chdir(tmp_path)

    def go(stub, *arguments):
        monkeypatch.setattr(jobs, "run_training", stub)
        return run(monkeypatch, capsys, *fold(flags_last(arguments)), command="search")

    return go


def test_a_missing_folder_of_images_is_refused_before_the_first_trial(search):
    stub = Stub()
    code, _, err = search(stub, "data=image_folder", "data.root=nowhere", "loss=hinge,non_saturating")
    assert code == 1
    assert "data.root=nowhere does not exist" in err
    assert stub.calls == []
    assert list(Path().iterdir()) == []


def test_a_search_has_a_folder_named_by_date_and_time(search, monkeypatch):
    def made(folder):
        raise InputError(f"The folder is {folder}.")

    monkeypatch.setattr("medsynth.cli.search.make_writable", made)
    err = search(Stub(), "loss=hinge,non_saturating")[2]
    assert re.search(r"The folder is search/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d\.", err)


@pytest.mark.slow
def test_the_command_prints_how_to_repeat_the_best_trial_and_is_resumed(search):
    typed = ["loss=hinge,non_saturating", LR, "max_images=40000", "report=false"]
    code, out, err = search(Stub(), *typed, "search.trials=2", "search.folder=s")
    assert (code, err) == (0, "")
    assert "Searching loss, generator_optimizer.lr to minimize val/fd_mini: 2 trials; all files are in s" in out
    assert re.search(r"python train.py max_images=40000 report=false loss=\w+ generator_optimizer.lr=[\d.e-]+\n", out)
    assert "Warning" not in out
    sweep = read_json(Path("s/sweep.json"))
    assert sweep["swept"] == ["loss", "generator_optimizer.lr"]
    assert sweep["finished"] > sweep["started"]
    assert [read_json(Path(f"s/{number}/job.json"))["overrides"] for number in range(2)] == sweep["jobs"]
    stub = Stub()
    code, out, err = search(stub, "search.resume=s", "search.trials=3")
    assert (code, err) == (0, "")
    assert len(stub.calls) == 1
    assert stub.calls[0]["max_images"] == "40000"
    code, out, err = search(Stub(), "seed=1,2", "search.resume=s")
    assert code == 1
    assert "The search in s has other options of the training, loss=hinge,non_saturating" in err
    code, out, err = search(Stub(), *typed, "search.folder=s")
    assert code == 1
    assert "search.folder=s already holds a search: resume it by search.resume=s." in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["loss=hinge,hinges"], "There is no loss=hinges: choose dual_contrastive or hinge or"),
        (["losses=1,2"], "There is no option losses"),
        (["max_images=interval(100,1000)"], "is not a whole number"),
        (["seed=1,2", "search.trials=0"], "search.trials=0 must be a whole number, 1 or more."),
        (["seed=1,2", "search.trials=many"], "search.trials=many is not a whole number"),
        (["seed=1,2", "search.pruner=medium"], "search.pruner=medium is unknown: choose one of auto, none, median"),
        (
            ["seed=1,2", "search.pruner=median", "search.objectives=[seconds]"],
            "needs a single objective that is measured",
        ),
        (
            ["seed=1,2", "search.objectives=[val/fid]"],
            "objective=val/fid is not logged by this training: choose val/",
        ),
        (["seed=1,2", "search.directions=[down]"], "search.directions needs minimize or maximize for each"),
        (["seed=1,2", "search.objectives=[weights.generator]"], "is unknown: type parameters.generator"),
        (["search.resume=nowhere"], "search.resume=nowhere is not the folder of a search"),
        (["search.trails=5", "seed=1,2"], "trails"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(search, tmp_path, arguments, says):
    code, _, err = search(Stub(), *arguments, "search.folder=s")
    assert code == 1
    assert says in err
    assert err.startswith("medsynth search: error: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_choices_in_a_folder_of_the_user_can_be_searched(search, tmp_path):
    (tmp_path / "my/loss").mkdir(parents=True)
    (tmp_path / "my/loss/mine.yaml").write_text("_target_: medsynth.loss.hinge.Hinge\n")
    stub = Stub(lambda options: [7])
    code, _, err = search(stub, "--config-dir", "my", "loss=mine,minimax", "search.trials=1", "search.folder=s")
    assert (code, err) == (0, "")
    assert stub.calls[0]["hydra.searchpath"] == f"[file://{tmp_path}/my]"


@pytest.mark.slow
def test_a_search_of_real_trainings_is_resumed_after_a_kill(tmp_path):
    program = [sys.executable, "-c", "from medsynth.cli import main; main('search')"]
    typed = [*TINY, LR, "search.trials=2", "search.folder=s", "metrics.parts.mini.inception_score=false"]
    environment = os.environ | {"HYDRA_FULL_ERROR": "0", "OMP_NUM_THREADS": "1"}
    options = {"cwd": tmp_path, "env": environment, "text": True}
    killed = subprocess.Popen([*program, *fold(typed)], stdout=subprocess.DEVNULL, **options)
    while not (tmp_path / "s/0/metrics.csv").is_file():
        assert killed.poll() is None
        time.sleep(0.2)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    time.sleep(3)  # in which the training follows
    done = subprocess.run([*program, *fold(["search.resume=s"])], capture_output=True, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "The best trial, of 2:" in done.stdout
    assert [read_json(tmp_path / f"s/{number}/job.json")["status"] for number in range(2)].count("completed") == 2
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path}/s/study.db")
    values = [read_json(tmp_path / f"s/{number}/summary.json")["best"]["value"] for number in range(2)]
    assert [trial.value for trial in study.trials] == values


@pytest.mark.parametrize("objectives", [("val/fd_mini",), ("val/fd_mini", "seconds")])
def test_the_page_of_a_search_has_optunas_plots(tmp_path, objectives):
    assert search_plots(tmp_path) == []
    with quiet():
        study = open_study(
            tmp_path,
            make_objectives(list(objectives), None, {"val/fd_mini": "lower"}),
            sampler="random",
            pruner="none",
            seed=0,
            startup=1,
            val_every_images=1,
            max_images=None,
        )
        for number in range(8):
            trial = study.ask()
            rate = trial.suggest_float("generator_optimizer.lr", 1e-5, 1e-2, log=True)
            trial.suggest_categorical("loss", ["hinge", "minimax"])
            study.tell(trial, [100 * abs(rate - 1e-3), float(number)][: len(objectives)])
    write = {"objective": objectives[0], "search": {"objectives": list(objectives)}, "jobs": [], "swept": []}
    (tmp_path / "sweep.json").write_text(json.dumps(write))
    plots = search_plots(tmp_path)
    assert [plot.kind for plot in plots] == ["history", "importance", "slice", "parallel"] * len(objectives)
    assert objectives[-1] in plots[-1].title
    (slices,) = (plot for plot in plots if plot.kind == "slice" and objectives[0] in plot.title)
    assert slices.figure["layout"]["xaxis"]["type"] == "log"
    assert "template" not in slices.figure["layout"]
    assert all("plot_bgcolor" not in plot.figure["layout"] for plot in plots), "which would be white on a dark page"
    for number in range(2):
        write_run(
            tmp_path / str(number), options={"loss": "hinge", "seed": number}, job={"number": number, "name": "a"}
        )
    html = write_report([tmp_path], tmp_path / "report.html", plots=plots).read_text()
    page = Page(html)
    assert 'id="parallel"' not in html, "Optuna's own is there"
    assert "Parallel coordinates of val/fd_mini" in page.text
    assert "Search over" in page.text or "Runs of one configuration" in page.text
    assert f"optuna-dashboard sqlite:///{tmp_path / 'study.db'}" in page.text
    assert page.headings[:3] == ["Verdict", "Search", "Trials"]
    assert len([name for name in data_of(html)["figures"] if name.startswith("search-")]) == len(plots)
