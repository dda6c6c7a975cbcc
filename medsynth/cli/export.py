"""``medsynth export``: write a run's generator in formats that other programs read."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from medsynth.release.export_folder import DEFAULT, export_run
from medsynth.release.run_record import read_run


def run(config: DictConfig) -> None:
    """Write the folder ``out``."""
    record = read_run(config.run, trust=config.trust, class_names=config.class_names)
    formats = [config.format] if isinstance(config.format, str) else DEFAULT if config.format is None else config.format
    exported = export_run(record, Path(config.out), list(formats), license_name=config.license)
    for name, difference in exported.differences.items():
        print(f"{name}: 64 exported images differ from the generator's by {difference:.2g} at most.")
    print(f"{', '.join(exported.files)} are in {exported.folder}.")
