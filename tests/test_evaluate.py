"""``medsynth evaluate``: a run and two folders, features kept for the next time, and every mistake in one sentence."""

import dataclasses
import json
import math
import shutil

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from medsynth.backbone.extractor import TimmExtractor
from medsynth.cli.compose import register_resolvers
from medsynth.configuration.checked_composition import compose_checked
from medsynth.configuration.compose import conf_folder
from medsynth.contracts import InputError, counter_seed, noise
from medsynth.evaluation import image_sets
from medsynth.evaluation.evaluate import evaluate as medsynth_evaluate
from medsynth.evaluation.evaluation_sets import of_images, of_run
from medsynth.files import write_json
from medsynth.generator.export import save_generator
from medsynth.generator.mlp import MLPGenerator
from medsynth.metrics.baseline import Sides
from medsynth.metrics.feature_store import FeatureStore, features_folder
from medsynth.metrics.image_set import ImageSet, spread
from medsynth.metrics.interval import Estimate
from medsynth.metrics.measures import Measure
from medsynth.metrics.pixels import PixelExtractor
from medsynth.report.evaluation import table
from tests.command import TINY, run
from tests.files import assert_private

COUNT = 24
FAST = "extractor=[mini,pixels]"  # without the network of ImageNet
CARD = {"class_names": [], "intensity": {"low": 0.0, "high": 1.0, "unit": "stored value"}}


@pytest.fixture
def evaluate(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run(monkeypatch, capsys, *arguments, command="evaluate")


def a_run(folder, *overrides, generator_file=True):
    """The folder of a run of 16 px phantoms, as a training leaves it, with a generator that was not trained."""
    GlobalHydra.instance().clear()
    register_resolvers()
    chosen = [*TINY, "run_dir=unused", f"data.source.num_val={COUNT}", *overrides]
    if any(override.startswith("data=") for override in overrides):  # other data than phantoms
        chosen = [option for option in chosen if not option.startswith("data.source.")]
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = hydra.compose("train", overrides=chosen)
    folder.mkdir()
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    torch.manual_seed(1)
    generator = instantiate(config.generator, _convert_="all")
    rebuild = OmegaConf.to_container(config.generator, resolve=True)
    if generator_file:
        save_generator(folder / "generator.safetensors", generator, config=rebuild, card=CARD)
    weights = {f"ema_generator.module.{name}": value for name, value in generator.state_dict().items()}
    (folder / "checkpoints").mkdir()
    torch.save({"state_dict": weights}, folder / "checkpoints" / "last.ckpt")
    return folder


def pictures(folder, count=10, *, size=16, seed=0, channels=1, level=0):
    """Noise as PNG files, ``level`` brighter."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        shape = (size, size) if channels == 1 else (size, size, channels)
        Image.fromarray(random.integers(level, 156 + level, shape, dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def by_name(measures):
    return {measure["name"]: measure for measure in measures}


def read(path):
    record = json.loads(path.read_text())
    return record, by_name(record["measures"])


def test_a_run_is_measured(evaluate, tmp_path):
    a_run(tmp_path / "run")
    code, out, err = evaluate("run=run", "extractor.imagenet.backbone.input_size=32")
    assert code == 0, err
    assert "..._imagenet: in the features of tf_efficientnet_lite1, trained on ImageNet's photographs, images re" in out
    assert "..._mini: in the features of medsynth_mini, trained on phantoms." in out
    record, measures = read(tmp_path / "run" / "evaluation" / "generator.json")
    assert record["real"]["count"] == record["fake"]["count"] == COUNT
    assert record["training"] == 64
    assert {"fd_mini", "kd_mini", "gaussian_kd_mini", "is_mini", "fd_pixels", "kd_imagenet"} <= measures.keys()
    assert {"precision_mini", "recall_mini", "density_pixels", "coverage_pixels", "ms_ssim"} <= measures.keys()
    assert {"intensity_distance", "spectrum_distance"} <= measures.keys()
    assert not {"fid", "kid", "is"} & measures.keys(), "names of the canonical network alone"
    for name in ("fd_mini", "kd_mini", "fd_pixels", "intensity_distance", "spectrum_distance"):
        measure = measures[name]
        assert measure["low"] <= measure["value"] <= measure["high"], name
        assert measure["value"] > measure["baseline"], "an untrained generator is further away than real images are"
        assert measure["num_real"] == measure["num_fake"] == COUNT
        assert measure["num_baseline"] == [COUNT, COUNT]
    assert measures["fd_mini"]["ratio"] == pytest.approx(measures["fd_mini"]["value"] / measures["fd_mini"]["baseline"])
    assert measures["memorization_distance_mini"]["value"] > measures["memorization_distance_mini"]["baseline"] > 0
    assert measures["copies_mini"]["value"] == 0, "noise is no copy"
    names = list(measures)
    assert names.index("kd_mini") < names.index("fd_mini"), "24 images, 128 features: the kernel distance leads"
    assert any("128 features of mini" in note for note in record["notes"])
    assert any("reference images are few" in note for note in record["notes"])
    assert all(name in out for name in names)


SELECTED = "on which the generator was selected"


def test_test_images_are_the_reference_where_a_run_has_them(evaluate, tmp_path):
    a_run(tmp_path / "run")
    values = {}
    for split in ("null", "test", "val"):
        code, out, err = evaluate("run=run", "extractor=pixels", f"split={split}")
        assert code == 0, err
        record, measures = read(tmp_path / "run" / "evaluation" / "generator.json")
        values[split] = measures["fd_pixels"]["value"]
        selected = split == "val"
        assert record["real"]["split"] == ("val" if selected else "test")
        assert record["real"]["selected"] == (SELECTED in out) == selected
        assert any("selected on these images" in note for note in record["notes"]) == selected
    assert values["null"] == values["test"] != values["val"]


@pytest.mark.parametrize(
    ("arguments", "selected"), [([], True), (["checkpoint=last"], False), (["checkpoint=best"], True)]
)
def test_without_test_images_the_record_says_what_the_generator_was_selected_on(
    evaluate, tmp_path, arguments, selected
):
    checkpoints = a_run(tmp_path / "run", "data.source.num_test=0") / "checkpoints"
    (checkpoints / "best.ckpt").write_bytes((checkpoints / "last.ckpt").read_bytes())
    code, out, err = evaluate("run=run", "extractor=pixels", *arguments)
    assert code == 0, err
    (path,) = (tmp_path / "run" / "evaluation").iterdir()
    record, _ = read(path)
    assert record["real"]["split"] == "val"
    assert record["real"]["selected"] == (SELECTED in out) == selected
    assert any("data.test_fraction= holds out test images" in note for note in record["notes"]) == selected


def test_a_run_of_an_earlier_version_has_no_test_images(evaluate, tmp_path):
    path = a_run(tmp_path / "run") / "config.yaml"
    config = OmegaConf.load(path)
    del config.data.source.num_test
    OmegaConf.save(config, path)
    assert evaluate("run=run", "extractor=pixels")[0] == 0
    assert read(tmp_path / "run" / "evaluation" / "generator.json")[0]["real"]["split"] == "val"


def test_lpips_of_pairs_is_measured_on_demand(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "medsynth.evaluation.evaluate.lpips_network", lambda name: lambda a, b: (a - b).square().mean((1, 2, 3))
    )
    a_run(tmp_path / "run")
    code, _, err = evaluate("run=run", "lpips=squeeze", "extractor=[pixels]")
    assert code == 0, err
    _, measures = read(tmp_path / "run" / "evaluation" / "generator.json")
    assert measures["lpips"]["low"] <= measures["lpips"]["value"] <= measures["lpips"]["high"]
    assert measures["lpips"]["baseline"] > 0


def test_an_unknown_lpips_network_is_said(evaluate, tmp_path):
    a_run(tmp_path / "run")
    code, _, err = evaluate("run=run", "lpips=resnet", "extractor=[pixels]")
    assert code == 1
    assert "There is no LPIPS network resnet: choose alex" in err


def test_held_out_images_are_validation_and_test_images(evaluate, tmp_path):
    a_run(tmp_path / "run")
    code, out, err = evaluate("run=run", "split=held_out", FAST)
    assert code == 0, err
    record, measures = read(tmp_path / "run" / "evaluation" / "generator.json")
    assert (record["real"]["count"], record["training"]) == (2 * COUNT, 64)
    assert record["real"]["selected"]
    assert "was selected on these images" in out
    assert "reference_copies_mini" in measures


def test_batch_size_does_not_matter_and_seed_does(evaluate, tmp_path):
    a_run(tmp_path / "run")
    values = []
    for number, arguments in enumerate((["batch_size=3"], ["batch_size=64"], ["seed=1"])):
        code, _, err = evaluate("run=run", "cache=false", f"out={number}.json", FAST, *arguments)
        assert code == 0, err
        values.append({name: m["value"] for name, m in read(tmp_path / f"{number}.json")[1].items()})
    assert values[0] == pytest.approx(values[1], rel=1e-4, abs=1e-6)
    assert values[2]["fd_pixels"] != values[1]["fd_pixels"], "other noise"


def test_features_of_real_images_are_kept(evaluate, monkeypatch, tmp_path):
    a_run(tmp_path / "run")
    seen, forward = [], TimmExtractor.forward

    def counting(self, images):
        seen.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(TimmExtractor, "forward", counting)
    values = []
    for expected in (COUNT + COUNT + 64, COUNT):
        seen.clear()
        assert evaluate("run=run", FAST)[0] == 0
        assert sum(seen) == expected, "the second time, of the generated images alone"
        values.append(read(tmp_path / "run" / "evaluation" / "generator.json")[0]["measures"])
    assert values[0] == values[1]


def test_averaged_generator_of_a_checkpoint(evaluate, tmp_path):
    a_run(tmp_path / "run")
    for arguments in ([], ["checkpoint=last"], ["checkpoint=run/checkpoints/last.ckpt"]):
        assert evaluate("run=run", "extractor=pixels", *arguments)[0] == 0
    records = [read(tmp_path / "run" / "evaluation" / f"{name}.json") for name in ("generator", "last")]
    assert records[0][1] == records[1][1]
    assert records[1][0]["fake"]["source"].endswith("last.ckpt")


def test_classes(evaluate, tmp_path):
    a_run(tmp_path / "run", "num_classes=3", "generator.num_classes=3")
    code, _, err = evaluate("run=run", "extractor=pixels", "per_class=true", "num_samples=30")
    assert code == 0, err
    record, _ = read(tmp_path / "run" / "evaluation" / "generator.json")
    assert list(record["classes"]) == ["healthy", "one_lesion", "several_lesions"]
    for measures in record["classes"].values():
        assert by_name(measures)["fd_pixels"]["num_fake"] == 10, "in the reference's proportions"
        assert by_name(measures)["fd_pixels"]["num_real"] == COUNT // 3


def test_two_folders(evaluate, tmp_path):
    pictures(tmp_path / "real", seed=1)
    pictures(tmp_path / "near", seed=2)
    pictures(tmp_path / "far", seed=3, level=99)
    values = {}
    for name in ("near", "far"):
        code, out, err = evaluate("real=real", f"fake={name}", f"out={name}.json", "extractor=pixels")
        assert code == 0, err
        assert "Ratio: the measure of generated images at that N / baseline" in " ".join(out.split())
        _, measures = read(tmp_path / f"{name}.json")
        assert measures["fd_pixels"]["num_baseline"] == [5, 5]
        values[name] = measures
    # Noise of all levels from 0 to 155, and the same 99 levels brighter.
    far = values["far"]["intensity_distance"]
    assert far["value"] == pytest.approx(99 / 127.5, abs=0.02)
    assert values["near"]["intensity_distance"]["value"] < 0.05
    assert values["far"]["fd_pixels"]["value"] > 10 * values["near"]["fd_pixels"]["value"]


def test_sizes_and_channels_are_converted_and_equal_folders_noticed(evaluate, tmp_path):
    pictures(tmp_path / "real")
    pictures(tmp_path / "large", size=24, channels=3)
    code, out, err = evaluate("real=real", "fake=large", "extractor=pixels")
    assert code == 0, err
    assert out.count("fake= (24 pixels, 3 channels) are converted to 16 pixels and 3 channels") == 1
    assert out.count("real= (16 pixels, 1 channels) are converted to 16 pixels and 3 channels") == 1
    pictures(tmp_path / "copy")
    for name in ("real", "copy"):
        assert "hold the same images" in evaluate("real=real", f"fake={name}", "extractor=pixels")[1]
    assert "hold the same images" not in out


def compared(*arguments):
    """Return the sets that the command would compare."""
    config = compose_checked("evaluate", [*arguments, "extractor=pixels"])
    return of_images(config.real, config.fake, config.training, config)


def test_folders_are_compared_at_the_smallest_side_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, size in (("real", 40), ("fake", 24), ("small", 16)):
        pictures(tmp_path / name, size=size)
    for arguments, size in (
        (["real=real", "fake=fake"], 24),
        (["real=small", "fake=fake"], 16),
        (["real=real", "fake=fake", "training=small"], 16),
    ):
        sets = compared(*arguments)
        assert sets.image_size == size
        assert sets.real.read([0]).shape == sets.fake.read([0]).shape == (1, 1, size, size)
        assert not any("enlarges" in note for note in sets.notes)
    sets = compared("real=real", "fake=fake", "image_size=40")
    assert (
        "The images of fake= (24 pixels, 1 channels) are converted to 40 pixels and 1 channels, which enlarges"
        in sets.notes[0]
    )
    write_json(tmp_path / "fake" / "generate.json", {"format": "png8", "image_size": 20, "channels": 3})
    (tmp_path / "fake" / "images").mkdir()
    for path in (tmp_path / "fake").glob("*.png"):
        path.rename(path.parent / "images" / path.name)
    sets = compared("real=real", "fake=fake")
    assert (sets.image_size, sets.channels) == (20, 3), "as the generator made them"


def test_other_proportions_and_what_the_reader_changed_are_said(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, shape, mode in (("real", (16, 16), "L"), ("fake", (16, 32), "LA")):
        (tmp_path / name).mkdir()
        for number in range(4):
            values = np.random.default_rng(number).integers(0, 255, shape, dtype=np.uint8)
            Image.fromarray(values).convert(mode).save(tmp_path / name / f"{number}.png")
    (tmp_path / "fake" / "1.png").write_bytes(b"no image")
    notes = compared("real=real", "fake=fake", "data.on_error=skip").notes
    assert any("fake= are 32x16 and those of real= have another proportion, 16x16" in note for note in notes)
    assert "fake=: 3 of 3 images lost their alpha channel." in notes
    assert "fake=: Images of size 32x16 become 16x16 (data.resize=crop)." in notes
    assert any(note.startswith("fake=: Left out: cannot be read") and note.endswith(": 1.") for note in notes)
    assert not any(note.startswith("real=:") for note in notes)


def test_copies_of_training_images_are_found_in_folders(evaluate, tmp_path):
    pictures(tmp_path / "real", seed=1)
    pictures(tmp_path / "training", 20, seed=2)
    fake = pictures(tmp_path / "fake", 8, seed=3)
    for number in range(2):
        shutil.copy(tmp_path / "training" / f"{number}.png", fake / f"{number}.png")
    code, _, err = evaluate("real=real", "fake=fake", "training=training", "extractor=pixels", "out=a.json")
    assert code == 0, err
    record, measures = read(tmp_path / "a.json")
    assert record["training"] == 20
    assert measures["copies_pixels"]["value"] >= 2 / 8
    sets = compared("real=real", "fake=fake", "training=training")
    assert {image.tobytes() for image in sets.fake.read([0, 1]).numpy()} <= {
        image.tobytes() for image in sets.training.read(range(20)).numpy()
    }


def test_what_generate_wrote_is_the_run_itself(evaluate, monkeypatch, capsys, tmp_path):
    a_run(tmp_path / "run")
    assert run(monkeypatch, capsys, "run=run", "out=made", "num_samples=12", command="generate")[0] == 0
    pictures(tmp_path / "real")
    code, _, err = evaluate("real=real", "fake=made", "extractor=pixels", "out=made.json")
    assert code == 0, err
    assert read(tmp_path / "made.json")[0]["fake"]["count"] == 12, "without the contact sheet"


def test_what_generate_wrote_with_labels_is_compared_by_class(evaluate, monkeypatch, capsys, tmp_path):
    options = {"image_size": 16, "channels": 1, "widths": [8], "num_classes": 2}
    config = {"_target_": "medsynth.generator.mlp.MLPGenerator", **options}
    card = CARD | {"class_names": ["2", "10"]}
    save_generator(tmp_path / "a.safetensors", MLPGenerator(**options), config=config, card=card)
    command = ("run=a.safetensors", "out=made", "num_samples=12")
    assert run(monkeypatch, capsys, *command, command="generate")[0] == 0
    for number, name in enumerate(("10", "2")):
        pictures(tmp_path / "real" / name, seed=number)
    code, _, err = evaluate("real=real", "fake=made", "extractor=pixels", "per_class=true", "out=made.json")
    assert code == 0, err
    record = read(tmp_path / "made.json")[0]
    assert record["fake"]["count"] == 12
    assert list(record["classes"]) == ["2", "10"]


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        (
            ["mini"],
            "extractor mini use the same network, medsynth_mini, which biases the values: compare by others",
        ),
        (["efficientnet_lite0"], "extractor imagenet were both trained on ImageNet"),
        (
            ["timm", "backbone.model_name=tf_efficientnet_lite1", "backbone.weights=packaged"],
            "network, tf_efficientnet_lite1, which biases the values: compare by others and by the images "
            "(extractor.imagenet.backbone.model_name=tf_efficientnet_lite0).",
        ),
    ],
    ids=["same", "related", "same of ImageNet"],
)
def test_a_network_that_the_discriminator_has_seen_is_noted_as_a_bias(tmp_path, backbone, words):
    folder = a_run(tmp_path / "run", f"backbone={backbone[0]}", *backbone[1:])
    sets = of_run(compose_checked("evaluate", [f"run={folder}"]), torch.device("cpu"))
    noted = [note for note in sets.notes if "discriminator" in note]
    assert len(noted) == 1
    assert words in noted[0]


OWN_EXTRACTOR = """
from torch import nn

class Rows(nn.Module):
    name, num_features = "rows", 16
    def forward(self, images):
        return images.mean((1, 3))
"""


def test_an_extractor_of_ones_own_is_one_class_and_one_yaml(evaluate, monkeypatch, capsys, tmp_path):
    (tmp_path / "own_extractor.py").write_text(OWN_EXTRACTOR)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "conf" / "extractor").mkdir(parents=True)
    yaml = "# @package extractor.rows\n_target_: own_extractor.Rows\n"
    (tmp_path / "conf" / "extractor" / "rows.yaml").write_text(yaml)
    chosen = ["metrics=inception", "extractor@metrics.extractor=rows", "metrics.inception_score=false"]
    objective = ["metrics.objective=fd_rows", "hydra.run.dir=run"]
    code, _, err = run(monkeypatch, capsys, "--config-dir", "conf", *TINY, *chosen, *objective)
    assert code == 0, err
    best = json.loads((tmp_path / "run" / "summary.json").read_text())["best"]
    assert best["objective"] == "val/fd_rows"
    assert best["value"] > 0
    code, _, err = evaluate("--config-dir", "conf", "run=run", "trust=true", "extractor=[rows]")
    assert code == 0, err
    assert "fd_rows" in read(tmp_path / "run" / "evaluation" / "generator.json")[1]
    code, _, err = run(monkeypatch, capsys, "--config-dir", "conf", "-m", "seed=1,2", *chosen, "objective=val/fd_row")
    assert code == 1
    assert "objective=val/fd_row is not logged by this training: choose val/fd_rows or val/kd_rows." in err


def as_tensor(folder):
    """Return the images of a folder in [-1, 1], in the order of their names."""
    images = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    return torch.from_numpy(np.stack(images))[:, None].float() / 127.5 - 1


def test_python_measures_folders_as_the_command_does(evaluate, tmp_path):
    pictures(tmp_path / "real", seed=1)
    pictures(tmp_path / "fake", seed=2)
    code, _, err = evaluate("real=real", "fake=fake", "out=a.json", FAST, "pairs=3")
    assert code == 0, err
    before, hydra_before = torch.random.get_rng_state(), GlobalHydra.instance().hydra
    result = medsynth_evaluate("real", tmp_path / "fake", extractors=["mini", "pixels"], pairs=3)
    assert torch.equal(torch.random.get_rng_state(), before), "PyTorch's random state is the caller's"
    assert GlobalHydra.instance().hydra is hydra_before
    plain = result.to_dict()
    write_json(tmp_path / "b.json", plain)
    assert (tmp_path / "b.json").read_text() == (tmp_path / "a.json").read_text()
    measure = result["fd_pixels"]
    assert measure.low <= measure.value <= measure.high
    assert (measure.num_real, measure.num_fake) == (10, 10)
    assert measure.baseline > 0
    with pytest.raises(KeyError, match="fid was not measured; measured were kd_mini"):
        result["fid"]


def test_python_measures_tensors_with_training_images(tmp_path):
    real, fake = (as_tensor(pictures(tmp_path / str(seed), seed=seed)) for seed in (1, 2))
    training = pictures(tmp_path / "training", 30, seed=3, size=24)
    result = medsynth_evaluate(real, fake, extractors="pixels", training=training, cache=False)
    assert (result.real, result.fake, result.training) == (("a tensor (10, 1, 16, 16)", 10),) * 2 + (30,)
    assert result["fd_pixels"].num_baseline == (10, 10)
    assert result["copies_pixels"].value == 0
    from_files = medsynth_evaluate(tmp_path / "1", tmp_path / "2", extractors="pixels", training=training)
    assert from_files["fd_pixels"].value == pytest.approx(result["fd_pixels"].value, rel=1e-4)
    assert any("same images" in note for note in medsynth_evaluate(real, real.flip(0), extractors="pixels").notes)


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((torch.zeros(4, 1, 16, 16), torch.zeros(4, 1, 8, 8)), {}, r"fake is a tensor of shape \(4, 1, 8, 8\), and"),
        ((torch.zeros(4, 16, 16), torch.zeros(4, 16, 16)), {}, r"real is a tensor of shape \(4, 16, 16\): give"),
        ((torch.full((4, 1, 16, 16), 255), torch.zeros(4, 1, 16, 16)), {}, "real has values from 255 to 255: scale"),
        (("nowhere", "nowhere"), {}, "real=nowhere does not exist"),
        (("real", "far"), {"extractors": "resnet"}, "resnet"),
        (("real", "far"), {"extractors": ["timm"]}, r"extractor\.timm\.backbone\.model_name= is needed"),
        (("real", "far"), {"pair": 3}, r"evaluate\(\) has no option pair: choose image_size, per_class"),
        (("real", "far"), {"pairs": "many"}, "pairs=many is not a whole number"),
        (("real", "far", "dat.channels=3"), {}, "dat"),
    ],
)
def test_python_errors_are_input_errors(monkeypatch, folders, arguments, options, says):
    monkeypatch.chdir(folders)
    with pytest.raises(InputError, match=says):
        medsynth_evaluate(*arguments, **options)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What the refused commands name: a run without its generator's file, and pictures."""
    folder = tmp_path_factory.mktemp("folders")
    a_run(folder / "bare", "data.source.num_test=0", generator_file=False)
    pictures(folder / "real")
    pictures(folder / "far", seed=1)
    pictures(folder / "single", 1)
    (folder / "equal").mkdir()
    for number in range(3):
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(folder / "equal" / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Give run=, the folder of a run, or both real= and fake="),
        (["real=real"], "Give run=, the folder of a run, or both real= and fake="),
        (["run=real"], "run=real is not the folder of a run: it holds no config.yaml."),
        (["run=bare"], "There is no generator at bare/generator.safetensors"),
        (["run=bare", "checkpoint=best"], "checkpoint=best does not exist: give last, best, or the path"),
        (["run=bare", "checkpoint=real/0.png"], "checkpoint=real/0.png is damaged or of another generator"),
        (
            ["run=bare", "checkpoint=last", "split=dev"],
            "split=dev is unknown: choose train, val, test, held_out or all.",
        ),
        (["run=bare", "checkpoint=last", "split=test"], "split=test is empty"),
        (["run=bare", "checkpoint=last", "per_class=true"], "per_class=true needs labels on both sides"),
        (
            ["run=bare", "data.channels=3"],
            "data.channels= goes with real= and fake= (a run has its own data): leave it out.",
        ),
        (["real=real", "fake=single"], "There are 1 fake images, and a comparison needs 2 or more: add images."),
        (["real=real", "fake=equal"], "All 3 fake images are equal: images that differ are needed."),
        (["real=real", "fake=nowhere"], "fake=nowhere does not exist"),
        (["real=real", "fake=far", "split=val"], "split= goes with run=: leave it out."),
        (["real=real", "fake=far", "training=nowhere"], "training=nowhere does not exist"),
        (["run=bare", "training=real"], "training= goes with real= and fake= (a run"),
        (["real=real", "fake=far", "per_class=true"], "per_class=true needs the same class folders"),
        (["real=real", "fake=far", "extractor=radimagenet"], "extractor.radimagenet.backbone.weights= is needed"),
        (["real=real", "fake=far", "extractor=timm"], "extractor.timm.backbone.model_name= is needed"),
        (["real=real", "fake=far", "extractor=resnet"], "resnet"),
        (["real=real", "fake=far", "batch_size=0"], "batch_size=0 must be 1 or more."),
        (["real=real", "fake=far", "device=tpu"], "device=tpu is unknown: choose auto, cpu or cuda."),
    ],
)
def test_refuses(evaluate, monkeypatch, folders, arguments, words):
    monkeypatch.chdir(folders)
    code, _, err = evaluate(*arguments)
    assert code == 1
    assert words in err
    assert "Traceback" not in err
    assert not (folders / "bare" / "evaluation").exists()


class NoiseOf(torch.nn.Module):
    """Generates images that show their noise in the first row, and their label in the second."""

    latent_dim = 8

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, z, labels=None):
        images = torch.zeros(len(z), 1, 8, 8)
        images[:, 0, 0] = z * self.weight / 10
        images[:, 0, 1] = 0 if labels is None else labels[:, None] / 10
        return images


def test_generated_images_have_noise_of_their_own_whatever_the_batch():
    reference = of_numbers(6)
    images = image_sets.generated(NoiseOf(), 150, reference=reference, conditional=False, seed=3)
    expected = noise(150, 8, seed=counter_seed("generate", 3)) / 10
    read = torch.cat([images.read(list(range(start, min(start + 64, 150)))) for start in range(0, 150, 64)])
    torch.testing.assert_close(read[:, 0, 0], expected)
    torch.testing.assert_close(images.read([149, 0])[:, 0, 0], expected[[149, 0]])
    assert len(read.flatten(1).unique(dim=0)) == 150


@pytest.mark.parametrize(("count", "of_classes"), [(6, [2, 3, 1]), (12, [4, 6, 2]), (3, [1, 2, 0])])
def test_generated_images_have_the_labels_of_the_reference(count, of_classes):
    reference = dataclasses.replace(of_numbers(6), labels=np.array([1, 0, 2, 1, 1, 0]))
    images = image_sets.generated(NoiseOf(), count, reference=reference, conditional=True, seed=0)
    read = torch.cat([images.read(list(range(start, start + 3))) for start in range(0, count, 3)])
    shown = (read[:, 0, 1, 0] * 10).round().long().tolist()
    assert shown == images.labels.tolist()
    assert np.bincount(shown, minlength=3).tolist() == of_classes
    if count == 6:
        assert shown == [1, 0, 2, 1, 1, 0]


def test_a_run_is_measured_on_its_images_as_they_are_and_not_on_random_views(monkeypatch, tmp_path):
    """The generator is in evaluation mode, and training images are others than the reference."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pictures(tmp_path / "images", 20)
    a_run(tmp_path / "run", "data=image_folder", f"data.root={tmp_path / 'images'}", "data.flip=both")
    sets = of_run(compose_checked("evaluate", [f"run={tmp_path / 'run'}"]), torch.device("cpu"))
    files = as_tensor(tmp_path / "images")
    numbers = []
    for images in (sets.real, sets.training):
        read = images.read(list(range(images.count)))
        numbers.append(
            [number for image in read for number in range(20) if torch.allclose(image, files[number], atol=1e-5)]
        )
        assert len(numbers[-1]) == images.count
    assert sorted(numbers[0] + numbers[1]) == list(range(20))
    alone, together = sets.fake.read([0]), sets.fake.read([0, 1])
    torch.testing.assert_close(alone[0], together[0])


def test_the_first_images_of_a_set_are_a_random_sample():
    images = image_sets.shuffled(of_numbers(100), most=50)
    numbers = (images.read(list(range(images.count)))[:, 0, 0, 0] * 10).round().long().tolist()
    assert len(set(numbers)) == images.count == 50
    assert numbers != sorted(numbers)
    assert max(numbers) >= 50


def test_images_of_several_splits_are_read_by_their_numbers():
    parts = [[{"image": torch.full((1, 2, 2), 10.0 * part + i)} for i in range(3)] for part in range(3)]
    numbers = [0, 2, 3, 5, 6, 8]
    assert image_sets.read_datasets(parts, numbers)[:, 0, 0, 0].tolist() == [0, 2, 10, 12, 20, 22]


def test_images_of_one_patient_have_one_number_in_all_sets(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for folder, first in (("real", 0), ("fake", 6)):
        pictures(tmp_path / folder, 12, seed=first)
        for number in range(12):
            (tmp_path / folder / f"{number}.png").rename(tmp_path / folder / f"p{first + number // 2}_{number}.png")
    pattern = "data.patient_pattern='(p[0-9]+)_'"
    config = compose_checked("evaluate", [pattern])
    real, fake, *_ = of_images("real", "fake", None, config)
    assert sorted(np.unique(real.groups, return_counts=True)[1]) == [2] * 6
    assert not set(real.groups) & set(fake.groups)
    subset = real.subset(np.array([3, 5]))
    assert subset.groups.tolist() == [real.groups[3], real.groups[5]]
    again = of_images("real", "real", None, config)
    assert set(again.real.groups) == set(again.fake.groups)
    a_run(tmp_path / "run", "data=image_folder", "data.root=real", pattern, "data.val_fraction=0.4")
    sets = of_run(compose_checked("evaluate", ["run=run"]), torch.device("cpu"))
    groups = [*sets.real.groups, *sets.training.groups]
    assert sorted(groups) == sorted(real.groups)
    assert not set(sets.real.groups) & set(sets.training.groups), "patients are apart"
    assert image_sets.patient_groups(["", ""]) is None
    assert image_sets.patient_groups(["a1", "", "a1", ""]).tolist() == [161, -2, 161, -4]


def of_numbers(count=6):
    """Images whose pixels are all the number of the image, over 10."""

    def read(numbers):
        return torch.tensor(numbers).view(-1, 1, 1, 1).expand(-1, 1, 8, 8) / 10

    return ImageSet("generated", count, read)


def test_store_is_complete_or_absent(tmp_path):
    images, extractor = of_numbers(), PixelExtractor(channels=1, size=1)
    store = FeatureStore(tmp_path, cache=None, batch_size=4, device=torch.device("cpu"))
    features = store.features(images, {"pixels": extractor})["pixels"]
    np.testing.assert_allclose(features[:, 0], np.arange(6) / 10, rtol=1e-6)
    chosen = store.features(images.subset(np.array([4, 1])), {"other": extractor})["other"]
    np.testing.assert_allclose(chosen[:, 0], [0.4, 0.1], rtol=1e-6)
    files = sorted(tmp_path.iterdir())

    class Failing(PixelExtractor):
        def forward(self, images):
            features = super().forward(images)
            return torch.where(features > 0.45, torch.nan, features)

    with pytest.raises(InputError, match="pixels gives NaN or infinite features for generated images"):
        store.features(images, {"failing": Failing(channels=1, size=1)})
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_damaged_features_are_computed_again_and_all_are_private(tmp_path, monkeypatch, caplog, damage):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    images, extractors = of_numbers(), {"pixels": PixelExtractor(channels=1, size=1)}
    images = dataclasses.replace(images, key={"images": "of a test"})
    (tmp_path / "home" / "medsynth" / "features").mkdir(parents=True, mode=0o755)  # by an earlier version
    store = FeatureStore(tmp_path, cache=features_folder(), batch_size=4, device=torch.device("cpu"))
    expected = store.features(images, extractors)["pixels"].tolist()
    (file,) = tmp_path.rglob("features.npy")
    assert_private(tmp_path / "home" / "medsynth" / "features")
    content = file.read_bytes()
    changed = {"cut": content[:-4], "changed": content[:-4] + b"0123", "gone": None}[damage]
    file.unlink() if changed is None else file.write_bytes(changed)
    assert store.features(images, extractors)["pixels"].tolist() == expected
    assert file.read_bytes() == content
    assert "are damaged" in caplog.text


def test_sides_of_a_class_have_its_rows():
    real, fake, training = (np.arange(count)[:, None] for count in (6, 4, 9))
    labels = Sides(np.arange(6) % 2, np.arange(4) % 2, np.arange(9) % 2)
    of_class = Sides(real, fake, training).of_class(labels, 1)
    assert [rows.ravel().tolist() for rows in of_class] == [[1, 3, 5], [1, 3], [1, 3, 5, 7]]


def test_table_is_aligned_and_shows_what_is_not_known():
    measures = [
        Measure("fd_mini", "lower", Estimate(12.34567, 11.0, 14.0), 1000, 20, 2.0, (20, 20), 15.0).to_dict(),
        Measure("kd_mini", "lower", Estimate(0.5, math.nan, math.nan), 1000, 20, -0.1, (1000, 20)).to_dict(),
    ]
    header, first, second = table(measures)
    assert first.split() == ["fd_mini", "12.35", "11", "to", "14", "2", "7.5", "1,000", "20", "20", "lower"]
    assert second.split() == ["kd_mini", "0.5", "-", "-0.1", "-", "1,000", "20", "1,000,", "20", "lower"]
    assert header.index("N real") + len("N real") == first.index("1,000") + len("1,000")


def test_spread():
    assert spread(3, 5) == [0, 1, 2]
    assert spread(10, 4) == [0, 2, 5, 7]
