"""``medsynth utility``: a run with classes, a run for each class, and folders; what is refused, and that it resumes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from medsynth.errors import InputError
from medsynth.evaluation import labeled_sets
from medsynth.metrics.image_set import ImageSet
from medsynth.utility import workers as workers_module
from tests.command import run
from tests.test_evaluate import a_run

QUICK = (
    "network.model_name=medsynth_mini",
    "network.weights=embedded",
    "steps=2",
    "seeds=2",
    "ratios=[1]",
    "views=1",
    "device=cpu",
    "jobs=0",
)
CONDITIONAL = (
    "num_classes=2",
    "generator.num_classes=2",
    "data.source.num_images=24",
    "data.source.classes=[healthy,one_lesion]",
)


@pytest.fixture
def utility(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run(monkeypatch, capsys, *arguments, command="utility")


def class_folders(root, *, seed, count=12, names=("healthy", "ill"), size=16):
    random = np.random.default_rng(seed)
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(count):
            values = random.integers(0, 156, (size, size)) + 60 * number
            Image.fromarray(values.astype(np.uint8)).save(root / name / f"{index}.png")


def test_a_run_with_classes_is_measured_and_resumes(utility, tmp_path, monkeypatch):
    a_run(tmp_path / "run", *CONDITIONAL)
    code, out, err = utility("run=run", "sizes=[12,24]", *QUICK)
    assert code == 0, err
    record = json.loads((tmp_path / "run" / "utility" / "generator.json").read_text())
    assert record["format"] == 1
    assert record["answer"] in ("yes", "no", "not shown")
    assert record["sentence"].split()[0] in " ".join(out.split())
    assert f"Useful: {record['answer']}." in out
    assert record["training"]["count"] == record["size"] == 24
    assert record["synthetic"]["count"] == 48, "each seed has its own"
    assert {arm["arm"] for arm in record["arms"]} == {"real", "augmented", "duplicated_1", "mixed_1", "synthetic"}
    assert "auc/one_lesion" in record["arms"][0]["measures"]
    assert (tmp_path / "run" / "utility" / "generator.png").stat().st_size > 1000
    assert "20 of 20 trainings are to be done" in out
    monkeypatch.setattr(workers_module, "run_job", lambda *_: pytest.fail("it is done"))
    code, again, err = utility("run=run", "sizes=[12,24]", *QUICK)
    assert code == 0, err
    assert again.splitlines()[-12:] == out.splitlines()[-12:]
    code, _, err = utility("run=run", "sizes=[12,24]", *QUICK, "steps=3")
    assert code == 1
    assert "has results of other options or data (fit)" in err


def test_a_generator_for_each_class(utility, tmp_path):
    for name in ("healthy", "one_lesion"):
        a_run(tmp_path / name, "data.source.num_images=10", f"data.source.classes=[{name}]")
    code, _, err = utility("run=[healthy,one_lesion]", *QUICK, "out=both.json")
    assert code == 0, err
    record = json.loads((tmp_path / "both.json").read_text())
    assert record["training"]["count"] == 20
    assert record["network"]["class_names"] == ["healthy", "one_lesion"]
    code, _, err = utility("run=[healthy,one_lesion]", *QUICK, "out=named.json", "classes=[well,ill,dead]")
    assert code == 1
    assert "3 names for 2 runs" in err


def test_test_images_of_patients_in_the_training_are_left_out():
    def of_patients(name, patients):
        numbers = torch.arange(len(patients), dtype=torch.float32)
        return ImageSet(name, len(patients), lambda rows: numbers[list(rows)], groups=np.array(patients))

    test, notes = labeled_sets.of_other_patients(of_patients("test", [1, 2, 3, 4]), of_patients("training", [4, 5, 2]))
    assert test.read(range(2)).tolist() == [0, 2]
    assert notes == ["2 test images of patients in the training are left out."]
    with pytest.raises(InputError, match="All patients of the test images"):
        labeled_sets.of_other_patients(of_patients("test", [4, 4, 5]), of_patients("training", [4, 5, 2]))


def test_sets_that_are_joined_keep_their_order():
    one, two = (
        ImageSet(name, 3, lambda rows, start=start: torch.arange(start, start + 3)[list(rows)], np.full(3, start))
        for name, start in (("a", 0), ("b", 10))
    )
    both = labeled_sets.joined("both", [one, two])
    assert both.read([4, 0, 5, 1]).tolist() == [11, 0, 12, 1]
    assert both.labels.tolist() == [0, 0, 0, 10, 10, 10]
    assert both.groups is None


def test_key_points_of_phantoms(utility, tmp_path):
    a_run(tmp_path / "run", "data.source.num_images=12")
    quick = [option for option in QUICK if not option.startswith("network.")]
    code, out, err = utility("run=run", "problem=keypoints", *quick, "width=2")
    assert code == 0, err
    record = json.loads((tmp_path / "run" / "utility" / "generator.json").read_text())
    assert (record["task"], record["measure"], record["better"]) == ("keypoints", "localization_error", "lower")
    assert record["network"]["points"] == ["left", "right", "front", "back", "lesion"]
    assert "pseudo-labels" in out


def test_segmentation_of_the_lesions_of_phantoms(utility, tmp_path):
    a_run(tmp_path / "run", "data.source.num_images=12")
    quick = [option for option in QUICK if not option.startswith("network.")]
    code, out, err = utility("run=run", "problem=segmentation", *quick, "width=2")
    assert code == 0, err
    record = json.loads((tmp_path / "run" / "utility" / "generator.json").read_text())
    assert (record["task"], record["measure"], record["better"]) == ("segmentation", "dice", "higher")
    assert record["network"]["regions"] == ["lesion"]
    assert {"dice", "dice/lesion", "hausdorff95", "false_alarms"} <= set(record["arms"][0]["measures"])
    assert "pseudo-labels" in out


def test_folders_with_classes(utility, tmp_path):
    for seed, name in enumerate(("real", "test", "fake")):
        class_folders(tmp_path / name, seed=seed)
    folders = ("real=real", "test=test", "fake=fake", "out=folders.json", *QUICK)
    code, out, err = utility(*folders, "part=2/2")
    assert code == 0, err
    assert "part=2/2 is done; 10 trainings are missing in all" in out
    assert not (tmp_path / "folders.json").exists()
    code, out, err = utility(*folders)
    assert code == 0, err
    record = json.loads((tmp_path / "folders.json").read_text())
    assert record["test"] == {"source": "test=", "count": 24}
    assert "Seeds share generated images" in out
    assert str(tmp_path) not in json.dumps(record), "places of data are not recorded"


def test_test_images_that_are_trained_on_are_noticed(utility, tmp_path):
    for name in ("real", "test", "fake"):
        class_folders(tmp_path / name, seed=0)
    code, out, err = utility("real=real", "test=test", "fake=fake", "out=folders.json", *QUICK)
    assert code == 0, err
    assert "24 images of test= are in real= too" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give run=, the folder of a run"),
        (["real=real", "fake=real", "out=x.json"], "Give run=, the folder of a run"),
        (["run=real", "real=real", "test=real", "fake=real"], "Give run=, the folder of a run"),
        (["run=real"], "run=real is not the folder of a run"),
        (["real=real", "test=real", "fake=real"], "out= is needed with folders"),
        (
            ["real=real", "test=other", "fake=real", "out=x.json"],
            "test= has the classes a, b and real= has healthy, ill",
        ),
        (["real=real", "test=real", "fake=real", "out=x.json", "network.train=some"], "network.train=some is unknown"),
        (["real=real", "test=real", "fake=real", "out=x.json", "seeds=1"], "seeds=1 must be 2 or more"),
        (["real=real", "test=real", "fake=real", "out=x.json", "ratios=[9]"], "24 generated images"),
        (["real=real", "test=real", "fake=real", "out=x.json", "measure=luck"], "measure=luck is unknown"),
        (["run=plain"], "train with conditional=true"),
        (["run=plain", "problem=luck"], "problem=luck is unknown"),
        (["real=real", "test=real", "fake=real", "out=x.json", "problem=keypoints"], "problem=keypoints needs run="),
        (
            ["real=real", "test=real", "fake=real", "out=x.json", "problem=segmentation"],
            "problem=segmentation needs run=",
        ),
        (["run=[plain,plain]", "problem=segmentation"], "problem=segmentation takes one run"),
        (["run=plain", "problem=segmentation", "measure=luck"], "measure=luck is unknown: choose dice, hausdorff95"),
    ],
)
def test_mistakes_are_refused_in_one_sentence(utility, tmp_path, arguments, message):
    class_folders(tmp_path / "real", seed=0)
    class_folders(tmp_path / "other", seed=0, names=("a", "b"))
    if any("plain" in argument for argument in arguments):
        a_run(tmp_path / "plain")
    code, _, err = utility(*QUICK, *arguments)
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1
