"""Folders of strangers - runs, sweeps, searches - run no code and write nothing outside of themselves."""

import json
import os
import shutil

import pytest
import torch
from omegaconf import OmegaConf

from medsynth.configuration.checked_composition import compose_checked
from medsynth.configuration.compose import compose
from medsynth.configuration.plain_names import check_names, is_plain
from medsynth.configuration.trusted_paths import check_configuration, check_links
from medsynth.contracts import InputError
from medsynth.files import CACHE_SALT
from medsynth.generator.export import save_generator
from medsynth.generator.trained import load_generator
from medsynth.logger.run_ids import load_id, save_id
from medsynth.runs.resume import read_composition
from tests.command import run
from tests.test_evaluate import a_run
from tests.test_security import CARD, below, refused
from tests.test_untrusted_files import BOMBS


@pytest.fixture(scope="module")
def composition():
    """Return the composition of a training on files."""
    return compose("train", ["data=image_folder", "data.root=/images", "logger=[csv,mlflow,tensorboard,wandb]"])


def changed(composition, option, value):
    config = OmegaConf.create(OmegaConf.to_container(composition, resolve=False))
    OmegaConf.update(config, option, value, force_add=True)
    return config


PLACES = [
    ("logger.csv.path", "/tmp/elsewhere.py"),
    ("logger.csv.path", "elsewhere.py"),
    ("logger.csv.path", "~/.bashrc"),
    ("logger.csv.path", "${run_dir}/../elsewhere.py"),
    ("logger.csv.path", "${run_dir}elsewhere.py"),
    ("logger.csv.path", "${data.root}/elsewhere.py"),
    ("logger.csv.path", "${run_dir}/${data.root}"),
    ("logger.mlflow.store", "/tmp/elsewhere"),
    ("logger.mlflow.uri", "https://stranger.example"),
    ("logger.mlflow.uri", "sqlite:////tmp/elsewhere.db"),
    ("logger.tensorboard.folder", "../elsewhere"),
    ("logger.wandb.folder", "elsewhere"),
    ("callbacks.best_checkpoint.dirpath", "/tmp/elsewhere"),
    ("callbacks.best_checkpoint.filename", "../elsewhere"),
    ("callbacks.last_checkpoint.dirpath", "elsewhere"),
    ("callbacks.sample_grid.folder", "/tmp/elsewhere"),
    ("callbacks.own", {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "_args_": ["elsewhere"]}),
    ("callbacks.own", {"_target_": "pytorch_lightning.callbacks.OnExceptionCheckpoint", "dirpath": "/tmp/elsewhere"}),
    ("callbacks.own", {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "anything": "/tmp/elsewhere"}),
    ("data.cache_dir", "/tmp/elsewhere"),
    ("data.cache_dir", "elsewhere"),
    ("data.own", {"_target_": "medsynth.logger.csv.CSVLogger", "path": "/tmp/elsewhere"}),
    ("task.feature_cache.folder", "/tmp/elsewhere"),
    ("trainer.default_root_dir", "/tmp/elsewhere"),
    ("trainer.output", "tanh"),
    ("trainer.profiler", {"_target_": "torch.nn.Identity", "dirpath": "elsewhere"}),
]


@pytest.mark.parametrize(("option", "value"), PLACES, ids=str)
def test_a_run_writes_below_its_own_folder_alone(composition, tmp_path, option, value):
    source = tmp_path / "composition.yaml"
    config = changed(composition, option, value)
    with pytest.raises(InputError, match=r" has .*, a place outside of the run's folder, .*: trust=true if the"):
        check_configuration(config, source)
    check_configuration(config, source, trusted=True)
    check_configuration(config, source, present=config)  # typed now: the user's own


def test_places_in_the_folder_and_places_that_are_read_are_allowed(composition, tmp_path):
    source = tmp_path / "composition.yaml"
    check_configuration(composition, source)
    for option, value in {
        "logger.csv.path": f"{tmp_path}/values.csv",
        "callbacks.best_checkpoint.filename": "{epoch}-best",
        "data.root": "/images/../others",
        "data.reader.path": "image_path",
        "backbone.weights": "/weights/resnet.safetensors",
        "logger.wandb.name": "a title: with / and more",
        "generator.output": "tanh",
    }.items():
        check_configuration(changed(composition, option, value), source)


def test_a_cache_that_the_user_has_already_is_used(composition, tmp_path):
    config = changed(composition, "data.cache_dir", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"data\.cache_dir="):
        check_configuration(config, tmp_path / "run" / "composition.yaml")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / CACHE_SALT).write_bytes(b"x")
    check_configuration(config, tmp_path / "run" / "composition.yaml")


def test_a_stranger_downloads_nothing(composition, tmp_path):
    reader = {"_target_": "medsynth.data.mednist.MedNist", "_partial_": True, "download": True}
    config = changed(composition, "data.reader", reader)
    check_configuration(config, tmp_path / "composition.yaml", present=config)
    assert config.data.reader.download
    check_configuration(config, tmp_path / "composition.yaml")
    assert not config.data.reader.download


@pytest.mark.parametrize("target", ["joblib.load", "torch.hub.load", "medsynth.data.writer.png.PngWriter"])
def test_a_run_that_loads_pickles_is_refused(composition, tmp_path, target):
    config = changed(composition, "callbacks.own", {"_target_": target, "filename": "x"})
    OmegaConf.save(config, tmp_path / "composition.yaml")
    with pytest.raises(InputError, match=f"composition.yaml names {target}, .* trust=true"):
        read_composition(tmp_path, [])


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("fd_mini", True),
        ("resnet50.a1_in1k", True),
        ("-1", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        (".hidden", False),
        ("..", False),
        ("a/b", False),
        ("a\\b", False),
        ("a b", False),
        ("a\nimport os", False),
        ("a\n", False),
        ("ä", False),
        ("a,b", False),
        (None, False),
    ],
)
def test_plain_words(name, plain):
    assert is_plain(name) is plain


HOSTILE = "x\nimport os; os.system('touch canary') #"
NAMES = [
    ("metrics.parts.mini.extractor.name", HOSTILE),
    ("metrics.parts.mini.extractor.name", "../../elsewhere"),
    ("metrics.parts.mini.extractor.name", "${own}"),
    ("metrics.parts.mini.extractor.backbone.model_name", "local-dir:/tmp/elsewhere"),
    ("metrics.parts.mini.extractor.backbone.model_name", "hf-hub:stranger/model"),
]


@pytest.mark.parametrize(("option", "value"), NAMES, ids=str)
def test_names_of_components_are_plain_words(composition, tmp_path, option, value):
    check_names(composition)
    config = changed(changed(composition, option, value), "own", "a/b")
    with pytest.raises(InputError, match=r"must be a plain word"):
        check_names(config)


@pytest.mark.parametrize("group", ["penalty", "augment", "callbacks", "metrics.parts"])
def test_keys_of_components_are_plain_words(composition, group):
    config = OmegaConf.create(OmegaConf.to_container(composition, resolve=False))
    part = {HOSTILE: {"_target_": "medsynth.penalty.r1.R1"}}
    above = OmegaConf.select(config, group)
    above.update(part)
    with pytest.raises(InputError, match=rf"^{group}: the name .*must be a plain word"):
        check_names(config)


def test_names_are_checked_where_a_configuration_is_composed(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="plain word"):
        compose_checked("train", ["metrics.parts.mini.extractor.name=a/b"])
    refused(run(monkeypatch, capsys, "metrics.parts.mini.extractor.name=a/b"), "must be a plain word")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return the folder of a run that was stopped, to be copied."""
    folder = a_run(tmp_path_factory.mktemp("runs") / "run")
    config = OmegaConf.load(folder / "config.yaml")
    text = OmegaConf.to_yaml(config).replace(f"{config.run_dir}/", "${run_dir}/")
    (folder / "composition.yaml").write_text(text)
    return folder


@pytest.fixture
def a_stopped_run(stopped, monkeypatch, tmp_path):
    """Return a copy of that folder, ``run`` in the current one."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(stopped, tmp_path / "run")


COMMANDS = [("train", "resume=run"), ("report", "folders=run")]
COMMANDS += [(command, "run=run") for command in ("evaluate", "audit", "utility", "card")]
LINKS = ["train.log", "summary.json.tmp"]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("logger.csv.path", "../elsewhere.py", "has logger.csv.path=../elsewhere.py"),
        ("metrics.parts.mini.extractor.name", HOSTILE, "must be a plain word"),
    ],
    ids=["path", "name"],
)
def test_resuming_a_strangers_run_writes_nothing_elsewhere(
    a_stopped_run, monkeypatch, capsys, tmp_path, option, value, words
):
    config = OmegaConf.load(a_stopped_run / "composition.yaml")
    OmegaConf.save(changed(config, option, value), a_stopped_run / "composition.yaml")
    before = below(tmp_path)
    refused(run(monkeypatch, capsys, "resume=run"), words)
    assert [path for path in below(tmp_path) if path not in before and not path.startswith("run/")] == []


@pytest.mark.parametrize(
    ("command", "argument", "name"), [(*COMMANDS[0], name) for name in LINKS] + [(*c, LINKS[0]) for c in COMMANDS[1:]]
)
def test_links_out_of_a_run_are_refused_before_anything_is_written(
    a_stopped_run, monkeypatch, capsys, tmp_path, name, command, argument
):
    (a_stopped_run / name).symlink_to(tmp_path / "victim")
    refused(run(monkeypatch, capsys, argument, command=command), f"{name} is a link to {tmp_path}/victim")
    assert not (tmp_path / "victim").exists()


def test_links_inside_of_a_folder_and_of_trusted_folders_are_allowed(tmp_path):
    (tmp_path / "run" / "wandb").mkdir(parents=True)
    (tmp_path / "run" / "wandb" / "latest").symlink_to("../wandb")
    (tmp_path / "run" / "wandb" / "run-1" / "logs").mkdir(parents=True)
    (tmp_path / "run" / "wandb" / "run-1" / "logs" / "debug.log").symlink_to("/elsewhere")  # W&B's own
    check_links(tmp_path / "run")
    (tmp_path / "run" / "away").symlink_to(tmp_path)
    check_links(tmp_path / "run", trusted=True)
    with pytest.raises(InputError, match=f"run/away is a link to {tmp_path}"):
        check_links(tmp_path / "run")


@pytest.mark.parametrize(("command", "argument"), COMMANDS)
def test_an_alias_bomb_is_refused_in_a_sentence(a_stopped_run, monkeypatch, capsys, command, argument):
    for file in ("config.yaml", "composition.yaml"):
        (a_stopped_run / file).write_text(BOMBS["lists"])
    ended = run(monkeypatch, capsys, argument, command=command)
    if command == "report":  # which shows what is whole, and says what was left out
        assert ended[0] == 0
        assert "config.yaml is not a complete YAML file" in (a_stopped_run / "report.html").read_text()
    else:
        refused(ended, "expands to more than 50,000 entries")


def test_a_pipe_in_place_of_a_record_is_not_waited_for(a_stopped_run, monkeypatch, capsys):
    (a_stopped_run / "composition.yaml").unlink()
    os.mkfifo(a_stopped_run / "composition.yaml")
    refused(run(monkeypatch, capsys, "resume=run"), "composition.yaml is no regular file")


def test_an_audit_builds_the_discriminator_of_a_stranger_only_where_it_writes_nothing_elsewhere(
    monkeypatch, capsys, tmp_path
):
    """Other commands that measure a run build its generator and its data alone."""
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "run", "+discriminator.minibatch.folder=/tmp/elsewhere")
    ended = run(monkeypatch, capsys, "run=run", "extractor=[]", command="audit")
    refused(ended, "discriminator.minibatch.folder=/tmp/elsewhere, a place outside of the run's folder")
    a_run(tmp_path / "pickles", "+discriminator.own._target_=joblib.load")
    refused(run(monkeypatch, capsys, "run=pickles", command="audit"), "names joblib.load")
    assert not (tmp_path / "run" / "audit").exists()


def test_only_a_trusted_file_names_a_generator_of_others(tmp_path):
    path, config = tmp_path / "generator.safetensors", {"_target_": "torch.nn.modules.linear.Linear"}
    save_generator(path, torch.nn.Linear(2, 3), config=config | {"in_features": 2, "out_features": 3}, card=CARD)
    with pytest.raises(InputError, match=r"Linear, which is not one of medsynth's generators: trust=true if it is"):
        load_generator(path)
    assert load_generator(path, trust=True).network(torch.zeros(1, 2)).shape == (1, 3)


@pytest.mark.parametrize("identity", [{"id": "../../elsewhere", "project": "p"}, {"project": "p"}, ["id"], "id", 1])
def test_an_id_of_a_logging_service_is_a_plain_word(tmp_path, identity):
    (tmp_path / "loggers.json").write_text(json.dumps({"wandb": identity}))
    assert load_id(tmp_path, "wandb") == {}
    save_id(tmp_path, "wandb", id="a1b2", project="p", mode="online")
    assert load_id(tmp_path, "wandb") == {"id": "a1b2", "project": "p", "mode": "online"}
