"""Gradient norms of the discriminator, as R1, R2, WGAN-GP and DRAGAN need them."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth.contracts import Features

_SMALLEST_NORM = 1e-6  # its square is added: keeps the derivative of the square root finite at a gradient of 0


def squared_gradient_norms(inputs: Features, logits: Tensor) -> Tensor:
    """Return ``|gradient of D at image i|^2`` (N,) with its graph, where D is the mean of an image's K logits.

    The norm is over all tensors (N, ...) of ``inputs`` together; inputs that the logits (N, K) do not depend on add
    zero. Where images influence each other's logits (batch normalization, layers of ``minibatch``), the gradient at an
    image is that of the sum over the batch.
    """
    gradients = torch.autograd.grad(logits.mean(dim=1).sum(), inputs, create_graph=True, materialize_grads=True)
    return torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients]).sum(dim=0)


def gradient_norms(inputs: Features, logits: Tensor) -> Tensor:
    """Return the square roots (N,) of ``squared_gradient_norms``; their derivative is finite at a gradient of 0 too."""
    return (squared_gradient_norms(inputs, logits) + _SMALLEST_NORM**2).sqrt()
