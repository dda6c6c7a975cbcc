"""Memory of a training's tensors: those that stay from step to step, and the peak within a step."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medsynth.contracts import Network
from medsynth.gan import GAN


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that operations return in its block, until they are freed.

    For devices that do not count their memory. Memory that an operation allocates and frees within itself is not
    seen.

    Attributes:
        live: bytes at present.
        peak: the most bytes at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(
        self, func: Callable, types: Iterable, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                self._follow(leaf.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def gone(_: weakref.ref) -> None:
            self.live -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, gone)
        self.live += size
        self.peak = max(self.peak, self.live)


def lasting_bytes(model: GAN, optimizers: Iterable[Optimizer]) -> dict[str, int]:
    """Return the bytes of what stays from step to step, by name; ``trained_*`` counts the parameters with gradients."""
    trained = {name: sum(p.nbytes for p in trained_parameters(network)) for name, network in networks(model).items()}
    return {
        "generator": _bytes_of_module(model.generator),
        "discriminator": _bytes_of_module(model.discriminator),
        "ema": _bytes_of_module(model.ema_generator),
        "optimizers": sum(
            leaf.nbytes for o in optimizers for leaf in tree_leaves(list(o.state.values())) if isinstance(leaf, Tensor)
        ),
        **{f"trained_{name}": size for name, size in trained.items()},
    }


def networks(model: GAN) -> dict[str, Network]:
    """Return both networks of a GAN by name."""
    return {"generator": model.generator, "discriminator": model.discriminator}


def trained_parameters(network: Network) -> list[Tensor]:
    """Return the parameters whose gradients the processes of a training exchange."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _bytes_of_module(network: Network) -> int:
    buffers = (buffer for module in network.modules() for buffer in module.buffers(recurse=False))
    return sum(tensor.nbytes for tensor in (*network.parameters(), *buffers))
