"""The table of measured presets: every row can be trained again, and a preset is what its row says is best."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from tests.test_conf import compose

ROOT = Path(__file__).parents[1]
ROWS = [json.loads(line) for line in (ROOT / "medsynth/presets/measured_presets.jsonl").read_text().splitlines()]
sys.path.append(str(ROOT / "scripts"))  # as where a script is run
measure_presets = importlib.import_module("measure_presets")


def composed(preset):
    name, *overrides = preset.split()
    return compose(*([] if name == "default" else [f"experiment={name}"]), *overrides).task


@pytest.mark.parametrize("preset", sorted({row["preset"].replace("<file>", "weights.pth") for row in ROWS}))
def test_a_measured_preset_composes(preset):
    assert composed(preset).generator._target_


@pytest.mark.parametrize(
    ("preset", "count"), [("small_data", 200), ("small_data", 800), ("medium_data", 3_000), ("large_data", 8_407)]
)
def test_a_preset_is_the_nearest_to_real_images_in_features_that_no_candidate_used(preset, count):
    rows = [row for row in ROWS if (row["images"], row["train_images"], row["seed"]) == ("HeadCT", count, 0)]
    assert len(rows) > 1
    best = min(rows, key=lambda row: row["measures"]["kd_imagenet"]["value"])
    assert composed(best["preset"]) == composed(preset)


def test_docs_have_the_table(capsys):
    measure_presets.print_table(ROWS)
    assert capsys.readouterr().out in (ROOT / "docs" / "presets.md").read_text()


def test_splits_are_nested_and_apart(tmp_path):
    for number in range(60):
        (tmp_path / f"{number}.png").write_bytes(bytes([number % 50]))
    splits = measure_presets.divide(tmp_path, by_patient=False)
    assert {name: len(paths) for name, paths in splits.items()} == {"test": 10, "val": 5, "train": 35}
    tables = []
    for size in (10, 20, 100):
        assert measure_presets.write_table(splits, size, tmp_path / "table.csv") == min(size, 35)
        tables.append((tmp_path / "table.csv").read_text().splitlines()[1:])
    assert set(tables[0]) < set(tables[1]) < set(tables[2])
    assert len({line.partition(",")[0] for line in tables[2]}) == len(tables[2]) == 50


def test_patients_are_apart(tmp_path):
    """Ten folders of 4 to 13 images are ten patients, of whom none is in two splits."""
    for patient in range(10):
        (tmp_path / f"patient{patient}").mkdir()
        for number in range(4 + patient):
            (tmp_path / f"patient{patient}" / f"{number}.png").write_bytes(bytes([patient, number]))
    splits = measure_presets.divide(tmp_path, by_patient=True)
    patients = {name: {path.parent for path in paths} for name, paths in splits.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 10
    assert sum(map(len, splits.values())) == 85
    assert 17 <= len(splits["test"]) < 17 + 13
    assert 8 <= len(splits["val"]) < 8 + 13
    assert splits["train"] != sorted(splits["train"]), "nested training sets are to be of all patients"
