"""The function that an exported file computes: a generator's images of noise, or a translator's of sources."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medsynth.contracts import counter_seed, noise
from medsynth.generator.trained import TrainedGenerator, TrainedTranslator

COMPARED = 64  # inputs on which an exported file is compared with the network
_PIXELS = 2**20  # of the sources that are translated at a time
_COARSE = 8  # pixels of the largest structures of the sources that a translator is compared on


class _Sampler(nn.Module):
    """``(noise, labels) -> images``, as ``TrainedGenerator.batches`` returns them."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.network(noise, labels).float().clamp(-1, 1)


class _Translation(nn.Module):
    """``(source, noise) -> images``, as ``TrainedTranslator.translate`` returns them."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, source: Tensor, noise: Tensor | None = None) -> Tensor:
        return self.network(source, noise).float().clamp(-1, 1)


@dataclasses.dataclass(frozen=True)
class Program:
    """A function of tensors, ``module(*inputs) -> images (N, C, H, W)`` in [-1, 1].

    Attributes:
        module: the function, in evaluation mode.
        names: of its inputs.
        inputs: number N -> inputs, N rows each, on which files are compared with it.
        together: rows that are computed at a time, for the memory that they take.
        kind: ``generator`` or ``translator``.
        title: of the file.
    """

    module: nn.Module
    names: tuple[str, ...]
    inputs: Callable[[int], tuple[Tensor, ...]]
    together: int
    kind: str
    title: str

    @property
    def network_name(self) -> str:
        """The class of the network."""
        return type(self.module.network).__name__


def program_of(trained: TrainedGenerator | TrainedTranslator) -> Program:
    """Return the program of a trained generator or translator."""
    network = cast(nn.Module, trained.network)
    if isinstance(trained, TrainedGenerator):
        module, names = _Sampler(network), ("noise", "labels") if trained.class_names else ("noise",)

        def noise_and_labels(count: int) -> tuple[Tensor, ...]:
            z = noise(count, trained.network.latent_dim, seed=counter_seed("generate", 0))
            labels = trained.labels(None, count)
            return (z,) if labels is None else (z, labels)

        inputs, together = noise_and_labels, COMPARED
        kind, title = "generator", "Generator of synthetic images"
    else:
        width, size = trained.network.latent_dim, trained.image_size
        module, names = _Translation(network), ("source", "noise") if width else ("source",)

        def sources_and_noise(count: int) -> tuple[Tensor, ...]:
            source = _sources(count, trained.source_channels, size)
            return (source, noise(count, width, seed=counter_seed("translate", 0, 0))) if width else (source,)

        inputs, together = sources_and_noise, max(1, min(COMPARED, _PIXELS // size**2))
        kind, title = "translator", "Translator of images to synthetic ones"
    return Program(module.eval().requires_grad_(False), names, inputs, together, kind, title)


def _sources(count: int, channels: int, size: int) -> Tensor:
    """Return images (count, channels, size, size) in [-1, 1]: smooth structures of several contrasts, with noise."""
    random = torch.Generator().manual_seed(counter_seed("export", size))
    side = max(2, size // _COARSE)
    coarse = torch.randn(count, channels, side, side, generator=random)
    smooth = functional.interpolate(coarse, (size, size), mode="bilinear")
    contrast = torch.linspace(0, 2, count).view(-1, 1, 1, 1)
    fine = torch.randn(count, channels, size, size, generator=random)
    return (contrast * smooth + 0.1 * fine).clamp(-1, 1)
