"""No patient's identifier leaves the data package: all bytes that a run on DICOM files writes are searched."""

import zipfile

import numpy as np
import pytest

from tests.command import TINY, run
from tests.dicom_files import uid, write_ct_slice

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
    assert not found_in(patients / "a", patients / "made", patients / "cache")
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
