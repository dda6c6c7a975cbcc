"""Runs of earlier versions, whose classes and options have other names, are resumed and evaluated."""

import dataclasses
import inspect

import pytest
from omegaconf import OmegaConf

from medsynth.configuration.moved import ADDED, CHANGED, KEYS, TARGETS, VALUES, load_configuration, renamed
from medsynth.configuration.targets import target_class
from medsynth.configuration.trusted_targets import check_targets
from medsynth.data.image_folder import ImageFolder
from medsynth.data.split import SplitOptions
from medsynth.errors import InputError
from medsynth.runs.resume import read_composition
from tests.command import run
from tests.files import write_images
from tests.test_evaluate import a_run

OLD_CACHE = {"_target_": "medsynth.feature_bank.FeatureBank", "folder": "${run_dir}/feature_bank", "enabled": "auto"}


def in_old_names(path):
    """Rewrite a configuration of today's names as the version before wrote it."""
    text = path.read_text()
    for old, new in (*TARGETS.items(), *VALUES.items()):
        text = text.replace(new, old)
    for old, new in KEYS.items():
        text = text.replace(f"{new}:", f"{old}:")
    path.write_text(text)


@pytest.mark.parametrize(("old", "new"), TARGETS.items())
def test_every_renamed_class_exists(tmp_path, old, new):
    path = tmp_path / "composition.yaml"
    OmegaConf.save({"task": {"parts": [{"_target_": old, "width": 8}]}}, path)
    config = load_configuration(path)
    assert config.task.parts[0] == {"_target_": new, "width": 8}
    assert target_class(config.task.parts[0]).__name__ == new.rpartition(".")[2]
    check_targets(config, path)


def test_options_and_values_are_renamed_and_others_stay():
    now = renamed({"task": {"feature_bank": OLD_CACHE}, "name": "feature_bank", "seeds": [1, None]})
    assert now == {
        "task": {
            "feature_cache": {
                "_target_": "medsynth.discriminator.feature_cache.FeatureCache",
                "folder": "${run_dir}/feature_cache",
                "enabled": "auto",
            }
        },
        "name": "feature_bank",
        "seeds": [1, None],
    }
    assert renamed(now) == now


@pytest.mark.parametrize(("target", "options"), ADDED.items())
def test_runs_that_lack_an_option_keep_what_they_did_without_it(target, options):
    before = {"data": {"_target_": target, "other": 1}}
    changed = {name: next(iter(values.values())) for name, values in CHANGED.get(target, {}).items()}
    assert renamed(before) == {"data": {"_target_": target, "other": 1, **options, **changed}}
    chosen = {"data": {"_target_": target, **dict.fromkeys(options, "chosen")}}
    assert renamed(chosen) == chosen
    parameters = set(inspect.signature(target_class(OmegaConf.create(before["data"]))).parameters)
    assert set(options) <= parameters | {field.name for field in dataclasses.fields(SplitOptions)}


@pytest.mark.parametrize(("lacks", "images"), [(True, "*"), (False, None)])
def test_volumes_of_an_earlier_run_are_all_its_images(lacks, images):
    reader = {"_target_": "medsynth.data.nifti.Nifti", "images": None}
    now = renamed(reader if lacks else reader | {"patient_level": "auto", "split_level": "auto"})
    assert now["images"] == images
    for other in ("imagesTr", ["a list"]):
        assert renamed(reader | {"images": other})["images"] == other


@pytest.mark.parametrize("lacks", [True, False])
def test_masks_beside_images_are_images_of_an_earlier_run(tmp_path, lacks):
    write_images(tmp_path / "images", 2)
    write_images(tmp_path / "masks", 2, start=9)
    options = dataclasses.asdict(ImageFolder(str(tmp_path)))
    options = {name: options[name] for name in (["classes"] if lacks else options) if name != "root"}
    reader = renamed({"_target_": "medsynth.data.image_folder.ImageFolder", **options})
    made = ImageFolder(str(tmp_path), **{name: value for name, value in reader.items() if name != "_target_"})
    if lacks:
        assert len(made.scan().records) == 4
    else:
        with pytest.raises(InputError, match=r"data\.reader\.masks=keep"):
            made.scan()


def test_the_composition_of_an_earlier_version_is_resumed_with_its_interpolations(tmp_path):
    composition = {"max_images": 64, "max_epochs": None, "run_dir": "elsewhere", "task": {"feature_bank": OLD_CACHE}}
    OmegaConf.save(composition, tmp_path / "composition.yaml")
    config = read_composition(tmp_path, ["max_images=96"])
    assert config.max_images == 96
    assert config.task.feature_cache.folder == f"{tmp_path}/feature_cache"


def test_a_run_of_an_earlier_version_is_evaluated(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    configuration = a_run(tmp_path / "run") / "config.yaml"
    in_old_names(configuration)
    assert "medsynth.metrics.several.Several" in configuration.read_text()
    code, _, err = run(monkeypatch, capsys, "run=run", "extractor=[mini,pixels]", command="evaluate")
    assert code == 0, err
