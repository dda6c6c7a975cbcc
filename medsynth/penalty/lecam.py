"""LeCam regularization, for training with few images (Tseng et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from medsynth.contracts import InputError


class LeCam:
    """Bound on the distance of each side's logits from the average logits of the other side (Tseng et al. 2021).

    ``weight * (E[relu(D(x) - average of D(G(z)))^2] + E[relu(average of D(x) - D(G(z)))^2])``, with exponentially
    weighted averages of the mean logits over earlier updates (equation 3; the rectifiers are those of the authors'
    published code and exempt images that the discriminator assigns to the wrong side). It suits losses whose logits
    have a boundary; with a Wasserstein or relativistic loss it also fixes the mean logit, which may drift there.

    Args:
        weight: of the term. Published values range from 3e-7 (StyleGAN2) to 0.3 (BigGAN): try several.
        decay: of the averages, for each discriminator update.
        start: discriminator updates before the first one with the term; until then the averages are the last logits.
        interval: the term enters every so many discriminator updates, multiplied by this number.

    Raises:
        InputError: names the option that is out of range.
    """

    at: Literal["logits"] = "logits"

    def __init__(self, *, weight: float = 0.3, decay: float = 0.99, start: int = 1000, interval: int = 1):
        if not 0 <= decay < 1:
            raise InputError(f"penalty.lecam.decay={decay} must be from 0 to less than 1.")
        if start < 1:
            raise InputError(f"penalty.lecam.start={start} must be 1 or more, since the averages need an update.")
        self.weight = weight
        self.decay = decay
        self.start = start
        self.interval = interval
        self._updates = 0
        self._real = self._fake = 0.0

    def __call__(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return the term, a scalar; zero before ``start``."""
        above, below = (real - self._fake).relu(), (self._real - fake).relu()
        term = self.weight * (above.square().mean() + below.square().mean())
        return term if self._updates >= self.start else 0 * term

    def observe(self, *, real_logits: float, fake_logits: float, real_signs: float) -> Mapping[str, float]:
        """Update the averages by the mean logits of an update; return them."""
        decay = self.decay if self._updates >= self.start else 0.0
        self._real = decay * self._real + (1 - decay) * real_logits
        self._fake = decay * self._fake + (1 - decay) * fake_logits
        self._updates += 1
        return {"real_average": self._real, "fake_average": self._fake}

    def state_dict(self) -> dict[str, float]:
        """Return the averages and the number of updates."""
        return {"updates": self._updates, "real": self._real, "fake": self._fake}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the averages and the number of updates."""
        self._updates, self._real, self._fake = int(state["updates"]), state["real"], state["fake"]
