"""``medsynth card``, ``medsynth export``, the Hub: what is given away makes the generator's images and names nobody."""

import base64
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import nibabel
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from hydra.utils import instantiate
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle import run as run_bundle
from monai.bundle import scripts as bundle_scripts
from omegaconf import OmegaConf
from torch import nn

import medsynth
from medsynth.configuration.compose import compose
from medsynth.contracts import InputError, counter_seed, noise
from medsynth.generator.export import save_generator
from medsynth.generator.trained import load_generator
from medsynth.release import exchange, export_folder
from medsynth.release.export_folder import export_run
from medsynth.release.hub import HubGenerator
from medsynth.release.model_card import model_card
from medsynth.release.onnx_operations import inverse_error_function, viewed_as
from medsynth.release.run_record import read_run
from tests.command import run

SIZE, COUNT = 16, 5
SECRET = "Erika_Mustermann_19640812"
CLASSES = ["healthy", "glioma"]
GENERATORS = ("dcgan", "fastgan", "mlp", "resnet", "sagan", "style", "tomsk")
TINY = {"mlp": ["generator.widths=[8]"], "sagan": ["generator.attention=8"]} | {
    "style": ["generator.style_dim=8", "generator.mapping_layers=1", "generator.max_width=8"],
    "tomsk": ["generator.width=0.05", "generator.base_channels=64"],
}
CARD = {
    "class_names": [],
    "intensity": {"low": -1350.0, "high": 150.3, "unit": "HU"},
    "spacing": [0.7, 1.0 / 3],
    "modality": "CT",
    "images_seen": 1000,
    "metrics": {"val/fd_mini": 3.5},
    "trained": f"MLPGenerator against D on {SECRET}.pth",
    "data": f"ImageFolder {SECRET}: 40 images",
    "seed": 0,
}
EVALUATION = {
    "real": {"source": f"/data/{SECRET}", "count": 40, "split": "test", "selected": False},
    "fake": {"source": f"/runs/{SECRET}/generator.safetensors", "count": 40},
    "measures": [
        {"name": "fd_mini", "better": "lower", "value": 3.25, "low": 3.0, "high": 3.75, "baseline": 1.5}
        | {"num_real": 40, "num_fake": 50}
    ],
    "notes": [f"The images of /data/{SECRET} are few."],
}
ANSWER = {"format": 1, "answer": "no", "rule": "the gain exceeds that of duplication"}
ANSWER["reasons"] = ["no arm gains: medsynth utility run=... says more"]


VERDICT = {
    "format": 1,
    "sentence": f"faithful: no {SECRET}",
    "answers": {"faithful": ANSWER | {"values": [{"name": "c2st", "value": 0.9, "control": 0.5, "count": [40, 50]}]}},
    "scorecard": {
        "coverage": {"meaning": "diversity", "measures": [{"name": "recall_mini", "value": 0.25, "class": SECRET}]},
        "comprehension": {"meaning": "people understand", "measures": "not measured"},
    },
}


def a_run(folder, *overrides, name="mlp", classes=(), card=CARD):
    """The folder of a run with planted words wherever a training could have put one."""
    size = [f"data.image_size={SIZE}", "generator.latent_dim=6", *TINY.get(name, ["generator.width=4"])]
    typed = [f"generator={name}", "data=image_folder", f"data.root=/data/{SECRET}/images", "data.show_paths=true"]
    typed += [*size, f"num_classes={len(classes)}", "run_dir=unused", "hydra.run.dir=unused", *overrides]
    config = compose("train", typed)
    folder.mkdir(parents=True)
    config.logger.csv.path = f"/home/{SECRET}/metrics.csv"
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    torch.manual_seed(3)
    network = instantiate(config.generator, _convert_="all")
    for parameter in network.parameters():
        if parameter.ndim == 0:  # strengths that begin at zero
            nn.init.constant_(parameter, 0.5)
    rebuild = OmegaConf.to_container(config.generator, resolve=True)
    card = card | {"class_names": list(classes)}
    save_generator(folder / "generator.safetensors", network, config=rebuild, card=card)
    summary = {
        "data": CARD["data"],
        "environment": {"num_train": 40, "num_val": 8, "num_test": 0, "data_fingerprint": "0123456789abcdef"}
        | {"split_by": "blocks"},
        "findings": [{"name": "copying", "sentence": "The generator copies", "advice": ["penalty=lecam"]}],
        "files": {"samples": f"/runs/{SECRET}/samples"},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def measured(folder):
    for name, record in (("evaluation", EVALUATION), ("utility", ANSWER), ("verdict", VERDICT)):
        (folder / name).mkdir()
        (folder / name / f"{SECRET}.json").write_text(json.dumps(record))
    return folder


def exported(folder, formats, **options):
    record = read_run(a_run(folder / SECRET, **options))
    return export_run(record, folder / "out", formats).folder, load_generator(folder / SECRET)


def noises(generator, count=64):
    z = noise(count, generator.network.latent_dim, seed=counter_seed("generate", 0))
    labels = generator.labels(None, count)
    return (z,) if labels is None else (z, labels)


def contents(folder):
    """Yield (name, bytes) of all files, and of the files in archives."""
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)), str(path.relative_to(folder)).encode()
        if path.is_file():
            yield path.name, path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    yield from ((name, archive.read(name)) for name in archive.namelist())


def leaks(folder):
    """The names of the files that hold a planted word, or the place of the program's own source."""
    secrets = [SECRET.encode(), SECRET.encode("utf-16-le"), str(Path(medsynth.__file__).parents[1]).encode()]
    return {name for name, content in contents(folder) for secret in secrets if secret in content}


# The card


def test_a_card_is_read_by_the_hubs_own_library(tmp_path):
    text = model_card(read_run(measured(a_run(tmp_path / "run"))), license_name="cc-by-4.0")
    card = ModelCard(text)
    assert (card.data.library_name, card.data.license) == ("medsynth", "cc-by-4.0")
    assert card.data.pipeline_tag == "unconditional-image-generation"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("fd_mini", 3.25, "test")
    titles = re.findall(r"^## (.*)$", card.text, re.MULTILINE)
    wanted = ["Intended use", "How to use it", "Data", "Composition", "Verdict", "Diagnosis", "Limits", "Provenance"]
    assert titles == wanted


def section(text, title, level="##"):
    return text.split(f"{level} {title}", 1)[1].split(f"\n{level} ")[0]


def test_a_card_says_what_was_measured_and_what_was_not(tmp_path):
    folder = a_run(tmp_path / "run")
    text = model_card(read_run(folder))
    assert section(text, "Verdict").count("not measured") == 5
    assert "no license was given" in text
    assert "eval" not in ModelCard(text).data.to_dict()
    text = model_card(read_run(measured(folder)))
    assert "| fd_mini | lower | 3.25 | 3 to 3.75 | 1.5 | 40 | 50 |" in text
    answer = "* **no**\n    * Rule: the gain exceeds that of duplication\n"
    assert f"{answer}    * no arm gains: medsynth utility run=... says more" in text
    assert "* faithful: **no**" in text
    assert "    * c2st: value 0.9, control 0.5, count 40 and 50" in text
    assert "| coverage | recall\\_mini 0.25 |\n| comprehension | not measured |" in text
    assert section(section(text, "Verdict"), "Copies", "###").count("not measured") == 1
    assert "40" in section(text, "Data")
    assert "0123456789abcdef" in section(text, "Data")
    assert "| held out | contiguous blocks of slices: other slices of the same" in section(text, "Data")
    assert "_target_: medsynth.generator.mlp.MLPGenerator" in section(text, "Composition")
    assert "The generator copies. Try penalty=lecam" in section(text, "Diagnosis")
    (folder / "summary.json").unlink()
    (folder / "config.yaml").unlink()
    text = model_card(read_run(folder))
    assert "not measured" in section(text, "Diagnosis")
    assert section(text, "Composition").strip() == "not recorded"
    assert "| training images | not recorded |" in text


def test_the_card_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "run")
    code, out, err = run(monkeypatch, capsys, "run=run", command="card")
    assert code == 0, err
    assert "run/model_card.md" in out
    assert (tmp_path / "run" / "model_card.md").read_text() == model_card(read_run(tmp_path / "run"))
    for arguments, says in (([], "run= is needed"), (["run=nowhere"], "run=nowhere does not exist")):
        code, _, err = run(monkeypatch, capsys, *arguments, command="card")
        assert code == 1
        assert says in err


@pytest.mark.parametrize("options", [{}, {"weights": f"/w/{SECRET}.pth"}], ids=str)
def test_a_card_and_a_folder_hold_no_planted_word(tmp_path, options):
    """Planted are the folders of data, run, results and weights, and texts of the generator's card."""
    overrides = ["backbone=efficientnet_lite0", f"backbone.weights={options['weights']}"] if options else []
    folder = measured(a_run(tmp_path / SECRET, *overrides))
    out = export_run(read_run(folder), tmp_path / "out", ["safetensors", "torch", "monai"]).folder
    assert leaks(folder), "the search finds what is planted"
    assert leaks(out) == set()
    assert load_generator(out / "generator.safetensors").card["data"] == (
        "40 training images, fingerprint 0123456789abcdef"
    )


def test_dicom_tags_and_class_names_with_planted_words(tmp_path):
    card = CARD | {"modality": SECRET, "intensity": {**CARD["intensity"], "unit": SECRET}}
    folder = a_run(tmp_path / "run", classes=[SECRET, "ANTON"], card=card)
    (measured(folder) / "audit").mkdir()
    reasons = ["of class ANTON 3 images are copies"]
    (folder / "audit" / "generator.json").write_text(json.dumps(ANSWER | {"reasons": reasons}))
    record = read_run(folder, class_names=False)
    assert record.generator.class_names == ("class 0", "class 1")
    out = export_run(record, tmp_path / "out", ["safetensors", "monai"]).folder
    assert leaks(out) == set()
    assert "of class class 1 3 images are copies" in (out / "README.md").read_text()
    assert not [name for name, content in contents(out) if b"ANTON" in content]
    assert SECRET in model_card(read_run(folder)).replace("\\", ""), "names of classes stay unless class_names=false"


def test_a_class_with_the_name_of_the_datas_folder_is_refused(tmp_path):
    record = read_run(a_run(tmp_path / "run", classes=[f"/data/{SECRET}/images", "b"]))
    with pytest.raises(InputError, match="would hold the path of a folder of yours: class_names=false"):
        export_run(record, tmp_path / "out", ["safetensors"])
    assert not (tmp_path / "out").exists()


# The exchange formats


def test_torch_and_safetensors_make_the_generators_images(tmp_path):
    out, generator = exported(tmp_path, ["safetensors", "torch"], classes=CLASSES)
    expected = generator.sample(64)
    again = load_generator(out / "generator.safetensors")
    assert torch.equal(again.sample(64), expected)
    assert (again.class_names, again.units) == (tuple(CLASSES), "HU")
    extra = {"medsynth.json": ""}
    program = torch.export.load(out / "generator.pt2", extra_files=extra).module()
    z, labels = noises(generator)
    torch.testing.assert_close(program(z, labels), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(program(z[:1], labels[:1]), expected[:1], rtol=0, atol=1e-6)
    usage = json.loads(extra["medsynth.json"])
    assert usage["class_names"] == CLASSES
    assert usage["spacing"] == CARD["spacing"]
    assert {key: usage["intensity"][key] for key in ("low", "high", "unit")} == CARD["intensity"]
    record = json.loads((out / "export.json").read_text())
    assert record["largest_difference"]["torch"] <= 1e-4
    assert (out / "generator.safetensors").stat().st_mode == (out / "README.md").stat().st_mode
    assert set(record["sha256"]) == {"README.md", "generator.safetensors", "generator.pt2"}


@pytest.mark.parametrize(
    ("name", "classes"),
    [("mlp", CLASSES), *(pytest.param(n, c, marks=pytest.mark.slow) for n in GENERATORS for c in ((), CLASSES))],
)
def test_onnx_runtime_makes_the_generators_images(tmp_path, name, classes):
    onnxruntime = pytest.importorskip("onnxruntime")
    out, generator = exported(tmp_path, ["onnx"], name=name, classes=classes)
    session = onnxruntime.InferenceSession(str(out / "generator.onnx"), providers=["CPUExecutionProvider"])
    inputs = dict(zip(("noise", "labels"), (x.numpy() for x in noises(generator)), strict=False))
    assert [value.name for value in session.get_inputs()] == list(inputs)
    for count in (64, 1):
        images = session.run(["images"], {key: value[:count] for key, value in inputs.items()})[0]
        np.testing.assert_allclose(images, generator.sample(64)[:count].numpy(), rtol=0, atol=1e-4)
    usage = json.loads(session.get_modelmeta().custom_metadata_map["medsynth"])
    assert usage["class_names"] == list(classes)
    assert (usage["intensity"]["unit"], usage["spacing"]) == ("HU", CARD["spacing"])
    assert leaks(out) == set()
    assert not (out / "generator.pt2").exists()


def test_a_difference_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    record = read_run(a_run(tmp_path / "run"))
    load = torch.export.load

    def damaged(path):
        program = load(path)
        next(iter(program.state_dict.values())).add_(0.01)
        return program

    monkeypatch.setattr(exchange.torch.export, "load", damaged)
    with pytest.raises(InputError, match=r"format=torch: exported images differ from the generator's by .*, more than"):
        export_run(record, tmp_path / "out", ["safetensors", "torch"])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_generator_that_cannot_be_traced_is_refused(tmp_path, monkeypatch):
    record = read_run(a_run(tmp_path / "run"))
    forward = type(record.generator.network).forward
    monkeypatch.setattr(
        type(record.generator.network),
        "forward",
        lambda self, z, labels=None: forward(self, z[: len(z.tolist())], labels),
    )
    with pytest.raises(InputError, match=r"MLPGenerator cannot be exported: torch\.export says"):
        export_run(record, tmp_path / "out", ["torch"])


def test_missing_packages_and_unknown_formats_are_refused_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "run")
    find = exchange.importlib.util.find_spec
    monkeypatch.setattr(exchange.importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    for arguments, says in (
        (["format=onnx"], r"format=onnx needs packages that are not installed \(onnx\): type uv sync --extra export"),
        (["format=[torch,jpeg]"], "format=jpeg is unknown: choose one or several of safetensors, torch, onnx, monai"),
        (["format=[]"], "format= is unknown"),
        (["out=run"], "out=run exists already"),
        (["run=nowhere"], "run=nowhere does not exist"),
    ):
        code, _, err = run(monkeypatch, capsys, "run=run", "out=out", *arguments, command="export")
        assert code == 1
        assert re.search(says, err), err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_bits_of_floats_and_the_inverse_error_function():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(5000) * 10 ** torch.empty(5000).uniform_(-45, 38), torch.randn(5000)])
    edges = [0.0, -0.0, 1.0, -1.0, 2.0, 1.9999999, 1e-45, -1e-45, 1.1754944e-38, 1.1754942e-38, 3.4028235e38]
    x = torch.cat([x[x.isfinite()], torch.tensor(edges)])
    assert torch.equal(viewed_as(x, torch.int32), x.view(torch.int32))
    with pytest.raises(NotImplementedError):
        viewed_as(x.double(), torch.int32)
    u = torch.cat([torch.linspace(-1, 1, 10_001)[1:-1], torch.tensor([1 - 2**-23, 2**-23 - 1, 1e-30])])
    torch.testing.assert_close(inverse_error_function(u), torch.erfinv(u), rtol=1e-6, atol=1e-7)


# The MONAI bundle


# A schema of our own, written from the specification of bundles in MONAI's documentation and its bundles of generators:
# the one that metadata.json names is not part of MONAI's package, and cannot be downloaded here.
TENSOR = {
    "type": "object",
    "required": [
        "type",
        "format",
        "num_channels",
        "spatial_shape",
        "dtype",
        "value_range",
        "is_patch_data",
        "channel_def",
    ],
    "properties": {
        "type": {"enum": ["image", "series", "tuples", "probabilities"]},
        "format": {"enum": ["magnitude", "hounsfield", "latent", "classes", "labels", "segmentation"]},
        "modality": {"type": "string"},
        "num_channels": {"type": "integer", "minimum": 0},
        "spatial_shape": {"type": "array", "minItems": 1, "items": {"type": ["integer", "string"]}},
        "dtype": {"enum": ["float32", "int64"]},
        "value_range": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
TEXT = {"type": "string", "minLength": 1}
VERSION = {"type": "string", "pattern": r"^\d+\.\d+"}
VERSIONS = {"type": "object", "additionalProperties": TEXT}
TENSORS = {"type": "object", "minProperties": 1, "additionalProperties": TENSOR}
REQUIRED = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "optional_packages_version")
REQUIRED = (*REQUIRED, "task", "description", "authors", "copyright")
SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": [*REQUIRED, "network_data_format"],
    "properties": {
        **dict.fromkeys(("task", "description", "authors", "copyright", "intended_use", "data_source"), TEXT),
        **dict.fromkeys(("version", "monai_version", "pytorch_version"), VERSION),
        **dict.fromkeys(("optional_packages_version", "required_packages_version", "changelog"), VERSIONS),
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {
                "inputs": {**TENSORS, "required": ["latent"]},
                "outputs": {**TENSORS, "required": ["pred"]},
            },
        },
    },
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """(folder of the bundle, the generator) of a conditional run."""
    out, generator = exported(tmp_path_factory.mktemp("bundle"), ["monai"], classes=CLASSES)
    return out / "monai", generator


def verify(metadata, folder, monkeypatch, given="latent"):
    """Run MONAI's own check of a metadata file, with the schema above in the place of the one that it downloads."""
    schema = json.dumps(SCHEMA).replace('"required": ["latent"]', json.dumps({"required": [given]})[1:-1])
    path = folder / "metadata.json"
    path.write_text(json.dumps(metadata))
    monkeypatch.setattr(bundle_scripts, "download_url", lambda url, filepath, **_: Path(filepath).write_text(schema))
    bundle_scripts.verify_metadata(meta_file=str(path), filepath=str(folder / "schema.json"))


def test_metadata_pass_monais_own_check(bundle, monkeypatch, tmp_path):
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    metadata = json.loads((bundle[0] / "configs" / "metadata.json").read_text())
    verify(metadata, tmp_path, monkeypatch)
    assert metadata["network_data_format"]["inputs"]["labels"]["channel_def"] == {"0": "healthy", "1": "glioma"}
    assert metadata["usage"]["intensity"]["unit"] == "HU"
    with pytest.raises(ValueError, match="Failed validating"):
        verify({key: value for key, value in metadata.items() if key != "task"}, tmp_path, monkeypatch)
    workflow = ConfigWorkflow(str(bundle[0] / "configs" / "inference.json"), workflow_type=None)
    workflow.initialize()
    assert workflow.check_properties() == [], "what MONAI asks of metadata is there"


def by_nibabel(folder):
    volumes = [nibabel.load(path) for path in sorted(folder.rglob("*.nii.gz"))]
    return np.stack([v.get_fdata() for v in volumes]), np.stack([v.affine for v in volumes])


def test_monai_runs_the_bundle_to_the_images_of_medsynth_generate(bundle, tmp_path, monkeypatch, capsys):
    """Volumes, their units and their places are those of ``medsynth generate format=nifti`` with the same seed."""
    monkeypatch.chdir(tmp_path)
    folder, generator = bundle
    config = str(folder / "configs" / "inference.json")
    run_bundle(
        config_file=config, bundle_root=str(folder), output_dir=str(tmp_path / "made"), num_samples=COUNT, seed=7
    )
    arguments = (f"run={generator.path}", "out=expected", "format=nifti", f"num_samples={COUNT}", "seed=7")
    code, _, err = run(monkeypatch, capsys, *arguments, command="generate")
    assert code == 0, err
    made, expected = by_nibabel(tmp_path / "made"), by_nibabel(tmp_path / "expected")
    assert made[0].shape[:3] == (COUNT, SIZE, SIZE)
    np.testing.assert_allclose(
        made[0].reshape(expected[0].shape), expected[0], rtol=0, atol=1e-3
    )  # of 1,500 HU, in float32
    np.testing.assert_allclose(made[1], expected[1], atol=1e-6)
    header = nibabel.load(next((tmp_path / "made").glob("*.nii.gz"))).header
    assert header.get_xyzt_units()[0] == "mm"
    assert b"synthetic" in header["descrip"].item()


def test_monais_parser_gives_the_generators_images_for_one_class(bundle):
    folder, generator = bundle
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser["bundle_root"], parser["label"], parser["num_samples"], parser["batch_size"] = str(folder), 1, COUNT, 2
    parser.parse()
    images = parser.get_parsed_content("images")
    torch.testing.assert_close(images, generator.sample(COUNT, label="glioma"), rtol=0, atol=1e-6)
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    network = {"_target_": metadata["network"]["class"], **metadata["network"]["arguments"]}
    rebuilt = instantiate(network, _convert_="all").eval()
    rebuilt.load_state_dict(state)
    with torch.inference_mode():
        assert torch.equal(rebuilt(*noises(generator, COUNT)), generator.network(*noises(generator, COUNT)))


def test_names_of_classes_are_not_evaluated_by_monai(tmp_path):
    hostile = [f"$open('{tmp_path}/written', 'w')", "@inputs", "<script>\n# b"]
    out, _ = exported(tmp_path, ["monai"], classes=hostile)
    parser = ConfigParser()
    parser.read_config(str(out / "monai" / "configs" / "inference.json"))
    parser.read_meta(str(out / "monai" / "configs" / "metadata.json"))
    parser.parse()
    assert parser.get_parsed_content("_meta_::usage::class_names")[1] == "class @inputs"
    parser.get_parsed_content("_meta_")
    assert not (tmp_path / "written").exists()
    assert "<script>" not in (out / "README.md").read_text()


@pytest.mark.slow
def test_the_bundles_command(tmp_path):
    out, _ = exported(tmp_path, ["monai"])
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    done = subprocess.run([*command, "--num_samples", "3"], cwd=out / "monai", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((out / "monai" / "outputs").glob("*.nii.gz"))) == 3


# The Hub


def test_a_generator_is_saved_for_and_loaded_from_a_folder_of_the_hub(tmp_path):
    model = HubGenerator.of_run(measured(a_run(tmp_path / SECRET, classes=CLASSES)), license_name="mit")
    model.save_pretrained(tmp_path / "saved")
    assert {p.name for p in (tmp_path / "saved").iterdir()} == {"README.md", "config.json", "generator.safetensors"}
    assert leaks(tmp_path / "saved") == set()
    again = HubGenerator.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.generator.sample(COUNT), load_generator(tmp_path / SECRET).sample(COUNT))
    assert ModelCard.load(tmp_path / "saved" / "README.md").data.license == "mit"
    with pytest.raises(InputError, match=r"generator\.safetensors does not exist"):
        HubGenerator.from_pretrained(tmp_path)


class FakeHub:
    """The Hub's answers to the requests of a push, and the files that were sent."""

    def __init__(self, httpx):
        self.httpx = httpx
        self.files, self.created = {}, None

    def __call__(self, request):
        httpx = self.httpx
        path = request.url.path
        if "/resolve/" in path:
            name = path.rpartition("/")[2]
            content = self.files.get(name)
            headers = {"ETag": f'"{name}"', "X-Repo-Commit": "0" * 40, "Content-Length": str(len(content or b""))}
            body = b"" if request.method == "HEAD" else content
            return httpx.Response(404 if content is None else 200, headers=headers, content=body)
        if path == "/api/repos/create":
            self.created = json.loads(request.content)
            return httpx.Response(200, json={"url": "https://huggingface.co/me/lung", "id": "me/lung"})
        if path == "/api/validate-yaml":
            return httpx.Response(200, json={"errors": [], "warnings": []})
        if "/preupload/" in path:
            files = json.loads(request.content)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            return httpx.Response(200, json={"files": modes})
        if "/commit/" in path:
            lines = [json.loads(line) for line in request.content.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.files = {f["path"]: base64.b64decode(f["content"]) for f in files}
            answer = {"commitUrl": "https://huggingface.co/me/lung/commit/1", "commitOid": "1", "pullRequestUrl": None}
            return httpx.Response(200, json=answer)
        raise AssertionError(f"{request.method} {request.url}")


@pytest.fixture
def fake_hub(monkeypatch):
    """huggingface_hub's own code with its HTTP client replaced."""
    huggingface_hub = pytest.importorskip("huggingface_hub", minversion="1.0")
    client = huggingface_hub.utils._http
    httpx = getattr(client, "httpx2", None) or client.httpx  # by its version
    hub = FakeHub(httpx)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.set_client_factory(lambda: httpx.Client(transport=httpx.MockTransport(hub)))
    yield hub
    huggingface_hub.set_client_factory(client.default_client_factory)


def test_a_push_sends_the_files_and_no_planted_word(tmp_path, fake_hub):
    model = HubGenerator.of_run(measured(a_run(tmp_path / SECRET)))
    model.push_to_hub("me/lung", private=True, token="hf_none")
    assert "private" in (
        fake_hub.created.get("visibility"),
        *[key for key, value in fake_hub.created.items() if value is True],
    )
    assert set(fake_hub.files) == {"README.md", "config.json", "generator.safetensors"}
    assert not [name for name, content in fake_hub.files.items() if SECRET.encode() in content]
    again = HubGenerator.from_pretrained("me/lung", cache_dir=tmp_path / "cache", token=False)
    assert torch.equal(again.generator.sample(COUNT), model.generator.sample(COUNT))
    del fake_hub.files["generator.safetensors"]
    with pytest.raises(InputError, match=r"me/lung has no generator\.safetensors that can be had: name a folder"):
        HubGenerator.from_pretrained("me/lung", cache_dir=tmp_path / "other", token=False)


def test_the_export_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "run")
    code, out, err = run(monkeypatch, capsys, "run=run", "out=new", "format=safetensors", command="export")
    assert code == 0, err
    assert "README.md, export.json, generator.safetensors are in new." in out
    assert set(export_folder.DEFAULT) < set(export_folder.FORMATS)
