"""The documentation: its links, its navigation, the page of all options, and the site that is built of them."""

import importlib.util
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from medsynth.configuration.compose import conf_folder
from medsynth.presets.measured import AIMS, CANDIDATES, compare
from tests.command import TINY

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / ".ci" / "mkdocs.yml"
PAGES = sorted((ROOT / "docs").glob("*.md"))
GENERATED = "options.md"
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
LONGEST_README = 120  # lines


def anchors(path):
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = re.sub(r"^(    |```).*$|`[^`]*`", "", path.read_text(), flags=re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if "://" in target or (file == GENERATED and path in PAGES):
            continue
        linked = path.parent / file if file else path
        assert linked.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{path.name} links to {target}"


def test_every_page_is_in_the_navigation_once():
    config = yaml.safe_load(CONFIG.read_text())
    named = [page for section in config["nav"] for page in _pages(section)]
    assert sorted(named) == sorted([GENERATED, *(path.name for path in PAGES)])
    assert config["theme"]["font"] is False, "no fonts from the network"


def _pages(entry):
    if isinstance(entry, str):
        return [entry]
    children = entry.values() if isinstance(entry, dict) else entry
    return [page for child in children for page in _pages(child)]


def test_readme_is_short_and_names_every_page():
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= LONGEST_README
    assert [path.name for path in PAGES if f"docs/{path.name}" not in readme] == ["index.md"]


def test_the_page_of_options_has_every_file_of_conf_and_its_comments():
    spec = importlib.util.spec_from_file_location("option_pages", CONFIG.with_name("option_pages.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = "\n".join(module.option_page())
    for path in conf_folder().rglob("*.yaml"):
        command = path.parent == conf_folder()
        title = f"medsynth {path.stem}" if command else f"{path.parent.name}={path.stem}"
        assert title in page or path.parent.name == "base", path
    assert "| `data.val_fraction` | `0.1` | fraction of each class that is held out for validation |" in page
    assert "| `max_images` | `30000` |" in page


def test_the_advice_of_the_documentation_is_that_of_the_table():
    text = (ROOT / "docs" / "choosing.md").read_text()
    for aim in AIMS.values():
        for count in (800, 3_000):
            for name in CANDIDATES:
                assert f"{compare(count, aim).values[name]:.2f}" in text


def python_blocks(path):
    """The programs that a page shows, fenced or indented."""
    text = path.read_text()
    indented = re.findall(r"^    import medsynth\n(?:    .*\n)+", text, re.MULTILINE)
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL) + [textwrap.dedent(block) for block in indented]


@pytest.mark.slow
@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "docs" / "python.md"], ids=lambda path: path.name)
def test_programs_of_the_documentation_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(60):
        Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(tmp_path / "my" / "images" / f"{number}.png")
    tiny = [option for option in TINY if not option.startswith(("data.source", "max_images"))]
    (block,) = python_blocks(path)
    program = block.replace("max_images=20_000", "*tiny, max_images=64")
    assert program != block
    found = {"tiny": tiny}
    exec(program, found)
    assert found["images"].shape == (16, 1, 16, 16)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mkdocs") is None and importlib.util.find_spec("mkdocs") is None, reason="no mkdocs")
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(CONFIG), "-d", str(tmp_path / "site")]
    built = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    for page in (tmp_path / "site").glob("*.html"):
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text())
        assert not loaded, f"{page.name} loads {loaded}"
    assert "val_fraction" in (tmp_path / "site" / "options.html").read_text()
