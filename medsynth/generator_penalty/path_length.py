"""Path length regularization (Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN")."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from medsynth.contracts import GeneratorUpdate, HasStyles, InputError
from medsynth.generator_penalty.precision import wide

_SMALLEST = 1e-6  # its square is added: keeps the derivative of the square root finite at a length of 0


class PathLength:
    """``weight * E[(|J^T y| - a)^2]``, J the derivative of the images by z, y normal (Karras et al. 2020, section 3.2).

    Equal steps of the noise change images by equal amounts: y has the shape of the images and a deviation of
    ``1 / sqrt(H * W)``; ``a`` is the average of the lengths ``|J^T y|`` over earlier updates, exponentially weighted.
    It starts at the lengths of the first update with the term; the authors' starts at 0, from where it takes several
    hundred updates. For a generator with a mapping network (``contracts.HasStyles``, such as ``generator=style``) the
    derivative is by its output w, as in the paper, and |J^T y| the root of the mean over the layers of the squared
    length for each layer's w, as in the authors' program; for others it is by the noise z. Where images influence each
    other, by batch normalization, it is that of the sum over the batch.

    The images are generated once more for it, in float32, and differentiated twice.

    Args:
        weight: of the term; 2 in the authors' program.
        decay: of the average, for each update with the term.
        interval: generator updates per update with the term, which is then as many times as strong.

    Raises:
        InputError: an option is out of range.
    """

    differentiates = True

    def __init__(self, *, weight: float = 2.0, decay: float = 0.99, interval: int = 4):
        if not 0 <= decay < 1:
            raise InputError(f"generator_penalty.path_length.decay={decay} must be from 0 to less than 1.")
        if interval < 1:
            raise InputError(f"generator_penalty.path_length.interval={interval} must be 1 or more.")
        self.weight = weight
        self.decay = decay
        self.interval = interval
        self.measured = torch.zeros(())
        self._length: float | None = None

    def __call__(self, update: GeneratorUpdate) -> Tensor:
        """Return the term, a scalar with its graph."""
        with torch.autocast(update.z.device.type, enabled=False):
            lengths = path_lengths(update)
        self.measured = lengths.detach().mean()
        average = self.measured if self._length is None else self._length
        return self.weight * (lengths - average).square().mean()

    def observe(self, *, measured: float) -> Mapping[str, float]:
        """Update the average by the mean length of an update; return it."""
        before = measured if self._length is None else self._length
        self._length = self.decay * before + (1 - self.decay) * measured
        return {"average": self._length}

    def state_dict(self) -> dict[str, float]:
        """Return the average, if there is one yet."""
        return {} if self._length is None else {"length": self._length}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the average."""
        self._length = state.get("length")


def path_lengths(update: GeneratorUpdate) -> Tensor:
    """Return ``|J^T y|`` (N,) of newly generated images with its graph; y is drawn."""
    z, generator = wide(update.z).detach(), update.generator
    if isinstance(generator, HasStyles):
        inputs = generator.styles(z, update.labels)  # (N, layers, style_dim)
        images = generator.synthesize(inputs, z)
    else:
        inputs = z.requires_grad_(True)
        images = generator(inputs, update.labels)
    y = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * y).sum(), inputs, create_graph=True)
    squares = gradient.square().sum(dim=-1)  # (N,), or (N, layers)
    return (squares.view(len(z), -1).mean(dim=1) + _SMALLEST**2).sqrt()
