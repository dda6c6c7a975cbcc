"""Fréchet distance, kernel distance and inception score for validation, on the features of any extractor."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from medsynth.contracts import Better, InputError
from medsynth.metrics.extractor_module import ExtractorModule, classifier_of
from medsynth.metrics.frechet import frechet
from medsynth.metrics.inception_score import inception_score_of_splits
from medsynth.metrics.kernel import kernel_subsets
from medsynth.metrics.names import Names
from medsynth.metrics.quantization import quantize

logger = logging.getLogger(__name__)
_LOGITS_AT_ONCE = 1024


class GenerativeMetrics:
    """Distances of generated images from real ones, on the features of an extractor (``contracts.Metrics``).

    Features are computed once per image, in float32 without autocast, and shared by all metrics, which compute in
    float64. ``compute`` gives, for an extractor named "mini",

    * ``fd_mini``: Fréchet distance of two Gaussians (Heusel et al. 2017, eq. 6); lower is better; ``fd_mini_low`` and
      ``fd_mini_high`` are the ends of its 95 % interval at this number of images;
    * ``kd_mini``, ``kd_mini_std``: unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3
      (Bińkowski et al. 2018), mean and spread over random subsets; lower is better, may be slightly negative;
    * ``is_mini``, ``is_mini_std``: inception score (Salimans et al. 2016), mean and spread over random splits of the
      generated images; from 1 to the number of classes, higher is better;
    * ``num_real``, ``num_fake``: how many images on each side; values at different numbers do not compare.

    For the canonical Inception network the names are ``fid``, ``kid``, ``is``; no other network gets them.

    Statistics of real images stay over ``reset``. The object is no ``nn.Module``, so that neither checkpoints nor
    Lightning's train() reach the extractor; move it by ``to``. Under DDP each value is over all processes.

    Args:
        extractor: an ``nn.Module`` that is a contracts.FeatureExtractor.
        objective: which of the values is to be monitored; one of the distances, as lower has to be better.
        frechet, kernel, inception_score: which metrics to compute.
        quantize: round images to 8 bits first, so that values agree with those of saved 8-bit files.
        kernel_subsets: number of random subsets of the kernel distance.
        kernel_subset_size: images in each subset, fewer where fewer are there. A subset that takes all images of
            both sides is drawn once, and has spread 0.
        inception_splits: parts of the inception score; one part has no spread, and ``is_..._std`` is left out.
        seed: of the random subsets and splits; PyTorch's global random state is not touched.

    Raises:
        InputError: no metric chosen; an objective that is not computed; an inception score without a classifier.

    >>> class Pixels(torch.nn.Module):
    ...     name, num_features = "pixels", 4
    ...     def forward(self, images):
    ...         return images.flatten(1)
    >>> metrics = GenerativeMetrics(extractor=Pixels(), inception_score=False)
    >>> real = torch.linspace(-1, 1, 32).reshape(8, 1, 2, 2)
    >>> metrics.update(real, real=True)
    >>> metrics.update(real + 0.5, real=False)  # four pixels, each 0.5 brighter: 4 * 0.5**2
    >>> {name: round(value, 3) for name, value in metrics.compute().items()}
    {'fd_pixels': 1.0, 'fd_pixels_low': 0.0, 'fd_pixels_high': 6.898, 'num_real': 8.0, 'num_fake': 8.0}
    """

    def __init__(
        self,
        *,
        extractor: ExtractorModule,
        objective: str | None = None,
        frechet: bool = True,
        kernel: bool = False,
        inception_score: bool = True,
        quantize: bool = False,
        kernel_subsets: int = 100,
        kernel_subset_size: int = 1000,
        inception_splits: int = 10,
        seed: int = 0,
    ) -> None:
        if min(kernel_subsets, inception_splits) < 1 or kernel_subset_size < 2:
            raise InputError(
                "metrics.kernel_subsets and metrics.inception_splits start at 1, metrics.kernel_subset_size at 2."
            )
        self.extractor = extractor.eval().requires_grad_(False)
        self.device = torch.device("cpu")
        self._quantize = quantize
        self._frechet, self._kernel, self._score = frechet, kernel, inception_score
        self._kernel_subsets, self._kernel_subset_size = kernel_subsets, kernel_subset_size
        self._splits = inception_splits
        self._seed = seed
        self._warned = False
        self._features = Features()
        self._names = Names.of(extractor)
        self.objective = self._checked(objective)

    @staticmethod
    def logged_measures(config: Mapping[str, Any]) -> dict[str, Better]:
        """Return the chosen distances and scores; see ``contracts.Metrics``."""
        names = Names.declared(config.get("extractor", {}))
        if names is None:
            return {}
        options = inspect.signature(GenerativeMetrics).parameters
        measures: dict[str, tuple[str, Better]] = {
            "frechet": (names.frechet, "lower"),
            "kernel": (names.kernel, "lower"),
            "inception_score": (names.inception_score, "higher"),
        }
        chosen = [option for option in measures if config.get(option, options[option].default)]
        return dict(measures[option] for option in chosen)

    def _checked(self, objective: str | None) -> str | None:
        if not (self._frechet or self._kernel or self._score):
            raise InputError("metrics computes nothing: metrics.frechet=true, kernel=true or inception_score=true.")
        if self._score and classifier_of(self.extractor) is None:
            raise InputError(f"The extractor {self.extractor.name} has no classifier: metrics.inception_score=false.")
        enabled = [(self._frechet, self._names.frechet), (self._kernel, self._names.kernel)]
        distances = [name for is_computed, name in enabled if is_computed]
        if objective is not None and objective not in distances:
            raise InputError(
                f"metrics.objective={objective} is none of the distances computed here: {', '.join(distances) or '-'}."
            )
        return objective

    @property
    def has_real(self) -> bool:
        """Tell whether it has features of real images."""
        return bool(self._features.real)

    def to(self, device: torch.device | str) -> Self:
        """Move the extractor and the features; ``update`` moves images there."""
        self.device = torch.device(device)
        self.extractor.to(self.device)
        self._features.to(self.device)
        return self

    # Lightning validates in inference mode; features that were made there could not be used outside of it.
    @torch.inference_mode(False)
    @torch.no_grad()
    def update(self, images: Tensor, *, real: bool) -> None:
        """Take in images ``(N, C, H, W)`` in [-1, 1].

        Raises:
            InputError: images or features that are not finite.
        """
        side = "real" if real else "generated"
        if not images.isfinite().all():  # before rounding hides it
            cause = "check the files and the intensity range of data" if real else "the training has diverged"
            raise InputError(f"The {side} images have NaN or infinite values: {cause}.")
        features = self.features_of(images)
        if not features.isfinite().all():
            raise InputError(
                f"The extractor {self.extractor.name} gives NaN or infinite features for {side} images: "
                "check its weights (metrics.extractor)."
            )
        self._features.update(features, real=real)

    @torch.inference_mode(False)
    @torch.no_grad()
    def features_of(self, images: Tensor) -> Tensor:
        """Return the features (N, d) of images (N, C, H, W) in [-1, 1], without taking them in."""
        images = images.to(self.device, torch.float32)
        with torch.autocast(self.device.type, enabled=False):
            return self.extractor(quantize(images) if self._quantize else images).float()

    def features(self) -> tuple[Tensor, Tensor]:
        """Return the features of real and generated images taken in, of all processes."""
        return self._features.compute()

    @property
    def classify(self) -> Callable[[Tensor], Tensor] | None:
        """Return the extractor's classifier, which takes features of any device, or None."""
        logits = classifier_of(self.extractor)
        return None if logits is None else lambda features: logits(features.to(self.device))

    @torch.inference_mode(False)
    @torch.no_grad()
    def compute(self) -> dict[str, float]:
        """Return all values by name, without prefix; under DDP over the images of all processes.

        Raises:
            InputError: fewer than two images on a side.
        """
        real, fake = map(_in_order, self._features.compute())
        if min(len(real), len(fake)) < 2:
            raise InputError(
                f"The metrics need at least 2 real and 2 generated images, and got {len(real)} real and {len(fake)} "
                "generated ones: validate on more."
            )
        values: dict[str, float] = {}
        if self._frechet:
            self._warn_if_singular(min(len(real), len(fake)))
            estimate = frechet(real.cpu().numpy(), fake.cpu().numpy())
            name = self._names.frechet
            values |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        if self._score:
            values |= self._inception_score(fake)
        if self._kernel:
            values |= self._kernel_distance(real.cpu().numpy(), fake.cpu().numpy())
        return values | {"num_real": float(len(real)), "num_fake": float(len(fake))}

    def _inception_score(self, fake: Tensor) -> dict[str, float]:
        classify = classifier_of(self.extractor)
        assert classify is not None  # checked on construction
        with torch.autocast(self.device.type, enabled=False):
            logits = torch.cat([classify(batch) for batch in torch.split(fake, _LOGITS_AT_ONCE)])
        mean, spread = inception_score_of_splits(logits.double().cpu().numpy(), splits=self._splits, seed=self._seed)
        name = self._names.inception_score
        return {name: mean} | ({f"{name}_std": spread} if self._splits > 1 else {})

    def _kernel_distance(self, real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
        size = min(self._kernel_subset_size, len(real), len(fake))
        subsets = 1 if size == len(real) == len(fake) else self._kernel_subsets
        mean, spread = kernel_subsets(real, fake, subset_size=size, subsets=subsets, seed=self._seed)
        return {self._names.kernel: mean, f"{self._names.kernel}_std": spread}

    def _warn_if_singular(self, num_images: int) -> None:
        if num_images <= self.extractor.num_features and not self._warned:
            logger.warning(
                "%s of %d images with %d features: the covariance is singular and the distance biased upwards; "
                "compare it at the same number of images only.",
                self._names.frechet,
                num_images,
                self.extractor.num_features,
            )
            self._warned = True

    def reset(self) -> None:
        """Forget the generated images; the real ones stay."""
        self._features.forget(real=False)

    def reset_real(self) -> None:
        """Forget real and generated images."""
        self._features.forget(real=False)
        self._features.forget(real=True)


class Features(Metric):
    """The features ``(N, d)`` of both sides, a torchmetrics metric so that the processes of DDP are gathered."""

    full_state_update = False
    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for side in ("real", "fake"):
            self.add_state(side, default=[], dist_reduce_fx="cat")  # pyright: ignore[reportUnknownMemberType]

    def update(self, features: Tensor, *, real: bool) -> None:
        """Add features ``(n, d)`` to one side."""
        (self.real if real else self.fake).append(features)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the features of all processes, real and generated."""
        return _together(self.real), _together(self.fake)

    def forget(self, *, real: bool) -> None:
        """Forget one side; torchmetrics' reset would forget both."""
        (self.real if real else self.fake).clear()
        self._computed = None


def _in_order(features: Tensor) -> Tensor:
    """Sort by a projection, so that random subsets do not depend on the order of batches and processes."""
    if len(features) == 0:
        return features
    rows = features.double()
    direction = torch.arange(1, rows.shape[1] + 1, dtype=torch.float64, device=rows.device).cos()
    return features[(rows @ direction).argsort(stable=True)]


def _together(features: list[Tensor] | Tensor) -> Tensor:
    if isinstance(features, Tensor):  # synchronized by torchmetrics
        return features
    return torch.cat(features) if features else torch.empty(0, 0)
