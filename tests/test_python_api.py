"""medsynth from Python: the same results as on the command line, and a process that is left as it was."""

import logging
import math
import os
import random
import signal
import subprocess
import sys
import warnings

import pytest
import torch

import medsynth
from medsynth.errors import EndCode
from medsynth.exports import classes
from tests.command import TINY, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return medsynth.train(*TINY, "conditional=true", folder=tmp_path_factory.mktemp("api") / "run", seed=3)


def test_a_training_returns_paths_and_metrics(trained):
    assert trained.code == EndCode.COMPLETED
    assert trained.images_seen == 64
    assert trained.generator.is_file()
    assert trained.checkpoint.is_file()
    assert math.isfinite(trained.best)
    assert trained.metrics["val/num_fake"] == 16


def test_the_command_line_trains_the_same(trained, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, capsys, *TINY, "conditional=true", "seed=3", "hydra.run.dir=run")[0] == 0
    ours, theirs = (
        torch.load(path, weights_only=True)["state_dict"] for path in (trained.checkpoint, "run/checkpoints/last.ckpt")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_is_resumed_and_extended(tmp_path):
    first = medsynth.train(*TINY, folder=tmp_path / "run")
    assert first.images_seen == 64
    again = medsynth.train(folder=tmp_path / "run", resume=str(tmp_path / "run"), max_images=96)
    assert again.images_seen == 96
    assert again.config.data.image_size == 16
    assert not (tmp_path / "run" / "report.html").exists(), "the run was started with report=false"
    assert "figures" not in again.summary["files"]


def test_without_a_folder_a_run_lands_in_outputs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = medsynth.train(*TINY)
    assert result.folder.is_relative_to(tmp_path / "outputs")


def state_of_process():
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        dict(os.environ),
        list(warnings.filters),
        logging.getLogger("pytorch_lightning").level,
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        os.getcwd(),
        list(sys.argv),
    )


def test_the_process_is_left_as_it_was(tmp_path):
    torch.manual_seed(5)
    random.seed(5)
    before = state_of_process()
    medsynth.train(*TINY, folder=tmp_path / "run")
    assert state_of_process() == before


@pytest.mark.parametrize(
    ("overrides", "options", "words"),
    [
        (["los=hinge"], {}, ["los", "did you mean loss"]),
        (["loss=hinged"], {}, ["hinged", "hinge"]),
        ([], {"max_images": "many"}, ["max_images=many", "whole number"]),
        (["data=image_folder", "data.root=nowhere"], {}, ["data.root=nowhere"]),
        (["discriminator.normalization=bach"], {}, ["normalization=bach", "spectral"]),
    ],
)
def test_mistakes_are_errors_of_one_sentence(tmp_path, overrides, options, words):
    with pytest.raises(medsynth.InputError) as error:
        medsynth.train(*overrides, folder=tmp_path / "run", **options)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists() or list((tmp_path / "run").iterdir()), "no empty folder stays"


def test_choices_of_the_users_own_are_found(tmp_path):
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("_target_: medsynth.loss.hinge.Hinge\n")
    result = medsynth.train(*TINY, "loss=mine", config_dir=tmp_path / "conf", folder=tmp_path / "run")
    assert "Hinge" in result.summary["trained"]
    with pytest.raises(medsynth.InputError, match=r"There is no option generator\.widht: generator has "):
        medsynth.train("loss=mine", "generator.widht=3", config_dir=tmp_path / "conf")


def test_importing_medsynth_loads_no_torch():
    program = "import sys, medsynth; dir(medsynth); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "False"


PACKAGES = ["loss", "penalty", "generator_penalty", "augment", "schedule", "generator", "discriminator"]


@pytest.mark.parametrize("package", PACKAGES)
def test_classes_are_exported_by_their_packages(package):
    found = classes(f"medsynth.{package}")
    assert found
    for name, value in found.items():
        assert getattr(__import__(f"medsynth.{package}", fromlist=[name]), name) is value
    with pytest.raises(ImportError):
        exec(f"from medsynth.{package} import NoSuchClass")
