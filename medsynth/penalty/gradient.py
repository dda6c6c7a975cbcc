"""Squared gradient norms of the discriminator, as R1, R2 and WGAN-GP need them."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth.contracts import Features


def squared_gradient_norms(inputs: Features, logits: Tensor) -> Tensor:
    """Return ``|gradient of D at image i|^2`` (N,) with its graph, where D is the mean of an image's K logits.

    The norm is over all tensors (N, ...) of ``inputs`` together; inputs that the logits (N, K) do not depend on add
    zero. No image may influence another one's logits, since the gradient is that of the sum over the batch.
    """
    gradients = torch.autograd.grad(logits.mean(dim=1).sum(), inputs, create_graph=True, materialize_grads=True)
    return torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients]).sum(dim=0)
