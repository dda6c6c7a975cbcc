"""What is done with the two players before their first step, beside calibration and the feature bank."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medsynth.contracts import InputError


def compile_players(model: Any) -> None:
    """torch.compile for generator, frozen part and head of a GAN, in place.

    A head that a penalty differentiates twice stays as it is: a second derivative through compiled code has been seen
    to be silently wrong.
    """
    model.generator.compile()
    if model.discriminator.has_frozen_features:
        model.discriminator.features = torch.compile(model.discriminator.features)
    if not _of_gradients(model):
        model.discriminator.head = torch.compile(model.discriminator.head)


def try_penalties(model: Any, images: Tensor) -> None:
    """Take each penalty's gradient once at ``images`` (N, C, H, W), so that what cannot be is said before training.

    Nothing changes: no statistics, no gradients.

    Raises:
        InputError: the head has no second derivative.
    """
    penalties = _of_gradients(model)
    if not penalties:
        return
    discriminator = model.discriminator
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device) if model.num_classes else None
    trained = [parameter for group in discriminator.parameter_groups() for parameter in group["params"]]
    discriminator.eval()
    features = tuple(tensor.detach() for tensor in discriminator.features(images))
    for name, penalty in penalties.items():
        try:
            torch.autograd.grad(model.penalty_term(penalty, features, features, labels), trained, allow_unused=True)
        except RuntimeError as error:
            if "derivative" not in str(error):
                raise
            raise InputError(
                f"penalty={name} needs second derivatives of the trained part of {type(discriminator).__name__}, which "
                f"are not there ({str(error).splitlines()[0].rstrip('.')}): choose penalty=none, "
                "discriminator.unfreeze=none, backbone.fused_attention=false where attention lacks them, or another "
                "backbone (`medsynth backbones` says which have them)."
            ) from error
    discriminator.train()


def _of_gradients(model: Any) -> dict[str, Any]:
    """The penalties that differentiate the head."""
    return {name: penalty for name, penalty in model.penalties.items() if penalty.at != "logits"}
