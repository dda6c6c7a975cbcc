"""Recognition of pairs that do not show the same place: source and target are compared at all displacements and turns.

Cross-correlation of gradient magnitudes, which do not depend on the contrast of the two images, finds the displacement
at which their edges fit best; of the same kind is phase correlation (Kuglin and Hines 1975), which weighs all
frequencies alike and fails on noise. Mutual information (Viola and Wells 1997; Maes et al. 1997) decides whether the
images tell more of each other there than where they are. Of smaller copies the same is done with the target mirrored
and turned by right angles. ``scripts/measure_registration.py`` measures how many pairs are recognized.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]
from torch.nn import functional

from medsynth.data.errors import Reason, ReasonKind
from medsynth.data.reading import RawImage

UNREGISTERED = Reason(ReasonKind.UNMATCHED, "pairs whose two images do not lie on each other (data.unregistered)")
_TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # what a target is -> what brings it back
    "mirrored left to right": lambda image: image[:, ::-1],
    "mirrored top to bottom": lambda image: image[::-1],
    "rotated by 180 degrees": lambda image: image[::-1, ::-1],
    "rotated by 90 degrees clockwise": np.rot90,
    "rotated by 90 degrees counterclockwise": lambda image: np.rot90(image, -1),
    "mirrored along the diagonal from the upper left": np.transpose,
    "mirrored along the diagonal from the upper right": lambda image: image[::-1, ::-1].T,
}
TURNED = {name: Reason(ReasonKind.UNMATCHED, f"pairs whose target is {name} (data.unregistered)") for name in _TURNS}
TOLERANCE = 0.02  # displacement that is not noticed, as a fraction of the shorter side
LEAST_TOLERANCE = 1.5  # pixels
_LEAST_OVERLAP = 0.3  # of the two images, of the displacements that are compared
_LARGEST_SIDE = 160  # pixels; larger images are reduced for the comparison
_EDGE = 128  # of the shorter side in the standard deviation of the derivative's Gaussian, one pixel at least
_PERCENTILES = (0.5, 99.5)  # values beyond are clipped: a few bright pixels would be all that is compared
_LEVELS = 12  # of gray, equally frequent, of which mutual information is computed
_SMALLEST_SIDE = 16  # pixels; smaller images are not compared
_TURNED_SIDE = 80  # pixels; larger images are reduced for the comparison with turned ones
_SMALLEST_TURNED_SIDE = 48  # pixels; smaller images are not compared with turned ones


def misplacement(pair: RawImage) -> Reason | None:
    """Return why source and target of a pair do not show the same place; None: they do.

    They do unless there is a displacement beyond ``TOLERANCE``, or a turn by right angles or a mirror image, at which
    their edges fit best and they have more mutual information. Images without edges, and very small ones, are taken to
    be registered.
    """
    assert pair.source is not None
    turned = _turn(pair.source.values, pair.values)
    if turned is not None:
        return TURNED[turned]
    source, target = (_reduced(values, _LARGEST_SIDE) for values in (pair.source.values, pair.values))
    if min(source.shape) < _SMALLEST_SIDE:
        return None
    place = _best_displacement(_spectrum(_edges(source)), _spectrum(_edges(target)), source.shape)
    if place is None or np.hypot(*place) <= max(LEAST_TOLERANCE, TOLERANCE * min(source.shape)):
        return None
    levels = _levels(source), _levels(target)
    registered = _mutual_information(*levels, 0, 0) >= _mutual_information(*levels, *place)
    return None if registered else UNREGISTERED


def _turn(source: np.ndarray, target: np.ndarray) -> str | None:
    """Return how the target is turned or mirrored; None: as it is, it has as much mutual information with the source.

    The target is tried at the displacement at which its edges fit best, as it is and in each of the other ways.
    """
    images = [_reduced(values, _TURNED_SIDE) for values in (source, target)]
    shape = images[0].shape
    if min(shape) < _SMALLEST_TURNED_SIDE:
        return None
    edges, levels = [_edges(image) for image in images], [_levels(image) for image in images]
    spectrum = _spectrum(edges[0])

    def information(turn: Callable[[np.ndarray], np.ndarray]) -> float:
        place = _best_displacement(spectrum, _spectrum(turn(edges[1])), shape)
        return -np.inf if place is None else _mutual_information(levels[0], turn(levels[1]), *place)

    found = {name: information(turn) for name, turn in _TURNS.items() if turn(images[1]).shape == shape}
    best = max(found, key=found.__getitem__)
    own = max(information(lambda image: image), _mutual_information(levels[0], levels[1], 0, 0))
    return best if found[best] > own else None


def _best_displacement(
    source: np.ndarray | None, target: np.ndarray | None, shape: tuple[int, ...]
) -> tuple[int, int] | None:
    """Return the displacement (rows, columns) at which edges of (H, W) fit best, by their spectra; None: no edges."""
    if source is None or target is None:
        return None
    height, width = shape
    correlation = np.fft.irfft2(source * np.conj(target), (2 * height, 2 * width))  # at all displacements, 0 first
    rows, columns = (np.minimum(np.arange(count), count - np.arange(count)) for count in correlation.shape)
    overlap = np.outer(1 - rows / height, 1 - columns / width)
    # Images that overlap less are correlated less: without this a large displacement would not be found.
    correlation = np.where(overlap >= _LEAST_OVERLAP, correlation / np.sqrt(np.maximum(overlap, _LEAST_OVERLAP)), -1)
    best = np.unravel_index(int(correlation.argmax()), correlation.shape)
    down, across = (
        int(at - count if at > count // 2 else at) for at, count in zip(best, correlation.shape, strict=True)
    )
    return down, across


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


def _reduced(values: np.ndarray, largest: int) -> np.ndarray:
    """Return the mean of the channels, (H, W), of ``largest`` pixels at most."""
    image = torch.from_numpy(values.mean(axis=0, keepdims=True, dtype=np.float64))[None]
    scale = largest / max(image.shape[-2:])
    if scale < 1:
        size = [max(1, round(extent * scale)) for extent in image.shape[-2:]]
        image = functional.interpolate(image, size, mode="area")
    return image[0, 0].numpy()


def _spectrum(edges: np.ndarray) -> np.ndarray | None:
    """Return the spectrum of edges (H, W) of a norm of 1, filled up with zeros to twice the size; None: no edges.

    Displacements would be cyclic without the zeros.
    """
    size = float(np.linalg.norm(edges))
    return np.fft.rfft2(edges / size, (2 * edges.shape[0], 2 * edges.shape[1])) if size > 0 else None


def _edges(image: np.ndarray) -> np.ndarray:
    """Return the gradient magnitude with a mean of 0, fading out at the border."""
    clipped = np.clip(image, *np.percentile(image, _PERCENTILES))
    edges = ndimage.gaussian_gradient_magnitude(clipped, max(1.0, min(image.shape) / _EDGE), mode="nearest")
    window = np.sqrt(np.outer(*(np.hanning(extent + 2)[1:-1] for extent in image.shape)))
    return (edges - (edges * window).sum() / window.sum()) * window
