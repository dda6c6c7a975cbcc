"""Help texts: every option is described, in the words that stand beside it in conf/."""

import os
import subprocess
import sys

import pytest

from medsynth.configuration.compose import conf_folder
from medsynth.configuration.option_help import comments, describe_options
from tests.command import run

COMMANDS = sorted(path.stem for path in conf_folder().glob("*.yaml"))


def test_comments_continue_on_lines_of_their_own(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(
        "# about the file\n"
        "one: 1          # the first\n"
        "                # of two\n"
        "\n"
        "# a heading\n"
        "two: [a, b]     # a list with # in it\n"
        "group:          # some options\n"
        "  inner: null   # the inner one\n"
        "  bare: x\n"
        "text: 'a # b'\n"
    )
    assert comments(path) == {
        "one": "the first of two",
        "two": "a list with # in it",
        "group": "some options",
        "group.inner": "the inner one",
        "group.bare": "",
        "text": "",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_described(command):
    own = comments(conf_folder() / f"{command}.yaml")
    described = {option.key: option.description for option in describe_options(command, [])}
    missing = [key for key in own if key in described and not described[key]]
    assert not missing


def test_options_of_a_choice_are_described_by_its_files():
    described = {option.key: option for option in describe_options("data", ["data=dicom"])}
    assert described["data.window"].description  # in the file that all readers share
    assert described["data.image_size"].default == "64"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_printed_with_defaults_and_descriptions(monkeypatch, capsys, command):
    code, out, err = run(monkeypatch, capsys, "--help", command=command)
    assert code == 0, err
    assert "key=value" in out
    assert "$" not in out.replace("${", ""), "nothing is left for Hydra to fill in"


def test_help_describes_choices_in_a_folder_of_the_users_own(monkeypatch, capsys, tmp_path):
    (tmp_path / "my" / "data").mkdir(parents=True)
    own = "defaults:\n  - /data/dicom@_here_\n  - _self_\nimage_size: 32     # the size of mine\n"
    (tmp_path / "my" / "data" / "mine.yaml").write_text(own)
    for command in ("data", "train"):
        code, out, err = run(
            monkeypatch, capsys, "--config-dir", str(tmp_path / "my"), "data=mine", "--help", command=command
        )
        assert code == 0, err
        assert "data.image_size=32" in out
        assert "the size of mine" in out
    assert "mednist, mine, nifti" in " ".join(out.split())


def test_help_of_a_training_names_choices_and_common_options(monkeypatch, capsys):
    _, out, _ = run(monkeypatch, capsys, "--help", "data=image_folder")
    for text in (
        "max_images=30000",
        "real images that the discriminator sees",
        "data.image_size=64",
        "hinge",
        "r1, r2",
    ):
        assert text in out


@pytest.mark.slow
def test_help_is_read_as_utf8_whatever_the_locale():
    program = "from medsynth.configuration.option_help import choice_help; print(ascii(choice_help('train')))"
    ascii_alone = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    shown = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | ascii_alone, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert "metrics" in shown.stdout
