"""``medsynth utility``: measure whether generated images help to train a network, against controls."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from medsynth.evaluation.evaluate import choose_device
from medsynth.evaluation.labeled_sets import of_folders, of_runs
from medsynth.files import write_json
from medsynth.report.utility import draw_gains, utility_text
from medsynth.runs.existing import named_folders
from medsynth.utility.fit import Fit
from medsynth.utility.options import LEARNING_RATES, classification_task
from medsynth.utility.study import Options, Sets, compare, pool_size


def run(config: DictConfig) -> None:
    """Print the answer with its gains, and write record and figure."""
    logging.getLogger("timm").setLevel(logging.WARNING)  # its messages on the origin of weights
    device, out = choose_device(config.device), _target(config)
    options = _options(config)
    sets = of_runs(config, device) if config.run else of_folders(config)
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    task = classification_task(
        plain["network"], plain["augmentation"], sets.class_names, views=config.views, device=str(device)
    )
    count = pool_size(options, max(options.sizes or [sets.training.count]))
    images = Sets(sets.training, sets.test, sets.generated(count), sets.sources, notes=sets.notes)
    out.parent.mkdir(parents=True, exist_ok=True)
    record = compare(images, task, options, folder=out.with_suffix(""), say=_say).to_dict()
    print(f"\n{utility_text(record)}")
    write_json(out, record)
    figure = draw_gains(record, out.with_suffix(".png"))
    print(f"\nThe record is in {out}, the figure in {figure}.")


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def _target(config: DictConfig) -> Path:
    if config.out is not None:
        return Path(config.out)
    name = Path(config.checkpoint).stem if config.checkpoint else "generator"
    return named_folders(config.run)[0] / "utility" / f"{name}.json"


def _options(config: DictConfig) -> Options:
    rate = LEARNING_RATES.get(config.network.train, 1e-3) if config.learning_rate is None else config.learning_rate
    return Options(
        fit=Fit(config.steps, config.minibatch, rate, config.weight_decay),
        ratios=tuple(config.ratios),
        sizes=tuple(config.sizes) if config.sizes else None,
        seeds=config.seeds,
        measure=config.measure,
        worthwhile=config.worthwhile,
        jobs=config.jobs,
        budget=config.budget,
    )
