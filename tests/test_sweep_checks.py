"""The check of all jobs of a sweep, and of all choices of a search, before the first training."""

import importlib
import inspect

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from medsynth.configuration import sizes
from medsynth.configuration.compose import compose, conf_folder
from medsynth.configuration.kept_files import FileConfigSource
from medsynth.errors import InputError
from medsynth.first_checks import FirstChecks
from medsynth.search.space_syntax import check_space, parse_space
from medsynth.sweep import hydra_callback, job_checks
from medsynth.sweep.job_composition import JobComposer
from tests.command import run

NOT_STARTED = "No job was started: this concerns"


@pytest.fixture
def no_training(monkeypatch, tmp_path):
    """Run commands in an empty folder, where no job may be started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medsynth.sweep.hydra_job.run", lambda config: pytest.fail("a job was started"))


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (
            ["loss=hinge,hinje", "seed=1,2"],
            ["There is no loss=hinje: choose", f"{NOT_STARTED} 2 of 4 jobs, with loss=hinje."],
        ),
        (
            ["data.image_size=64,65"],
            [
                "data.image_size=65 does not suit generator=resnet: choose 8, 16, 32, 64, 128 or 256.",
                f"{NOT_STARTED} 1 of 2 jobs, with data.image_size=65.",
            ],
        ),
        (
            ["generator_optimizer.lr=1e-3,abc"],
            ["generator_optimizer.lr=abc is not a number", "1 of 2 jobs, with generator_optimizer.lr=abc."],
        ),
        (
            ["discriminator=mlp,projected", "backbone=mini,efficientnet_lite0"],
            ["backbone=mini has no effect on this discriminator", "(1 job, with discriminator=mlp backbone=mini)"],
        ),
        (
            ["data=image_folder", "data.root=nowhere,elsewhere"],
            [
                "No job was started, since 2 of 2 jobs cannot be trained, for 2 reasons:",
                "  data.root=nowhere does not exist",
                "  data.root=elsewhere does not exist",
                "(1 job, with data.root=elsewhere)",
            ],
        ),
        (["trainer.accelerator=cpu,tpu", "seed=1,2"], ["trainer.accelerator=tpu is unknown: choose auto, cpu"]),
        (["trainer.precision=32-true,31-true"], ["trainer.precision=31-true is not supported: choose"]),
        (["backbone.weights=random,nowhere.pt", "backbone=mini"], ["backbone.weights=nowhere.pt is not a file"]),
        (["seed=1,2", "backbone=mini", "discriminator=mlp"], ["error: backbone=mini has no effect"]),
        (["doctor.act=false,true"], ["which jobs of a sweep and several processes cannot"]),
        (
            ["loss=hinge,hinje", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
            ["There is no loss=hinje: choose", f"{NOT_STARTED} 1 of 2 jobs, with loss=hinje."],
        ),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_sweep_of_impossible_values_starts_no_job_and_leaves_no_folder(
    no_training, monkeypatch, capsys, tmp_path, arguments, sentences
):
    code, out, err = run(monkeypatch, capsys, "-m", *arguments)
    assert code == 1
    for sentence in sentences:
        assert sentence in err
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_key_is_explained_once_for_all_jobs(no_training, monkeypatch, capsys):
    explained = []
    explain = job_checks.composition_error
    monkeypatch.setattr(job_checks, "composition_error", lambda *error: explained.append(1) or explain(*error))
    code, _, err = run(monkeypatch, capsys, "-m", "generator.wdth=1,2", "seed=1,2,3")
    assert code == 1
    assert "did you mean width?" in err
    assert len(err.splitlines()) == 1
    assert len(explained) == 1


def test_of_many_jobs_single_values_are_checked_first(no_training, monkeypatch, capsys):
    monkeypatch.setattr(job_checks, "MANY", 8)
    monkeypatch.setattr(job_checks, "_SILENT", 8)
    checked = []
    check = job_checks.FirstChecks.__call__
    monkeypatch.setattr(job_checks.FirstChecks, "__call__", lambda *given: checked.append(1) or check(*given))
    code, _, err = run(monkeypatch, capsys, "-m", "seed=1,2,3", "generator.width=8,0,16")
    assert code == 1
    assert "Checking 9 jobs before the first one starts ..." in err
    assert f"{NOT_STARTED} 1 of 5 jobs looked at so far, with seed=1 generator.width=0." in err
    assert len(checked) == 5
    del checked[:]
    with pytest.raises(pytest.fail.Exception, match="a job was started"):
        run(monkeypatch, capsys, "-m", "seed=1,2,3", "generator.width=8,12,16", "hydra.sweep.dir=s")
    assert len(checked) == 9, "all of them, each once"


def test_jobs_are_composed_as_hydra_does_from_files_that_are_parsed_once(monkeypatch):
    GlobalHydra.instance().clear()
    jobs = [
        ["seed=1", "loss=hinge", "generator_optimizer.betas=[0.0,0.9]", "+trainer.benchmark=true"],
        ["seed=2", "data=image_folder", "data.root=a/b", "penalty=[r1,r2]", "penalty.r2.gamma=3"],
        ["seed=3", "loss=hinge", "callbacks.progress=null", "~logger"],
    ]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("train", [], run_mode=RunMode.MULTIRUN)
        expected = [loader.load_sweep_config(master, job) for job in jobs]
        composer = JobComposer(loader, master)
        parsed = []
        load = FileConfigSource.load_config
        monkeypatch.setattr(FileConfigSource, "load_config", lambda self, path: parsed.append(path) or load(self, path))
        for job, config in [*zip(jobs, expected, strict=True)] * 2:
            assert plain(composer.compose(job)) == plain(config)
        assert len(parsed) == len(set(parsed)) > 20
    GlobalHydra.instance().clear()


def plain(config):
    content = OmegaConf.to_container(config, resolve=False)
    return {key: value for key, value in content.items() if key != "hydra"}


def test_jobs_that_were_started_before_are_not_checked_again(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "medsynth.sweep.hydra_job.run_job", lambda job, **_: {"number": job.number, "status": "running", "name": ""}
    )
    command = ("-m", "seed=1,2", "data=image_folder", "data.root=images", "hydra.sweep.dir=s", "report=false")
    (tmp_path / "images").mkdir()
    run(monkeypatch, capsys, *command)
    (tmp_path / "images").rmdir()
    started = "of a job that was killed"
    monkeypatch.setattr(hydra_callback, "states", lambda folder, plan: [(started, None)] * len(plan["order"]))
    assert "does not exist" not in run(monkeypatch, capsys, *command, "sweep.resume=true")[2]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert "data.root=images does not exist" in run(monkeypatch, capsys, *command, "sweep.resume=true")[2]


def test_trainings_on_other_machines_are_not_refused_for_what_is_missing_here():
    config = compose("train", ["data=image_folder", "data.root=nowhere", "trainer.accelerator=gpu"])
    config.discriminator = {"model_name": "net", "weights": "nowhere.pt"}
    FirstChecks(here=False)(config, [])
    with pytest.raises(InputError):
        FirstChecks()(config, [])


def test_weights_of_the_same_networks_are_looked_for_once(monkeypatch):
    asked = []

    def missing(config):
        asked.append(config)
        raise InputError("No weights.")

    monkeypatch.setattr("medsynth.first_checks.require_weights", missing)
    checks = FirstChecks()
    for seed in (1, 2):
        with pytest.raises(InputError, match="No weights"):
            checks(compose("train", [f"seed={seed}"]), [])
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["data.image_size=32,33"], "data.image_size=33 does not suit"),
        (["backbone=mini", "backbone.weights=random,nowhere.pt"], "backbone.weights=nowhere.pt is not a file"),
        (["discriminator=projected,mlp", "backbone=mini"], "backbone=mini has no effect on this discriminator"),
        (["generator.max_width=interval(0,64)"], "generator.max_width=0 must be 1 or more"),
    ],
)
def test_every_choice_of_a_search_is_checked_before_its_first_trial(typed, sentence):
    with pytest.raises(InputError, match=sentence):
        check_space(*parse_space(typed))


@pytest.mark.parametrize("network", [*sizes._TO_4_PIXELS, *sizes._OTHERS])
def test_sizes_are_refused_as_the_network_itself_refuses_them(network):
    target = network_class(network)
    needed = {"source_channels": 1, "latent_dim": 8} if network.startswith(("generator", "encoder")) else {}
    taken = {name: value for name, value in needed.items() if name in inspect.signature(target).parameters}
    for size in (4, 8, 12, 16, 24, 25, 32):
        checked = {"_target_": f"medsynth.{network}.{target.__name__}", "image_size": size}
        early = refusal(sizes.check_sizes, OmegaConf.create({network.partition(".")[0]: checked}))
        with torch.device("meta"):
            assert early == refusal(target, image_size=size, channels=1, **taken), size


def network_class(network):
    """Return the class of a network's file that takes ``image_size``."""
    module = importlib.import_module(f"medsynth.{network}")
    own = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    (found,) = [kind for kind in own if "image_size" in inspect.signature(kind).parameters]
    return found


def refusal(action, *given, **options):
    try:
        action(*given, **options)
    except InputError as error:
        return str(error)
    return None
