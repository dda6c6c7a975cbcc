"""Fréchet distance, kernel distance and inception score, on the features of any extractor, by torchmetrics."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
import torchmetrics
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from medsynth.contracts import FeatureExtractor, InputError
from medsynth.metrics.quantization import quantize

logger = logging.getLogger(__name__)


class Names(NamedTuple):
    """What the values are called."""

    frechet: str
    inception_score: str
    kernel: str

    @classmethod
    def of(cls, extractor: FeatureExtractor) -> Names:
        """fid, is, kid where the extractor calls itself canonical; else fd_, is_, kd_ and the extractor's name."""
        if getattr(extractor, "canonical", False):
            return cls("fid", "is", "kid")
        return cls(f"fd_{extractor.name}", f"is_{extractor.name}", f"kd_{extractor.name}")


class GenerativeMetrics:
    """How far generated images are from real ones, measured on features (contracts.Metrics).

    Features are computed once per image, in float32 without autocast, and shared by all metrics, whose statistics
    are in float64. ``compute`` gives, for an extractor named "mini",

    * ``fd_mini``: Fréchet distance of two Gaussians (Heusel et al. 2017, eq. 6); lower is better;
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
    {'fd_pixels': 1.0, 'num_real': 8.0, 'num_fake': 8.0}
    """

    def __init__(
        self,
        *,
        extractor: FeatureExtractor,
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
        self._kernel_subsets, self._kernel_subset_size = kernel_subsets, kernel_subset_size
        self._seed = seed
        self._warned = False

        identity = _Identity(extractor.num_features)
        with warnings.catch_warnings():  # torchmetrics tells whoever makes one of these that it keeps all features
            warnings.filterwarnings("ignore", message="Metric `", category=UserWarning)
            self._frechet = FrechetInceptionDistance(identity, reset_real_features=False) if frechet else None
            self._kernel = KernelInceptionDistance(identity, reset_real_features=False) if kernel else None
            self._score = InceptionScore(identity, splits=inception_splits) if inception_score else None
        self._num_real, self._num_fake = torchmetrics.SumMetric(), torchmetrics.SumMetric()
        for metric in self._metrics:
            metric.set_dtype(torch.float64)
        self.reset_real()

        self._names = Names.of(extractor)
        self.objective = self._checked(objective)

    def _checked(self, objective: str | None) -> str | None:
        if not (self._frechet or self._kernel or self._score):
            raise InputError("metrics computes nothing: metrics.frechet=true, kernel=true or inception_score=true.")
        if self._score and not callable(getattr(self.extractor, "logits", None)):
            raise InputError(f"The extractor {self.extractor.name} has no classifier: metrics.inception_score=false.")
        enabled = [(self._frechet, self._names.frechet), (self._kernel, self._names.kernel)]
        distances = [name for metric, name in enabled if metric]
        if objective is not None and objective not in distances:
            raise InputError(
                f"metrics.objective={objective} is none of the distances computed here: {', '.join(distances) or '-'}."
            )
        return objective

    @property
    def _metrics(self) -> list[torchmetrics.Metric]:
        every = (self._frechet, self._kernel, self._score, self._num_real, self._num_fake)
        return [metric for metric in every if metric is not None]

    @property
    def has_real(self) -> bool:
        """Whether statistics of real images are there."""
        return self._num_real.sum_value.item() > 0

    def to(self, device: torch.device | str) -> Self:
        """Move the extractor and all statistics; ``update`` moves images there."""
        self.device = torch.device(device)
        self.extractor.to(self.device)
        for metric in self._metrics:
            metric.to(self.device)
        return self

    # Lightning validates in inference mode; statistics that were made there could not be updated outside of it.
    @torch.inference_mode(False)
    @torch.no_grad()
    def update(self, images: Tensor, *, real: bool) -> None:
        """Take in images ``(N, C, H, W)`` in [-1, 1].

        Raises:
            InputError: images or features that are not finite.
        """
        images = images.to(self.device, torch.float32)
        side = "real" if real else "generated"
        if not images.isfinite().all():  # before rounding hides it
            cause = "check the files and the intensity range of data" if real else "the training has diverged"
            raise InputError(f"The {side} images have NaN or infinite values: {cause}.")
        with torch.autocast(self.device.type, enabled=False):
            features = self.extractor(quantize(images) if self._quantize else images).double()
            if not features.isfinite().all():
                raise InputError(
                    f"The extractor {self.extractor.name} gives NaN or infinite features for {side} images: "
                    "check its weights (metrics.extractor)."
                )
            for metric in (self._frechet, self._kernel):
                if metric is not None:
                    metric.update(features, real=real)
            if self._score is not None and not real:
                self._score.update(self.extractor.logits(features.float()).double())
        (self._num_real if real else self._num_fake).update(len(images))

    def compute(self) -> dict[str, float]:
        """All values by name, without prefix.

        Raises:
            InputError: fewer than two images on a side.
        """
        num_real, num_fake = int(self._num_real.compute()), int(self._num_fake.compute())
        if min(num_real, num_fake) < 2:
            raise InputError(
                f"The metrics need at least 2 real and 2 generated images, and got {num_real} real and {num_fake} "
                "generated ones: validate on more."
            )
        values: dict[str, float] = {}
        if self._frechet is not None:
            self._warn_if_singular(min(num_real, num_fake))
            values[self._names.frechet] = self._frechet.compute().item()
        if self._score is not None:
            values |= self._inception_score()
        if self._kernel is not None:
            values |= self._kernel_distance(num_real, num_fake)
        return values | {"num_real": float(num_real), "num_fake": float(num_fake)}

    def _inception_score(self) -> dict[str, float]:
        with _seeded(self._seed), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="std")  # of one split
            mean, spread = self._score.compute()
        values = {self._names.inception_score: mean.item()}
        if self._score.splits > 1:
            values[f"{self._names.inception_score}_std"] = spread.item()
        return values

    def _kernel_distance(self, num_real: int, num_fake: int) -> dict[str, float]:
        size = min(self._kernel_subset_size, num_real, num_fake)
        self._kernel.subset_size = size
        self._kernel.subsets = 1 if size == num_real == num_fake else self._kernel_subsets
        with _seeded(self._seed):
            mean, spread = self._kernel.compute()
        return {self._names.kernel: mean.item(), f"{self._names.kernel}_std": spread.item()}

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

    @torch.inference_mode(False)
    def reset(self) -> None:
        """Forget the generated images; the real ones stay."""
        for metric in self._metrics:
            if metric is not self._num_real:
                metric.reset()
        self._num_fake.update(0)  # torchmetrics warns of a metric that was never updated

    @torch.inference_mode(False)
    def reset_real(self) -> None:
        """Forget real and generated images."""
        for metric in self._metrics:
            torchmetrics.Metric.reset(metric)  # past the subclasses, which keep the real ones
        self._num_real.update(0)
        self._num_fake.update(0)


class _Identity(torch.nn.Module):
    """The feature network of torchmetrics' metrics, to which features are given instead of images."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's random numbers, with which torchmetrics draws on every device, and put them back after."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
