"""The measures that a training logs, known from its configuration before any network is loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.targets import target_class
from medsynth.errors import InputError

if TYPE_CHECKING:
    from medsynth.contracts import Better


PAIRED_MEASURES: dict[str, Better] = {  # of translations against their targets, in the target's unit
    "mae": "lower",
    "mse": "lower",
    "psnr": "higher",
    "ssim": "higher",
    "ms_ssim": "higher",
}


def logged_measures(metrics: Mapping[str, Any]) -> dict[str, Better]:
    """Ask the class of a metrics configuration for the measures that it logs: names without prefix, and directions.

    Importing the class is all that is done: see ``contracts.Metrics.logged_measures``. Empty: they are not known
    before the metrics are built.
    """
    declare = getattr(target_class(metrics), "logged_measures", None)
    return {} if declare is None else dict(declare(metrics))


def check_objectives(
    config: DictConfig,
    searched: Sequence[str] = (),
    *,
    costs: Collection[str] = (),
    overrides: Sequence[str] | None = None,
) -> None:
    """Refuse an objective that a training with ``config`` does not log.

    Args:
        config: the composed configuration of a training.
        searched: objectives of a search, measures or costs.
        costs: names that a search may optimize although no validation logs them, such as ``seconds``.
        overrides: what was typed, if that is known. Where neither ``objective`` nor anything of ``metrics`` was, the
            configuration's own objective is that of the chosen metrics and is not checked: this would import PyTorch.

    Raises:
        InputError: names the choices.
    """
    wanted = [name for name in searched if name not in costs]
    if overrides is None or any(_concerns_objective(override) for override in overrides):
        wanted.append(config.objective)
    if not wanted:
        return
    names = list(directions(config))
    unknown = next((name for name in wanted if name not in names), None)
    if names and unknown is not None:
        or_costs = f", or one of the costs {', '.join(costs)}" if searched else ""
        raise InputError(f"objective={unknown} is not logged by this training: choose {' or '.join(names)}{or_costs}.")


def directions(config: DictConfig) -> dict[str, Better]:
    """Return which values are better of each measure that a training with ``config`` logs, as ``val/<name>``."""
    measures = logged_measures(_plain(config.metrics))
    if measures and "source_channels" in (config.get("task") or {}):  # a task of translation
        measures |= PAIRED_MEASURES
    return {f"val/{name}": better for name, better in measures.items()}


def _concerns_objective(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return key.split(".")[0] in ("objective", "metrics")


def _plain(node: DictConfig) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))
