"""Recognition of pairs that do not show the same place: source and target are compared at all displacements.

Cross-correlation of gradient magnitudes, which do not depend on the contrast of the two images, finds the displacement
at which their edges fit best; of the same kind is phase correlation (Kuglin and Hines 1975), which weighs all
frequencies alike and fails on noise. Mutual information (Viola and Wells 1997; Maes et al. 1997) decides whether the
images tell more of each other there than where they are. ``scripts/measure_registration.py`` measures how many pairs
are recognized.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]
from torch.nn import functional

from medsynth.data.errors import Reason, ReasonKind
from medsynth.data.reading import RawImage

UNREGISTERED = Reason(ReasonKind.UNMATCHED, "pairs whose two images do not lie on each other (data.unregistered)")
TOLERANCE = 0.02  # displacement that is not noticed, as a fraction of the shorter side
LEAST_TOLERANCE = 1.5  # pixels
_LEAST_OVERLAP = 0.3  # of the two images, of the displacements that are compared
_LARGEST_SIDE = 160  # pixels; larger images are reduced for the comparison
_EDGE = 128  # of the shorter side in the standard deviation of the derivative's Gaussian, one pixel at least
_PERCENTILES = (0.5, 99.5)  # values beyond are clipped: a few bright pixels would be all that is compared
_LEVELS = 12  # of gray, equally frequent, of which mutual information is computed
_SMALLEST_SIDE = 16  # pixels; smaller images are not compared


def is_registered(pair: RawImage) -> bool:
    """Return whether source and target of a pair show the same place.

    They do unless their edges fit best at a displacement beyond ``TOLERANCE`` at which they also have more mutual
    information. Images without edges, and very small ones, are taken to be registered.
    """
    assert pair.source is not None
    source, target = _reduced(pair.source.values), _reduced(pair.values)
    correlation = _correlation(source, target)
    if correlation is None:
        return True
    rows, columns = (np.minimum(np.arange(count), count - np.arange(count)) for count in correlation.shape)
    height, width = source.shape
    overlap = np.outer(1 - rows / height, 1 - columns / width)
    # Images that overlap less are correlated less: without this a large displacement would not be found.
    correlation = np.where(overlap >= _LEAST_OVERLAP, correlation / np.sqrt(np.maximum(overlap, _LEAST_OVERLAP)), -1)
    best = np.unravel_index(int(correlation.argmax()), correlation.shape)
    down, across = (
        int(at - count if at > count // 2 else at) for at, count in zip(best, correlation.shape, strict=True)
    )
    if np.hypot(down, across) <= max(LEAST_TOLERANCE, TOLERANCE * min(height, width)):
        return True
    levels = _levels(source), _levels(target)
    return _mutual_information(*levels, 0, 0) >= _mutual_information(*levels, down, across)


def _levels(image: np.ndarray) -> np.ndarray:
    """Return whole numbers from 0, below ``_LEVELS``, that are about equally frequent."""
    return np.digitize(image, np.unique(np.quantile(image, np.linspace(0, 1, _LEVELS + 1)[1:-1])))


def _mutual_information(source: np.ndarray, target: np.ndarray, down: int, across: int) -> float:
    """Return the mutual information, in nats, of the source's pixels and the target's, displaced, where they overlap.

    It is corrected for its bias by the number of pixels (Miller 1955).
    """
    height, width = source.shape
    one = source[max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)]
    other = target[max(-down, 0) : height + min(-down, 0), max(-across, 0) : width + min(-across, 0)]
    together = np.bincount((one * _LEVELS + other).ravel(), minlength=_LEVELS**2).reshape(_LEVELS, _LEVELS) / one.size
    first, second, known = together.sum(axis=1), together.sum(axis=0), together > 0
    information = (together[known] * np.log(together[known] / np.outer(first, second)[known])).sum()
    return float(information - ((first > 0).sum() - 1) * ((second > 0).sum() - 1) / (2 * one.size))


def _reduced(values: np.ndarray) -> np.ndarray:
    """Return the mean of the channels, (H, W), of ``_LARGEST_SIDE`` at most."""
    image = torch.from_numpy(values.mean(axis=0, keepdims=True, dtype=np.float64))[None]
    scale = _LARGEST_SIDE / max(image.shape[-2:])
    if scale < 1:
        size = [max(1, round(extent * scale)) for extent in image.shape[-2:]]
        image = functional.interpolate(image, size, mode="area")
    return image[0, 0].numpy()


def _correlation(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """Return the correlation of the edges at all displacements, (2 H, 2 W), the first one without; None: no edges."""
    if min(source.shape) < _SMALLEST_SIDE:
        return None
    edges = [_edges(image) for image in (source, target)]
    sizes = [float(np.linalg.norm(edge)) for edge in edges]
    if min(sizes) == 0:
        return None
    extent = (2 * source.shape[0], 2 * source.shape[1])  # filled up with zeros, so that displacements are not cyclic
    spectra = [np.fft.rfft2(edge, extent) for edge in edges]
    return np.fft.irfft2(spectra[0] * np.conj(spectra[1]), extent) / (sizes[0] * sizes[1])


def _edges(image: np.ndarray) -> np.ndarray:
    """Return the gradient magnitude with a mean of 0, fading out at the border."""
    clipped = np.clip(image, *np.percentile(image, _PERCENTILES))
    edges = ndimage.gaussian_gradient_magnitude(clipped, max(1.0, min(image.shape) / _EDGE), mode="nearest")
    window = np.sqrt(np.outer(*(np.hanning(extent + 2)[1:-1] for extent in image.shape)))
    return (edges - (edges * window).sum() / window.sum()) * window
