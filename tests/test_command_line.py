"""Words of the command line: help, version, guesses, folders without a key, and what is said before PyTorch loads."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from medsynth import __version__
from medsynth.backbone import availability
from medsynth.backbone.availability import MEASURED, location, offers
from medsynth.cli import command_line, compose, main
from medsynth.cli.command_line import COMMANDS, POSITIONS, unknown_command, with_keys
from medsynth.configuration.choices import choices
from medsynth.configuration.compose import compose as composed
from medsynth.configuration.compose import conf_folder
from tests.command import forget_hydra, run


def typed(monkeypatch, capsys, *arguments):
    forget_hydra()
    monkeypatch.setattr(sys, "argv", ["medsynth", *arguments])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, *capsys.readouterr()


@pytest.mark.parametrize("word", ["--version", "-V", "version"])
def test_version(monkeypatch, capsys, word):
    assert typed(monkeypatch, capsys, word) == (0, f"medsynth {__version__}\n", "")


def test_help_lists_every_command_and_describes_one(monkeypatch, capsys):
    code, out, _ = typed(monkeypatch, capsys, "help")
    assert code == 0
    assert all(f"medsynth {name} " in out for name in COMMANDS)
    assert typed(monkeypatch, capsys)[0] == 2, "nothing is typed"
    code, out, _ = typed(monkeypatch, capsys, "help", "generate")
    assert code == 0
    assert "num_samples=64" in out


def test_every_command_has_a_configuration_and_a_program():
    assert set(COMMANDS) == {path.stem for path in conf_folder().glob("*.yaml")}
    programs = {path.stem for path in Path(compose.__file__).parent.glob("*.py")}
    assert set(COMMANDS) <= programs
    assert set(command_line.OTHER_NAMES.values()) <= set(COMMANDS)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("trian", "did you mean train"), ("evalute", "did you mean evaluate?"), ("doctor", "did you mean checks?")],
)
def test_misspelt_commands_are_guessed(monkeypatch, capsys, word, meant):
    code, out, err = typed(monkeypatch, capsys, word)
    assert (code, out) == (2, "")
    assert meant in err
    assert err.count("\n") == 1


def test_words_that_resemble_nothing_lead_to_help():
    assert unknown_command("qqqq") == "there is no command 'qqqq': `medsynth help` lists all commands."
    assert "type medsynth train seed=1" in unknown_command("seed=1")


@pytest.mark.parametrize(
    ("command", "words", "options"),
    [
        ("report", ["a", "b,c", "out=x.html"], ['folders=["a","b,c"]', "out=x.html"]),
        ("generate", ["outputs/1"], ['run="outputs/1"']),
        ("generate", ["outputs/1", "new", "seed=2"], ['run="outputs/1"', 'out="new"', "seed=2"]),
        ("evaluate", ["a", "b"], ['real="a"', 'fake="b"']),
        ("audit", ["a", "b", "c"], ['real="a"', 'held_out="b"', 'fake="c"']),
        ("utility", ["run"], ['run="run"']),
        ("evaluate", ["a", "b", "c"], ["a", "b", "c"]),
        ("fetch", ["xception"], ['names=["xception"]']),
        ("train", ["a"], ["a"]),
        ("evaluate", ["--help"], ["--help"]),
        ("verdict", ['quo"te\\'], ['run="quo\\"te\\\\"']),
    ],
)
def test_folders_without_a_key(command, words, options):
    assert with_keys(command, words) == options


def test_keys_of_positions_exist():
    for command, positions in POSITIONS.items():
        config = composed(command, ["data=image_folder"] if command in ("data", "start") else [])
        for key in {key for keys in positions.keys for key in keys} | ({positions.listed} - {None}):
            parent, _, name = key.rpartition(".")
            assert name in (config[parent] if parent else config), f"{command} {key}"


def test_a_command_says_what_it_does_before_it_loads_pytorch(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    said = []
    program = SimpleNamespace(run=lambda config: said.append(capsys.readouterr()))
    monkeypatch.setattr(compose, "importlib", SimpleNamespace(import_module=lambda name: program, util=importlib.util))
    monkeypatch.delitem(sys.modules, "torch")
    assert run(monkeypatch, capsys, command="data")[0] == 0
    assert said[0] == ("", "Reading data ...\n")


def test_where_weights_cannot_be_had_a_table_says_what_can(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(availability, "answers", lambda url, waiting: False)
    code, _, err = run(monkeypatch, capsys, "backbone=xception")
    assert code == 1
    first, *table = err.splitlines()
    assert "The pretrained weights of legacy_xception are not on this machine" in first
    assert table == offers("legacy_xception").splitlines()
    commands = [line.split("  ")[1] for line in table[1:]]
    assert commands[0] == "python train.py backbone=efficientnet_lite0"
    assert "medsynth fetch xception" in commands


def test_stored_backbones_are_those_of_conf():
    stored = {row["backbone"]: row["timm model"] for row in MEASURED}
    assert {*stored, "timm"} == set(choices("backbone"))
    for name, model in stored.items():
        assert f"model_name: {model}\n" in (conf_folder() / "backbone" / f"{name}.yaml").read_text()


def test_weights_are_shown_with_the_folders_of_downloads(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / availability.DOWNLOADS["legacy_xception"].rpartition("/")[2]
    assert location("legacy_xception") == "download"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    assert location("legacy_xception") == "cached"
    code, out, _ = run(monkeypatch, capsys, command="fetch")
    assert code == 0
    assert "xception            cached" in out
    assert str(file.parent) in out
    code, out, _ = run(monkeypatch, capsys, "names=[xception,mini]", command="fetch")
    assert code == 0
    assert f"xception: {file}" in out
    assert "sha256 9a72fc9e75ad65d3c79f38c8d1b75d4fcf3be7b4b4dfd2ad1a5ff83b4c2bbd3d"[:7] in out
    assert "mini: nothing to fetch" in out


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("names=foo", "names=foo has no weights to fetch: choose among"),
        ("names=nasnet_mobile", "no pretrained weights"),
    ],
)
def test_fetch_refuses_what_there_is_not(monkeypatch, capsys, argument, words):
    code, out, err = run(monkeypatch, capsys, argument, command="fetch")
    assert (code, out) == (1, "")
    assert words in err


def test_checks_show_the_machine_and_write_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    code, out, _ = run(monkeypatch, capsys, "out=checks.json", command="checks")
    assert code == 0
    for words in ("medsynth    0", "torch 2", "weights     embedded: mini", "an API key is configured", "free here"):
        assert words in out
    assert "secret" not in out + (tmp_path / "checks.json").read_text()
    assert run(monkeypatch, capsys, "out=checks.txt", command="checks")[0] == 1


SHELL = """
eval "$(cat completion.sh)"
medsynth() { PYTHON -m medsynth "$@"; }
COMP_LINE="$1"; COMP_POINT=${#1}
_medsynth
echo "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="completion is for bash")
@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("medsynth tr", "train"),
        ("medsynth train loss=hin", "loss=hinge"),
        ("medsynth data data=nif", "data=nifti"),
    ],
)
def test_completion_in_bash(monkeypatch, capsys, tmp_path, line, replies):
    (tmp_path / "completion.sh").write_text(typed(monkeypatch, capsys, "completion")[1])
    program = SHELL.replace("PYTHON", sys.executable)
    environment = {**os.environ, "PYTHONPATH": str(conf_folder().parent), "HYDRA_FULL_ERROR": "0"}
    ended = subprocess.run(
        ["bash", "-c", program, "bash", line], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert replies in ended.stdout.split(), ended.stderr
