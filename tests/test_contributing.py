"""CONTRIBUTING.md's "Add a penalty in five minutes" works as it is written."""

import re
import subprocess
import sys
from pathlib import Path

from medsynth import penalty
from tests import command

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^`([\w/.]+)`[^\n`]*:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_example_of_a_penalty_trains_and_its_test_passes(tmp_path, monkeypatch, capsys):
    for name, content in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()):
        assert name.startswith("tests/") or not (ROOT / name).exists(), f"{name} exists: the example would replace it"
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(penalty, "__path__", [*penalty.__path__, str(tmp_path / "medsynth" / "penalty")])

    namespace = {}
    exec((tmp_path / "tests" / "test_penalty.py").read_text(), namespace)
    tests = [value for name, value in namespace.items() if name.startswith("test_")]
    for test in tests:
        test()
    overrides = ("--config-dir=conf", "penalty=[r1,squeezing]", *command.TINY, "max_images=16", "hydra.run.dir=run")
    code, _, err = command.run(monkeypatch, capsys, *overrides)
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]

    assert len(tests) == 1
    assert code == 0, err
    assert "train/squeezing" in header.split(",")
    ruff = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), "medsynth"]
    assert subprocess.run(ruff, capture_output=True, check=False).returncode == 0
