"""The rules of CONTRIBUTING.md, held against the syntax trees: who may import whom, and when heavy libraries load."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "medsynth"
FILES = sorted(PACKAGE.rglob("*.py"))
# From the bottom to the top: a file imports its own package and those of lower layers, never of its own layer or above.
LAYERS = (
    {"errors", "exports"},
    {"image_sizes"},
    {"files", "untrusted_files", "terminal"},
    {"checksums"},
    {"contracts"},
    {"configuration"},
    {"runs"},
    {"layers"},
    {
        "generator",
        "encoder",
        "discriminator",
        "backbone",
        "minibatch",
        "optimizer",
        "loss",
        "penalty",
        "generator_penalty",
        "reconstruction",
        "augment",
        "schedule",
        "data",
        "metrics",
        "logger",
        "report",
    },
    {"diagnosis", "presets"},
    {"lightning"},
    {"gan", "vae"},
    {"vaegan", "regression", "paired_translation", "unpaired_translation", "cut"},
    {"finalize", "first_checks"},
    {"training"},
    {"evaluation", "planning", "sweep", "translate"},
    {"search", "figures"},
    {"utility", "audit"},
    {"verdict"},
    {"release"},
    {"cli"},
    {"python_api"},
    {"__init__", "__main__"},
)
LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}
COMPOSED = {
    *("configuration", "runs", "finalize", "first_checks", "training", "evaluation", "planning"),
    *("sweep", "translate", "search", "figures", "cli"),
}
# Libraries that only these packages import, so that a library's next major version touches one place.
BOUNDARIES = {
    "timm": {"backbone"},
    "huggingface_hub": {"backbone", "release"},
    "onnx": {"release"},
    "onnxruntime": {"release"},
    "onnxscript": {"release"},
    "monai": {"data", "diagnosis", "utility"},
    "pydicom": {"data"},
    "nibabel": {"data"},
    "medmnist": {"data"},
    "skimage": {"data"},
    "imagehash": {"data"},
    "torchmetrics": {"metrics", "reconstruction"},
    "sklearn": {"metrics"},
    "torch_fidelity": {"metrics"},
    "wandb": {"logger"},
    "tensorboard": {"logger"},
    "mlflow": {"logger"},
    "matplotlib": {"report"},
    "plotly": {"report"},
    "jinja2": {"report"},
    "optuna": {"search"},
    "rich": {"terminal"},
    "umap": {"figures"},
    "hydra": COMPOSED,
    "omegaconf": COMPOSED,
}


def package_of(path):
    """``medsynth/loss/hinge.py`` -> loss, ``medsynth/gan.py`` -> gan."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path):
    return ".".join(("medsynth", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    own = package_of(path)
    for name in imports(path):
        top, _, rest = name.partition(".")
        assert top != "lightning", f"{path} imports lightning; it is pytorch_lightning everywhere"
        if top in BOUNDARIES:
            assert own in BOUNDARIES[top], f"{path} imports {top}, which {BOUNDARIES[top]} alone may"
        target = rest.partition(".")[0]
        if top != "medsynth" or target not in LAYER or target == own:
            continue
        assert LAYER[target] < LAYER[own], f"{path}: {own} imports {name}, which is not below it"


def test_no_two_files_import_each_other_in_a_circle():
    known = {module_of(path): path for path in FILES}
    graph = {module: {name for name in imports(path) if name in known} - {module} for module, path in known.items()}
    faces = {module for module, path in known.items() if path.name == "__init__.py"}  # import what they hold
    done = set()

    def visit(module, above):
        assert module not in above, f"circle: {' -> '.join([*above[above.index(module) :], module])}"
        if module not in done:
            for target in sorted(graph[module] - faces):
                visit(target, [*above, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_every_package_has_a_layer():
    packages = {package_of(path) for path in FILES}
    assert packages <= set(LAYER)


def test_every_target_of_conf_exists_and_has_the_same_words():
    """conf/loss/hinge.yaml names medsynth.loss.<...>: the address rule; and what it names can be imported."""
    elsewhere = {"callbacks": "lightning", "trainer": "lightning"}
    targets = 0
    for path in sorted((PACKAGE.parent / "conf").rglob("*.yaml")):
        for target in re.findall(r"_target_: (medsynth\.\S+)", path.read_text()):
            module, _, name = target.rpartition(".")
            assert hasattr(importlib.import_module(module), name), f"{path} names {target}"
            targets += 1
        first = re.search(r"^\s*_target_: medsynth\.(\w+)", path.read_text(), re.MULTILINE)
        group = path.relative_to(PACKAGE.parent / "conf").parts[0]
        if first and group not in ("extractor", path.name):  # extractors stand in backbone/ and metrics/
            tasks = {"task": {"synthesis": "gan"}.get(path.stem, path.stem)}
            assert first[1] == (tasks | elsewhere).get(group, group), f"{path} is not where its class is"
    assert targets > 15


def test_nothing_heavy_is_imported_before_composition():
    program = "import sys, medsynth.cli, medsynth.cli.compose; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "timm", "monai", "pytorch_lightning", "wandb", "torchmetrics", "numpy", "matplotlib"}
    assert "hydra" in modules
    assert not heavy & set(modules)
