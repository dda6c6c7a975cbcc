"""``medsynth evaluate``: measure how close the images of a run's generator, or of a folder, are to real ones."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from medsynth.evaluation.evaluate import check_options, choose_device, evaluate_sets
from medsynth.evaluation.evaluation_sets import of_images, of_run
from medsynth.files import write_json
from medsynth.logger.wandb import reopen
from medsynth.report.evaluation import evaluation_text
from medsynth.report.final_report import refresh_report
from medsynth.runs.layout import record_path


def run(config: DictConfig) -> None:
    """Print the table of all measures, and write them to a file."""
    logging.getLogger("timm").setLevel(logging.WARNING)  # its messages on the origin of weights
    check_options(config)
    device, out = choose_device(config.device), _target(config)
    sets = of_run(config, device) if config.run else of_images(config.real, config.fake, config.training, config)
    record = evaluate_sets(sets, config).to_dict()
    print(evaluation_text(record))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, record)
        print(f"\nThe record is in {out}.")
    if config.run:
        refresh_report(Path(config.run))
    service = reopen(Path(config.run)) if config.run else None
    if service:
        service.log_summary(_tracked(record))
        service.close(failed=False)


def _target(config: DictConfig) -> Path | None:
    if config.out is not None:
        return Path(config.out)
    return record_path(Path(config.run), "evaluation", config.checkpoint) if config.run else None


def _tracked(record: dict[str, Any]) -> dict[str, float]:
    """Return all finite values for W&B's summary: ``evaluation/fd_mini``, ``..._low``, ``..._baseline``.

    Those of a class stand below its name: ``evaluation/glioma/fd_mini``.
    """
    groups = {"": record["measures"], **{f"{name}/": measures for name, measures in record.get("classes", {}).items()}}
    values = {
        f"evaluation/{group}{measure['name']}{suffix}": measure[end]
        for group, measures in groups.items()
        for measure in measures
        for end, suffix in (("value", ""), ("low", "_low"), ("high", "_high"), ("baseline", "_baseline"))
    }
    for row in record.get("translation", {}).get("measures", ()):
        values |= {f"evaluation/{end.replace('value', row['name'])}": row[end] for end in ("value", "copy_value")}
        values |= {f"evaluation/{row['name']}_{end}": row[end] for end in ("low", "high")}
    return {name: value for name, value in values.items() if math.isfinite(value)}
