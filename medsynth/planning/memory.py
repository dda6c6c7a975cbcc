"""The memory that a training's tensors take: what stays from step to step, and the peak within a step."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medsynth.gan import GAN


class LiveBytes(TorchDispatchMode):
    """While it is entered, follows the memory of all tensors that operations return, until they are gone.

    For devices without a count of their own. Not seen is what an operation takes and gives back within itself.
    ``peak`` is the most that was alive at a time, in bytes.
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
    """Bytes of what stays from step to step, by name; ``trained_*`` is the part of a player that has gradients."""
    trained = {name: sum(p.nbytes for p in trained_parameters(model, name)) for name in ("generator", "discriminator")}
    return {
        "generator": _bytes_of_module(model.generator),
        "discriminator": _bytes_of_module(model.discriminator),
        "moving_average": _bytes_of_module(model.ema_generator),
        "optimizers": sum(
            leaf.nbytes for o in optimizers for leaf in tree_leaves(list(o.state.values())) if isinstance(leaf, Tensor)
        ),
        **{f"trained_{name}": size for name, size in trained.items()},
    }


def trained_parameters(model: GAN, player: str) -> list[Tensor]:
    """Those whose gradients the processes of a training exchange."""
    return [parameter for parameter in getattr(model, player).parameters() if parameter.requires_grad]


def _bytes_of_module(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
