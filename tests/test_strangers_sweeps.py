"""Sweeps and searches of strangers: their records run no code and write nothing outside of their folders."""

import json
import os
import pickle
import sqlite3
import subprocess
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf

from medsynth.cli import sweep as sweep_command
from medsynth.configuration.compose import compose
from medsynth.contracts import InputError
from medsynth.search.objective import Objective
from medsynth.search.options import read_options
from medsynth.search.study import OVERRIDES, STUDY, open_study, quiet
from medsynth.search.study_file import check_study, check_trials
from medsynth.sweep.recorded_arguments import check_arguments, check_jobs, texts_of, without_trust
from tests.command import run
from tests.test_security import Bomb, canary, refused  # noqa: F401

SOURCE = Path("/s/sweep.json")
FINE = [
    "loss=hinge,minimax",
    "seed=1,2,3",
    "seed=range(0,5)",
    "penalty=[r1,lecam]",
    "augment=none,diffaugment",
    "backbone=base/embedded",
    "experiment=null",
    "vary=[seeds,losses]",
    "data=image_folder",
    "data.root='/a b/c'",
    "data.reader.path=image",
    "data.reader.classes=[Hand,HeadCT]",
    "data.cache_dir=null",
    "generator_optimizer.lr=1e-3,2e-3",
    "generator_optimizer.lr=tag(log,interval(1e-5,1e-3))",
    "+schedule@schedules.generator_optimizer.lr=cosine",
    "objective=val/fd_mini",
    "trainer.max_time=00:01:00:00",
    "report=false",
    "sweep.keep=last",
    "hydra/launcher=joblib",
    "hydra.launcher.n_jobs=2",
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.partition=gpu",
    "hydra.launcher.timeout_min=60",
    "hydra.verbose=true",
]
HOSTILE = [
    "+x._target_=joblib.load",
    "+x._target_=medsynth.gan.GAN,joblib.load",
    "+x={_target_:torch.hub.load,repo_or_dir:x}",
    "+x.y={z:[{_target_:joblib.load}]}",
    "data._target_=os.system",
    "+hydrangea._target_=joblib.load",
    "data.root=${oc.env:HOME}",
    "x='${oc.env:SECRET}',1",
    "--config-dir",
    "-cd",
    "--experimental-rerun=job.pickle",
    "--config-name=x",
    "hydra.searchpath=[file:///tmp]",
    "hydra/launcher=../../x",
    "hydra.launcher._target_=os.system",
    "+hydra.launcher.setup=[touch canary]",
    "hydra.launcher.partition='a\ntouch canary'",
    "hydra.launcher.n_jobs=${oc.env:X}",
    "+hydra.job.env_set.LD_PRELOAD=evil.so",
    "hydra.callbacks.x._target_=os.system",
    "+hydra.callbacks.x={_target_:os.system}",
    "+hydra={callbacks:{x:{_target_:os.system}}}",
    "hydra/job_logging=x",
    "hydra.job_logging.handlers.file.class=x",
    "hydra.sweeper._target_=x",
    "hydra.run.dir=/tmp/elsewhere",
    "hydra.sweep.dir=/tmp/elsewhere",
    "hydra.output_subdir=/tmp/elsewhere",
    "loss@hydra.callbacks.x=hinge",
    "loss=../../../tmp/evil",
    "loss='/tmp/evil'",
    "loss=hinge,../evil",
    "loss='file:///tmp/evil'",
    "metrics@metrics.parts.x=/tmp/evil",
    "+loss/../../evil=x",
    "/loss=hinge",
    "logger.csv.path=/tmp/elsewhere",
    "logger.csv.path=elsewhere.py",
    "callbacks.best_checkpoint.dirpath=../..",
    "logger.mlflow.uri=https://stranger.example",
    "data.cache_dir=/tmp/elsewhere",
    "resume=x",
    "run_dir=/tmp/elsewhere",
    "sweep.folder=/tmp/elsewhere",
    "sweep.resume=/tmp/elsewhere",
    "seed=range(0,1000000000)",
    "seed=range(0,1,1e-9)",
    "x=[",
    "x",
]


@pytest.mark.parametrize("argument", FINE)
def test_what_is_trained_and_how_much_at_a_time_may_be_recorded(argument):
    check_arguments([argument], SOURCE)


@pytest.mark.parametrize("argument", HOSTILE)
def test_other_arguments_of_a_stranger_are_refused(argument):
    with pytest.raises(InputError, match=r"^/s/sweep\.json (has|names) .*: trust=true if (the file|it) is your own\.$"):
        check_arguments(["seed=1", argument], SOURCE)


def test_a_number_of_jobs_has_a_limit():
    hundred = "range(0,100)"
    check_arguments([f"seed={hundred}", f"max_images={hundred}"], SOURCE)
    with pytest.raises(InputError, match="more than 10,000 jobs"):
        check_arguments([f"seed={hundred}", f"max_images={hundred}", "loss=hinge,minimax"], SOURCE)


@pytest.mark.parametrize("arguments", [None, "seed=1", [1], {"seed": 1}])
def test_arguments_are_a_list_of_texts(arguments):
    with pytest.raises(InputError, match=r"sweep\.json is damaged"):
        texts_of(arguments, SOURCE)


@pytest.fixture
def sweep(monkeypatch, tmp_path):
    """Return a function that writes the folder ``s`` of a sweep, and the list of what is started to resume it."""
    monkeypatch.chdir(tmp_path)
    resumed = []

    def start(command, **options):
        resumed.append((command, options))
        return 0

    monkeypatch.setattr(sweep_command, "exit_code_of", start)

    def write(*arguments, directory=tmp_path):
        (tmp_path / "s").mkdir()
        plan = {"arguments": arguments, "directory": str(directory), "jobs": [["seed=1"]], "compositions": ["x"]}
        (tmp_path / "s" / "sweep.json").write_text(json.dumps(plan | {"order": [0], "swept": []}))
        return resumed

    return write


@pytest.mark.parametrize(
    "argument", [HOSTILE[0], "--config-dir", "hydra.searchpath=[file://x]", "logger.csv.path=x.py"]
)
def test_a_strangers_sweep_starts_nothing(sweep, monkeypatch, capsys, argument):
    resumed = sweep("seed=1,2", argument)
    refused(run(monkeypatch, capsys, "resume=s", command="sweep"), "trust=true if")
    assert resumed == []
    assert run(monkeypatch, capsys, "resume=s", "trust=true", command="sweep")[0] == 0
    assert [argument in resumed[0][0], resumed[0][0][-1]] == [True, "trust=true"]


def test_a_sweep_is_resumed_where_it_was_started_and_imports_nothing_from_there(sweep, monkeypatch, capsys, tmp_path):
    (tmp_path / "there").mkdir()
    resumed = sweep("seed=1,2", "trust=true", directory=tmp_path / "there")
    refused(run(monkeypatch, capsys, "resume=s", command="sweep"), f"was started in {tmp_path}/there: go there first")
    monkeypatch.chdir(tmp_path / "there")
    assert run(monkeypatch, capsys, "resume=../s", command="sweep")[0] == 0
    ((command, options),) = resumed
    assert "trust=true" not in command, "a record cannot vouch for itself"
    assert options["env"]["PYTHONSAFEPATH"] == "1"
    (tmp_path / "there" / "medsynth").mkdir()
    (tmp_path / "there" / "medsynth" / "__init__.py").write_text("raise SystemExit(7)")
    program = [command[0], "-m", "medsynth", "train", "--version"]
    done = subprocess.Popen(program, cwd=options["cwd"], env=options["env"], stdout=subprocess.DEVNULL)
    assert done.wait(60) == 0


def test_links_out_of_a_sweep_are_refused(sweep, monkeypatch, capsys, tmp_path):
    resumed = sweep("seed=1,2")
    (tmp_path / "s" / ".lock").symlink_to(tmp_path / "victim")
    refused(run(monkeypatch, capsys, "resume=s", command="sweep"), f"s/.lock is a link to {tmp_path}/victim")
    refused(run(monkeypatch, capsys, "-m", "seed=1,2", "sweep.resume=s"), f"s/.lock is a link to {tmp_path}/victim")
    assert resumed == []
    assert not (tmp_path / "victim").exists()


def test_jobs_of_a_stranger_are_checked_before_any_is_resumed(tmp_path):
    present = compose("train", ["data=image_folder", "data.root=/images", "data.cache_dir=/fast"])
    (tmp_path / "1").mkdir()
    own = OmegaConf.create(OmegaConf.to_container(present, resolve=False))
    OmegaConf.save(own, tmp_path / "1" / "composition.yaml")
    check_jobs(tmp_path, {0: present, 1: present})
    for option, value in (("callbacks.own", {"_target_": "joblib.load"}), ("logger.csv.path", "/tmp/elsewhere")):
        OmegaConf.save(OmegaConf.merge(own, OmegaConf.create()), tmp_path / "1" / "composition.yaml")
        changed = OmegaConf.load(tmp_path / "1" / "composition.yaml")
        OmegaConf.update(changed, option, value, force_add=True)
        OmegaConf.save(changed, tmp_path / "1" / "composition.yaml")
        with pytest.raises(InputError, match=r"1/composition\.yaml .*trust=true"):
            check_jobs(tmp_path, {0: present, 1: present})
        check_jobs(tmp_path, {0: present, 1: present}, trusted=True)


# ---- searches ----


def a_study(folder, **attributes):
    """Write study.db and sweep.json of a search with one open trial."""
    folder.mkdir(exist_ok=True)
    options = {"sampler": "tpe", "pruner": "none", "seed": 0, "startup": 2, "val_every_images": 8, "max_images": 16}
    with quiet():
        study = open_study(folder, [Objective("val/fd_mini", "minimize")], **options)
        trial = study.ask()
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
    record = {"trials": 1, "objectives": None, "directions": None, "sampler": "tpe", "startup": 2, "pruner": "none"}
    record |= {"seed": 0, "train": ["seed=1,2"]}
    (folder / "sweep.json").write_text(json.dumps({"search": record}))
    return study, record


@pytest.mark.parametrize(
    "argument",
    [
        "+x._target_=joblib.load",
        pytest.param("logger.csv.path=/tmp/elsewhere", marks=pytest.mark.slow),
        pytest.param("hydra.searchpath=[x]", marks=pytest.mark.slow),
    ],
)
def test_a_strangers_search_starts_nothing(monkeypatch, capsys, tmp_path, argument):
    monkeypatch.chdir(tmp_path)
    _, record = a_study(tmp_path / "s")
    (tmp_path / "s" / "sweep.json").write_text(json.dumps({"search": record | {"train": ["seed=1,2", argument]}}))
    refused(run(monkeypatch, capsys, "search.resume=s", command="search"), "search.trust=true if")


OF_THIS_START = {"folder": "s", "resume": "s", "trust": False, "jobs": 1, "threads": None, "timeout": None}


@pytest.mark.parametrize(
    "changes",
    [{"sampler": "cmaes"}, {"train": None, "own": 1}, {"train": {"a": 1}}, {"train": 3}, {"seed": "x"}],
    ids=str,
)
def test_a_strangers_record_of_a_search_has_the_options_of_one(monkeypatch, tmp_path, changes):
    monkeypatch.chdir(tmp_path)
    _, record = a_study(tmp_path / "s")
    assert read_options(record | OF_THIS_START, ()).train == ("seed=1,2",)
    (tmp_path / "s" / "sweep.json").write_text(json.dumps({"search": record | changes}))
    with pytest.raises(InputError):
        read_options(record | OF_THIS_START, ())


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM studies; END",
        "CREATE VIEW v AS SELECT * FROM trials",
        "CREATE VIRTUAL TABLE f USING fts5(x)",
    ],
    ids=["trigger", "view", "virtual"],
)
def test_a_study_holds_tables_alone(tmp_path, statement):
    a_study(tmp_path / "s")
    check_study(tmp_path / "s" / STUDY)
    connection = sqlite3.connect(tmp_path / "s" / STUDY)
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match="which Optuna does not make"):
        check_study(tmp_path / "s" / STUDY)


def test_a_file_that_is_no_study_is_refused(tmp_path):
    (tmp_path / STUDY).write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(InputError, match="cannot be read as the study"):
        check_study(tmp_path / STUDY)


def test_a_pickle_in_a_study_is_not_loaded(canary, tmp_path):  # noqa: F811
    study, _ = a_study(tmp_path / "s", note="x")
    number = study.get_trials()[0]._trial_id
    for key in ("cma:optimizer", "cma:optimizer:0", "nsga2:parents", "sampler"):
        study._storage.set_trial_system_attr(number, key, pickle.dumps(Bomb(canary)).hex())
    for sampler in ("tpe", "nsgaii", "random"):
        options = {"pruner": "median", "seed": 0, "startup": 1, "val_every_images": 8, "max_images": 16}
        with quiet():
            opened = open_study(tmp_path / "s", [Objective("val/fd_mini", "minimize")], sampler=sampler, **options)
            opened.tell(opened.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), 1.0)


@pytest.mark.parametrize(
    "overrides", [["+x._target_=joblib.load"], ["seed=1", "data.root=/x"], "seed=1", [1], [["seed=1"]]]
)
def test_trials_have_only_the_options_that_are_searched(tmp_path, overrides):
    study, _ = a_study(tmp_path / "s", **{OVERRIDES: overrides})
    with pytest.raises(InputError, match="other options in trial 0"):
        check_trials(study.trials, ["seed", "loss"], tmp_path / STUDY)


def test_a_folder_of_any_name_holds_a_study(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "what?mode={SCHEMA_VERSION} 100%"
    a_study(folder)
    check_study(folder / STUDY)
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name]


def test_a_record_cannot_vouch_for_itself():
    assert without_trust(["seed=1", "trust=true", "+trust=true", "++trust=true"]) == ["seed=1"]
    assert os.environ.get("PYTHONSAFEPATH") is None
