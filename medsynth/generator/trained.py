"""A trained generator for Python programs: load it from a run's folder and sample images."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from medsynth.contracts import Generator, InputError, Intensity, Translator, counter_seed, noise
from medsynth.generator.export import read_generator

TRANSLATOR = "translator"  # kind of a generator that makes images of other images, on its card
FILE = "generator.safetensors"  # in the folder of a run


@dataclasses.dataclass(frozen=True)
class TrainedGenerator:
    """A trained generator, on the CPU and in evaluation mode.

    Attributes:
        network: the module, ``(z, labels) -> images``.
        card: the description in its file: data, intensity, class names, images seen, metrics.
        path: the file.

    >>> generator = load_generator("outputs/2026-01-31/12-00-00")  # doctest: +SKIP
    >>> images = generator.sample(16, label="glioma", seed=0)  # doctest: +SKIP
    """

    network: Generator
    card: dict[str, Any]
    path: Path

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that can be asked for; empty if it was trained without labels."""
        return tuple(self.card["class_names"])

    @property
    def intensity(self) -> Intensity:
        """The mapping from [-1, 1] to physical units."""
        return Intensity(**self.card["intensity"])

    @property
    def units(self) -> str:
        """The physical unit, such as ``HU``, or ``stored value`` if the data had none."""
        return self.intensity.unit

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return self._shape[-1]

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self._shape[0]

    def to_physical(self, images: Tensor) -> Tensor:
        """Convert images in [-1, 1] to ``units``."""
        return self.intensity.to_physical(images)

    def sample(self, count: int, *, label: str | int | None = None, seed: int = 0, batch_size: int = 64) -> Tensor:
        """Generate ``count`` images ``(count, C, H, W)`` in [-1, 1], float32.

        Equal arguments give equal images, those of ``medsynth generate`` with the same seed; image i depends on the
        seed and i alone, so that a larger ``count`` begins with the same images, up to rounding.

        Args:
            count: number of images, 1 or more.
            label: class name, or the index of a class if no class has this name; None: all classes in turn. A
                generator that was trained without labels has none.
            seed: of the noise.
            batch_size: images computed at a time.

        Raises:
            InputError: an unknown label, a number below 1, or values that are not finite.
        """
        for name, value in (("count", count), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(f"{name}={value} must be 1 or more.")
        return torch.cat(list(self.batches(self.labels(label, count), count=count, seed=seed, batch_size=batch_size)))

    def labels(self, label: str | int | None, count: int) -> Tensor | None:
        """Return the labels ``(count,)`` for ``label`` as ``sample`` takes it; None: the generator takes no labels.

        Raises:
            InputError: an unknown label.
        """
        names = self.class_names
        if not names:
            if label is not None:
                raise InputError(f"label={label} is not possible: this generator was trained without conditional=true.")
            return None
        if label is None:
            return torch.arange(count) % len(names)
        index = {str(i): i for i in range(len(names))} | {name: number for number, name in enumerate(names)}
        typed = str(label).lower() if isinstance(label, bool) else str(label)
        if typed not in index:
            numbers = [str(i) for i in range(len(names)) if str(i) not in names]
            shown = f"0 to {len(names) - 1}" if len(numbers) == len(names) else ", ".join(numbers)
            or_index = f", or as an index {shown}" if numbers else ""
            raise InputError(f"label={label} is unknown: choose {', '.join(names)}{or_index}.")
        return torch.full((count,), index[typed])

    def batches(self, labels: Tensor | None, *, count: int, seed: int, batch_size: int) -> Iterator[Tensor]:
        """Yield ``count`` images in batches ``(n, C, H, W)`` in [-1, 1].

        Raises:
            InputError: values that are not finite.
        """
        for start in range(0, count, batch_size):
            size = min(batch_size, count - start)
            z = noise(size, self.network.latent_dim, seed=counter_seed("generate", seed), start=start)
            with torch.inference_mode():
                images = self.network(z, None if labels is None else labels[start : start + size]).float()
            if not images.isfinite().all():
                raise InputError(f"{self.path} makes values that are not finite numbers: choose a run that converged.")
            yield images.clamp(-1, 1).clone()

    @functools.cached_property
    def _shape(self) -> tuple[int, ...]:
        (image,) = self.batches(self.labels(None, 1), count=1, seed=0, batch_size=1)
        return tuple(image.shape[1:])


def load_generator(path: str | Path, *, trust: bool = False) -> TrainedGenerator:
    """Load a trained generator; PyTorch's random state stays as it is.

    Args:
        path: the folder of a run, or a ``generator.safetensors``.
        trust: the file is your own and may name any generator; False: those of medsynth only.

    Raises:
        InputError: there is no such file, it is damaged or of no generator of medsynth, or it translates images.
    """
    trained = load_trained(path, trust=trust)
    if isinstance(trained, TrainedTranslator):
        raise InputError(
            f"{trained.path} translates images, and makes none of noise: type medsynth translate run={path} data.root= "
            "and the folder of the images to translate."
        )
    return trained


def load_trained(path: str | Path, *, trust: bool = False) -> TrainedGenerator | TrainedTranslator:
    """Load a trained generator or translator, as the file's card says; PyTorch's random state stays as it is.

    Args:
        path: the folder of a run, or a ``generator.safetensors``.
        trust: the file is your own and may name any class; False: those of medsynth only.

    Raises:
        InputError: there is no such file, or it is damaged or not of medsynth.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"{path} does not exist: give the folder of a run, or a {FILE}.")
    file = path / FILE if path.is_dir() else path
    # Networks are built with random weights first: the caller's random numbers are not to depend on that.
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        network, card = read_generator(file, trusted=trust)
    if card.get("kind") == TRANSLATOR:
        return TrainedTranslator(cast(Translator, network), card, file)
    return TrainedGenerator(cast(Generator, network), card, file)


@dataclasses.dataclass(frozen=True)
class TrainedTranslator:
    """A trained translator, on the CPU and in evaluation mode.

    Attributes:
        network: the module, ``(source, z) -> images``.
        card: the description in its file: data, intensities of sources and targets, images seen, metrics.
        path: the file.

    >>> translator = load_translator("outputs/2026-01-31/12-00-00")  # doctest: +SKIP
    >>> images = translator.translate(sources)  # doctest: +SKIP
    """

    network: Translator
    card: dict[str, Any]
    path: Path

    @property
    def intensity(self) -> Intensity:
        """The mapping from [-1, 1] to physical units of the images that it makes."""
        return Intensity(**self.card["intensity"])

    @property
    def source_intensity(self) -> Intensity:
        """The mapping from [-1, 1] to physical units of the images that it takes."""
        return Intensity(**self.card["source_intensity"])

    @property
    def units(self) -> str:
        """The physical unit of the images that it makes."""
        return self.intensity.unit

    @property
    def source_channels(self) -> int:
        """The number of channels of the images that it takes."""
        return self.network.source_channels

    @property
    def image_size(self) -> int:
        """Height and width in pixels of the images that it was trained with."""
        return int(self.card["image_size"])

    @property
    def channels(self) -> int:
        """The number of channels of the images that it makes."""
        return int(self.card["channels"])

    def translate(self, source: Tensor, *, seed: int = 0, sample: int = 0, batch_size: int = 16) -> Tensor:
        """Translate ``source`` (N, source_channels, H, W) in [-1, 1]; return (N, C, H, W) in [-1, 1], float32.

        Args:
            source: the images.
            seed: of the noise, of a translator that has some.
            sample: number of the sample; another number gives other noise. Image i of a sample depends on seed, sample
                and i alone.
            batch_size: images computed at a time.

        Raises:
            InputError: other channels than it was trained with, or values that are not finite.
        """
        if source.shape[1] != self.source_channels:
            raise InputError(
                f"{self.path} translates images of {self.source_channels} channels, not {source.shape[1]}."
            )
        z = noise(len(source), self.network.latent_dim, seed=counter_seed("translate", seed, sample))
        made: list[Tensor] = []
        for start in range(0, len(source), batch_size):
            rows = slice(start, start + batch_size)
            with torch.inference_mode():
                made.append(self.network(source[rows].float(), z[rows]).float())
        images = torch.cat(made)
        if not images.isfinite().all():
            raise InputError(f"{self.path} makes values that are not finite numbers: choose a run that converged.")
        return images.clamp(-1, 1).clone()


def load_translator(path: str | Path, *, trust: bool = False) -> TrainedTranslator:
    """Load a trained translator; PyTorch's random state stays as it is.

    Args:
        path: the folder of a run, or a ``generator.safetensors``.
        trust: the file is your own and may name any translator; False: those of medsynth only.

    Raises:
        InputError: there is no such file, it is damaged or of no generator of medsynth, or it makes images of noise.
    """
    trained = load_trained(path, trust=trust)
    if isinstance(trained, TrainedGenerator):
        raise InputError(
            f"{trained.path} makes images of noise, and translates none: type medsynth generate run={path} "
            "num_samples=64 out=generated, or name the run of a translation."
        )
    return trained
