"""``medsynth audit``: look for copies of training images, attack membership, link patients; answer whether it leaks."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig

from medsynth.audit.audit_sets import sets_of_folders, sets_of_run
from medsynth.audit.command import audit_sets, check_options, draw_pairs
from medsynth.evaluation.answers import NO, YES
from medsynth.evaluation.evaluate import choose_device
from medsynth.files import write_json
from medsynth.report.audit import audit_text


def run(config: DictConfig) -> None:
    """Print the answer and all measures, write them to a file, draw the closest pairs; exit with 1 where it is no.

    Nothing is sent to logging services: the pairs show real images.
    """
    logging.getLogger("timm").setLevel(logging.WARNING)  # its messages on the origin of weights
    check_options(config)
    device, out = choose_device(config.device), _target(config)
    sets = sets_of_run(config, device) if config.run else sets_of_folders(config)
    result = audit_sets(sets, config)
    record = result.to_dict()
    print(audit_text(record))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, record)
        pairs = out.with_name(f"{out.stem}_pairs.png")
        draw_pairs(pairs, result, sets)
        print(f"\nThe record is in {out}; the closest pairs, with real images, are in {pairs}.")
    if result.answer == NO or (config.strict and result.answer != YES):
        sys.exit(1)


def _target(config: DictConfig) -> Path | None:
    if config.out is not None:
        return Path(config.out)
    name = Path(config.checkpoint).stem if config.checkpoint else "generator"
    return Path(config.run) / "audit" / f"{name}.json" if config.run else None
