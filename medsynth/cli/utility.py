"""``medsynth utility``: measure whether generated images help to train a network, against controls."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from medsynth.errors import InputError
from medsynth.evaluation.evaluate import choose_device
from medsynth.evaluation.labeled_sets import LabeledSets, of_folders, of_runs
from medsynth.evaluation.target_sets import with_label_maps, with_points
from medsynth.files import write_json
from medsynth.report.final_report import refresh_report
from medsynth.report.utility import draw_gains, utility_text
from medsynth.runs.existing import named_folders
from medsynth.runs.layout import record_path
from medsynth.utility.fit import Fit
from medsynth.utility.options import LEARNING_RATES, classification_task, keypoint_task, segmentation_task
from medsynth.utility.sets import Options, Sets
from medsynth.utility.study import compare, pool_size, run_part
from medsynth.utility.task import Task

# For each problem the measure that decides, and the smallest gain in it that is worth having.
PROBLEMS = {"classification": ("auc", 0.01), "keypoints": ("localization_error", 0.1), "segmentation": ("dice", 0.01)}


def run(config: DictConfig) -> None:
    """Print the answer with its gains, and write record and figure."""
    logging.getLogger("timm").setLevel(logging.WARNING)  # its messages on the origin of weights
    device, out = choose_device(config.device), _target(config)
    options = _options(config)
    sets = _sets(config, device)
    task = _task(config, sets, str(device))
    count = pool_size(options, max(options.sizes or [sets.training.count]))
    targets = None if sets.targets is None else (*sets.targets, None)
    images = Sets(sets.training, sets.test, sets.generated(count), sets.sources, targets, sets.notes)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_suffix("")
    if config.part is not None:
        left = run_part(images, task, options, str(config.part), folder=folder, say=_say)
        print(f"part={config.part} is done; {left:,} trainings are missing in all. Without part= the answer is given.")
        return
    record = compare(images, task, options, folder=folder, say=_say).to_dict()
    print(f"\n{utility_text(record)}")
    write_json(out, record)
    figure = draw_gains(record, out.with_suffix(".png"))
    print(f"\nThe record is in {out}, the figure in {figure}.")
    if config.run:
        refresh_report(named_folders(config.run)[0])


def _sets(config: DictConfig, device: torch.device) -> LabeledSets:
    if config.problem != "classification":
        if not config.run:
            raise InputError(f"problem={config.problem} needs run=, the folder of a run whose data knows the answers.")
        return (with_points if config.problem == "keypoints" else with_label_maps)(config, device)
    return of_runs(config, device) if config.run else of_folders(config)


def _task(config: DictConfig, sets: LabeledSets, device: str) -> Task:
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    if sets.targets is not None:
        build = keypoint_task if config.problem == "keypoints" else segmentation_task
        return build(plain["augmentation"], sets.class_names, width=config.width, device=device)
    return classification_task(
        plain["network"], plain["augmentation"], sets.class_names, views=config.views, device=device
    )


def _say(sentence: str) -> None:
    print(sentence, flush=True)


def _target(config: DictConfig) -> Path:
    if config.out is not None:
        return Path(config.out)
    return record_path(named_folders(config.run)[0], "utility", config.checkpoint)


def _options(config: DictConfig) -> Options:
    if config.problem not in PROBLEMS:
        raise InputError(f"problem={config.problem} is unknown: choose {', '.join(PROBLEMS)}.")
    kind = config.network.train if config.problem == "classification" else config.problem
    rate = LEARNING_RATES.get(kind, 1e-3) if config.learning_rate is None else config.learning_rate
    measure, gain = PROBLEMS[config.problem]
    return Options(
        fit=Fit(config.steps, config.minibatch, rate, config.weight_decay),
        ratios=tuple(config.ratios),
        sizes=tuple(config.sizes) if config.sizes else None,
        seeds=config.seeds,
        measure=config.measure or measure,
        worthwhile=gain if config.worthwhile is None else config.worthwhile,
        jobs=config.jobs,
        budget=config.budget,
    )
