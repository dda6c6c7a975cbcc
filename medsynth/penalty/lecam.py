"""The LeCam regularization, for training with few images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from medsynth.contracts import InputError


class LeCam:
    """Keeps the logits of either side from running away from what the other side's have been (Tseng et al. 2021).

    ``weight * (E[relu(D(x) - average of D(G(z)))^2] + E[relu(average of D(x) - D(G(z)))^2])``, with the exponential
    moving averages of the mean logits over the updates before this one (equation 3; the rectifiers are those of the
    authors' published code and leave images alone that the discriminator takes for the other side). For logits that
    have a boundary: with a Wasserstein or relativistic loss it also pins what may drift freely.

    Args:
        weight: of the term. The published ones go from 0.3 (BigGAN) to 3e-7 (StyleGAN2): try several.
        decay: of the averages, for each discriminator update.
        start: discriminator updates before the first one with the term; until then the averages are the last logits.
        interval: discriminator updates for one with the term, which is then as many times as strong.

    Raises:
        InputError: names the option that is out of range.
    """

    at: Literal["logits"] = "logits"

    def __init__(self, *, weight: float = 0.3, decay: float = 0.99, start: int = 1000, interval: int = 1):
        if not 0 <= decay < 1:
            raise InputError(f"penalty.lecam.decay={decay} must be from 0 to less than 1.")
        if start < 1:
            raise InputError(f"penalty.lecam.start={start} must be 1 or more: the averages need an update.")
        self.weight = weight
        self.decay = decay
        self.start = start
        self.interval = interval
        self._updates = 0
        self._real = self._fake = 0.0

    def __call__(self, *, real: Tensor, fake: Tensor) -> Tensor:
        above, below = (real - self._fake).relu(), (self._real - fake).relu()
        term = self.weight * (above.square().mean() + below.square().mean())
        return term if self._updates >= self.start else 0 * term

    def observe(self, *, real_logits: float, fake_logits: float, real_signs: float) -> Mapping[str, float]:
        decay = self.decay if self._updates >= self.start else 0.0
        self._real = decay * self._real + (1 - decay) * real_logits
        self._fake = decay * self._fake + (1 - decay) * fake_logits
        self._updates += 1
        return {"real_average": self._real, "fake_average": self._fake}

    def state_dict(self) -> dict[str, float]:
        return {"updates": self._updates, "real": self._real, "fake": self._fake}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self._updates, self._real, self._fake = int(state["updates"]), state["real"], state["fake"]
