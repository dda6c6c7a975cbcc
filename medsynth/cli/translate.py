"""``medsynth translate``: translate whole series of images by the translator of a run."""

from __future__ import annotations

import json
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from medsynth.contracts import InputError
from medsynth.evaluation.evaluate import choose_device
from medsynth.files import new_folder
from medsynth.translate.translate import check_options, open_translator, translate_all


def run(config: DictConfig) -> None:
    """Write the translations of all series in ``data.root`` to the folder ``out``, with ``translate.json``."""
    check_options(config)
    device, out = choose_device(config.device), Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise _exists(out)
    translator = open_translator(config.run, trusted=config.trust, device=device)
    reader = instantiate(config.data.reader)(config.data.root)
    try:
        with new_folder(out) as folder:  # complete or absent
            record = translate_all(folder, translator, reader, config, device)
            (folder / "translate.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except FileExistsError as error:
        raise _exists(out) from error
    count, intensity = len(record["series"]), translator.intensity
    slices = sum(series["slices"] for series in record["series"])
    print(
        f"{slices:,} slices of {count:,} series, translated by {translator.path}, are in {out}: "
        f"{intensity.low:g} to {intensity.high:g} {intensity.unit}."
    )


def _exists(out: Path) -> InputError:
    return InputError(f"out={out} exists already: name a new folder, so that nothing is overwritten.")
