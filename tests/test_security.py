"""Files from strangers run no code and write nothing elsewhere; secrets and hostile names do no harm."""

import ast
import hashlib
import io
import json
import os
import pickle
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from monai.apps import MedNISTDataset
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from medsynth.backbone.network import TimmBackbone
from medsynth.configuration.secrets import check_secrets
from medsynth.configuration.trusted_targets import check_targets
from medsynth.contracts import InputError
from medsynth.data.mednist import MedNist
from medsynth.generator.export import read_generator, save_generator
from medsynth.generator.mlp import MLPGenerator
from medsynth.untrusted_files import _Loader
from tests.command import TINY, run
from tests.files import write_images
from tests.test_evaluate import a_run
from tests.test_privacy import contents
from tests.test_report_pages import Page

ROOT = Path(__file__).parents[1]
OPTIONS = {"image_size": 6, "channels": 1, "widths": [8]}
CONFIG = {"_target_": "medsynth.generator.mlp.MLPGenerator", **OPTIONS}
CARD = {"class_names": [], "intensity": {"low": 0.0, "high": 1.0, "unit": "stored value"}}


class Bomb:
    """An object that creates the file ``canary`` when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.fixture
def canary(monkeypatch, tmp_path):
    """Return the path of a file that must not exist at the end: it would show that code was run."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


def as_zip(path, bomb):
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "bomb": bomb}, path)


def as_old_format(path, bomb):
    torch.save({"bomb": bomb}, path, _use_new_zipfile_serialization=False)


def as_pickle(path, bomb):
    path.write_bytes(pickle.dumps(bomb))


PICKLES = [as_zip, as_old_format, as_pickle]


@pytest.mark.parametrize("write", PICKLES)
def test_the_bomb_works_where_pickles_are_trusted(tmp_path, write):
    write(tmp_path / "file", Bomb(tmp_path / "canary"))
    if write is as_pickle:
        pickle.loads((tmp_path / "file").read_bytes())
    else:
        torch.load(tmp_path / "file", weights_only=False)
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("write", PICKLES)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_files_of_weights_run_no_code(canary, tmp_path, write, ending):
    path = tmp_path / f"weights.{ending}"
    write(path, Bomb(canary))
    with pytest.raises(InputError, match="PyTorch file of weights alone"):
        TimmBackbone(model_name="test_resnet", channels=1, image_size=32, weights=str(path))


def test_checkpoints_and_generators_run_no_code(canary, monkeypatch, capsys, tmp_path):
    folder = a_run(tmp_path / "run")
    for write in PICKLES:
        write(folder / "checkpoints" / "last.ckpt", Bomb(canary))
        ended = run(monkeypatch, capsys, "run=run", "checkpoint=last", "extractor=pixels", command="evaluate")
        refused(ended, "checkpoint=run/checkpoints/last.ckpt is damaged")
        write(folder / "generator.safetensors", Bomb(canary))
        ended = run(monkeypatch, capsys, "run=run", "out=made", command="generate")
        refused(ended, "run/generator.safetensors is damaged")


def refused(ended, words):
    """Check that a command was refused in one sentence."""
    code, _, err = ended
    assert code == 1
    assert words in err
    assert len([line for line in err.splitlines() if "error:" in line]) == 1
    assert "Traceback" not in err


def test_arrays_run_no_code(canary, monkeypatch, capsys, tmp_path):
    bombs = np.array([Bomb(canary)] * 4, dtype=object)
    names = ("train_images", "train_labels", "val_images", "val_labels")
    np.savez(tmp_path / "pneumoniamnist.npz", **dict.fromkeys(names, bombs))
    arguments = ["data=medmnist", "data.reader.flag=pneumoniamnist", "data.root=pneumoniamnist.npz"]
    refused(run(monkeypatch, capsys, *arguments, command="data"), "does not hold numbers")


EXECUTING = [
    {"_target_": "os.system", "command": "touch canary"},
    {"_target_": "builtins.eval", "source": "open('canary', 'w')"},
    {"_target_": "subprocess.Popen", "args": ["touch", "canary"]},
    {"_target_": "pathlib.Path.touch", "self": "canary"},
    {"_target_": "medsynth.runs.provenance.subprocess.run", "args": ["touch", "canary"]},
    {"_target_": "medsynth.generator.export.save_file", "tensors": {}, "filename": "canary"},
    {"_target_": "medsynth.generator.export.save_generator", "path": "canary"},
    {"_target_": "medsynth.generator.mlp.nn.Linear", "in_features": 1, "out_features": 1},
    {"_target_": ["os.system"], "command": "touch canary"},
    {"_target_": "medsynth.generator."},
    {"_target_": "medsynth.generator.mlp.LabeledNoise", "latent_dim": 4, "num_classes": 0},
    {},
]


@pytest.mark.parametrize("config", EXECUTING, ids=lambda config: str(config.get("_target_")))
def test_a_generator_file_builds_only_generators(canary, tmp_path, config):
    path = tmp_path / "generator.safetensors"
    save_generator(path, MLPGenerator(**OPTIONS), config=config, card=CARD)
    with pytest.raises(InputError, match=r"which (is not one of medsynth's generators|this version .* cannot build)"):
        read_generator(path)


OTHERS = [
    *EXECUTING[:5],
    EXECUTING[6],
    EXECUTING[8],
    {"_target_": "medsynth.cli.compose.start", "command": "train"},
    {"_target_": "torch.hub.load", "repo_or_dir": "stranger/repository", "model": "any"},
    {"_target_": "medsynth.gan.GAN.load_from_checkpoint", "checkpoint_path": "last.ckpt"},
    {"_target_": "${name}"},
    "${oc.env:HOME}",
    "${ oc.env : HOME}",
    "${oc.select:none,{_target_: os.system, command: touch canary}}",
    "${${name}:x}",
]


@pytest.mark.parametrize("part", OTHERS, ids=str)
@pytest.mark.parametrize("above", [(), ("parts",), ("_args_", 0)], ids=str)
def test_a_run_folder_names_only_components_of_medsynth(canary, part, above):
    content = part
    for step in reversed(above):
        content = [content] if step == 0 else {step: content}
    config = OmegaConf.create({"loss": content, "name": "os.system"})
    with pytest.raises(InputError, match=r"^run/config.yaml names .*: trust=true if the file is your own\.$"):
        check_targets(config, Path("run/config.yaml"))
    check_targets(config, Path("run/config.yaml"), trusted=True)


def test_a_run_folder_may_name_optimizers_layers_and_callbacks(tmp_path):
    config = OmegaConf.load(a_run(tmp_path / "run", "generator=resnet", "metrics=inception") / "config.yaml")
    names = ("torch.optim.SGD", "torch.nn.LeakyReLU", "pytorch_lightning.callbacks.EarlyStopping")
    config.own = [{"_target_": name} for name in (*names, "torch.optim.lr_scheduler.StepLR")]
    config.place = "${name}/${hydra:runtime.output_dir}"
    check_targets(config, Path("run/config.yaml"))


@pytest.mark.parametrize(
    ("command", "argument", "part"),
    [
        *(("evaluate", "run=run", part) for part in EXECUTING[:4]),
        *(("train", "resume=run", part) for part in (EXECUTING[0], EXECUTING[3])),
    ],
    ids=str,
)
def test_the_run_folder_of_a_stranger_runs_no_code(canary, monkeypatch, capsys, tmp_path, command, argument, part):
    folder = a_run(tmp_path / "run")
    config = OmegaConf.load(folder / "config.yaml")
    config.data = part
    for name in ("config.yaml", "composition.yaml"):
        OmegaConf.save(config, folder / name)
    refused(run(monkeypatch, capsys, argument, command=command), part["_target_"])


def exported(path):
    torch.manual_seed(1)
    save_generator(path, MLPGenerator(**OPTIONS), config=CONFIG, card=CARD)
    return path


def test_a_generator_with_any_changed_byte_is_refused(tmp_path):
    content = exported(tmp_path / "generator.safetensors").read_bytes()
    changed = tmp_path / "changed.safetensors"
    random = np.random.default_rng(0)
    header = int.from_bytes(content[:8], "little") + 8
    places = [*range(0, header, 7), *random.integers(header, len(content), 100), len(content) - 1]
    for place in places:
        changed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(InputError) as refusal:
            read_generator(changed)
        assert str(changed) in str(refusal.value)
    changed.write_bytes(content[:-1])
    with pytest.raises(InputError, match="damaged"):
        read_generator(changed)


def rewritten(path, drop=(), **metadata):
    """Write the same weights with other metadata."""
    with Path(path).open("rb") as file:
        before = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
    save_file(load_file(path), path, metadata={k: v for k, v in (before | metadata).items() if k not in drop})


def test_older_generators_have_no_checksum(tmp_path, caplog):
    path = exported(tmp_path / "generator.safetensors")
    z = torch.randn(2, 100)
    expected = read_generator(path)[0](z)
    assert not caplog.records
    rewritten(path, drop="sha256")
    with pytest.raises(InputError, match="SHA-256 does not match"):  # format 2 has one
        read_generator(path)
    rewritten(path, medsynth=json.dumps({"format": 1, "config": CONFIG, "card": CARD}))
    torch.testing.assert_close(read_generator(path)[0](z), expected, rtol=0, atol=0)
    assert "has no checksum" in caplog.text


@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_commands_refuse_a_changed_generator(monkeypatch, capsys, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    path = a_run(tmp_path / "run") / "generator.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    arguments = ["out=made"] if command == "generate" else []
    refused(run(monkeypatch, capsys, "run=run", *arguments, command=command), "its SHA-256 does not match")
    assert not (tmp_path / "made").exists()


# What may read pickles, and who has written them: this process's parent or child, through a pipe or a private folder.
OWN_PICKLES = {"cli/worker.py", "data/dicom/decoder.py"}
OWN_TEXT = {  # reads files of this installation, or what another process of this program has written
    "yaml.compose": ("configuration/option_help.py",),
    "yaml.safe_load": ("configuration/option_help.py",),
    "json.loads": (
        "backbone/availability.py",
        "presets/measured.py",
        "backbone/sisters.py",
        "diagnosis/diagnose.py",
        "planning/link.py",
        "report/figures.py",
    ),
}
OWN_CODE = {"backbone/split.py": "exec"}  # torch.fx's text of a network that is there already


@pytest.mark.parametrize("path", sorted((ROOT / "medsynth").rglob("*.py")), ids=str)
def test_no_call_runs_code_from_a_file(path):
    name = path.relative_to(ROOT / "medsynth").as_posix()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called == "torch.load":
            assert options.get("weights_only") == "True", name
        if called in ("np.load", "numpy.load"):
            assert options.get("allow_pickle", "False") == "False", name
        if (called.startswith("yaml.") and called != "yaml.safe_dump") or called in (
            "json.load",
            "json.loads",
            "OmegaConf.load",
        ):
            assert name in ("untrusted_files.py", *OWN_TEXT.get(called, ())), name
        if called in ("pickle.load", "pickle.loads"):
            assert name in OWN_PICKLES, name
        if called in ("eval", "exec", "compile"):
            assert OWN_CODE.get(name) == called, name
        assert called not in ("os.system", "os.popen", "shutil.unpack_archive"), name
        assert not called.endswith((".extractall", ".extract")), name
        assert options.get("shell", "False") == "False", name


def test_yaml_is_read_safely():
    assert issubclass(_Loader, yaml.SafeLoader | yaml.CSafeLoader)


def below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_hostile_archive_as_data_writes_nothing(monkeypatch, capsys, tmp_path):
    home = tmp_path / "home"
    write_images(home / "data" / "a", 6, size=(16, 16))
    with zipfile.ZipFile(home / "images.zip", "w") as archive:
        content = (home / "data" / "a" / "000.png").read_bytes()
        for path in sorted((home / "data").rglob("*.png")):
            archive.write(path, path.relative_to(home / "data"))
        for name in ("../outside.png", "../../outside.png", str(tmp_path / "absolute.png"), "a/../../up.png"):
            archive.writestr(name, content)
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(tmp_path))
    monkeypatch.chdir(home)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    before = below(tmp_path)
    code, out, err = run(
        monkeypatch, capsys, "data=image_folder", "data.root=images.zip", "data.batch_size=2", command="data"
    )
    assert code == 0, err
    assert "6" in out
    assert [path for path in below(tmp_path) if path not in before and not path.startswith("home/cache")] == []


@pytest.mark.parametrize("kind", ["up", "absolute", "link"])
def test_a_hostile_download_writes_nothing_elsewhere(monkeypatch, tmp_path, kind):
    member = tarfile.TarInfo({"up": "../../up.png", "absolute": str(tmp_path / "up.png"), "link": "MedNIST"}[kind])
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path)
        member.size = 0 if kind == "link" else 4
        archive.addfile(member, io.BytesIO(b"evil"))
    monkeypatch.setattr(MedNISTDataset, "md5", hashlib.md5(content.getvalue()).hexdigest())
    monkeypatch.setattr(
        "monai.apps.utils.download_url", lambda url, filepath, *_, **__: Path(filepath).write_bytes(content.getvalue())
    )
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match="could not download MedNIST"):
        MedNist(str(tmp_path / "data"), download=True)
    assert below(tmp_path) == ["data"]


SECRET = "c0ffee" * 6 + "beef"  # 40 characters, as a key of W&B


@pytest.mark.parametrize(
    "options",
    [
        {"logger": {"wandb": {"api_key": SECRET}}},
        {"logger": {"wandb": {"project": "${oc.env:WANDB_API_KEY}"}}},
        {"logger": {"wandb": {"project": "x-${ oc.env: MY_PASSWORD, none}"}}},
        {"logger": {"mlflow": {"uri": f"https://me:{SECRET}@example.com"}}},
        {"data": {"hf_token": SECRET}},
        {"overrides": [f"+data.password={SECRET}"]},
        {"overrides": [f"logger.mlflow.uri=https://me:{SECRET}@example.com"]},
    ],
    ids=str,
)
def test_a_secret_among_the_options_is_refused(options):
    with pytest.raises(InputError) as refusal:
        check_secrets(OmegaConf.create(options))
    assert SECRET not in str(refusal.value)
    assert "would be written into the run's files" in str(refusal.value)


def test_options_without_secrets_are_accepted(tmp_path):
    folder = a_run(tmp_path / "run", "logger=mlflow", "run_dir=${oc.env:HOME}/${seed}")
    config = OmegaConf.load(folder / "config.yaml")
    config.own = {"uri": "http://localhost:5000/a@b", "token_count": None, "user": "${oc.env:USER}", "monkey": "x"}
    check_secrets(config)


@pytest.mark.slow
@pytest.mark.parametrize("write", PICKLES)
def test_resuming_from_a_strangers_checkpoint_runs_no_code(canary, monkeypatch, capsys, tmp_path, write):
    code, _, err = run(monkeypatch, capsys, *TINY, "hydra.run.dir=run")
    assert code == 0, err
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        write(path, Bomb(canary))
    code, _, err = run(monkeypatch, capsys, "resume=run", "max_images=96")
    assert code == 1
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if "error:" in line]) == 1


@pytest.mark.slow
def test_no_secret_is_in_the_files_of_a_run(monkeypatch, capsys, tmp_path):
    names = ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "PLAIN_VARIABLE")
    secrets = [hashlib.sha1(name.encode()).hexdigest() for name in (*names, "remote")]
    for name, secret in zip(names, secrets, strict=False):
        monkeypatch.setenv(name, secret)
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "remote", "add", "origin", f"https://me:{secrets[-1]}@example.com/a.git"], check=True)
    printed = ""
    for command, arguments in (
        ("train", [*TINY, "logger=wandb", "logger.wandb.mode=offline", "report=true", "hydra.run.dir=run"]),
        ("evaluate", ["run=run"]),
        ("report", ["folders=run"]),
    ):
        code, out, err = run(monkeypatch, capsys, *arguments, command=command)
        assert code == 0, err
        printed += out + err
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    found = [(path, s) for path, content in contents(tmp_path / "run") for s in secrets if s.encode() in content]
    assert found == []
    assert not [secret for secret in secrets if secret in printed]
    (tmp_path / "run" / "planted").mkdir()
    with zipfile.ZipFile(tmp_path / "run" / "planted" / "file.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("name", 100 * secrets[0])
    assert any(secrets[0].encode() in content for _, content in contents(tmp_path / "run"))


@pytest.mark.slow
def test_hostile_class_folders_stay_text(monkeypatch, capsys, tmp_path):
    names = ["<script>alert(1)<", "<img src=x onerror=alert(2)>", "${oc.env:HOME}"]
    for number, name in enumerate(names):
        write_images(tmp_path / names[0] / name, 12, size=(16, 16), start=20 * number)
    monkeypatch.chdir(tmp_path)
    data = ["data=image_folder", f"data.root='{names[0]}'", "data.image_size=16"]
    code, out, err = run(monkeypatch, capsys, *data, "data.batch_size=2", "out=preview", command="data")
    assert code == 0, err
    assert all(name in out for name in names)
    tiny = [option for option in TINY if not option.startswith(("data.source", "report"))]
    code, _, err = run(
        monkeypatch, capsys, *tiny, *data, "conditional=true", "hydra.run.dir=run", "report=true", "figures=false"
    )
    assert code == 0, err
    html = (tmp_path / "run" / "report.html").read_text()
    page = Page(html)
    assert names[0] in page.text
    assert len(page.all("script")) == 3  # data, plotly, ours
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert not any(name in html for name in names[:2])
