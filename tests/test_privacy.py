"""No patient's identifier leaves the data package: all bytes that a run on DICOM files writes are searched."""

import json
import shutil
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medsynth.configuration.private_paths import overrides_without_paths, without_paths
from medsynth.report.page import write_report
from tests.command import TINY, run
from tests.dicom_files import uid, write_ct_slice
from tests.files import write_images
from tests.run_folders import write_sweep

NAME, BIRTH_DATE, HOSPITAL, PHYSICIAN = "MUSTERMANN^ERIKA", "19640812", "Klinikum Beispielstadt", "ARZT^ANTON"
SLICES_EACH, PATIENTS = 6, 5
ON_DICOM = (
    "data=dicom",
    "data.root=ct",
    "data.intensity_range=[-1000,1000]",
    "val_every_images=32",
    *(option for option in TINY if not option.startswith(("data.source", "val_every"))),
)


def planted():
    """Return all identifiers that must not be found anywhere, as bytes."""
    texts = ["MUSTERMANN", "ERIKA", BIRTH_DATE, HOSPITAL, PHYSICIAN, "erika-mustermann"]
    texts += [f"PID4711{patient}" for patient in range(PATIENTS)]
    texts += [f"ACC0815{patient}" for patient in range(PATIENTS)]
    texts += [uid("study", patient) for patient in range(PATIENTS)] + [
        uid("series", patient) for patient in range(PATIENTS)
    ]
    return [text.encode(code) for text in texts for code in ("utf-8", "utf-16-le")]


def write_patients(folder):
    for patient in range(PATIENTS):
        for number in range(SLICES_EACH):
            pixels = np.random.default_rng(patient * 100 + number).integers(0, 2000, (16, 16)).astype(np.uint16)
            write_ct_slice(
                folder / f"erika-mustermann-{patient}" / f"PID4711{patient}_{number}.dcm",
                pixels,
                patient_id=f"PID4711{patient}",
                patient_name=NAME,
                birth_date=BIRTH_DATE,
                series_uid=uid("series", patient),
                study_uid=uid("study", patient),
                position=5.0 * number,
                AccessionNumber=f"ACC0815{patient}",
                InstitutionName=HOSPITAL,
                ReferringPhysicianName=PHYSICIAN,
            )


@pytest.fixture
def patients(monkeypatch, tmp_path):
    write_patients(tmp_path / "ct")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def contents(*folders):
    """Yield the bytes and names of all files and of the files in archives (NumPy's, PyTorch's)."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            yield path, str(path.relative_to(folder)).encode()
            if path.is_file():
                yield path, path.read_bytes()
                if zipfile.is_zipfile(path):
                    with zipfile.ZipFile(path) as archive:
                        for name in archive.namelist():
                            yield path, archive.read(name)


def found_in(*folders):
    secrets = planted()
    return sorted(
        {(str(path), secret) for path, content in contents(*folders) for secret in secrets if secret in content}
    )


def test_the_search_finds_planted_identifiers(patients):
    found = {secret for _, secret in found_in(patients / "ct")}
    assert found == {secret for secret in planted() if b"\0" not in secret}


def test_a_run_on_dicom_writes_no_identifier(patients, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, *ON_DICOM, "logger=wandb", "hydra.run.dir=a")
    assert code == 0, err
    assert list((patients / "a" / "wandb").glob("offline-run-*/*.wandb"))
    code, more, err_more = run(
        monkeypatch, capsys, "run=a", "format=dicom", "num_samples=3", "out=made", command="generate"
    )
    assert code == 0, err_more
    code, released, err_released = run(monkeypatch, capsys, "run=a", "out=released", command="export")
    assert code == 0, err_released
    more, err_more = more + released, err_more + err_released
    assert not found_in(patients / "a", patients / "made", patients / "cache", patients / "released")
    assert not [secret for secret in planted() if secret in (out + err + more + err_more).encode()]
    assert "5 patients" in out + err


def test_an_unreadable_file_is_named_only_with_show_paths(patients, monkeypatch, capsys):
    path = patients / "ct" / "erika-mustermann-3" / "PID47113_2.dcm"
    path.write_bytes(path.read_bytes()[:-100])
    code, out, err = run(monkeypatch, capsys, *ON_DICOM)
    assert code == 1
    assert "data.show_paths=true" in err
    assert err.count("\n") == 1
    assert not [secret for secret in planted() if secret in (out + err).encode()]
    code, _, err = run(monkeypatch, capsys, *ON_DICOM, "data.show_paths=true")
    assert code == 1
    assert "erika-mustermann-3/PID47113_2.dcm" in err


JANE = "Jane_Doe_19700101"  # the name of the folder of the data, and of what is in it
ON_FILES = ("val_every_images=32", *(o for o in TINY if not o.startswith(("data.source", "val_every", "report"))))
STAYS = ("config.yaml", "composition.yaml", "train.log", "sweep.json", "job.json", "output.log")  # on this machine
EVALUATION = ("extractor=pixels", "num_samples=8", "pairs=4", "cache=false", "device=cpu")


def write_jane(kind):
    """Write data of one kind below the current folder, with JANE in every name; return the options that read it."""
    place = Path(JANE)
    if kind == "paired_folder":
        for side in ("sharp", "soft"):
            write_images(place / f"{JANE}_{side}", 24, size=(16, 16))
        return f"data.root={JANE}", f"data.reader.source={JANE}_sharp", f"data.reader.target={JANE}_soft"
    if kind == "nifti":
        place.mkdir()
        for number in range(6):
            values = np.random.default_rng(number).integers(0, 999, (16, 16, 8)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), place / f"{JANE}_{number}.nii.gz")
        return (f"data.root={JANE}",)
    if kind == "dicom":
        write_patients(place)
        return f"data.root={place.absolute()}", "data.intensity_range=[-1000,1000]"
    write_images(place / "images", 24, size=(16, 16))
    if kind == "csv":
        rows = [("path", "label"), *((f"images/{n:03}.png", "ab"[n % 2]) for n in range(24))]
        (place / f"{JANE}.csv").write_text("".join(f"{path},{label}\n" for path, label in rows))
        return f"data.root={JANE}", f"data.reader.table={JANE}/{JANE}.csv"
    if kind == "zip":
        shutil.make_archive(JANE, "zip", place)
        return (f"data.root={JANE}.zip",)
    return (f"data.root=./{JANE}/images/../images",) if kind == "dotted" else (f"data.root={JANE}",)


def jane_in(*folders):
    secret = JANE.encode()
    return sorted({str(p) for p, content in contents(*folders) if secret in content and p.name not in STAYS})


def absolute_paths_below(place):
    """Return the files in the run's folder that name it, but for those that stay and those that W&B writes."""
    found = {str(p) for p, content in contents(Path("run")) if str(place).encode() in content}
    return sorted(name for name in found if Path(name).name not in (*STAYS, "loggers.json") and "wandb" not in name)


def everything_that_leaves(monkeypatch, capsys, kind, *options):
    """Train, generate, evaluate and report on data of one kind; return the files that name JANE."""
    reader = f"data={kind if kind not in ('zip', 'dotted') else 'image_folder'}"
    data = (reader, *write_jane(kind), *options)
    monkeypatch.setattr("medsynth.report.drawings._FOR_A_PAPER", ("svg",))  # a PDF takes longer than all the rest
    for command, arguments in (
        ("train", (*data, *ON_FILES, "logger=[wandb,tensorboard]", "logger.wandb.mode=offline", "hydra.run.dir=run")),
        ("evaluate", ("run=run", *EVALUATION)),
        ("generate", ("run=run", "num_samples=2", "out=made")),
        ("export", ("run=run", "out=released")),
        ("data", (*data, "data.image_size=16", "data.batch_size=8", "out=preview")),
        ("report", ("folders=run",)),
    ):
        code, _, err = run(monkeypatch, capsys, *arguments, command=command)
        assert code == 0, (command, err)
    assert list(Path("run/wandb").glob("offline-run-*/*.wandb"))
    return jane_in(Path("run"), Path("made"), Path("preview"), Path("released"))


@pytest.fixture
def place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(
    "kind",
    ["image_folder", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("zip", "dotted", "csv", "dicom"))]
    + [pytest.param(kind, marks=pytest.mark.slow) for kind in ("nifti", "paired_folder")],
)
def test_the_name_of_the_datas_folder_stays_on_this_machine(place, monkeypatch, capsys, kind):
    assert everything_that_leaves(monkeypatch, capsys, kind) == []
    assert absolute_paths_below(place) == []
    assert JANE in Path("run/composition.yaml").read_text(), "resume= needs it"
    code, _, err = run(monkeypatch, capsys, "resume=run", "max_images=72")
    assert code == 0, err


@pytest.mark.slow
def test_the_name_of_the_datas_folder_is_shown_where_the_user_allows_it(place, monkeypatch, capsys):
    names = everything_that_leaves(monkeypatch, capsys, "image_folder", "data.show_paths=true")
    assert {"run/report.html", "run/generator.safetensors", "run/checkpoints/last.ckpt"} <= set(names)
    assert not [name for name in names if name.startswith("released/")], "what is given away never shows it"


def test_reports_of_sweeps_over_folders_and_of_failed_runs_hide_their_names(tmp_path):
    roots = [f"/data/{JANE}", f"/data/{JANE}_second"]
    jobs = write_sweep(
        tmp_path / "sweep",
        {"data.root": roots, "seed": [0, 1]},
        failures={3: ("failed", f"data.root=/data/{JANE}_second holds no image: only PNG files are read.")},
    )
    summary = json.loads((jobs[0] / "summary.json").read_text()) | {
        "data": f"ImageFolder {JANE}: 80 images, no classes"
    }
    (jobs[0] / "summary.json").write_text(json.dumps(summary))  # as versions before 0.2 wrote it
    page = write_report([tmp_path / "sweep"], tmp_path / "sweep.html").read_text()
    assert JANE not in page
    assert "path 1 (not shown)" in page
    assert "path 2 (not shown)" in page
    assert "holds no image" in page
    assert JANE not in write_report([jobs[3]], tmp_path / "job.html").read_text()
    assert JANE not in write_report([jobs[0]], tmp_path / "job.html").read_text()


def test_a_configuration_leaves_without_paths_of_its_data_and_relative_to_its_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / JANE).mkdir()
    config = {
        "run_dir": "/home/me/run",
        "overrides": [f"data.root=/data/{JANE}", f"+data.where={JANE}", "seed=1"],
        "sweep": {"name": f"data.root=/data/{JANE},seed=1"},
        "logger": {"csv": {"path": "/home/me/run/metrics.csv"}},
        "data": {
            "_target_": "own.Data",
            "root": f"/data/{JANE}",
            "where": JANE,
            "lists": [f"/data/{JANE}/one"],
            "resize": "crop",
            "image_size": 64,
            "patient_pattern": "a/(P\\d+)",
        },
        "seed": 1,
    }
    public = without_paths(config)
    assert JANE not in repr(public)
    assert public["data"]["resize"] == "crop"
    assert public["data"]["patient_pattern"] == "a/(P\\d+)"
    assert (public["run_dir"], public["logger"]["csv"]["path"]) == (".", "./metrics.csv")
    assert public["overrides"][2] == "seed=1"
    shown = without_paths(config | {"data": config["data"] | {"show_paths": True}})
    assert shown["data"]["root"] == f"/data/{JANE}"
    assert overrides_without_paths([f"data.root={JANE}", "seed=1"]) == ["data.root=(not shown)", "seed=1"]
