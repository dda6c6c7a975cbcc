"""The diversity of a set of images, by the mean similarity of random pairs.

Pairs share no image, so that their values are independent and the interval of the mean is honest; a set of N images
gives N // 2 of them at most. Diversity has no scale of its own: compare with real images at the same N.
"""

from __future__ import annotations

import hashlib
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torchvision  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor
from torch.nn.functional import interpolate
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

from medsynth.contracts import InputError, counter_seed
from medsynth.files import replacing
from medsynth.metrics.interval import Estimate, mean_interval

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first: Wang et al. 2003
WINDOW = 11  # pixels: a Gaussian with a standard deviation of 1.5
PATCH = 64  # pixels: the size that LPIPS was fitted at
BLOCK = 16  # pairs at a time; more are slower on a CPU
LPIPS_WEIGHTS = {
    "alex": torchvision.models.AlexNet_Weights.IMAGENET1K_V1,
    "vgg": torchvision.models.VGG16_Weights.IMAGENET1K_V1,
    "squeeze": torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
}
CONNECTION_TIMEOUT = 10.0  # seconds

Distance = Callable[[Tensor, Tensor], Tensor]


def draw_pairs(count: int, *, pairs: int, seed: int) -> np.ndarray:
    """Draw indices ``(P, 2)`` below ``count``, none twice; P is ``pairs``, or ``count // 2`` if that is less.

    Raises:
        InputError: fewer than two images, or fewer than one pair asked for.
    """
    if count < 2:
        raise InputError(f"The similarity of pairs needs 2 or more images, and there are {count}.")
    if pairs < 1:
        raise InputError(f"pairs={pairs} is not possible: 1 or more.")
    order = np.random.default_rng(counter_seed("pairs", seed)).permutation(count)
    number = min(pairs, count // 2)
    return order[: 2 * number].reshape(number, 2)


def scale_exponents(image_size: int) -> tuple[float, ...]:
    """Return the exponents of the scales that fit into ``image_size`` pixels, scaled to the sum 1.

    Each scale has half the pixels of the one before. As many of Wang's five are taken as leave the coarsest image no
    smaller than the window: 5 from 176 pixels on, 4 from 88, 3 from 44, 2 from 22, and one, plain SSIM, from 11.

    Raises:
        InputError: not even one.
    """
    number = sum(image_size // 2**scale >= WINDOW for scale in range(len(EXPONENTS)))
    if number == 0:
        raise InputError(f"MS-SSIM needs images of {WINDOW} pixels or more, and these have {image_size}.")
    total = sum(EXPONENTS[:number])
    return tuple(exponent / total for exponent in EXPONENTS[:number])


def ms_ssim(first: Tensor, second: Tensor) -> Tensor:
    """Compute the similarity of pairs of images ``(N, C, H, W)`` in [-1, 1]: ``(N,)``, 1 if they are equal.

    Wang et al. 2003, "Multiscale structural similarity for image quality assessment", with as many scales as
    fit, by torchmetrics. Negative terms, which unlike images have, count as 0. Of the SSIM at the coarsest scale
    torchmetrics takes the mean over the whole image, mirrored at its border; MONAI leaves the border out, so that its
    values differ. In float32, which is right to 1e-6 here and over ten times as fast as float64.

    Raises:
        InputError: the images are too small.
    """
    exponents = scale_exponents(min(first.shape[-2:]))
    return multiscale_structural_similarity_index_measure(
        first.float(),
        second.float(),
        sigma=1.5,
        kernel_size=1,  # of no effect with a Gaussian, whose window follows from sigma, but in a check of the size
        data_range=2.0,
        betas=exponents,
        normalize="relu",
        reduction="none",
    ).reshape(-1)


def ms_ssim_of_pairs(images: Tensor, *, pairs: int, seed: int) -> Estimate:
    """Compute the mean MS-SSIM of random pairs of images ``(N, C, H, W)`` in [-1, 1]; higher is less diverse.

    Odena et al. 2017, "Conditional Image Synthesis with Auxiliary Classifier GANs". The interval is over the pairs.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        pairs: how many, ``N // 2`` at most.
        seed: of the pairs, which are the same for all sets of N images.

    Raises:
        InputError: fewer than two images, too small ones, or values that are not finite.
    """
    return _mean_of_pairs(images, ms_ssim, pairs=pairs, seed=seed)


def lpips_of_pairs(images: Tensor, *, pairs: int, seed: int, network: Distance) -> Estimate:
    """Compute the mean LPIPS distance of random pairs of images ``(N, C, H, W)`` in [-1, 1]; higher is more diverse.

    Gray is repeated to 3 channels, and images of less than 64 pixels, the size that LPIPS was fitted at, are enlarged
    to that (bilinear). The interval is over the pairs.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        pairs: how many, ``N // 2`` at most.
        seed: of the pairs, which are those of ``ms_ssim_of_pairs``.
        network: takes two batches ``(n, 3, H, W)`` in [-1, 1] to n distances; such as ``lpips_network``.

    Raises:
        InputError: fewer than two images, not 1 or 3 channels, or values that are not finite.
    """
    channels = images.shape[1]
    if channels not in (1, 3):
        raise InputError(f"LPIPS takes images of 1 or 3 channels, and these have {channels}: measure ms_ssim instead.")

    def distance(first: Tensor, second: Tensor) -> Tensor:
        return network(_for_lpips(first), _for_lpips(second))

    return _mean_of_pairs(images, distance, pairs=pairs, seed=seed)


def lpips_network(name: str = "alex") -> torch.nn.Module:
    """Load LPIPS from torchmetrics: two batches ``(n, 3, H, W)`` in [-1, 1] -> distances ``(n, 1, 1, 1)``.

    Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric". Its ImageNet network
    is torchvision's, from PyTorch's cache or downloaded there; alex is 244 MB, vgg 553 MB, squeeze 5 MB.

    Args:
        name: alex, vgg or squeeze.

    Raises:
        InputError: there is no such network, or its weights cannot be found.
    """
    if name not in LPIPS_WEIGHTS:
        raise InputError(f"There is no LPIPS network {name}: choose {', '.join(LPIPS_WEIGHTS)}.")
    url = LPIPS_WEIGHTS[name].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        _download(url, path)
    return LearnedPerceptualImagePatchSimilarity(net_type=cast(Any, name)).net.eval()


def _download(url: str, path: Path) -> None:
    """Download the file; torchvision's own download waits for minutes behind some firewalls."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as draft:
            with urllib.request.urlopen(url, timeout=CONNECTION_TIMEOUT) as answer, draft.open("wb") as file:
                shutil.copyfileobj(answer, file)
            with draft.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if not digest.startswith(path.stem.rsplit("-", 1)[-1]):  # the name ends in the digest's beginning
                raise OSError("the download is damaged")
    except OSError as error:
        raise InputError(
            f"LPIPS needs torchvision's weights, which are not at {path} and cannot be downloaded ({error}): put the "
            f"file of {url} there, or measure diversity by ms_ssim, which needs no network."
        ) from error


def _for_lpips(images: Tensor) -> Tensor:
    images = images.float().clamp(-1, 1).expand(-1, 3, -1, -1)
    if min(images.shape[-2:]) < PATCH:
        images = interpolate(images, (PATCH, PATCH), mode="bilinear")
    return images


@torch.no_grad()
def _mean_of_pairs(images: Tensor, measure: Distance, *, pairs: int, seed: int) -> Estimate:
    drawn = torch.as_tensor(draw_pairs(len(images), pairs=pairs, seed=seed)).to(images.device)
    if not images.isfinite().all():
        raise InputError("The images have NaN or infinite values: check the files and the intensity range of data.")
    values = torch.cat([measure(*block).reshape(-1) for block in _blocks(images, drawn)])
    return mean_interval(values.double().cpu().numpy())


def _blocks(images: Tensor, pairs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for block in torch.split(pairs, BLOCK):
        yield images[block[:, 0]], images[block[:, 1]]
