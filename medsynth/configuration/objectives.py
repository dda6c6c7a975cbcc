"""What a training logs, known from its configuration: nothing is loaded to find it out."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from medsynth.errors import InputError
from medsynth.search.objective import COSTS, Objective

_DISTANCES = "medsynth.metrics.distances.GenerativeMetrics"
_SEVERAL = "medsynth.metrics.several.Several"
_NAMES = {  # of extractors that have no name= in their configuration: Fréchet and kernel distance, inception score
    "medsynth.metrics.pixels.PixelExtractor": ("fd_pixels", "kd_pixels", "is_pixels"),
    "medsynth.metrics.inception.InceptionExtractor": ("fid", "kid", "is"),
}
_DEFAULTS = (("frechet", True), ("kernel", False), ("inception_score", True))  # those of GenerativeMetrics


def logged(metrics: DictConfig) -> list[str] | None:
    """``val/fd_mini``, ...: the measures of a training; None where they are not medsynth's, so that nobody knows."""
    if metrics.get("_target_") == _SEVERAL:
        parts = [logged(part) for part in metrics.parts.values()]
        return None if None in parts else [name for part in parts for name in part]
    extractor = metrics.get("extractor") or {}
    name = extractor.get("name")
    names = (f"fd_{name}", f"kd_{name}", f"is_{name}") if name else _NAMES.get(extractor.get("_target_"))
    if metrics.get("_target_") != _DISTANCES or names is None:
        return None
    chosen = [metrics.get(option, default) for option, default in _DEFAULTS]
    return [f"val/{name}" for name, is_chosen in zip(names, chosen, strict=True) if is_chosen]


def check_objectives(config: DictConfig, objectives: Sequence[Objective] = ()) -> None:
    """Refuse what no training with ``config`` would come to: its own objective, or one of a search.

    Raises:
        InputError: names the choices.
    """
    names = logged(config.metrics)
    if names is None:
        return
    wanted = [config.objective, *(objective.name for objective in objectives)]
    unknown = next((name for name in wanted if name not in names and name not in COSTS), None)
    if config.objective not in names:
        unknown = config.objective  # a training selects its best checkpoint by it
    if unknown is not None:
        costs = f"; or of its costs {', '.join(COSTS)}" if objectives else ""
        raise InputError(f"objective={unknown} is logged by no such training: choose of {', '.join(names)}{costs}.")
