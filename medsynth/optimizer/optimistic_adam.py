"""Optimistic Adam (Daskalakis et al. 2018, "Training GANs with optimism")."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medsynth.optimizer.adam_moments import AdamMoments


class OptimisticAdam(AdamMoments):
    """Adam that takes each step twice and takes the last one back (Daskalakis et al. 2018, algorithm 1).

    With Adam's direction ``d_t = m_t / (sqrt(v_t) + eps)``, both averages corrected for their start from zero,
    ``w <- w - 2 lr d_t + lr d_(t-1)``, and d_0 = 0. The last direction stands for the next one, so that two networks
    approach an equilibrium that plain gradient steps circle around. For its options see ``AdamMoments``.
    """

    def update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Move by twice the direction less the last one."""
        last = self.remembered(parameter, "direction")
        direction = self.direction(parameter, gradient, group)
        parameter.sub_(2 * direction - last, alpha=group["lr"])
        last.copy_(direction)
