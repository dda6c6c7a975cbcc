"""The images of a comparison, and its options."""

from __future__ import annotations

import dataclasses

import numpy as np

from medsynth.metrics.image_set import ImageSet
from medsynth.utility.fit import Fit

RATIOS = (0.25, 1.0, 5.0)


@dataclasses.dataclass(frozen=True)
class Sets:
    """The images of a comparison.

    Attributes:
        training: real images, with labels or ``points``.
        test: other real images; of other patients where these are known.
        synthetic: generated images; with labels, unless the task labels them itself.
        sources: descriptions of the three for people.
        targets: of the three; None: their labels.
        notes: sentences about what may bias the results.
    """

    training: ImageSet
    test: ImageSet
    synthetic: ImageSet
    sources: tuple[str, str, str] = ("training images", "test images", "generated images")
    targets: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None
    notes: tuple[str, ...] = ()

    def of(self, side: str) -> np.ndarray | None:
        """Return the targets of ``training``, ``test`` or ``synthetic``."""
        images: ImageSet = getattr(self, side)
        if self.targets is None:
            return images.labels
        return self.targets[("training", "test", "synthetic").index(side)]


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a comparison.

    Attributes:
        fit: of each training.
        ratios: generated images for each real one.
        sizes: of the real set; None: four, up to all.
        seeds: how many; 2 or more.
        measure: which decides.
        worthwhile: the smallest gain worth having.
        jobs: parallel processes, apart from this one; 0: all is computed in this process, which a lack of memory ends.
        budget: minutes that the jobs may take; None: as many as they need.
    """

    fit: Fit = dataclasses.field(default_factory=Fit)
    ratios: tuple[float, ...] = RATIOS
    sizes: tuple[int, ...] | None = None
    seeds: int = 5
    measure: str = "auc"
    worthwhile: float = 0.01
    jobs: int = 0
    budget: float | None = None
