"""What pyproject.toml declares: every package that medsynth imports, under a name that the registry does not have."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import medsynth
from medsynth.backbone.packaged import PACKAGES
from medsynth.errors import extra_command

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def normalized(requirement):
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def imported(folder):
    """(file, top-level package) of all imports, those inside of functions too."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            yield from ((path.relative_to(ROOT), name.partition(".")[0]) for name in names)


def test_the_version_is_the_same_in_both_places():
    assert PROJECT["version"] == medsynth.__version__


def test_every_imported_package_is_declared():
    groups = [PROJECT["dependencies"], *EXTRAS.values()]
    declared = {normalized(requirement) for group in groups for requirement in group}
    distributions = packages_distributions()
    for path, package in imported("medsynth"):
        if package in sys.stdlib_module_names or package == "medsynth":
            continue
        providers = {name.lower().replace("_", "-") for name in distributions.get(package, [package])}
        assert providers & declared, f"{path} imports {package}: declare one of {sorted(providers)} in pyproject.toml"


def test_packages_of_weights_are_dependencies():
    """They are read by their names alone, which no import shows."""
    assert {package.distribution for package in PACKAGES.values()} <= set(map(normalized, PROJECT["dependencies"]))


@pytest.mark.parametrize("extra", EXTRAS)
def test_hints_name_extras_that_exist(extra):
    assert f"uv sync --extra {extra} " in extra_command(extra)


def test_no_hint_installs_a_package_of_the_registry_that_is_not_ours():
    files = [path for folder in ("medsynth", "conf", "scripts") for path in (ROOT / folder).rglob("*")]
    texts = [path for path in files if path.suffix in (".py", ".yaml", ".sh")]
    for path in [*texts, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        assert not re.search(r"install ['\"]?medsynth", path.read_text()), path
        for extra in re.findall(r"--extra ([a-z]+)", path.read_text()):
            assert extra in EXTRAS, f"{path}: extra {extra}"


def test_constraints_name_versions_and_no_host():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {normalized(line) for line in lines}
    assert all(re.match(r"[A-Za-z0-9._-]+==\S+( ;.*)?$", line) for line in lines)
    assert "://" not in "".join(lines)
    assert {normalized(requirement) for requirement in PROJECT["dependencies"]} <= pinned


IMPORT_AS_ON_WINDOWS = """
import importlib, os, pkgutil, signal, sys
import hydra, joblib, matplotlib.pyplot, monai, optuna, pytorch_lightning, torch.distributed.launcher.api, wandb
for module in ("resource", "fcntl", "grp", "pwd", "termios"):
    sys.modules[module] = None
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "SIGKILL"):
    delattr(signal, name)
for name in ("killpg", "setsid", "fork", "getpgid", "getuid", "sched_getaffinity"):
    delattr(os, name)
import medsynth
for module in pkgutil.walk_packages(medsynth.__path__, "medsynth."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("imported")
"""


@pytest.mark.slow
def test_modules_import_where_the_names_of_unix_are_missing():
    result = subprocess.run([sys.executable, "-c", IMPORT_AS_ON_WINDOWS], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.endswith("imported\n"), result.stderr
