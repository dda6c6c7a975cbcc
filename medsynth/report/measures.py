"""Groups and meanings of measures, and how far a value is on the way from real images to the worst."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from medsynth.report.effects import better
from medsynth.report.run import Run
from medsynth.report.run_files import entry

BETTER = {"lower": "lower is better", "higher": "higher is better", "baseline": "near the baseline"}
GROUPS = {
    "translation": ("Translation", "How far are translations from their targets, and how far is the source itself?"),
    "fidelity": ("Fidelity", "Do single generated images look like real ones, and does the whole set?"),
    "diversity": ("Diversity", "Do generated images differ from each other as much as real ones do?"),
    "copies": ("Copies", "Are generated images nearer to training images than other real images are?"),
    "appearance": ("Appearance", "Do intensities and fine detail agree with those of real images?"),
    "other": ("Others", "Measures of this training alone."),
}
_LARGE = 100.0  # times the baseline: the end of the scale of a distance that has been nowhere worse


@dataclass(frozen=True)
class Kind:
    """A kind of measure.

    Attributes:
        group: one of ``GROUPS``.
        title: the name of the measure in the field.
        meaning: what a value says, to follow the title.
        worst: the end of its scale; None: there is none.
    """

    group: str
    title: str
    meaning: str
    worst: float | None = None


_FRECHET = Kind("fidelity", "Fréchet distance", "of the features of the two sets; 0: the same mean and covariance")
_KERNEL = Kind("fidelity", "Kernel distance", "of the features of the two sets, unbiased by their size; about 0: alike")
_SCORE = Kind("fidelity", "Inception score", "classes that single images show and the set varies; 1: none", 1.0)
_PAIRED = {
    "mae": ("Mean absolute error", "against the targets, in their unit"),
    "mse": ("Mean squared error", "against the targets, in the square of their unit"),
    "psnr": ("PSNR", "against the targets, in decibels"),
    "ssim": ("SSIM", "structural similarity to the targets; 1: equal"),
}
_COPIED = ", source copied"  # behind the title of a measure of the source as it is
KINDS: Mapping[str, Kind] = {
    **{name: Kind("translation", title, meaning) for name, (title, meaning) in _PAIRED.items()},
    **{f"copy_{name}": Kind("translation", title + _COPIED, meaning) for name, (title, meaning) in _PAIRED.items()},
    "val/ms_ssim": Kind("translation", "MS-SSIM of pairs", "similarity to the targets at several scales; 1: equal"),
    "copy_ms_ssim": Kind("translation", f"MS-SSIM of pairs{_COPIED}", "the same of the source; 1: equal"),
    "fd": _FRECHET,
    "fid": _FRECHET,
    "kd": _KERNEL,
    "kid": _KERNEL,
    "gaussian_kd": _KERNEL,
    "gaussian_kid": _KERNEL,
    "is": _SCORE,
    "precision": Kind("fidelity", "Precision", "share of generated images that lie among real ones", 0.0),
    "density": Kind("fidelity", "Density", "how densely generated images lie among real ones; 1: as real ones do", 0.0),
    "c2st": Kind("fidelity", "Two-sample test", "area under a classifier's curve, real or not; 0.5: it guesses", 1.0),
    "good_images": Kind("fidelity", "Good images", "share of generated images that are of one mode", 0.0),
    "label_agreement": Kind("fidelity", "Label agreement", "share of generated images that show their class", 0.0),
    "recall": Kind("diversity", "Recall", "share of real images that lie among generated ones", 0.0),
    "coverage": Kind("diversity", "Coverage", "share of real images that have a generated one near them", 0.0),
    "ms_ssim": Kind("diversity", "MS-SSIM", "mean similarity of pairs of generated images; 1: all equal", 1.0),
    "lpips": Kind("diversity", "LPIPS", "mean distance of pairs of generated images; 0: all equal", 0.0),
    "modes_caught": Kind("diversity", "Modes caught", "modes of which there is a good generated image", 0.0),
    "modes_tv": Kind("diversity", "Total variation", "between the modes of both sets; 1: none shared", 1.0),
    "modes_kl": Kind("diversity", "KL divergence", "of the modes of generated images from those of real ones"),
    "copies": Kind("copies", "Copies", "share of images nearer to a training image than 95 % of real ones", 1.0),
    "reference_copies": Kind(
        "copies", "Copies of the reference", "the same for images that selected the generator", 1.0
    ),
    "memorization_distance": Kind(
        "copies", "Distance to training images", "mean distance to the nearest one; 0: copies", 0.0
    ),
    "intensity_distance": Kind("appearance", "Intensity distance", "how far intensities move, of a range from -1 to 1"),
    "intensity_distance_physical": Kind("appearance", "Intensity distance", "how far intensities move, in their unit"),
    "spectrum_distance": Kind("appearance", "Spectrum distance", "difference in power over spatial frequencies, in dB"),
}
UNKNOWN = Kind("other", "", "")


def kind_of(name: str) -> Kind:
    """Return the kind of the measure ``name``, such as ``val/precision_mini``; ``UNKNOWN`` where it is none of them."""
    if name in KINDS:
        return KINDS[name]
    stem = name.rpartition("/")[2]
    known = [known for known in KINDS if stem == known or stem.startswith(f"{known}_")]
    return KINDS[max(known, key=len)] if known else UNKNOWN


def direction(run: Run, name: str) -> str:
    """Return which values of the measure ``name`` are better: "lower", "higher", or "baseline"."""
    stem = name.rpartition("/")[2]
    declared = entry(run.summary, "better", f"val/{stem}")
    return "baseline" if declared == "baseline" else better(name, [run])


def extractor_of(name: str) -> str:
    """Return the end of a measure's name that names the features: ``mini`` of ``val/fd_mini``; "" without one."""
    stem = name.rpartition("/")[2]
    known = [known for known in KINDS if stem.startswith(f"{known}_")]
    return "" if stem in KINDS or not known else stem.removeprefix(max(known, key=len)).lstrip("_")


def share_of_worst(
    value: float | None, baseline: float | None, worst: float | None, *, logarithmic: bool = False
) -> float | None:
    """Return the place of a value between the baseline, 0, and the worst, 1; None where one of them is not known.

    Args:
        value: the measure.
        baseline: its value between real images.
        worst: the end of the scale, on either side of the baseline.
        logarithmic: on a scale of ratios, as for distances that fall by powers of ten; needs positive numbers.
    """
    if value is None or baseline is None or worst is None or worst == baseline:
        return None
    if logarithmic:
        if min(baseline, worst) <= 0:
            return None
        value, baseline, worst = (math.log(max(number, baseline)) for number in (value, baseline, worst))
    return min(1.0, max(0.0, (value - baseline) / (worst - baseline)))


def scale_of(name: str, baseline: float | None, seen: float | None) -> tuple[float | None, bool]:
    """Return the worst end of a measure's scale, and whether the scale is logarithmic.

    Args:
        name: of the measure.
        baseline: its value between real images.
        seen: the worst value of the run's validations; None: it has none.
    """
    kind = kind_of(name)
    if kind.worst is not None:
        return kind.worst, False
    if baseline is None or baseline <= 0 or kind is _KERNEL:  # which is 0 on average between real images
        return seen, False
    return max(seen or 0.0, _LARGE * baseline), True
