"""What each room of medsynth must deliver, and the tensor conventions. Read this first.

Conventions, everywhere:

* images are float tensors ``(N, C, H, W)`` in [-1, 1], H = W = ``image_size``, C = ``channels``;
* labels are int64 tensors ``(N,)`` in ``[0, num_classes)``; ``num_classes == 0`` means unconditional;
* noise ``z`` is ``(N, latent_dim)``, standard normal;
* discriminators return logits ``(N, K)``, never probabilities: K judgments of each image (1, or one for each patch,
  level or network), of which losses take the mean;
* features are a tuple of tensors ``(N, ...)``, whatever a discriminator's frozen part hands to its head;
* a batch is a dict ``{"image": (N, C, H, W), "label": (N,), "target": (N, C, H, W), "index": (N,)}``; "label" only
  where the data has labels, "target" only where it has pairs, aligned with the images.

Rooms import this module and their own library, never each other.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor

from medsynth.errors import InputError as InputError

Features = tuple[Tensor, ...]


class _Batch(TypedDict):
    image: Tensor
    index: Tensor


class Batch(_Batch, total=False):
    """One batch of real images, as a data module's loaders yield it."""

    label: Tensor
    target: Tensor


@dataclasses.dataclass(frozen=True)
class Intensity:
    """The linear way back from [-1, 1] to physical units: -1 is ``low``, 1 is ``high``."""

    low: float
    high: float
    unit: str

    def to_physical(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] -> the same images in ``unit``."""
        return self.low + (images + 1) / 2 * (self.high - self.low)


@runtime_checkable
class Generator(Protocol):
    """``(z (N, latent_dim), labels (N,) or None) -> images (N, C, H, W)`` in [-1, 1]."""

    latent_dim: int

    def __call__(self, z: Tensor, labels: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Backbone(Protocol):
    """``images (N, C, H, W) in [-1, 1] -> pooled features (N, num_features)``.

    Owns the mapping from [-1, 1] and C channels to what its weights expect (mean, std, channels, input size).
    ``backbone(images) == backbone.trained_part(backbone.frozen_part(images))``.
    """

    num_features: int
    model_name: str
    weights_description: str  # which weights are in use, for people; recorded with every run

    def __call__(self, images: Tensor) -> Tensor: ...

    def freeze(self, *, except_stages: int | None = 0) -> Backbone:
        """Weights stay as they are from here on, but for those of the last ``except_stages`` stages; None: of none.

        Running statistics stay as they are in all of it, whatever mode is set from outside.
        """

    def frozen_part(self, images: Tensor) -> Features:
        """As far as the frozen stages go; all of it where everything is frozen, the images where nothing is."""

    def trained_part(self, features: Features) -> Tensor:
        """From there to the pooled features (N, num_features)."""

    def level_channels(self, count: int) -> tuple[int, ...]:
        """Channels of the maps that ``levels`` yields.

        Raises:
            InputError: there are fewer levels.
        """

    def levels(self, images: Tensor, count: int) -> Features:
        """Maps (N, C_l, H_l, W_l) after each of the last ``count`` levels, the finest first."""

    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Estimate what random weights need from data: image batches in [-1, 1]. Pretrained weights: no effect."""


@runtime_checkable
class Discriminator(Protocol):
    """A frozen part and a trained part: ``forward(images, labels) == head(features(images), labels)``.

    Only ``head`` is trained. A discriminator with nothing frozen has the identity for ``features``, as a tuple of one.
    ``has_frozen_features``: they are more than the images, and a fixed function of them once training has begun.
    """

    has_frozen_features: bool

    def features(self, images: Tensor) -> Features: ...

    def head(self, features: Features, labels: Tensor | None = None) -> Tensor: ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, as groups for an optimizer; ``lr_factor`` in a group multiplies the learning rate."""

    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Called once before a fresh training with real image batches in [-1, 1]; most have nothing to do."""


@runtime_checkable
class Loss(Protocol):
    """Logits (N, K) -> scalar, for each player. Keyword-only: swapping real and fake is too easy otherwise.

    ``relativistic``: the generator's loss depends on the real logits too; others are given None for them.
    ``boundary``: the logit of an image that may as well be real as generated; None where only differences count.
    """

    relativistic: bool
    boundary: float | None

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor: ...

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor: ...


@runtime_checkable
class Penalty(Protocol):
    """A term of the discriminator's loss, with respect to what the head sees (images or features). Owns its weight.

    Or, with ``at="logits"``, a ``LogitPenalty``.

    ``at`` says where it is taken: at the ``"real"`` inputs, at the ``"fake"`` ones, or ``"between"`` (uniformly on
    the line from a real to a fake one). ``inputs`` are the features there and require a gradient,
    ``logits (N, K) = head(inputs)``; both are float32.
    It is taken in every ``interval``-th discriminator update, and then ``interval`` times as strong (lazy
    regularization, Karras et al. 2020, StyleGAN2).
    """

    at: Literal["real", "fake", "between"]
    interval: int

    def __call__(self, *, inputs: Features, logits: Tensor) -> Tensor: ...


@runtime_checkable
class LogitPenalty(Protocol):
    """A term of the discriminator's loss that asks for its logits (N, K) alone; for the rest see ``Penalty``."""

    at: Literal["logits"]
    interval: int

    def __call__(self, *, real: Tensor, fake: Tensor) -> Tensor: ...


@runtime_checkable
class Augmentation(Protocol):
    """``images (N, C, H, W) -> images of the same shape``, differentiable; each image draws its own parameters.

    It is applied inside the step, to real and generated images alike, and what it makes serves both players. Random
    numbers come from PyTorch's global generator, which the step seeds by its counters.
    """

    def __call__(self, images: Tensor) -> Tensor: ...


@runtime_checkable
class Scheduled(Protocol):
    """A discriminator, loss, penalty or augmentation that changes in the course of the training.

    ``advance`` comes before each step. What follows must depend on the count alone, so that a resumed run is exact.
    """

    def advance(self, images_seen: int) -> None: ...


@runtime_checkable
class Adaptive(Protocol):
    """A penalty or augmentation that follows what the discriminator says of the images.

    ``observe`` comes after each discriminator update, with means over its batch, all processes together:
    ``real_logits`` and ``fake_logits``, and ``real_signs``, of the signs of the real logits minus ``Loss.boundary``
    (where that is None, minus a generated image's). It returns values to record. What follows must depend on these and
    on the state alone, which is numbers by name and kept in each checkpoint, so that a resumed run is exact.
    """

    def observe(self, *, real_logits: float, fake_logits: float, real_signs: float) -> Mapping[str, float]: ...

    def state_dict(self) -> dict[str, float]: ...

    def load_state_dict(self, state: Mapping[str, float]) -> None: ...


@runtime_checkable
class FeatureExtractor(Protocol):
    """What metrics look at images with: ``images (N, C, H, W) in [-1, 1] -> features (N, num_features)``.

    ``name`` goes into the metrics' keys (``fd_<name>``). ``logits(features) -> (N, classes)`` is there where the
    network has a classifier (needed by the inception score).
    """

    name: str
    num_features: int

    def __call__(self, images: Tensor) -> Tensor: ...


@runtime_checkable
class Metrics(Protocol):
    """``update`` with batches of images in [-1, 1], then ``compute`` once; names come without prefix.

    ``reset`` forgets the generated images; the real ones stay, and ``has_real`` says whether they are there. Not a
    module: ``to`` moves it.
    """

    has_real: bool

    @staticmethod
    def logged_names(config: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the values that an object of this configuration computes and that can be an objective.

        ``config`` is its plain configuration, ``_target_`` included; nothing is built or loaded. Empty: not known yet.
        """
        ...

    def to(self, device: torch.device | str) -> Metrics: ...

    def update(self, images: Tensor, *, real: bool) -> None: ...

    def compute(self) -> dict[str, float]: ...

    def reset(self) -> None: ...


def doublings(image_size: int, part: str, *, smallest: int = 8) -> int:
    """How often 4 pixels are doubled to ``image_size``, for the networks of ``part`` that work so.

    Raises:
        InputError: it is less than ``smallest``, or not 4 times a power of two.
    """
    if image_size < smallest or image_size & (image_size - 1):
        right = ", ".join(str(size) for size in (8, 16, 32, 64, 128) if size >= smallest)
        raise InputError(f"data.image_size={image_size} does not suit {part}: choose {right} or 256.")
    return image_size.bit_length() - 3


def counter_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on all ``parts`` and nothing else.

    All randomness of a run is derived from counters (seed, epoch, index or step) instead of a generator's running
    state, so that a resumed run continues bit for bit and results do not depend on the number of workers.
    """
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def noise(num_samples: int, latent_dim: int, *, seed: int, start: int = 0) -> Tensor:
    """Standard normal noise ``(num_samples, latent_dim)`` on the CPU; row i depends on (seed, start + i) alone.

    The same rows come out whatever the batch size, device or number of processes.
    """
    rows = torch.empty(num_samples, latent_dim)
    generator = torch.Generator()
    for row in range(num_samples):
        generator.manual_seed(counter_seed("noise", seed, start + row))
        rows[row].normal_(generator=generator)
    return rows
