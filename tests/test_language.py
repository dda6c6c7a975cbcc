"""Plain English: private words of earlier versions do not come back, and docstrings begin as a stranger expects."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUFFIXES = (".py", ".yaml", ".sh", ".md", ".html", ".css", ".js")
FILES = [path for folder in ("medsynth", "conf", "scripts") for path in sorted((ROOT / folder).rglob("*"))]
FILES += [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FILES = [path for path in FILES if path.suffix in SUFFIXES]
MODULES = [path for path in FILES if path.suffix == ".py"]

PACKAGE, SMALL_DATA = r"rooms?", r"remed(?:y|ies)"
CACHE, BASELINE = r"FeatureBank|feature[_ ]banks?|the bank", r"(?<![.\w])floors?(?!\()"
WORDS = {  # pattern -> what to write instead
    PACKAGE: "package",
    r"doors?": "dependency boundary",
    r"house": "layout; test_house is test_architecture",
    r"players?": "networks",
    r"_Part": "Microbatch",
    r"head_held": "frozen(head)",
    r"MovingAverage|moving_average": "EMA",
    CACHE: "feature cache",
    BASELINE: "real-vs-real baseline",
    r"judgments?|judge[sd]?|judging": "logits; evaluate",
    r"flatters?|flattered|flattering": "biases",
    r"settles?|settled": "finalize",
    r"Outcome": "RunEnd",
    r"telling": "reporting",
    r"courier": "logging thread",
    r"facts": "provenance",
    r"class Several|Several\(|metrics\.several": "MetricCollection",
    r"Found\(|class Found": "Scan",
    r"class Item|Item\(": "Record",
    r"Picture": "RawImage",
    SMALL_DATA: "small_data, solution",
    r"go(?:es|ing)? on|went on": "continues, resumes",
    r"is not there for": "is not meant for",
    r"of no use": "not needed",
    r"c[ao]mes? to(?! (?:an end|\d))": "amounts to, becomes",
    r"st(?:ands?|anding|ood) on": "rests on, uses",
    r"by hand of": "by",
    r"wants": "needs, asks for",
    r"netG|netD|nz|n_dis|errD|errG": "generator, latent_dim, discriminator_steps",
    r"utils?(?=\.py)|def utils?": "a name of its purpose",
}
# Names of earlier versions that are still read, and words that mean something else: file -> words.
ALLOWED = {
    "medsynth/configuration/moved.py": {*WORDS},
    "medsynth/report/evaluation.py": {BASELINE},  # the name in evaluations of version 0.1.0
    "medsynth/runs/layout.py": {CACHE},  # the folder in runs of version 0.1.0
    "medsynth/sweep/plan.py": {SMALL_DATA},  # the preset in sweeps of version 0.1.0
    **{f"medsynth/data/phantom/{name}.py": {PACKAGE} for name in ("abdomen", "chest", "lesion")},  # space in a body
}
BEGINNINGS = re.compile(r"(?:What|Of|Whether|How|Where|From|As|Which)\b")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_private_words_do_not_come_back(path):
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for pattern, instead in WORDS.items():
            if pattern in ALLOWED.get(name_of(path), ()):
                continue
            found += [f"{number}: {hit[0]!r} -> {instead}" for hit in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", line)]
    assert not found, f"{name_of(path)}\n" + "\n".join(found)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_docstrings_begin_with_an_imperative_or_a_noun(path):
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    texts = [(getattr(node, "name", "module"), ast.get_docstring(node) or "") for node in nodes]
    assert not [f"{name}: {text.splitlines()[0]}" for name, text in texts if BEGINNINGS.match(text)]
