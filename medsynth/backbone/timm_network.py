"""The members of timm's image models that medsynth uses, and timm's description of a model."""

from __future__ import annotations

import difflib
from typing import Any, Protocol, cast

import timm
from timm.models import PretrainedCfg
from torch import Tensor, nn

from medsynth.contracts import InputError, Network


class TimmNetwork(Network, Protocol):
    """An image model of timm: a ``torch.nn.Module`` with these members."""

    head_hidden_size: int
    pretrained_cfg: dict[str, Any]

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits, or pooled features where the network has no classifier."""
        ...

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the maps of the last stage."""
        ...

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (N, num_classes) from the last maps, or with ``pre_logits`` the pooled features."""
        ...

    def forward_intermediates(
        self, x: Tensor, indices: list[int] | None = None, *, intermediates_only: bool = False
    ) -> list[Tensor]:
        """Return the maps after the stages ``indices``; with ``intermediates_only`` nothing else."""
        ...

    def get_classifier(self) -> nn.Module:
        """Return the layer from pooled features to logits."""
        ...

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a random one."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return parameters and buffers by name."""
        ...

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool = True) -> tuple[list[str], list[str]]:
        """Load parameters and buffers; return the missing and the unexpected names."""
        ...


def create_network(model_name: str, **options: Any) -> TimmNetwork:
    """Create an image model of timm; ``options`` are those of ``timm.create_model``."""
    return cast("TimmNetwork", timm.create_model(model_name, **options))


def pretrained_config(model_name: str | None) -> PretrainedCfg:
    """Return timm's description of a model: the input that its weights expect, and where the weights are.

    Raises:
        InputError: timm has no such model.
    """
    if model_name is None:
        raise InputError("backbone.model_name= is needed: timm's name of a model, as backbone.model_name=resnet18.")
    if not timm.is_model(model_name):
        close = difflib.get_close_matches(model_name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}" if close else "see timm.list_models()"
        raise InputError(f"backbone.model_name={model_name} is not a model of timm {timm.__version__}: {hint}?")
    name, _, tag = model_name.partition(".")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise InputError(
            f"backbone.model_name={model_name}: timm has no weights {tag} of {name}, but {', '.join(tags)}."
        )
    config = timm.get_pretrained_cfg(model_name)
    assert config is not None, "every model of timm has one"
    return config
