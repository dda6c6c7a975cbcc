"""Float16 with a gradient scaler for each network."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


class HalfPrecision(MixedPrecision):
    """Autocast to float16 with one gradient scaler per network: gradients shrink and overflow at different times.

    Lightning's own "16-mixed" has one scaler for all optimizers, so that an overflow of one network holds the other
    back. The scalers are part of a checkpoint. An update whose gradients overflow is left out and the scale halved
    (Micikevicius et al. 2018, Mixed Precision Training).

    Args:
        device: "cuda" or "cpu".
        initial_scale: the first scale of each network; doubled after every 2,000 updates without an overflow.
    """

    def __init__(self, device: str, initial_scale: float = 2.0**12):
        super().__init__("16-mixed", device, scaler=torch.amp.GradScaler(device))
        self.scaler = None  # Lightning's hooks are to scale nothing
        self.scalers: collections.defaultdict[str, torch.amp.GradScaler] = collections.defaultdict(
            lambda: torch.amp.GradScaler(device, init_scale=initial_scale)
        )  # by the network's name

    def scaled(self, loss: Tensor, network: str) -> Tensor:
        """Scale the loss of ``network`` so that its gradients survive float16."""
        return self.scalers[network].scale(loss)

    def overflows(self, optimizer: Optimizer, network: str) -> bool:
        """Unscale the gradients; return True if the scale made some of them infinite, so that the step is left out.

        A scale of 1 or less is not the cause of infinite gradients: the result is then False.
        """
        scaler = self.scalers[network]
        scaler.unscale_(optimizer)
        gradients = (p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
        return scaler.get_scale() > 1 and not torch.isfinite(get_total_norm(gradients)).item()

    def leave_out(self, network: str) -> None:
        """End a step of ``network`` in which its gradients were measured and its optimizer was not called."""
        self.scalers[network].update()

    def optimizer_step(self, optimizer: Any, model: Any, closure: Callable[[], Any], **kwargs: Any) -> Any:
        """Take the step, unless gradients overflow: Lightning's hook behind ``optimizer.step()``."""
        closure()
        scaler = self.scalers[model.network_of(optimizer)]
        result = scaler.step(optimizer)
        scaler.update()
        return result

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all scalers, by network."""
        return {name: scaler.state_dict() for name, scaler in self.scalers.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the states of all scalers."""
        for name, state in state_dict.items():
            self.scalers[name].load_state_dict(state)
