"""A folder with a run's generator in several formats, complete or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import medsynth
from medsynth.errors import InputError
from medsynth.files import new_folder, write_json
from medsynth.generator.export import save_generator
from medsynth.generator.trained import FILE
from medsynth.release.exchange import check_onnx_packages, save_onnx, save_program, traced
from medsynth.release.model_card import model_card
from medsynth.release.monai_bundle import write_bundle
from medsynth.release.program import program_of
from medsynth.release.run_record import RunRecord
from medsynth.release.usage import usage

FORMATS = ("safetensors", "torch", "onnx", "monai")
DEFAULT = ("safetensors", "torch", "monai")  # those that need no further package
CARD, RECORD = "README.md", "export.json"
PROGRAM, ONNX, BUNDLE = "generator.pt2", "generator.onnx", "monai"


@dataclasses.dataclass(frozen=True)
class Exported:
    """A folder that was written.

    Attributes:
        folder: its path.
        files: names of the files in it.
        differences: the largest difference from the network's own images, by format.
    """

    folder: Path
    files: tuple[str, ...]
    differences: dict[str, float]


def export_run(record: RunRecord, out: Path, formats: Sequence[str], *, license_name: str | None = None) -> Exported:
    """Write a folder ``out`` with the model card and the generator in each of ``formats``.

    Raises:
        InputError: ``out`` exists, a format is unknown, a package is missing, the generator cannot be exported, or its
            exported images differ from its own.
    """
    check_formats(formats)
    try:
        with new_folder(out) as folder:
            differences = _write(folder, record, formats, license_name)
            _check_private(folder, record)
            files = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
    except FileExistsError as error:
        raise InputError(f"out={out} exists already: name a new folder, so that nothing is overwritten.") from error
    return Exported(out, files, differences)


def check_formats(formats: Sequence[str]) -> None:
    """Check the option ``format``.

    Raises:
        InputError: none is given or one is unknown, or packages are missing.
    """
    unknown = next((name for name in formats if name not in FORMATS), None)
    if unknown is not None or not formats:
        raise InputError(
            f"format={'' if unknown is None else unknown} is unknown: choose one or several of {', '.join(FORMATS)}, "
            "such as format=[onnx,monai]."
        )
    if "onnx" in formats:
        check_onnx_packages()


def save_public_generator(path: Path, record: RunRecord) -> None:
    """Write ``generator.safetensors`` with a card that names no person or place; its images stay the same."""
    network: Any = record.generator.network
    save_generator(path, network, config=record.rebuild, card=record.generator.card)


def _write(folder: Path, record: RunRecord, formats: Sequence[str], license_name: str | None) -> dict[str, float]:
    card, described = model_card(record, license_name=license_name), usage(record)
    (folder / CARD).write_text(card, encoding="utf-8")
    differences: dict[str, float] = {}
    if "safetensors" in formats:
        save_public_generator(folder / FILE, record)
        (folder / FILE).chmod((folder / CARD).stat().st_mode)  # for all whom the folder is for
    if {"torch", "onnx", "monai"} & set(formats):
        program = program_of(record.generator)
        exported = traced(program)
        differences["torch"] = save_program(exported, folder / PROGRAM, program, described)
        if "onnx" in formats:
            differences["onnx"] = save_onnx(exported, folder / ONNX, program, described)
        if "monai" in formats:
            write_bundle(folder / BUNDLE, record, folder / PROGRAM, card, described)
        if "torch" not in formats:
            (folder / PROGRAM).unlink()
    written = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    write_json(
        folder / RECORD,
        {
            "medsynth": medsynth.__version__,
            "formats": list(formats),
            "largest_difference": differences,
            "sha256": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in written.items()},
            "usage": described,
        },
    )
    return differences


def _check_private(folder: Path, record: RunRecord) -> None:
    """Refuse a folder in which a path of the run stands, such as one in the name of a class.

    Raises:
        InputError: names the file.
    """
    for path in folder.rglob("*"):
        if path.is_file() and record.private.in_text(path.read_bytes()):
            raise InputError(
                f"{path.relative_to(folder)} would hold the path of a folder of yours: class_names=false, or give the "
                "run's generator.safetensors instead of its folder."
            )
