"""The last step of a generator: from the values of its last layer to images in [-1, 1]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from medsynth.contracts import InputError

OUTPUTS = ("clamp", "tanh")
_MARGIN = 1.0  # beyond the bounds, in which values move as freely as between them


def check_output(output: str) -> None:
    """Check an option ``generator.output``.

    Raises:
        InputError: it is neither ``clamp`` nor ``tanh``.
    """
    if output not in OUTPUTS:
        raise InputError(f"generator.output={output} is unknown: choose {' or '.join(OUTPUTS)}.")


def bounded(values: Tensor, output: str) -> Tensor:
    """Return ``values`` in [-1, 1], by ``tanh`` or by ``clamp``.

    The gradient of tanh vanishes where its values are large, so that a generator cannot take back what it once drove
    to black or white: on images whose background is not quite black that is the whole background. ``clamp`` passes
    the gradient on unchanged, also at values beyond a bound, up to a margin; beyond the margin a descent can only move
    them back. The margin lets a black background be exactly black, whatever small changes each update brings; without
    it such a background stays gray and rough.
    """
    return torch.tanh(values) if output == "tanh" else _Clamp.apply(values)  # pyright: ignore[reportReturnType]


class _Clamp(Function):
    """Clamp to [-1, 1]; the gradient is 1, and 0 where a descent would move a value beyond the margin further away."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (values,) = ctx.saved_tensors
        bound = 1 + _MARGIN
        outwards = ((values > bound) & (gradient < 0)) | ((values < -bound) & (gradient > 0))
        return gradient.masked_fill(outwards, 0)
