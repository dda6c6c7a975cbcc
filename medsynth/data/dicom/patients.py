"""The patient of each DICOM image, where PatientID is missing or the same everywhere, too."""

from __future__ import annotations

from collections.abc import Sequence

from medsynth.data.dicom.headers import Header
from medsynth.data.layout import AUTO, Layout


def find_patients(headers: Sequence[Header], layout: Layout, patient_level: int | str | None) -> tuple[list[str], str]:
    """Return the patient of each image, and the origin in words.

    It is PatientID with its issuer. Anonymized files may lack it, or all have the same: then the folder is the patient,
    where folders look like patients, and else the study.

    Args:
        headers: of the images.
        layout: of their folders.
        patient_level: the option; None: folders are never patients, and one PatientID is one patient.
    """
    folders = [layout.patient(header.name) for header in headers]
    if patient_level not in (AUTO, None):
        return folders, layout.roles.patients
    named = [header.patient not in (header.study, header.series) for header in headers]
    if patient_level is None:
        return [header.patient for header in headers], "PatientID"
    studies = {header.study for header in headers}
    equal = all(named) and len({header.patient for header in headers}) == 1 and len(studies - {""}) > 1
    if all(named) and not equal:
        return [header.patient for header in headers], "PatientID"
    found = [
        header.patient if name and not equal else folder or header.study or header.series
        for header, name, folder in zip(headers, named, folders, strict=True)
    ]
    reason = "all images have one PatientID" if equal else "images lack PatientID"
    origin = layout.roles.patients if all(folders) else "the studies"
    return found, f"{origin} since {reason}"
