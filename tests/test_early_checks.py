"""What a command cannot begin with is refused before PyTorch is imported."""

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

from medsynth.cli import compose
from medsynth.configuration import option_help
from tests.command import run

READERS = ("image_folder", "csv", "dicom", "nifti", "paired_folder", "medmnist", "mednist")


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        *(
            (command, ["data=image_folder", f"data.root={root}"], f"data.root={root} does not exist")
            for command, root in (("train", "nowhere"), ("plan", "~/nowhere"), ("data", "no(where)"))
        ),
        ("pretrain", ["out=a.safetensors", "data=csv"], "data.root is needed: data=csv data.root=/path/to/images"),
        ("pretrain", [], "out= is required"),
        ("pretrain", ["out=file"], "out=file must end in .safetensors"),
        ("data", ["out=folder"], "out=folder exists already"),
        ("generate", [], "run= is needed: the folder of a run, for example run=outputs/"),
        ("generate", ["run=nowhere"], "run=nowhere does not exist"),
        ("generate", ["run=folder"], "out= is needed"),
        ("generate", ["run=folder", "out=folder"], "out=folder exists already"),
        ("generate", ["run=folder", "out=new", "num_samples=0"], "num_samples=0 must be 1 or more"),
        ("evaluate", [], "Give run=, the folder of a run, or both real= and fake="),
        (
            "evaluate",
            ["run=nowhere"],
            "run=nowhere is not the folder of a run: it does not exist. Name one such",
        ),
        ("evaluate", ["run=folder"], "run=folder is not the folder of a run: it holds no config.yaml. Name one"),
        ("evaluate", ["real=folder", "fake=nowhere"], "fake=nowhere does not exist"),
        ("evaluate", ["real=folder", "fake=folder", "training=nowhere"], "training=nowhere does not exist"),
        ("verdict", [], "run= is needed: the folder of a run, for example run=outputs/"),
        ("verdict", ["run=nowhere"], "run=nowhere is not the folder of a run: it does not exist"),
        ("report", [], "No folder of a run or sweep is given: type medsynth report outputs/"),
        ("report", ["folders=nowhere"], "nowhere is not a folder: name the folder of a run or of a sweep"),
        ("train", ["resume=nowhere"], "resume=nowhere is not the folder of a run: it does not exist"),
    ],
)
def test_no_library_is_loaded_for_what_is_missing(monkeypatch, capsys, tmp_path, command, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    loading = SimpleNamespace(import_module=lambda name: pytest.fail(f"{name} was imported"), util=importlib.util)
    monkeypatch.setattr(compose, "importlib", loading)
    code, _, err = run(monkeypatch, capsys, *arguments, command=command)
    assert code == 1
    assert words in err
    assert err.count("\n") == 1


def test_options_are_described_only_where_help_is_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(option_help, "describe_options", lambda *_: pytest.fail("the help of train was made"))
    code, _, err = run(monkeypatch, capsys, "data=image_folder", "data.root=nowhere", command="plan")
    assert code == 1, "plan replaces the help of train"
    assert "data.root=nowhere does not exist" in err


def test_neither_the_checks_nor_the_readers_import_pytorch():
    modules = ", ".join(["medsynth.cli.early_checks", *(f"medsynth.data.{name}" for name in READERS)])
    program = f"import sys, {modules}; sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'timm')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
