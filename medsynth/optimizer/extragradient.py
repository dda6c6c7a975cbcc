"""Extragradient with Adam (Gidel et al. 2019, "A variational inequality perspective on GANs")."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medsynth.optimizer.adam_moments import AdamMoments

EXTRAPOLATIONS = ("past", "standard")


class Extragradient(AdamMoments):
    """Adam whose gradients are taken at a point ahead of the iterate (Gidel et al. 2019, algorithm 4, Extra-Adam).

    With Adam's direction d of a gradient, which is taken into both averages first, an update of the iterate w is

        v = w - lr d(an earlier or another gradient)        the extrapolation: where the networks are evaluated next
        w = w - lr d(the gradient at v)                     the update, from w and not from v

    With ``extrapolation="past"`` (option 2 of the algorithm) the extrapolation uses the gradient of the last update
    again: a step of this optimizer is the update and the next extrapolation, and costs no second gradient. The first
    extrapolation is none. With ``"standard"`` (option 1: extragradient itself) it has a gradient of its own, from a
    batch of its own: the steps are extrapolations and updates in turn, so that an update takes two batches, and both
    networks have to take turns alike.

    Between the steps the parameters are v, so that validation, EMA and checkpoints have v where the paper averages w.
    The GAN's generator is updated against the discriminator's new v, as usual, and not at the same time.

    Args:
        params: parameters, or groups of them.
        extrapolation: "past" or "standard".
        options: ``lr``, ``betas`` and ``eps``; see ``AdamMoments``.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, params: Any, *, extrapolation: str = "past", **options: Any):
        if extrapolation not in EXTRAPOLATIONS:
            raise ValueError(f"extrapolation={extrapolation} must be {' or '.join(EXTRAPOLATIONS)}")
        super().__init__(params, **options)
        self.extrapolation = extrapolation

    def update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Go back to the iterate, update it, and extrapolate; or one of both in turn."""
        ahead = self.remembered(parameter, "extrapolation")  # w - v
        parameter.add_(ahead)
        move = group["lr"] * self.direction(parameter, gradient, group)
        parameter.sub_(move)
        if self.extrapolation == "past":
            move = group["lr"] * self.direction(parameter, gradient, group)
            parameter.sub_(move)
            ahead.copy_(move)
        elif self.state[parameter]["step"] % 2:
            ahead.copy_(move)
        else:
            ahead.zero_()
