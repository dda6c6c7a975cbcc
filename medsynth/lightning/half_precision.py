"""Float16 with a gradient scaler for each player."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

PLAYERS = ("generator", "discriminator")  # in the order of the optimizers


class HalfPrecision(MixedPrecision):
    """Autocast to float16; each player's loss is scaled for itself, as the two shrink and overflow at different times.

    Lightning's own "16-mixed" has one scaler for both optimizers, so that an overflow of one player holds the other
    back. The scalers are part of a checkpoint. An update whose gradients overflow is left out and the scale halved
    (Micikevicius et al. 2018, Mixed Precision Training).

    Args:
        device: "cuda" or "cpu".
        initial_scale: of both players; doubled after every 2,000 updates without an overflow.
    """

    def __init__(self, device: str, initial_scale: float = 2.0**12):
        scalers = {player: torch.amp.GradScaler(device, init_scale=initial_scale) for player in PLAYERS}
        super().__init__("16-mixed", device, scaler=scalers["generator"])
        self.scaler = None  # Lightning's hooks are to scale nothing
        self.scalers = scalers

    def scaled(self, loss: Tensor, player: str) -> Tensor:
        """What ``player`` descends on, large enough for its gradients to survive float16."""
        return self.scalers[player].scale(loss)

    def overflows(self, optimizer: Optimizer, player: str) -> bool:
        """Bring the gradients back to their size; True: some are not finite for their scale, the step is left out.

        Where the scale is 1 or less it is not to blame.
        """
        scaler = self.scalers[player]
        scaler.unscale_(optimizer)
        gradients = (p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
        return scaler.get_scale() > 1 and not torch.isfinite(get_total_norm(gradients)).item()

    def optimizer_step(self, optimizer: Optimizer, model: Any, closure: Callable[[], Any], **kwargs: Any) -> Any:
        """Lightning's hook of ``optimizer.step()``: the step, unless gradients overflow."""
        closure()
        scaler = self.scalers[PLAYERS[model.optimizers(use_pl_optimizer=False).index(optimizer)]]
        result = scaler.step(optimizer)
        scaler.update()
        return result

    def state_dict(self) -> dict[str, Any]:
        return {player: scaler.state_dict() for player, scaler in self.scalers.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for player, state in state_dict.items():
            self.scalers[player].load_state_dict(state)
