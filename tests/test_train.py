"""The main job from its command line to its files: runs, resumed runs, failures, generated images."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image

from medsynth.gan import GAN
from medsynth.generator.export import read_generator
from medsynth.lightning.sample_grid import class_rows, side_by_side
from tests.command import TINY, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Train one tiny conditional run; return its folder and its output."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        printed = []
        capture = type("Capture", (), {"readouterr": staticmethod(lambda: ("", ""))})
        monkeypatch.setattr("medsynth.report.curves.Figure", Figure)  # pictures of curves are rendered here
        monkeypatch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        code, _, _ = run(monkeypatch, capture, *TINY, "discriminator=transfer", "conditional=true", "hydra.run.dir=run")
    assert code == 0
    return folder / "run", "\n".join(printed)


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_writes_all_of_its_files(finished):
    folder, _ = finished
    for name in (
        "config.yaml",
        "metrics.csv",
        "summary.json",
        "generator.safetensors",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
        "samples/real.png",
        "samples/latest.png",
        "samples/000000064.png",
        "curves/losses.png",
        "curves/metrics.png",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert all(Image.open(path).convert("L").getextrema()[0] < 128 for path in (folder / "curves").iterdir())
    assert not list(folder.rglob("*.tmp"))
    config = OmegaConf.load(folder / "config.yaml")
    assert config.max_images == 64
    assert "${" not in (folder / "config.yaml").read_text()
    assert config.num_classes == 3


def test_summary_names_networks_numbers_and_files(finished):
    folder, printed = finished
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["images_seen"] == 64
    assert summary["discriminator_updates"] == summary["generator_updates"] == 8
    assert summary["metrics"]["val/num_fake"] == summary["metrics"]["val/num_real"] == 16
    assert "val/fd_mini" in summary["metrics"]
    assert not any("fid" in name for name in summary["metrics"]), "the embedded distance is no FID"
    assert "N = 16" in printed
    for place in ("samples", "checkpoint", "generator", "log"):
        assert summary["files"][place] in printed
    assert "medsynth generate run=run" in printed
    assert "on frozen medsynth_mini (file mini.safetensors sha256" in summary["trained"]


def test_checkpoint_holds_its_provenance(finished):
    folder, _ = finished
    run_record = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["run"]
    assert "medsynth_mini (file mini.safetensors sha256" in run_record["trained"]
    assert run_record["config"]["max_images"] == 64


def test_metrics_are_logged_against_images_seen(finished):
    folder, _ = finished
    values = [row for row in rows(folder) if row["val/fd_mini"]]
    assert [int(row["step"]) for row in values] == [32, 64]
    assert [float(row["trainer/images_seen"]) for row in values] == [32, 64]
    assert all(float(row["val/num_real"]) == 16 for row in values)


def test_sample_grids_show_real_beside_generated(finished):
    folder, _ = finished
    grid, pair = (np.asarray(Image.open(folder / "samples" / name)) for name in ("000000064.png", "latest.png"))
    assert grid.shape[1] * 1.5 < pair.shape[1]
    assert grid.std() > 1


@pytest.mark.parametrize(
    ("count", "classes", "images", "columns"),
    [(64, 3, 48, 8), (64, 9, 63, 7), (64, 100, 64, 4), (4, 6, 4, 1), (9, 2, 6, 3)],
)
def test_grids_have_rows_of_one_class_each(count, classes, images, columns):
    rows = class_rows(count, [f"class {number}" for number in range(classes)])
    assert (len(rows.labels), rows.columns) == (images, columns)
    by_row = [set(rows.labels[start : start + columns]) for start in range(0, images, columns)]
    assert all(len(labels) == 1 for labels in by_row)
    assert [f"class {label}" for label in dict.fromkeys(rows.labels)] == list(rows.names)
    assert class_rows(count, []).names == ()


def test_class_names_stand_to_the_left_of_the_images():
    rows = class_rows(16, ["glioma", "a very long name of a class"])
    panels = {"real": torch.full((16, 1, 16, 16), -1.0), "generated": torch.full((16, 1, 16, 16), -1.0)}
    with_names, without = side_by_side(panels, rows), side_by_side(panels)
    assert with_names.shape[1] == without.shape[1]
    assert with_names.shape[2] > without.shape[2] + 2 * 40
    assert (with_names[:, 20:, 2:30] < 0.5).any(), "letters on white"


def generated(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted((folder / "images").iterdir())}


def test_generate_returns_the_same_images_for_the_same_seed(finished, monkeypatch, capsys, tmp_path):
    folder, _ = finished
    monkeypatch.chdir(tmp_path)
    for out, seed, batch_size in (("a", 1, 64), ("b", 1, 64), ("c", 2, 64), ("d", 1, 3)):
        arguments = (f"run={folder}", "num_samples=7", f"seed={seed}", f"out={out}", f"batch_size={batch_size}")
        code, printed, _ = run(monkeypatch, capsys, *arguments, command="generate")
        assert code == 0
        assert "7 images" in printed
    a, b, c, d = (generated(tmp_path / out) for out in "abcd")
    assert len(a) == 7
    assert all((a[name] == b[name]).all() for name in a)
    assert any((a[name] != c[name]).any() for name in a)
    assert all(np.abs(a[name].astype(int) - d[name]).max() <= 1 for name in a)  # rounding of other batch sizes
    with Image.open(tmp_path / "a" / "contact_sheet.png") as sheet:
        assert sheet.width > 7 * 16
    record = json.loads((tmp_path / "a" / "generate.json").read_text())
    assert record["seed"] == 1
    assert record["card"]["intensity"]["unit"] == "HU"


def test_generate_16_bit_label_and_gray_levels(finished, monkeypatch, capsys, tmp_path):
    folder, _ = finished
    monkeypatch.chdir(tmp_path)
    for bits in (8, 16):
        arguments = (f"run={folder}", "num_samples=2", f"format=png{bits}", "label=healthy", f"out=bits{bits}")
        assert run(monkeypatch, capsys, *arguments, command="generate")[0] == 0
    eight, sixteen = (generated(tmp_path / f"bits{bits}")["000000.png"].astype(float) for bits in (8, 16))
    assert sixteen.max() > 255
    assert np.abs(sixteen / 257 - eight).max() <= 0.5 + 1e-6
    generator, card = read_generator(folder / "generator.safetensors")
    assert card["class_names"] == ["healthy", "one_lesion", "several_lesions"]
    assert generator(torch.zeros(1, 128), torch.tensor([2])).shape == (1, 1, 16, 16)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["out=x"], "run= is needed"),
        (["run=nowhere", "out=x"], "run=nowhere does not exist"),
        (["run=empty", "out=x"], "no generator"),
        (["run=RUN"], "out= is needed"),
        (["run=RUN", "out=empty"], "out=empty exists"),
        (["run=RUN", "out=x", "label=cat"], "choose healthy, one_lesion"),
        (["run=RUN", "out=x", "format=png12"], "format=png12 is unknown"),
        (["run=RUN", "out=x", "num_samples=0"], "num_samples=0"),
        (["run=RUN", "out=x", "number=3"], "There is no option number"),
    ],
    ids=lambda value: str(value[-1]) if isinstance(value, list) else "",
)
def test_generate_refuses(finished, monkeypatch, capsys, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    arguments = [argument.replace("RUN", str(finished[0])) for argument in arguments]
    code, _, err = run(monkeypatch, capsys, *arguments, command="generate")
    assert code == 1
    assert words in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


INTERRUPTED = {
    "at a validation": ["val_every_images=32"],
    "inside an interval": ["val_every_images=48"],
    "before the backbone takes part": [
        "val_every_images=48",
        "discriminator=vision_aided",
        "discriminator.warmup_images=56",
        "discriminator.width=8",
        "augment=diffaugment",
    ],
    "with a feature cache": [
        "val_every_images=48",
        "discriminator=projected",
        "discriminator.width=8",
        "augment=none",
        "loss=relativistic_average",
        "trainer.precision=bf16-mixed",
    ],
    "partly fine-tuned": [
        "val_every_images=48",
        "discriminator=transfer",
        "discriminator.unfreeze=2",
        "penalty=[r1,r2]",
    ],
}
_SLOW = ("at a validation", "before the backbone takes part", "with a feature cache", "partly fine-tuned")
RESUMED = dict.fromkeys(INTERRUPTED, ()) | dict.fromkeys(_SLOW, pytest.mark.slow)


@pytest.fixture(params=[pytest.param(name, marks=marks) for name, marks in RESUMED.items()], ids=str)
def stopped_and_whole(request, monkeypatch, capsys, tmp_path):
    """Two runs of 96 images, one of them stopped at its first checkpoint, killed a little later, and resumed."""
    monkeypatch.chdir(tmp_path)
    tiny = [*TINY, "max_images=96", *INTERRUPTED[request.param], "trainer.log_every_n_steps=1"]
    assert run(monkeypatch, capsys, *tiny, "hydra.run.dir=whole")[0] == 0

    step = GAN.training_step

    def killed(self, batch, batch_index):
        if self.images_seen >= 72:
            raise RuntimeError("killed")
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(GAN, "training_step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run(monkeypatch, capsys, *tiny, "hydra.run.dir=stopped")
    assert json.loads((tmp_path / "stopped" / "summary.json").read_text())["status"] == "failed"
    code, _, err = run(monkeypatch, capsys, "resume=stopped")
    assert code == 0, err
    return tmp_path / "stopped", tmp_path / "whole"


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(stopped_and_whole):
    stopped, whole = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in stopped_and_whole
    )
    assert stopped["medsynth"] == whole["medsynth"]
    for name, value in whole["state_dict"].items():
        assert torch.equal(stopped["state_dict"][name], value), name
    timing = {"trainer/images_per_second", "trainer/data_wait"}
    first, second = ([{k: v for k, v in row.items() if k not in timing} for row in rows(f)] for f in stopped_and_whole)
    assert first == second
    pictures = [(folder / "samples" / "latest.png").read_bytes() for folder in stopped_and_whole]
    assert pictures[0] == pictures[1]


def test_a_completed_run_is_extended_with_its_own_components(finished, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished[0], tmp_path / "run")
    code, _, err = run(monkeypatch, capsys, "resume=run", "max_images=96")
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["images_seen"] == 96
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").max_images == 96
    assert [path.name for path in tmp_path.iterdir()] == ["run"], "a resumed run makes no folder of its own"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resume=nowhere"], "resume=nowhere is not the folder of a run"),
        (["resume=run"], "has already seen its max_images=64"),
        (["resume=run", "generator=mlp"], "generator=mlp cannot be combined with resume="),
        (["resume=run", "max_image=96"], "max_image"),
        (["resume=young"], "before its first checkpoint"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_resume_refuses(finished, monkeypatch, capsys, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished[0], tmp_path / "run")
    shutil.copytree(finished[0], tmp_path / "young")
    shutil.rmtree(tmp_path / "young" / "checkpoints")
    (tmp_path / "young" / "summary.json").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 1
    assert words in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "young"]
    assert all(path.read_bytes() == content for path, content in before.items() if path.suffix != ".log")


def test_resume_refuses_another_architecture(finished, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished[0], tmp_path / "run")
    code, _, err = run(monkeypatch, capsys, "resume=run", "generator.width=16", "max_images=96")
    assert code == 1
    assert "another architecture" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data=image_folder"], "data.root"),
        (["data=image_folder", "data.root=nowhere"], "nowhere"),
        (["data=image_folder", "data.root=empty"], "empty"),
        (["data.batch_size=65"], "data.batch_size=65"),
        (["data.image_size=20", "discriminator=transfer"], "data.image_size=20"),
        (["max_images=65"], "max_images=65"),
        (["run_dir=elsewhere"], "hydra.run.dir"),
        (["discriminator=transfer", "discriminator.unfreeze=9"], "discriminator.unfreeze=9"),
        (["discriminator=projected", "discriminator.levels=9"], "discriminator.levels=9"),
        (["backbone@second_backbone=mini", "discriminator=dcgan"], "backbone@second_backbone=mini has no effect"),
        (
            [
                "backbone=timm",
                "backbone.model_name=test_vit",
                "backbone.weights=random",
                "discriminator=transfer",
                "discriminator.unfreeze=all",
                "penalty=r1",
            ],
            "penalty=r1 needs second derivatives",
        ),
        (["+trainer.gradient_clip_val=1"], "task.gradient_clip_norm"),
        (["+trainer.accumulate_grad_batches=2"], "task.accumulate"),
        (["generator_optimizer=adam_fast"], "type optimizer@generator_optimizer=adam_fast"),
        (["discriminator=dcgan", "backbone=resnet50"], "backbone=resnet50 has no effect"),
        (["discriminator=transfer", "backbone=resnet50"], "backbone.weights=random"),
        (["discriminator=transfer", "backbone.weights=missing.safetensors"], "missing.safetensors"),
        (["+generator.depth=3"], "has no option depth"),
        (["conditional=true", "data.source.classes=[healthy]"], "conditional=true"),
        (["discriminator=transfer", "backbone.enlarge=false"], "data.image_size=16 is too small"),
        (["metrics=inception"], "metrics=mini"),
        (["logger=wandb", "logger.wandb.mode=online"], "WANDB_API_KEY"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_train_refuses_in_one_sentence(monkeypatch, capsys, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    tiny = [option for option in TINY if not ("source" in option and "data=image_folder" in arguments)]
    code, _, err = run(monkeypatch, capsys, *tiny, *arguments)
    assert code == 1
    assert words in err
    assert "Traceback" not in err
    sentence = err.strip().partition("\nTrains here without a download")[0].splitlines()[-1]
    assert sentence.startswith("medsynth train: error: ")


def test_an_output_folder_that_cannot_be_written_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    code, _, err = run(monkeypatch, capsys, *TINY, "hydra.run.dir=file/run")
    assert code == 1
    assert "hydra.run.dir" in err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(finished, monkeypatch, capsys, tmp_path):
    """Checkpoints are written under another name first, so that a full disk does not damage the last one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished[0], tmp_path / "run")
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()

    def full(state, file, **_):
        Path(file).write_bytes(b"half a check")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        code, _, err = run(patch, capsys, "resume=run", "max_images=96")
    assert code == 1
    assert "No space left on device" in err
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not list((tmp_path / "run" / "checkpoints").glob("*.tmp"))


def test_a_diverging_run_stops_and_names_the_last_checkpoint(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    step = GAN.training_step

    def diverging(self, batch, batch_index):
        if self.images_seen >= 40:
            batch["image"] = batch["image"] * float("nan")
        return step(self, batch, batch_index)

    monkeypatch.setattr(GAN, "training_step", diverging)
    code, _, err = run(monkeypatch, capsys, *TINY, "hydra.run.dir=run")
    assert code == 1
    assert "discriminator's loss is nan" in err
    assert "run/checkpoints/last.ckpt" in err
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["medsynth"]["images_seen"] == 32
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "diverged"
    assert "discriminator's loss is nan" in summary["reason"]
    assert all(torch.isfinite(value).all() for value in checkpoint["state_dict"].values())


def test_a_sweep_continues_after_a_failed_job(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    inside = ("hydra.sweep.dir=sweep", "sweep.processes=false")
    code, _, _ = run(monkeypatch, capsys, "-m", *TINY, "data.batch_size=65,8", *inside)
    assert code == 1
    failed, completed = (json.loads((tmp_path / "sweep" / job / "summary.json").read_text()) for job in "01")
    assert failed["status"] == "failed"
    assert "data.batch_size=65" in failed["reason"]
    assert completed["status"] == "completed"


@pytest.mark.parametrize(
    "options",
    [
        ["discriminator=sngan", "generator=resnet", "discriminator.width=8", "loss=hinge"],
        ["discriminator=patch", "generator=fastgan", "discriminator.layers=1", "discriminator.width=8"],
        ["discriminator=r3gan", "loss=relativistic_pairing", "penalty=[r1,r2]", "penalty.r2.interval=1"],
        ["discriminator=projected", "discriminator.width=8", "backbone@second_backbone=mini"],
        ["discriminator=vision_aided", "discriminator.warmup_images=16", "discriminator@discriminator.trained=sngan"],
        [
            "discriminator=transfer",
            "discriminator.unfreeze=1",
            "loss=wasserstein",
            "generator_optimizer.betas=[0,1e-1]",
        ],
    ],
    ids=lambda options: options[0],
)
def test_every_discriminator_trains_with_labels(monkeypatch, capsys, tmp_path, options):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, "max_images=32", *options, "conditional=true", "hydra.run.dir=run")
    assert code == 0, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["images_seen"] == 32
    assert np.isfinite(summary["metrics"]["val/fd_mini"])
    assert 0 < summary["parameters"]["discriminator_trained"] <= summary["parameters"]["discriminator"]
    assert not (tmp_path / "run" / "feature_cache").exists()


@pytest.mark.parametrize("options", [["trainer.precision=bf16-mixed"], ["task.channels_last=false", "max_epochs=1"]])
def test_precision_memory_format_and_epochs(monkeypatch, capsys, tmp_path, options):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, *options, "hydra.run.dir=run")
    assert code == 0, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["images_seen"] == 64
    assert summary["precision"] == (options[0].split("=")[1] if "precision" in options[0] else "32-true")


def test_validations_are_full_batches_apart_and_the_last_is_at_the_end(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *TINY, "max_images=64", "val_every_images=18", "hydra.run.dir=run")
    assert code == 0, err
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file) if row["val/fd_mini"]] == [24, 48, 64]
