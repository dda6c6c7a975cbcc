"""Components that an option sets to null: the program works without them."""

import pytest

from medsynth.cli.compose import register_resolvers
from medsynth.configuration.checked_composition import compose_checked
from medsynth.runs.resume import read_composition, save_configuration
from tests.command import TINY, run


@pytest.mark.parametrize(
    ("command", "group", "option"),
    [
        *(("train", "callbacks", name) for name in ("record", "progress", "sample_grid", "best_checkpoint")),
        ("train", "callbacks", "last_checkpoint"),
        ("train", "logger", "csv"),
        ("train", "penalty", "r1"),
        ("train", "augment", "diffaugment"),
        ("train", "metrics.parts", "pixels"),
        ("evaluate", "extractor", "mini"),
    ],
)
def test_null_removes_a_component(command, group, option):
    chosen = ["augment=diffaugment"] if group == "augment" else []
    node = compose_checked(command, [*chosen, f"{group}.{option}=null"])
    for name in group.split("."):
        node = node[name]
    assert option not in node


def test_a_training_does_without_each_removed_component(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    removed = ("callbacks.progress", "callbacks.record", "callbacks.sample_grid", "callbacks.best_checkpoint")
    removed += ("logger.csv", "penalty.r1", "metrics.parts.pixels")
    options = [option for option in TINY if not option.startswith("val_every")] + ["val_every_images=64"]
    code, _, err = run(
        monkeypatch, capsys, *options, "max_images=16", "hydra.run.dir=run", *(f"{name}=null" for name in removed)
    )
    assert code == 0, err


def test_null_removes_a_component_of_a_resumed_run(tmp_path):
    register_resolvers()
    config = compose_checked("train", [])
    config.run_dir = str(tmp_path)
    save_configuration(config, tmp_path)
    assert "progress" not in read_composition(tmp_path, ["callbacks.progress=null"]).callbacks
