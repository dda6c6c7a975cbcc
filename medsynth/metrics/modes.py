"""The modes of known-answer data that generated images are of, against the frequencies of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from medsynth.contracts import Better, InputError, ModeReader, check_contract


class ModeMetrics:
    """Counts of the modes that images are of (``contracts.Metrics``), for data with equally frequent known modes.

    ``compute`` gives

    * ``modes_caught``: modes of which there is a good generated image; higher is better;
    * ``good_images``: the share of generated images that are good images of a mode; higher is better;
    * ``modes_tv``: the total variation between the modes of the generated images, with "none" as one more, and those
      of the data: ``sum |q - 1/K| / 2``, from 0 to 1. Missing modes, unequal ones and bad images all raise it. Lower
      is better: the objective;
    * ``modes_kl``: the divergence ``sum q log(q K)`` of the good images' modes from the data's, in nats (the reverse
      one, of the generated modes from the real ones, as in Srivastava et al. 2017 and Lin et al. 2018); lower is
      better. At most log K, which it is without any good image;
    * ``real_modes_caught``, ``real_good_images``, ``real_modes_tv``, ``real_modes_kl``: the same of the real images;
    * ``num_modes``, and ``num_real``, ``num_fake``: how many images on each side. With N images of perfect modes the
      expected ``modes_kl`` is (K - 1) / 2N, not 0: values at different numbers do not compare.

    Args:
        reader: images -> modes, such as the source of the data.
        objective: the value to be monitored; lower has to be better.

    Raises:
        InputError: the data have no known modes, or the objective is not one of these.
    """

    def __init__(self, *, reader: ModeReader, objective: str = "modes_tv") -> None:
        if not hasattr(reader, "modes"):
            raise InputError(
                f"metrics=modes counts the modes of known-answer data, and {type(reader).__name__} has none: choose "
                "data=gaussian_ring, gaussian_grid or stacked_phantoms, or metrics=mini."
            )
        check_contract(reader, ModeReader, "metrics.reader")
        if objective not in _LOWER:
            raise InputError(f"metrics.objective={objective} cannot be minimized: choose {' or '.join(_LOWER)}.")
        self.objective = objective
        self._reader = reader
        self._counts = _Counts(reader.num_modes + 1)

    @staticmethod
    def logged_measures(config: Mapping[str, Any]) -> dict[str, Better]:
        """Return the measures; see ``contracts.Metrics``."""
        return dict(_BETTER)

    @property
    def has_real(self) -> bool:
        """Tell whether real images have been counted."""
        return bool(self._counts.real.sum() > 0)

    def to(self, device: torch.device | str) -> Self:
        """Move the counts."""
        self._counts.to(torch.device(device))
        return self

    @torch.inference_mode(False)
    @torch.no_grad()
    def update(self, images: Tensor, *, real: bool) -> None:
        """Count images ``(N, C, H, W)`` in [-1, 1].

        Raises:
            InputError: generated images that are not finite.
        """
        if not images.isfinite().all():
            raise InputError("The images have NaN or infinite values: the training has diverged.")
        modes = self._reader.modes(images).to(self._counts.device)
        self._counts.update(torch.bincount(modes + 1, minlength=len(self._counts.real)), real=real)

    @torch.inference_mode(False)
    @torch.no_grad()
    def compute(self) -> dict[str, float]:
        """Return all values by name, without prefix; under DDP over the images of all processes.

        Raises:
            InputError: a side has no images.
        """
        real, fake = self._counts.compute()
        if not (real.sum() and fake.sum()):
            raise InputError("metrics=modes needs images on both sides, real and generated: validate on more.")
        of_real = {f"real_{name}": value for name, value in mode_values(real).items()}
        numbers = {"num_modes": len(real) - 1, "num_real": int(real.sum()), "num_fake": int(fake.sum())}
        return mode_values(fake) | of_real | {name: float(value) for name, value in numbers.items()}

    def reset(self) -> None:
        """Forget the generated images; the real ones stay."""
        self._counts.forget_fake()


_BETTER: dict[str, Better] = {
    "modes_tv": "lower",
    "modes_kl": "lower",
    "modes_caught": "higher",
    "good_images": "higher",
}
_LOWER = [name for name, better in _BETTER.items() if better == "lower"]


def mode_values(counts: Tensor) -> dict[str, float]:
    """Return the four measures of ``ModeMetrics`` for counts (1 + K,): images of no mode, then those of each mode."""
    counts = counts.double()
    good, num_modes, total = counts[1:], len(counts) - 1, counts.sum()
    shares = good / total
    bad = float(counts[0] / total)
    found = good[good > 0] / good.sum()
    return {
        "modes_caught": float(len(found)),
        "good_images": 1.0 - bad,
        "modes_tv": float((shares - 1 / num_modes).abs().sum() + bad) / 2,
        "modes_kl": float((found * (found * num_modes).log()).sum()) if len(found) else math.log(num_modes),
    }


class _Counts(Metric):
    """Counts (1 + K,) of both sides, a torchmetrics metric so that those of DDP's processes are added."""

    full_state_update = False
    real: Tensor
    fake: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        for side in ("real", "fake"):
            self.add_state(side, default=torch.zeros(size, dtype=torch.int64), dist_reduce_fx="sum")  # pyright: ignore[reportUnknownMemberType]

    def update(self, counts: Tensor, *, real: bool) -> None:
        """Add counts to one side."""
        if real:
            self.real = self.real + counts
        else:
            self.fake = self.fake + counts

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the counts of all processes, real and generated."""
        return self.real, self.fake

    def forget_fake(self) -> None:
        """Forget the generated images; torchmetrics' reset would forget both."""
        self.fake = torch.zeros_like(self.fake)
        self._computed = None
