"""``medsynth card`` and ``export`` of translators: baselines on the card, files that translate as the run does."""

import json
import re

import nibabel
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from hydra.utils import instantiate
from monai.bundle import ConfigParser
from monai.bundle import run as run_bundle
from omegaconf import OmegaConf

from medsynth.configuration.compose import compose
from medsynth.contracts import InputError
from medsynth.data.source_statistics import QUANTILES
from medsynth.generator.export import save_generator
from medsynth.generator.trained import load_translator
from medsynth.release.export_folder import export_run
from medsynth.release.hub import HubGenerator
from medsynth.release.model_card import model_card
from medsynth.release.program import program_of
from medsynth.release.run_record import read_run
from tests.command import run
from tests.test_release import CARD, SECRET, SIZE, leaks, section, verify

SOURCE = {"low": -5.5, "high": 1000.0, "unit": "signal"}
STATISTICS = {
    "neighbors": 0,
    "geometry": {"size": SIZE, "channels": 1, "spacing": None, "foreground": None, "crop": None, "resize": "crop"},
    "normalization": {"intensity_range": [-5.5, 1000.0], "normalize": "auto", "unit": SECRET, "window": None},
    "modality": "MR",
    "mean": 300.0,
    "sd": 250.0,
    "quantiles": np.linspace(-5.5, 1000, QUANTILES).tolist(),
    "spread": 0.2,
}
VALIDATION = {"val/mae": 20.5, "val/copy_mae": 51.25, "val/ssim": 0.75, "val/copy_ssim": 0.5}


def a_translator(folder, *typed, neighbors=0, name="unet", **card):
    """The folder of a run with planted words wherever a training could have put one."""
    small = {"unet": ["generator.levels=2", "generator.width=4"], "resnet_translator": ["generator.width=4"]}[name]
    options = [f"generator={name}", *small, "data=paired_folder", f"data.root=/data/{SECRET}/pairs"]
    options += [f"data.image_size={SIZE}", f"source_channels={2 * neighbors + 1}", "data.show_paths=true"]
    config = compose("train", ["task=paired_translation", *options, "run_dir=unused", "hydra.run.dir=unused", *typed])
    folder.mkdir(parents=True)
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    torch.manual_seed(3)
    network = instantiate(config.generator, _convert_="all")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_({"unet": 8, "resnet_translator": 2}[name])  # so that noise and neighbors make a difference
    whole = CARD | {"kind": "translator", "channels": 1, "image_size": SIZE, "source_channels": 2 * neighbors + 1}
    whole |= {"source_intensity": SOURCE, "source_statistics": STATISTICS | {"neighbors": neighbors}}
    whole |= {"metrics": VALIDATION, **card}
    rebuild = OmegaConf.to_container(config.generator, resolve=True)
    save_generator(folder / "generator.safetensors", network, config=rebuild, card=whole)
    environment = {"num_train": 40, "num_val": 8, "data_fingerprint": "0123456789abcdef"}
    (folder / "summary.json").write_text(json.dumps({"data": f"pairs of {SECRET}", "environment": environment}))
    return folder


def measured(folder, *others):
    """Add a record of ``medsynth evaluate``, against other runs: their names and tasks."""
    row = {"name": "mae", "better": "lower", "value": 20.25, "low": 18, "high": 22.5}
    copy = {"copy_value": 50, "copy_low": 45, "copy_high": 55}
    difference = {"difference_value": -29.75, "difference_low": -33, "difference_high": -26}
    other = {"other_value": 19.5, "other_low": 18, "other_high": 21} | difference
    against = [{"run": run, "task": task, "measures": [row | other]} for run, task in others]
    paired = {"split": "test", "count": 40, "patients": 4, "unit": "HU", "masked": True}
    paired |= {"measures": [row | copy | difference], "against": against, "rule": "Means over all pairs.", "notes": []}
    paired["lesions"] = [
        {"of": of, "smallest_radius": 4.0, "largest_radius": 6.0, "lesions": 9, "value": 0.5, "low": 0.25, "high": 0.75}
        for of in ("target", *(run for run, _ in others))
    ]
    (folder / "evaluation").mkdir()
    record = {"real": {"split": "test", "source": SECRET}, "measures": [], "translation": paired}
    (folder / "evaluation" / "translator.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """(folder of a run with noise and neighboring slices, folder of its export)."""
    place = tmp_path_factory.mktemp("released")
    run_ = measured(a_translator(place / SECRET, "generator.latent_dim=3", neighbors=1, spacing=[0.5, 1.0]))
    return run_, export_run(read_run(run_), place / "out", ["safetensors", "torch", "monai"]).folder


def sources(translator, count=64):
    return program_of(translator).inputs(count)


# ---- the card --------------------------------------------------------------------------------------------------------


def test_a_translators_card_says_task_source_target_and_the_baselines(tmp_path):
    folder = a_translator(tmp_path / "run", neighbors=1)
    text = model_card(read_run(folder))
    for row in (
        "| task | `paired_translation` |",
        "| modality of the source | MR |",
        "| physical units of the source | -1 is -5.5 and 1 is 1000 signal |",
        "| physical units of the target | -1 is -1350 and 1 is 150.3 HU |",
        "the channels of 3 neighboring slices",
        "| mae | 20.5 | 51.25 | lower |\n| ssim | 0.75 | 0.5 | higher |",
    ):
        assert row in text, row
    assert section(text, "Errors").count("not measured") == 2
    assert "Errors on images that it was not selected on: not measured." in section(text, "Limits")
    assert (card := ModelCard(text).data).pipeline_tag == "image-to-image"
    assert "image-to-image" in card.tags

    text = model_card(read_run(measured(folder, (SECRET, "regression"), ("other", "cut"), ("mine", SECRET))))
    errors = section(text, "Errors").replace("\\", "")
    assert "40 pairs of 4 patients, values in HU in the mask, test:" in errors
    assert "| mae | 20.25 | 18 to 22.5 | 50 | -29.75 | -33 to -26 | lower |" in errors
    assert "against run 1 (task=regression), test:" in errors
    assert "| mae | 20.25 | 18 to 22.5 | 19.5 | -29.75 | -33 to -26 | lower |" in errors
    assert "against run 2 (task=cut)" in errors
    assert "against run 3, test:" in errors
    assert "| run 1 (task=regression) | 4 to 6 mm | 9 | 0.5 | 0.25 to 0.75 |" in errors
    assert "A regression on the same data" not in errors
    assert SECRET not in text
    (result,) = ModelCard(text).data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("mae", 20.25, "test")


def test_a_translators_card_says_that_no_regression_was_measured(tmp_path):
    text = model_card(read_run(measured(a_translator(tmp_path / "run"), ("other", "cut"))))
    assert "A regression on the same data, the baseline of every translator, was not measured beside it." in text


# ---- the files -------------------------------------------------------------------------------------------------------


def test_torch_and_safetensors_translate_as_the_run_does(released):
    folder, out = released
    translator, again = load_translator(folder), load_translator(out / "generator.safetensors")
    inputs = sources(translator)
    expected = translator.translate(inputs[0])
    assert expected.std() > 0.1
    assert torch.equal(again.translate(inputs[0]), expected)
    extra = {"medsynth.json": ""}
    program = torch.export.load(out / "generator.pt2", extra_files=extra).module()
    torch.testing.assert_close(program(*inputs), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(program(*(x[:1] for x in inputs)), expected[:1], rtol=0, atol=1e-5)
    assert (program(inputs[0], -inputs[1]) - expected).abs().max() > 1e-3, "the noise makes a difference"
    usage = json.loads(extra["medsynth.json"])
    assert {key: usage["source_intensity"][key] for key in ("low", "high", "unit")} == SOURCE
    assert (usage["source_modality"], usage["modality"], usage["intensity"]["unit"]) == ("MR", "CT", "HU")
    assert usage["source"] == f"float32 (N, 3, {SIZE}, {SIZE}) in [-1, 1]"
    assert json.loads((out / "export.json").read_text())["largest_difference"]["torch"] <= 1e-4
    assert leaks(folder), "the search finds what is planted"
    assert leaks(out) == set()
    assert again.card["source_statistics"]["quantiles"] == STATISTICS["quantiles"]
    assert again.card["source_statistics"]["normalization"] == {"intensity_range": [-5.5, 1000.0], "normalize": "auto"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "latent_dim"), [("unet", 0), ("unet", 3), ("resnet_translator", 2)])
def test_onnx_runtime_translates_as_the_run_does(tmp_path, name, latent_dim):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = a_translator(tmp_path / SECRET, f"generator.latent_dim={latent_dim}", name=name)
    out = export_run(read_run(folder), tmp_path / "out", ["onnx"]).folder
    session = onnxruntime.InferenceSession(str(out / "generator.onnx"), providers=["CPUExecutionProvider"])
    translator = load_translator(folder)
    tensors = sources(translator)
    inputs = dict(zip(("source", "noise"), (x.numpy() for x in tensors), strict=False))
    assert [value.name for value in session.get_inputs()] == list(inputs)
    expected = translator.translate(tensors[0]).numpy()
    for count in (64, 1):
        images = session.run(["images"], {key: value[:count] for key, value in inputs.items()})[0]
        np.testing.assert_allclose(images, expected[:count], rtol=0, atol=1e-4)
    assert leaks(out) == set()


def test_a_translator_is_saved_for_the_hub(tmp_path):
    model = HubGenerator.of_run(measured(a_translator(tmp_path / SECRET), ("a", "regression")))
    model.save_pretrained(tmp_path / "saved")
    assert leaks(tmp_path / "saved") == set()
    again = HubGenerator.from_pretrained(tmp_path / "saved")
    (source,) = sources(model.translator, 2)
    assert torch.equal(again.translator.translate(source), model.translator.translate(source))
    with pytest.raises(InputError, match="take its translator"):
        _ = again.generator


# ---- the MONAI bundle ------------------------------------------------------------------------------------------------


def a_volume(path, shape=(12, 12, 4), spacing=(0.4, 0.7, 3.0)):
    """A volume whose axes run to the back, to the right and down, with content of the size of the training's images."""
    axes = nibabel.orientations.axcodes2ornt("PRI")
    affine = nibabel.orientations.inv_ornt_aff(axes, shape) @ np.diag([*spacing, 1])
    affine[:3, 3] += (11, -3, 5)
    coarse = np.random.default_rng(0).uniform(-100, 1100, (4, 4, 4))
    values = np.kron(coarse, np.ones((3, 3, 1)))[: shape[0], : shape[1], : shape[2]]
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)


def translated_by_medsynth(monkeypatch, capsys, folder, *typed):
    given = (f"run={folder}", "data=nifti", "data.root=in", "format=nifti", "out=expected", "device=cpu")
    code, _, err = run(monkeypatch, capsys, *given, "allow_other_source=true", *typed, command="translate")
    assert code == 0, err
    return nibabel.load("expected/series_0000.nii.gz")


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        *(
            pytest.param(geometry, marks=pytest.mark.slow)
            for geometry in ({}, {"resize": "fit"}, {"resize": "stretch"}, {"resize": "none"}, {"crop": 10, "size": 12})
        ),
    ],
)
def test_monai_runs_the_bundle_to_the_translations_of_medsynth(geometry, released, tmp_path, monkeypatch, capsys):
    """With the pixel size of the training, and where it is not known by the fraction of the image."""
    monkeypatch.chdir(tmp_path)
    a_volume(tmp_path / "in" / "case.nii.gz")
    folder, out = released
    if geometry is not None:
        statistics = STATISTICS | {"geometry": STATISTICS["geometry"] | geometry}
        folder = a_translator(tmp_path / "run", spacing=None, source_statistics=statistics)
        out = export_run(read_run(folder), tmp_path / "out", ["monai"]).folder
    expected, bundle = translated_by_medsynth(monkeypatch, capsys, folder), out / "monai"
    config = str(bundle / "configs" / "inference.json")
    run_bundle(config_file=config, bundle_root=str(bundle), dataset_dir=str(tmp_path / "in"), output_dir="made")
    assert "1 volumes of" in capsys.readouterr().out
    made = nibabel.load("made/case_translated.nii.gz")
    np.testing.assert_allclose(made.affine, expected.affine, atol=1e-5)
    assert made.get_fdata().std() > 50, "of a range of 1,500 HU"
    np.testing.assert_allclose(made.get_fdata(), expected.get_fdata(), atol=0.05)
    assert b"synthetic" in made.header["descrip"].item()


def test_metadata_of_a_translator_pass_monais_own_check(released, tmp_path, monkeypatch):
    folder, bundle = released[0], released[1] / "monai"
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    verify(metadata, tmp_path, monkeypatch, given="image")
    image = metadata["network_data_format"]["inputs"]["image"]
    assert list(image["channel_def"].values()) == [f"channel 0 of slice {place}" for place in ("-1", "+0", "+1")]
    assert metadata["task"] == "Translate images (MR) to synthetic images (CT)"
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    parser.parse()
    network, translator = parser.get_parsed_content("network"), load_translator(folder)
    source, z = sources(translator, 3)
    one_noise = translator.network(source, z[:1].expand(3, -1)).clamp(-1, 1)
    torch.testing.assert_close(network(source), one_noise, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "normalization",
    [{"normalize_per": "image", "normalize": "min_max"}, {"intensity_range": [0.0, 1.0], "clahe": 0.01}],
    ids=str,
)
def test_sources_that_a_bundle_cannot_prepare_are_refused(normalization, tmp_path):
    statistics = STATISTICS | {"normalization": normalization}
    record = read_run(a_translator(tmp_path / "run", source_statistics=statistics))
    with pytest.raises(InputError, match=r"values that are mapped image by image: choose format=\[safetensors"):
        export_run(record, tmp_path / "out", ["monai"])
    assert not (tmp_path / "out").exists()


def test_the_commands_take_translators_and_the_verdict_says_what_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_translator(tmp_path / "run")
    code, out, err = run(monkeypatch, capsys, "run=run", command="card")
    assert code == 0, err
    assert (tmp_path / "run" / "model_card.md").read_text() == model_card(read_run(tmp_path / "run"))
    code, out, err = run(monkeypatch, capsys, "run=run", "out=new", "format=safetensors", command="export")
    assert code == 0, err
    assert "README.md, export.json, generator.safetensors are in new." in out
    code, _, err = run(monkeypatch, capsys, "run=run", command="verdict")
    assert code == 1
    assert re.search(r"medsynth evaluate run=run against=\[", err), err
    damaged = a_translator(tmp_path / "damaged", source_intensity=None)
    code, _, err = run(monkeypatch, capsys, f"run={damaged}", command="card")
    assert code == 1
    assert "does not describe the images that it translates" in err
