"""The terms that networks minimize: losses and penalties."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from medsynth.contracts.networks import Discriminator, Features, Generator


@runtime_checkable
class Loss(Protocol):
    """Logits (N, K) -> scalar, for each network. Keyword-only: swapping real and fake is too easy otherwise.

    ``relativistic``: the generator's loss depends on the real logits too; other losses get None for them.
    ``boundary``: the logit at which real and generated images are equally likely; None where only differences count.
    """

    relativistic: bool

    @property
    def boundary(self) -> float | None:
        """Return the logit at which real and generated images are equally likely, or None."""
        ...

    def discriminator(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss."""
        ...

    def generator(self, *, real: Tensor | None, fake: Tensor) -> Tensor:
        """Return the generator's loss."""
        ...


@runtime_checkable
class Penalty(Protocol):
    """A term of the discriminator's loss, with respect to the head's inputs (images or features). Owns its weight.

    Or, with ``at="logits"``, a ``LogitPenalty``, and with ``at="images"`` an ``ImagePenalty``.

    ``at`` says where it is taken: at the ``"real"`` inputs, at the ``"fake"`` ones, ``"between"`` (uniformly on the
    line from a real to a fake one), or at ``"perturbed"`` real ones: with normal noise, whose deviation is that of the
    batch times ``perturbation``, an attribute of such a penalty. ``inputs`` are the features there and require a
    gradient, ``logits (N, K) = head(inputs)``; both are float32.
    It is taken in every ``interval``-th discriminator update, and then ``interval`` times as strong (lazy
    regularization, Karras et al. 2020, StyleGAN2).
    """

    @property
    def at(self) -> Literal["real", "fake", "between", "perturbed"]:
        """Return the name of the inputs."""
        ...

    interval: int

    def __call__(self, *, inputs: Features, logits: Tensor) -> Tensor:
        """Return the term, a scalar with its graph."""
        ...


@runtime_checkable
class PerturbedPenalty(Penalty, Protocol):
    """A penalty that is taken at ``"perturbed"`` real inputs."""

    perturbation: float


@runtime_checkable
class LogitPenalty(Protocol):
    """A term of the discriminator's loss that needs its logits (N, K) alone; for the rest see ``Penalty``."""

    at: Literal["logits"]
    interval: int

    def __call__(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return the term, a scalar with its graph."""
        ...


@runtime_checkable
class ImagePenalty(Protocol):
    """A term of the discriminator's loss that needs whole images; for the rest see ``Penalty``.

    ``real`` and ``fake`` are images (N, C, H, W) before augmentation, without a graph. ``real_logits`` and
    ``fake_logits`` (N, K) are those that the loss is computed of, ``logits`` returns those of further images, of the
    same labels in the same order.
    """

    at: Literal["images"]
    interval: int

    def __call__(
        self,
        *,
        real: Tensor,
        fake: Tensor,
        real_logits: Tensor,
        fake_logits: Tensor,
        logits: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Return the term, a scalar with its graph."""
        ...


@dataclasses.dataclass(frozen=True)
class GeneratorUpdate:
    """The values that a term of the generator's loss is computed of, for the images of one microbatch.

    ``images`` are generated from ``z`` and ``labels``, before augmentation; ``fake`` and ``real`` are the features of
    the augmented generated and real images. Graphs lead from ``images`` and ``fake`` to the generator's weights; those
    of the discriminator, which has just been updated, are frozen.
    """

    generator: Generator
    discriminator: Discriminator
    z: Tensor
    labels: Tensor | None
    images: Tensor
    fake: Features
    real: Features


@runtime_checkable
class GeneratorPenalty(Protocol):
    """A term of the generator's loss beside ``Loss.generator``. Owns its weight.

    It is taken in every ``interval``-th generator update, and then ``interval`` times as strong (lazy regularization,
    Karras et al. 2020, StyleGAN2). Random numbers come from PyTorch's global generator, which the step seeds. One that
    differentiates the generator's images, by the noise or by the styles of a generator that ``HasStyles``, has
    ``differentiates = True``: the generator needs second derivatives then, and is not compiled.
    """

    interval: int

    def __call__(self, update: GeneratorUpdate) -> Tensor:
        """Return the term, a scalar with its graph."""
        ...


@runtime_checkable
class ReconstructionTerm(Protocol):
    """The distance of translations from their targets, a term of the translator's loss. Owns its weight.

    ``output`` and ``target`` are (N, C, H, W) in [-1, 1], ``mask`` (N, 1, H, W) is 1 where pixels count, None: all
    do; ``source`` (N, C_source, H, W) is what was translated.
    """

    def __call__(self, output: Tensor, target: Tensor, mask: Tensor | None, source: Tensor) -> Tensor:
        """Return the term, a scalar with its graph."""
        ...


@runtime_checkable
class AdaptiveGeneratorPenalty(GeneratorPenalty, Protocol):
    """A penalty of the generator that follows a quantity of its images.

    ``measured`` is a scalar without a graph, the mean of the quantity over the images of the last call. ``observe``
    comes after each update with the term, with the mean over its whole batch, all processes together. The effect must
    depend on these and on the state alone, which is numbers by name and kept in each checkpoint.
    """

    measured: Tensor

    def observe(self, *, measured: float) -> Mapping[str, float]:
        """Take the mean of one generator update; return values to log, by name."""
        ...

    def state_dict(self) -> dict[str, float]:
        """Return the state."""
        ...

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take the state of a checkpoint."""
        ...
