"""The doctor in a training: its file, its findings in every place, early ends, and runs that follow."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import medsynth
from medsynth.augment.instance_noise import InstanceNoise
from medsynth.errors import EndCode, InputError
from medsynth.lightning import doctor as doctor_file
from medsynth.lightning import observing, step_values
from medsynth.lightning.step_values import StepValues
from medsynth.report.page import write_report
from medsynth.runs.run_folder import RunResult
from medsynth.runs.successor import successor_of
from tests.command import TINY, run

MORE = (*TINY, "max_images=160", "val_every_images=32")


def planted(monkeypatch, **thresholds):
    """Let rules hold at thresholds that every training reaches."""
    from medsynth.diagnosis import diagnose

    fitted = json.loads(diagnose._FITTED.read_text())
    fitted["thresholds"] = {
        name: -1e9 if name.split(".")[0] in thresholds else v for name, v in fitted["thresholds"].items()
    }
    monkeypatch.setattr(diagnose, "fitted_values", lambda: fitted)


def rows(folder):
    return [json.loads(line) for line in (folder / "diagnosis.jsonl").read_text().splitlines()]


def test_each_validation_leaves_a_row_of_signals(monkeypatch, capsys, tmp_path):
    result = medsynth.train(*TINY, "conditional=true", "data.source.num_val=48", folder=tmp_path / "run")
    found = rows(result.folder)
    assert [row["images_seen"] for row in found] == [32, 64]
    names = {name.partition(".")[0] for name in found[-1]["signals"]}
    assert names == {"objective", "num_val", "progress", "pixels", "features", "ema", "logits", "course", "history"}
    assert {"features.label_information", "features.copies", "logits.overfitting"} <= found[-1]["signals"].keys()
    assert result.summary["files"]["diagnosis"].endswith("diagnosis.jsonl")


AVERAGE_IS_LAST = (*TINY, "task.ema_half_life=1", "data.source.num_val=64", "conditional=true")


def test_the_last_generator_is_compared_with_its_average_from_the_same_noise(tmp_path):
    result = medsynth.train(*AVERAGE_IS_LAST, folder=tmp_path / "run")
    assert [row["signals"]["ema.apart"] < 1e-4 for row in rows(result.folder)] == [True, True]


@pytest.mark.slow
def test_it_is_so_in_several_processes_and_they_end_together(tmp_path):
    typed = (*AVERAGE_IS_LAST, "trainer.devices=2", "doctor.stop=early", f"hydra.run.dir={tmp_path / 'run'}")
    done = subprocess.run([sys.executable, "-m", "medsynth", "train", *typed], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["signals"]["ema.apart"] < 1e-4 for row in rows(tmp_path / "run")] == [True, True]


def test_without_the_doctor_the_training_is_the_same(tmp_path):
    with_it = medsynth.train(*TINY, folder=tmp_path / "with")
    without = medsynth.train(*TINY, "doctor.enabled=false", folder=tmp_path / "without")
    assert not (tmp_path / "without" / "diagnosis.jsonl").exists()
    states = [torch.load(result.checkpoint, weights_only=True)["state_dict"] for result in (with_it, without)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_doctor_leaves_the_random_numbers_as_they_are():
    model = SimpleNamespace(
        device=torch.device("cpu"), seed=0, images_seen=8, augmentations={"noise": InstanceNoise(sigma=1.0)}
    )
    before, images = torch.get_rng_state(), torch.zeros(4, 1, 16, 16)
    first = observing.augmented_images(model, images)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(observing.augmented_images(model, images), first)  # by the counters alone
    assert first.std() > 0.5


def test_a_finding_is_said_once_and_stands_in_summary_and_report(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    planted(monkeypatch, copying=True)
    code, out, err = run(monkeypatch, capsys, *MORE, "hydra.run.dir=run")
    assert code == 0
    assert (out + err).count("Try augment=translation_cutout") == 2  # when it was found, and in the summary
    assert "finding    The generator copies" in out
    (finding,) = [
        f for f in json.loads((tmp_path / "run" / "summary.json").read_text())["findings"] if f["name"] == "copying"
    ]
    assert finding["onset"] == 96
    assert finding["evidence"].keys() == {"features.copies"}
    write_report([tmp_path / "run"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.index("The generator copies") < page.index('id="samples"')
    assert page.index('alt="Images that show the finding"') < page.index('id="samples"')
    with Image.open(tmp_path / "run" / "diagnosis" / "copying.png") as picture:
        assert picture.size[1] == 16 + 4 * 17 + 1  # a title, and 8 pairs of images of 16 pixels in 4 rows


def test_early_stop_ends_at_a_validation_and_keeps_the_best(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor_file, "worth_continuing", lambda rows: len(rows) < 3)
    result = medsynth.train(*MORE, "doctor.stop=early", folder=tmp_path / "run")
    assert result.images_seen == 96
    assert result.summary["stopped_early"] == 96
    assert result.summary["status"] == "completed"
    assert result.generator.is_file()


def test_act_starts_a_run_with_the_proposed_override_and_links_both(monkeypatch, tmp_path):
    planted(monkeypatch, copying=True)
    result = medsynth.train(*MORE, "doctor.act=true", folder=tmp_path / "run, a=b")
    assert result.folder == tmp_path / "run, a=b-2"
    assert result.images_seen == 160
    first = json.loads((tmp_path / "run, a=b" / "summary.json").read_text())
    assert first["images_seen"] == 128
    assert first["proposal"] == {"finding": "copying", "override": "augment=translation_cutout"}
    assert first["successor"] == str(tmp_path / "run, a=b-2")
    assert result.summary["predecessor"] == str(tmp_path / "run, a=b")
    assert "augment=translation_cutout" in (tmp_path / "run, a=b-2" / "config.yaml").read_text()
    assert [row["images_seen"] for row in rows(tmp_path / "run, a=b")] == [32, 64, 96, 128]


@pytest.mark.parametrize(
    ("code", "typed", "follows"),
    [
        (EndCode.COMPLETED, ("max_images=64", "doctor.act=true"), True),
        (EndCode.COMPLETED, ("resume=auto", "max_images=64"), True),
        (EndCode.COMPLETED, ("resume=outputs/theirs",), False),
        (EndCode.ALREADY_COMPLETE, ("resume=auto", "doctor.act=true"), False),
    ],
)
def test_no_run_follows_a_record_that_this_command_has_not_written(tmp_path, code, typed, follows):
    summary = {"proposal": {"finding": "copying", "override": "augment=ada"}}
    successor = successor_of(RunResult(tmp_path / "run", code, summary, OmegaConf.create()), typed)
    assert (successor is not None) == follows


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["doctor.stop=late"], "choose early"),
        (["doctor.act=true", "doctor.enabled=false"], "leave out doctor.enabled=false"),
        (["doctor.act=true", "trainer.devices=2"], "several processes cannot"),
        (["callbacks.doctor.num_images=0"], "start at 1"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, words, tmp_path):
    with pytest.raises(InputError, match=words):
        medsynth.train(*TINY, *options, folder=tmp_path / "run")


def test_step_values_are_thinned_and_survive_a_checkpoint(monkeypatch):
    monkeypatch.setattr(step_values, "_MOST_STEPS", 8)
    whole, first = StepValues(), StepValues()
    for step in range(40):
        whole.add({"generator_loss": torch.tensor(float(step))})
        if step < 23:
            first.add({"generator_loss": torch.tensor(float(step))})
    resumed = StepValues()
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for step in range(23, 40):
        resumed.add({"generator_loss": torch.tensor(float(step))})
    values = whole.take()
    assert resumed.take() == values
    assert len(values["generator_loss"]) <= 8
    gaps = {b - a for a, b in zip(values["generator_loss"], values["generator_loss"][1:], strict=False)}
    assert len(gaps) == 1
    assert whole.take() == {}
