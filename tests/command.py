"""Runs a command of medsynth in this process, as a person would type it."""

from __future__ import annotations

import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from medsynth.cli import main
from medsynth.data.phantom.source import Phantoms
from tests.shortcuts import kept_phantoms

# The smallest training there is: 16 px phantoms, tiny networks, two validations.
TINY = (
    "data.image_size=16",
    "data.source.num_images=64",
    "data.source.num_val=16",
    "data.batch_size=8",
    "generator.width=8",
    "max_images=64",
    "val_every_images=32",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "report=false",
)

_image = kept_phantoms(Phantoms.image)


def forget_hydra() -> None:
    """Leave Hydra as it is when a process starts; a command that ran before has left its configuration there."""
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def run(monkeypatch, capsys, *arguments: str, command: str = "train") -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of ``medsynth <command> <arguments>`` in the current folder."""
    forget_hydra()
    monkeypatch.setattr(sys, "argv", ["medsynth", *arguments])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    code = 0
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Phantoms, "image", _image)
            main(command)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    out, err = capsys.readouterr()
    return code, out, err
