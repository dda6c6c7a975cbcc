"""The table of scripts/benchmark_modes.py: its intervals, its words, its rows, and that its options are known."""

import importlib
import json
import math
import sys
from pathlib import Path

import pytest

from medsynth.finalize import check_combinations
from tests.test_conf import compose

sys.path.append(str(Path(__file__).parents[1] / "scripts"))  # as where a script is run


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("benchmark_modes")


def row(method, seed, tv, caught=4.0):
    values = {"modes_caught": caught, "good_images": 0.5, "modes_tv": tv, "modes_kl": 0.3}
    ema = {**values, "modes_tv": tv - 0.2 - 0.01 * seed}
    real = {"modes_caught": 8.0, "good_images": 0.99, "modes_tv": 0.01, "modes_kl": 0.0}
    return {"problem": "ring", "method": method, "seed": seed, "steps": 800, "last": values, "ema": ema, "real": real}


def test_interval_is_that_of_students_distribution(script):
    mean, low, high = script.interval([1.0, 2.0, 3.0])
    # t(0.975, 2 degrees of freedom) = 4.3027, deviation 1
    assert (mean, low, high) == pytest.approx((2, 2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)), rel=1e-4)
    assert script.interval([1.0]) == (1.0, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.01, 0.3, "helps"),
        (-0.3, -0.01, "hurts"),
        (-0.02, 0.04, "does not help"),
        (-0.02, 0.2, "is undecided"),
        (-math.inf, math.inf, "is undecided"),
    ],
)
def test_words_follow_from_the_interval(script, low, high, word):
    assert script.verdict(low, high, 0.05) == word


def test_on_stacked_phantoms_effective_modes_decide(script):
    rows = [{**row("plain", seed, 0.99), "problem": "stacked"} for seed in range(3)]
    for seed in range(3):
        more = {**row("ttur", seed, 0.99), "problem": "stacked"}
        more["last"] = {**more["last"], "modes_kl": 0.2}  # 216 exp(-0.2) = 176.8 modes instead of 160.0
        rows.append(more)
    lines = list(script.table(rows))
    assert any(line.startswith("* ttur helps: overlap +0.00 [+0.00, +0.00], effective modes +16.8 [") for line in lines)


def test_differences_are_paired_over_seeds(script):
    plain = [row("plain", seed, tv) for seed, tv in enumerate([0.9, 0.5, 0.7])]
    better = [row("packing_2", seed, tv, caught=6.0) for seed, tv in enumerate([0.6, 0.21, 0.39])]
    lines = list(script.table([*plain, *better, row("drift", 1, 0.5), {**row("r1", 0, 0.1), "steps": 7}]))
    sentence = next(line for line in lines if line.startswith("* packing_2 "))
    assert sentence.startswith("* packing_2 helps: overlap +0.30 [+0.28, +0.32]"), "unpaired, it would hold 0"
    assert "effective modes +0.0 [+0.0, +0.0]" in sentence
    assert any(line.startswith("| packing_2 | 3 | 6.0 ± 0.0 | 5.9 ± 0.0 | 0.50 ± 0.00 | 0.60 ") for line in lines)
    assert any(line.startswith("* EMA of the plain GAN") and "helps (overlap +0.21" in line for line in lines)
    assert any(line.startswith("* drift is undecided") for line in lines)
    assert not any("r1" in line for line in lines), "other steps"


def test_a_run_that_diverged_is_named(script):
    ended = {"problem": "ring", "method": "r1", "seed": 1, "steps": 800, "ended": "diverged"}
    assert any("r1 (seed 1: diverged)" in line for line in script.table([row("plain", 0, 0.5), ended]))


def test_rows_survive_a_line_that_was_cut(tmp_path):
    file = importlib.import_module("row_file")
    path = tmp_path / "rows.jsonl"
    assert file.read_rows(path) == []
    file.append_rows(path, {"seed": 0})
    with path.open("a") as cut:
        cut.write('{"seed": 1, "me')
    assert file.read_rows(path) == [{"seed": 0}]
    file.append_rows(path, {"seed": 2})
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()] == [0, 2]


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["ring", "grid", "stacked"])
def test_options_of_every_method_are_known(script, problem):
    for method in script.METHODS:
        check_combinations(compose(*script.overrides(problem, method, seed=0)))
