"""Checks and compilation of the networks before their first step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from medsynth.contracts import Discriminator, Generator, InputError, Network
from medsynth.files import user_cache
from medsynth.runs.run_end import is_out_of_memory


@contextlib.contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """Keep ``network`` in evaluation mode, and put it back to training mode afterwards."""
    network.eval()
    try:
        yield
    finally:
        network.train()


def compile_networks(generator: Generator, discriminator: Discriminator, *, head: bool, generate: bool) -> None:
    """Compile the frozen part, the ``head`` and what is to ``generate`` by torch.compile, in place.

    A network that a penalty differentiates twice must not be compiled: a second derivative through compiled code has
    been seen to be silently wrong. Compiled code is kept in the user's private cache folder: PyTorch's own choice is a
    folder in /tmp that other users can read, and can have created first.
    """
    with contextlib.suppress(OSError):  # a home that cannot be written to
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache("compiled")))
    if generate:
        assert isinstance(generator, nn.Module)
        generator.compile()
    if discriminator.has_frozen_features:
        discriminator.features = torch.compile(discriminator.features)
    if head:
        discriminator.head = torch.compile(discriminator.head)


def check_generator_derivatives(
    generator: Generator, labels: Tensor | None, *, device: torch.device, penalties: Sequence[str]
) -> None:
    """Check that the generator has the second derivatives that penalties by the noise need. Changes no statistics.

    Args:
        generator: the network.
        labels: of two images; None: unconditional.
        device: of the generator.
        penalties: names of the generator's penalties, for the error.

    Raises:
        InputError: the generator has no second derivative.
    """
    with evaluating(generator):
        z = torch.ones(2, generator.latent_dim, device=device, requires_grad=True)
        try:
            (gradient,) = torch.autograd.grad(generator(z, labels).sum(), z, create_graph=True)
            torch.autograd.grad(gradient.square().sum(), list(generator.parameters()), allow_unused=True)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise InputError(
                f"generator_penalty={','.join(penalties)} needs second derivatives of {type(generator).__name__}, "
                f"which it does not have ({str(error).splitlines()[0].rstrip('.')}): choose generator_penalty=none or "
                "another generator."
            ) from error


def check_second_derivatives(
    discriminator: Discriminator, images: Tensor, labels: Tensor | None, *, penalties: Sequence[str]
) -> None:
    """Check that the head has the second derivatives that gradient penalties need. Changes no statistics or gradients.

    Args:
        discriminator: the network.
        images: a few images (N, C, H, W) to try it on.
        labels: of the images (N,); None: unconditional.
        penalties: names of the gradient penalties, for the error.

    Raises:
        InputError: the head has no second derivative.
    """
    trained = [parameter for group in discriminator.parameter_groups() for parameter in group["params"]]
    with evaluating(discriminator):
        inputs = tuple(tensor.detach().requires_grad_(True) for tensor in discriminator.features(images))
        logits = discriminator.head(inputs, labels)
        try:
            gradients = torch.autograd.grad(logits.sum(), inputs, create_graph=True, materialize_grads=True)
            norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
            torch.autograd.grad(norm, trained, allow_unused=True)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise InputError(
                f"penalty={','.join(penalties)} needs second derivatives of the trained part of "
                f"{type(discriminator).__name__}, which it does not have ({str(error).splitlines()[0].rstrip('.')}): "
                "choose penalty=none, discriminator.unfreeze=none, backbone.fused_attention=false where attention "
                "lacks them, or another backbone (`medsynth backbones` says which have them)."
            ) from error
