"""The house's rules, held against the syntax trees: who may import whom, and that nothing heavy comes too early."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "medsynth"
FILES = sorted(PACKAGE.rglob("*.py"))
COMMON = {"contracts", "errors", "files", "run_folder"}
LEAVES = {"generator", "discriminator", "backbone", "loss", "penalty", "augment", "data", "metrics"}
BESIDE_GAN = {"moving_average", "feature_bank", "preparation", "parallel", "half_precision"}
WATCHERS = {"callbacks", "logger", "report", "sweep"}
DOORS = {  # each heavy library has one door, so that its next major version touches one room
    "timm": {"backbone"},
    "huggingface_hub": {"backbone"},
    "monai": {"data"},
    "pydicom": {"data"},
    "nibabel": {"data"},
    "medmnist": {"data"},
    "skimage": {"data"},
    "imagehash": {"data"},
    "filelock": {"data", "sweep"},
    "torchmetrics": {"metrics"},
    "torch_fidelity": {"metrics"},
    "hydra": {"cli"},
    "omegaconf": {"cli"},
    "wandb": {"logger"},
    "tensorboard": {"logger"},
    "mlflow": {"logger"},
    "matplotlib": {"report"},
    "plotly": {"report"},
    "jinja2": {"report"},
    "optuna": {"sweep"},
}


def room(path):
    """``medsynth/loss/hinge.py`` -> loss, ``medsynth/gan.py`` -> gan."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    for name in imports(path):
        top, _, rest = name.partition(".")
        assert top != "lightning", f"{path} imports lightning; it is pytorch_lightning everywhere"
        if top in DOORS:
            assert room(path) in DOORS[top], f"{path} imports {top}, whose door is {DOORS[top]}"
        if top != "medsynth" or room(path) in ("cli", "__init__", "__main__"):
            continue
        target = rest.partition(".")[0]
        if room(path) in LEAVES:
            assert target in {*COMMON, room(path)}, f"{path}: the room {room(path)} imports {target}"
        if room(path) in WATCHERS:
            exported = room(path) == "callbacks" and name == "medsynth.generator.export"
            assert exported or target in {"", *COMMON, room(path)}, f"{path} imports {name}"
        assert target != "cli", f"{path} imports the command line"
        if room(path) in COMMON:
            assert target == "errors"
        if room(path) == "gan":
            assert target == "contracts" or target in BESIDE_GAN
        if room(path) in BESIDE_GAN:
            assert target == "contracts"


def test_every_target_of_conf_exists_and_has_the_same_words():
    """conf/loss/hinge.yaml names medsynth.loss.<...>: the address rule; and what it names can be imported."""
    import importlib
    import re

    targets = 0
    for path in sorted((PACKAGE.parent / "conf").rglob("*.yaml")):
        for target in re.findall(r"_target_: (medsynth\.\S+)", path.read_text()):
            module, _, name = target.rpartition(".")
            assert hasattr(importlib.import_module(module), name), f"{path} names {target}"
            targets += 1
        first = re.search(r"^\s*_target_: medsynth\.(\w+)", path.read_text(), re.MULTILINE)
        group = path.relative_to(PACKAGE.parent / "conf").parts[0]
        if first and group not in ("task", "extractor", path.name):  # extractors stand in backbone/ and metrics/
            assert first[1] == group, f"{path} is not where its part is"
    assert targets > 15


def test_nothing_heavy_is_imported_before_composition():
    program = "import sys, medsynth.cli, medsynth.cli.launch; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "timm", "monai", "pytorch_lightning", "wandb", "torchmetrics", "numpy", "matplotlib"}
    assert "hydra" in modules
    assert not heavy & set(modules)
