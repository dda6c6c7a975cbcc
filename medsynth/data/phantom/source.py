"""The source of phantoms: it chooses anatomy and class of each image, renders it, and keeps it in memory."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medsynth.contracts import Intensity, counter_seed
from medsynth.data.errors import check_least
from medsynth.data.phantom import lesion
from medsynth.data.phantom.abdomen import ABDOMEN
from medsynth.data.phantom.anatomy import Anatomy
from medsynth.data.phantom.canvas import Array, Canvas, Shape
from medsynth.data.phantom.chest import CHEST
from medsynth.data.phantom.head import HEAD
from medsynth.data.phantom.rendered import RenderedImages, with_channels
from medsynth.data.source import Datasets
from medsynth.errors import InputError

ANATOMIES: dict[str, Anatomy] = {"head": HEAD, "abdomen": ABDOMEN, "chest": CHEST}
LESIONS = {"healthy": (0, 0), "one_lesion": (1, 1), "several_lesions": (2, 4)}  # smallest and largest number
LANDMARKS = ("left", "right", "front", "back", "lesion")  # in the image: the patient's right is on its left
BLUR = 0.7  # mm; standard deviation of the scanner's point spread function, 1.6 mm wide at half of its height


@dataclasses.dataclass(kw_only=True)
class Phantoms:
    """A source of slices of computed tomography that are rendered from a seed.

    The fields are the options ``data.source.*``; conf/data/phantom.yaml describes them. The labels are the combinations
    of ``anatomies`` and ``classes`` and are equally frequent. An image depends on ``seed``, its split and its index; at
    another ``image_size`` it is the same image with different noise.

    Attributes:
        class_names: in the order of the labels; ``head one_lesion`` with several anatomies.
        intensity: the window in HU; in percent of the window if several anatomies have their usual windows.
        spacing: millimeters from row to row and from column to column; None if anatomies of several sizes are mixed.
        modality: CT.
        description: one phrase about the data, for people.

    Raises:
        InputError: an option has an impossible value.
    """

    image_size: int
    channels: int = 1
    anatomies: str | Sequence[str] = ("head",)
    classes: str | Sequence[str] = ("healthy", "one_lesion", "several_lesions")
    num_images: int | None = 4000
    num_val: int = 1000
    num_test: int | None = None
    epoch_images: int = 10_000
    window_center: float | None = None
    window_width: float | None = None
    noise_hu: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.anatomies = _chosen("anatomies", self.anatomies, ANATOMIES)
        self.classes = _chosen("classes", self.classes, LESIONS)
        check_least("data.image_size", self.image_size, 16)
        check_least("data.source.num_images", 1 if self.num_images is None else self.num_images, 1)
        check_least("data.source.num_val", self.num_val, 2)
        check_least("data.source.num_test", self.num_test or 0, 0)
        check_least("data.source.epoch_images", self.epoch_images, 1)
        check_least("data.source.noise_hu", self.noise_hu, 0)
        if self.channels not in (1, 3):
            raise InputError(
                f"data.channels={self.channels} is not possible: phantoms are gray, 1 or 3 equal channels."
            )
        self.windows = _windows(self.anatomies, self.window_center, self.window_width)
        self.class_names = self.classes
        if len(self.anatomies) > 1:
            self.class_names = tuple(f"{anatomy} {name}" for anatomy in self.anatomies for name in self.classes)
        mixed = len(set(self.windows)) > 1
        self.intensity = Intensity(0.0, 100.0, "% of window") if mixed else Intensity(*self.windows[0], "HU")
        fields_of_view = {ANATOMIES[name].field_of_view for name in self.anatomies}
        pixel = fields_of_view.pop() / self.image_size
        self.spacing = None if fields_of_view else (pixel, pixel)
        self.modality = "CT"
        count = "endless" if self.num_images is None else f"{self.num_images:,}"
        self.description = f"{count} procedural {', '.join(self.anatomies)} phantoms"

    @property
    def content(self) -> str:
        """The options that the images depend on, as text; see medsynth.data.source.Source."""
        names = (
            "anatomies",
            "classes",
            "image_size",
            "channels",
            "num_images",
            "num_val",
            "windows",
            "noise_hu",
            "seed",
        )
        return str({name: getattr(self, name) for name in names})

    def datasets(self) -> Datasets:
        """Return training, validation and test images; see medsynth.data.source.Source."""
        endless, count = self.num_images is None, self.num_images or self.epoch_images
        num_test = self.num_val if self.num_test is None else self.num_test
        return Datasets(
            self._samples("train", count, endless=endless),
            self._samples("val", self.num_val),
            self._samples("test", num_test) if num_test else None,
        )

    def _samples(self, split: str, count: int, *, endless: bool = False) -> RenderedImages:
        return PhantomImages(self, split, count, endless=endless)

    def lesions(self, split: str, index: int) -> list[Shape]:
        """Return the outlines of an image's lesions, in mm from the center of the patient."""
        return self._paint(split, index, lesions=True)[2]

    def landmarks(self, split: str, index: int) -> Array:
        """Return the positions of an image's key points, float32 ``(5, 2)``, as ``LANDMARKS`` names them.

        They are columns and rows in pixels, the center of the first pixel at (0, 0). The first four are the ends of the
        axes of the ellipse in which lesions lie, a few millimeters inside the organs' outline; the last is the center
        of the first lesion, NaN without one.
        """
        canvas, site, shapes = self._paint(split, index, lesions=True)
        bounds = site.bounds
        ends = [(bounds.x + side * bounds.a, bounds.y) for side in (-1, 1)]
        ends += [(bounds.x, bounds.y + side * bounds.b) for side in (-1, 1)]
        ends += [(shape.x, shape.y) for shape in shapes[:1]]
        positions = [canvas.position(complex(x, y)) for x, y in ends]
        missing = [(math.nan, math.nan)] * (len(LANDMARKS) - len(positions))
        return np.array(positions + missing, dtype=np.float32)

    def lesion_mask(self, split: str, index: int) -> NDArray[np.uint8]:
        """Return an image's label map, uint8 ``(image_size, image_size)``: 1 where half a pixel or more is lesion."""
        canvas, site, shapes = self._paint(split, index, lesions=True)
        mask = np.zeros(canvas.hu.shape, dtype=np.uint8)
        for shape in shapes:
            mask[canvas.covered(shape) * site.cover >= 0.5] = 1
        return mask

    def hounsfield(self, split: str, index: int, *, lesions: bool = True) -> Array:
        """Render image ``index`` of a split in HU ``(image_size, image_size)``; without its lesions if asked for."""
        canvas = self._paint(split, index, lesions=lesions)[0]
        return canvas.scan(blur=BLUR, noise=self.noise_hu, rng=self._rng("noise", split, index))

    def image(self, split: str, index: int) -> Array:
        """Render image ``index`` of a split ``(image_size, image_size)`` in [-1, 1]."""
        return self._windowed(self.hounsfield(split, index), index)

    def _windowed(self, hounsfield: Array, index: int) -> Array:
        """Map HU to [-1, 1] by the window of image ``index``."""
        low, high = self.windows[index % len(self.class_names) // len(self.classes)]
        image = hounsfield - np.float32((low + high) / 2)
        image *= 2 / (high - low)
        return np.clip(image, -1, 1, out=image)

    def _paint(self, split: str, index: int, *, lesions: bool) -> tuple[Canvas, lesion.LesionSite, list[Shape]]:
        """Paint the slice before the scanner's blur. Anatomy, lesions and noise have their own random numbers."""
        anatomy_number, class_number = divmod(index % len(self.class_names), len(self.classes))
        anatomy = ANATOMIES[self.anatomies[anatomy_number]]
        rng = self._rng("anatomy", split, index)
        canvas = Canvas(image_size=self.image_size, field_of_view=anatomy.field_of_view, warp=anatomy.warp, rng=rng)
        site = anatomy.paint(canvas, rng)
        if not lesions:
            return canvas, site, []
        rng = self._rng("lesions", split, index)
        fewest, most = LESIONS[self.classes[class_number]]
        kind = self._lesion_type(anatomy.lesion)
        shapes = lesion.place(site, kind, int(rng.integers(fewest, most + 1)), rng)
        lesion.paint(canvas, site, kind, shapes, rng)
        return canvas, site, shapes

    def _lesion_type(self, of_anatomy: lesion.LesionType) -> lesion.LesionType:
        """Return the appearance of the lesions."""
        return of_anatomy

    def _rng(self, purpose: str, split: str, index: int) -> np.random.Generator:
        return np.random.default_rng(counter_seed("phantom", self.seed, split, index, purpose))


class PhantomImages(RenderedImages):
    """Samples ``{"image" float32 (C, H, W) in [-1, 1], "label" int, "index" int}``; see ``RenderedImages``."""

    def __init__(self, source: Phantoms, split: str, count: int, *, endless: bool = False) -> None:
        shape = source.image_size, source.image_size
        render = functools.partial(source.image, split)
        super().__init__(render, shape, count, classes=len(source.class_names), endless=endless)
        self._channels = source.channels

    def sample(self, images: Tensor) -> dict[str, Tensor]:
        """Return the image (H, W) with its channels."""
        return {"image": with_channels(images, self._channels)}


def _windows(anatomies: Sequence[str], center: float | None, width: float | None) -> tuple[tuple[float, float], ...]:
    """Return the HU that become -1 and 1, for each anatomy."""
    if (center is None) != (width is None):
        raise InputError(
            f"data.source.window_center={center} and data.source.window_width={width} belong together: "
            f"give both in HU, or leave both null."
        )
    if width is not None and width <= 0:
        raise InputError(f"data.source.window_width={width} is not possible: choose more than 0 HU.")
    windows = [(ANATOMIES[name].window_center, ANATOMIES[name].window_width) for name in anatomies]
    if center is not None and width is not None:
        windows = [(center, width)] * len(anatomies)
    return tuple((center - width / 2, center + width / 2) for center, width in windows)


def _chosen(option: str, names: str | Sequence[str], known: dict[str, Any]) -> tuple[str, ...]:
    """Return the names, each once; a single name may be given without brackets."""
    chosen = (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
    if not chosen or not set(chosen) <= set(known):
        raise InputError(
            f"data.source.{option}=[{','.join(map(str, chosen))}] is not possible: choose from {', '.join(known)}."
        )
    return chosen
