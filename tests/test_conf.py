"""Configuration: everything that can be chosen composes, and what cannot is refused with the choices named."""

import subprocess
import sys
import time
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from medsynth.cli.compose import register_resolvers
from medsynth.configuration.choices import choices_with
from medsynth.configuration.compose import conf_folder, folders_of, own_folders
from tests.command import forget_hydra, run

GROUPS = sorted(path.name for path in conf_folder().iterdir() if path.is_dir())
CHOICES = [(path.parent.name, path.stem) for path in sorted(conf_folder().glob("*/*.yaml"))]
EXTRACTORS = [choice for group, choice in CHOICES if group == "extractor"]  # of medsynth evaluate
CHOICES = [(group, choice) for group, choice in CHOICES if group != "extractor"]


GAMMA = "schedules.penalty.r1.gamma"
ENDS = ("start=2.0", "end=0.2")
VALUES = {  # of choices that need them
    ("schedule", "constant"): [f"{GAMMA}.value=2.0"],
    ("schedule", "linear"): [f"{GAMMA}.{end}" for end in ENDS],
    ("schedule", "cosine"): [f"{GAMMA}.{end}" for end in ENDS],
    ("schedule", "warmup"): [f"{GAMMA}.then.value=2.0"],
    ("schedule", "warmup_cosine"): [f"{GAMMA}.then.{end}" for end in ENDS],
}


def compose(*overrides):
    return compose_program("train", "run_dir=somewhere", *overrides)


def compose_program(program, *overrides):
    GlobalHydra.instance().clear()
    register_resolvers()
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return hydra.compose(program, overrides=list(overrides))


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda value: value)
def test_every_choice_composes_and_resolves(group, choice):
    key = {"optimizer": "optimizer@generator_optimizer", "schedule": "+schedule@schedules.penalty.r1.gamma"}
    config = compose(f"{key.get(group, group)}={choice}", *VALUES.get((group, choice), ()))
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert resolved["task"]["generator"]["image_size"] == resolved["data"]["image_size"]


@pytest.mark.parametrize("choice", EXTRACTORS)
def test_every_extractor_composes_and_resolves(choice):
    config = compose_program("evaluate", f"extractor=[{choice}]")
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert list(resolved["extractor"]) == [choice]


def test_default_composition_has_all_components():
    config = compose()
    assert {"task", "generator", "discriminator", "loss", "data", "metrics", "trainer", "seed"} <= set(config)


def test_wasserstein_chooses_a_penalty_unless_the_user_chooses():
    assert list(compose("loss=wasserstein").penalty) == ["wasserstein_gp"]
    clipped = compose("loss=wasserstein", "penalty=none", "task.weight_clip=0.01")
    assert not clipped.penalty
    assert clipped.task.weight_clip == 0.01


def test_choosing_a_backbone_chooses_a_discriminator_on_it_and_what_it_learns_with():
    for name, model in (("mini", "medsynth_mini"), ("xception", "legacy_xception")):
        task = compose(f"backbone={name}").task
        assert task.discriminator._target_.endswith(".VisionAidedDiscriminator")
        assert task.discriminator.backbone.model_name == model
        assert task.generator._target_.endswith(".ResNetGenerator")
        assert task.loss._target_.endswith(".NonSaturating")
        assert (task.generator_optimizer.lr, task.discriminator_optimizer.betas) == (1e-3, [0.0, 0.99])
        assert task.augmentations.diffaugment.policy == ["translation", "cutout"]


def test_what_is_typed_beside_a_backbone_is_used():
    chosen = compose("backbone=xception", "augment=ada", "loss=wasserstein", "optimizer@generator_optimizer=adam").task
    assert (list(chosen.augmentations), list(chosen.penalties)) == (["ada"], ["wasserstein_gp"])
    assert (chosen.generator_optimizer.lr, chosen.discriminator_optimizer.lr) == (2e-4, 1e-3)
    published = compose("backbone=xception", "discriminator=transfer").task
    assert published.loss._target_.endswith(".NonSaturating")
    assert (published.discriminator_optimizer.lr, dict(published.augmentations)) == (2e-4, {})
    assert compose("discriminator=transfer").task.discriminator.backbone.model_name == "medsynth_mini"
    assert "backbone" not in compose("backbone=xception", "discriminator=dcgan").discriminator


def test_default_composition_has_the_embedded_backbone_and_no_discriminator_on_it():
    config = compose()
    assert config.backbone == compose("backbone=mini").backbone
    assert "backbone" not in config.discriminator


def test_discriminators_on_a_backbone_are_found_by_their_options():
    assert choices_with("discriminator", "backbone") == ["grid", "projected", "transfer", "vision_aided"]
    assert choices_with("discriminator", "second_backbone") == ["projected"]


@pytest.mark.parametrize("experiment", [choice for group, choice in CHOICES if group == "experiment"])
def test_experiment_header_says_command_hardware_and_score(experiment):
    header = (conf_folder() / "experiment" / f"{experiment}.yaml").read_text().split("defaults:")[0]
    for word in ("command:", "hardware:", f"experiment={experiment}"):
        assert word in header


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["backbone=xceptoin"], ["xceptoin", "xception", "mini", "resnet50"]),
        (["penalty=[r1,r3]"], ["r3", "r1", "r2", "wasserstein_gp"]),
        (["generater=dcgan"], ["generater"]),
        (["generator.widht=3"], ["generator.widht", "width", "did you mean width"]),
        (["max_image=3"], ["max_image", "did you mean max_images"]),
        (["trainer.gradient_clip_val=1"], ["trainer.gradient_clip_val"]),
        (["max_images=[1"], ["max_images=[1", "every bracket, brace and quote has to be closed"]),
        (["image_size=32"], ["did you mean data.image_size?\n"]),
        (["gpus=1"], ["did you mean trainer.devices?\n"]),
        (["batch=8"], ["did you mean data.batch_size?\n"]),
        (["lr=0.1"], ["did you mean generator_optimizer.lr or discriminator_optimizer.lr?\n"]),
        (["data.window=lung"], ["data.window is an option of data=csv or dicom", "choose one of these"]),
        (["data=image_folder", "data.reader.table=a"], ["data.reader.table is an option of data=csv: choose"]),
        (["--max_images", "1000"], ["--max_images is typed without dashes", "equal sign: max_images=1000\n"]),
        (["--max-images=1000"], ["equal sign: max_images=1000\n"]),
        (["--epochs", "9", "data=csv"], ["--epochs: options are typed as key=value", "did you mean max_epochs?\n"]),
        (["images"], ["images is no option: type key=value"]),
    ],
    ids=lambda value: str(value[0]),
)
def test_unknown_options_are_refused_at_composition(monkeypatch, capsys, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 1
    assert err.startswith("medsynth train: error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not list(tmp_path.iterdir()), "nothing is written before the configuration is right"


def test_help_is_quick_and_names_groups_and_examples(tmp_path):
    start = time.perf_counter()
    program = [sys.executable, "-m", "medsynth", "train", "--help"]
    text = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert time.perf_counter() - start < 10  # 0.5 s on an idle machine; torch alone would take longer than that
    assert all(group in text for group in GROUPS if group not in ("task", "optimizer", "extractor", "schedule"))
    assert "python train.py" in text
    assert "resume=" in text


def test_config_dir_adds_choices(monkeypatch, capsys, tmp_path):
    mine = tmp_path / "conf" / "loss"
    mine.mkdir(parents=True)
    (mine / "mine.yaml").write_text("_target_: medsynth.loss.hinge.Hinge\n")
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(monkeypatch, capsys, "--config-dir", "conf", "loss=mine", "--cfg", "job")
    assert code == 0
    assert "medsynth.loss.hinge.Hinge" in out


def test_wheel_holds_conf():
    """The build puts conf/ inside the package, where an installed medsynth looks first."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {"conf": "medsynth/conf"}


OF_ONES_OWN = "loss=mine", "loss.sharpnes=3"
ANSWERED = "There is no option loss.sharpnes: loss has sharpness; did you mean sharpness?"


@pytest.fixture
def _loss_of_ones_own(monkeypatch, tmp_path):
    (tmp_path / "my conf" / "loss").mkdir(parents=True)
    (tmp_path / "my conf" / "loss" / "mine.yaml").write_text("_target_: mine.Loss\nsharpness: 2.0\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_loss_of_ones_own")
@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("train", ("--config-dir", "my conf", *OF_ONES_OWN), ANSWERED),
        (
            "train",
            ("hydra.searchpath=['file://my conf']", *OF_ONES_OWN),
            ANSWERED,
        ),
        (
            "train",
            ("--config-dir", "my conf", "loss=mien"),
            "choose dual_contrastive or hinge or least_squares or mine",
        ),
        ("train", ("--config-dir", "my conf", "loss=mine", "--max-images", "3"), "with an equal sign: max_images=3"),
        ("train", ("-m", "--config-dir", "my conf", "loss=mine,hinge", "loss.sharpnes=3"), ANSWERED),
        ("train", ("-m", "loss=choice(hinge,minimax)", "generator.widht=3"), "generator has attention"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistyped_key_beside_a_choice_of_ones_own_is_answered(monkeypatch, capsys, command, arguments, says):
    code, _, err = run(monkeypatch, capsys, *arguments, command=command)
    assert code == 1
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config-dir", "my conf", "loss=mine"),
        ("--config-dir=my conf", "loss=mine"),
        ("--config-di", "my conf"),
        ("-cd", "my conf"),
        ("loss=mine", "hydra.searchpath=['file://my conf',pkg://mine]"),
    ],
    ids=" ".join,
)
def test_folders_of_ones_own_are_known_before_hydra_composes(monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    forget_hydra()
    with folders_of(arguments):
        assert [Path(folder).name for folder in own_folders()] == ["my conf"]
    with folders_of(("--config-name", "x", "--config-dir")):
        assert own_folders() == []
    assert own_folders() == []
