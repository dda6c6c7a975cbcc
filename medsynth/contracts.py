"""The interfaces of medsynth's packages and the conventions for tensors. Read this first.

Conventions, everywhere:

* images are float tensors ``(N, C, H, W)`` in [-1, 1], H = W = ``image_size``, C = ``channels``;
* labels are int64 tensors ``(N,)`` in ``[0, num_classes)``; ``num_classes == 0`` means unconditional;
* noise ``z`` is ``(N, latent_dim)``, standard normal;
* discriminators return logits ``(N, K)``, never probabilities: K logits for each image (1, or one for each patch, level
  or network), of which losses take the mean;
* features are a tuple of tensors ``(N, ...)``: the output of a discriminator's frozen part and the input of its head;
* a batch is a dict ``{"image": (N, C, H, W), "label": (N,), "target": (N, C, H, W), "index": (N,)}``; "label" only
  where the data has labels, "target" only where it has pairs, aligned with the images.

Packages import this module and their own library, never each other. A class need not inherit from its contract: having
its members is enough, and ``check_contract`` names a missing one when a training starts.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor, nn

from medsynth.errors import InputError as InputError

Features = tuple[Tensor, ...]
MinibatchFactory = Callable[[int, int], "MinibatchLayer"]  # (channels, positions) of what it stands behind -> the layer
Better = Literal["lower", "higher"]  # which values of a measure are better


class _Batch(TypedDict):
    image: Tensor
    index: Tensor


class Batch(_Batch, total=False):
    """One batch of real images, as the loaders of the data yield it."""

    label: Tensor
    target: Tensor


@dataclasses.dataclass(frozen=True)
class Intensity:
    """The linear map from [-1, 1] back to physical units: -1 is ``low``, 1 is ``high``."""

    low: float
    high: float
    unit: str

    def to_physical(self, images: Tensor) -> Tensor:
        """Map images in [-1, 1] to ``unit``."""
        return self.low + (images + 1) / 2 * (self.high - self.low)


@runtime_checkable
class Network(Protocol):
    """The members of ``torch.nn.Module`` that the training uses; generators and discriminators are such modules."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Yield the parameters."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Yield the module and all modules inside it."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return parameters and buffers by name."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Switch to training mode, or with ``mode=False`` to evaluation mode."""
        ...

    def eval(self) -> Any:
        """Switch to evaluation mode."""
        ...


@runtime_checkable
class Generator(Network, Protocol):
    """``(z (N, latent_dim), labels (N,) or None) -> images (N, C, H, W)`` in [-1, 1]."""

    latent_dim: int

    def __call__(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        ...


@runtime_checkable
class Backbone(Network, Protocol):
    """``images (N, C, H, W) in [-1, 1] -> pooled features (N, num_features)``.

    A backbone owns the mapping from [-1, 1] and C channels to what its weights expect (mean, std, channels, input
    size). ``backbone(images) == backbone.trained_part(backbone.frozen_part(images))``.
    """

    num_features: int
    model_name: str

    @property
    def weights_description(self) -> str:
        """Return a description of the weights in use, for people; it is recorded with every run."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Return pooled features (N, num_features)."""
        ...

    def freeze(self, *, except_stages: int | None = 0) -> Backbone:
        """Freeze all weights but those of the last ``except_stages`` stages; None freezes none.

        Running statistics stay fixed in all stages, in training mode too.
        """
        ...

    def frozen_part(self, images: Tensor) -> Features:
        """Return the output of the frozen stages: the pooled features if all are frozen, the images if none is."""
        ...

    def trained_part(self, features: Features) -> Tensor:
        """Return the pooled features (N, num_features) from the output of the frozen stages."""
        ...

    def level_channels(self, count: int | None) -> tuple[int, ...]:
        """Return the channels of the maps that ``levels`` returns; None: of all levels, and of five at most.

        Raises:
            InputError: there are fewer levels.
        """
        ...

    def levels(self, images: Tensor, count: int) -> Features:
        """Return the maps (N, C_l, H_l, W_l) after each of the last ``count`` levels, the finest first."""
        ...

    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Estimate the statistics of random weights from image batches in [-1, 1]; pretrained weights ignore it."""
        ...


@runtime_checkable
class Discriminator(Network, Protocol):
    """A frozen part and a trained part: ``forward(images, labels) == head(features(images), labels)``.

    Only ``head`` is trained. A discriminator with nothing frozen has the identity for ``features``, as a tuple of one.
    ``has_frozen_features``: the features differ from the images and are a fixed function of them once training has
    begun, so that they can be cached.

    A discriminator may join ``packing`` images to one, which has a row of features and logits: N is then that of packs.
    """

    has_frozen_features: bool

    def features(self, images: Tensor) -> Features:
        """Return the output of the frozen part."""
        ...

    def head(self, features: Features, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, K)."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters as an optimizer's groups; ``lr_factor`` multiplies a group's learning rate."""
        ...

    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Prepare a fresh training with real image batches in [-1, 1]; most discriminators do nothing."""
        ...


@runtime_checkable
class HasActivations(Protocol):
    """A discriminator that shows the values before its logit. One without frozen features should have it."""

    def activations(self, features: Features) -> Features:
        """Return tensors (N, ...) that the logits are computed of, from the head's input."""
        ...


@runtime_checkable
class MinibatchLayer(Network, Protocol):
    """A layer that compares the images of a batch: ``(N, C) -> (N, C + added)``, maps (N, C, H, W) likewise.

    A discriminator has it just before its logit. Its images are those that are computed at a time: of a microbatch, and
    of one process. Real and generated images are in batches of their own.
    """

    added: int

    def __call__(self, features: Tensor) -> Tensor:
        """Return the features or maps, and behind them ``added`` more."""
        ...


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
    differentiates the generator's images by the noise has ``differentiates = True``: the generator needs second
    derivatives then, and is not compiled.
    """

    interval: int

    def __call__(self, update: GeneratorUpdate) -> Tensor:
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


@runtime_checkable
class Augmentation(Protocol):
    """``images (N, C, H, W) -> images of the same shape``, differentiable; each image draws its own parameters.

    It is applied inside the step, to real and generated images alike, and both networks train on its output. Random
    numbers come from PyTorch's global generator, which the step seeds by its counters.
    """

    def __call__(self, images: Tensor) -> Tensor:
        """Return the augmented images."""
        ...


@runtime_checkable
class Schedule(Protocol):
    """The value of a learning rate, a penalty's weight or the like as a function of the images seen, without state."""

    def __call__(self, images_seen: int) -> float:
        """Return the value after ``images_seen`` real images."""
        ...


@runtime_checkable
class Scheduled(Protocol):
    """A discriminator, loss, penalty or augmentation that changes by itself in the course of the training.

    ``advance`` comes before each step. Its effect must depend on the count alone, so that a resumed run is exact.
    """

    def advance(self, images_seen: int) -> None:
        """Take the state that belongs to ``images_seen`` real images."""
        ...


@runtime_checkable
class Adaptive(Protocol):
    """A penalty or augmentation that follows the discriminator's logits.

    ``observe`` comes after each discriminator update, with means over its batch, all processes together:
    ``real_logits`` and ``fake_logits``, and ``real_signs``, of the signs of the real logits minus ``Loss.boundary``
    (where that is None, minus a generated image's). Its effect must depend on these and on the state alone, which is
    numbers by name and kept in each checkpoint, so that a resumed run is exact.
    """

    def observe(self, *, real_logits: float, fake_logits: float, real_signs: float) -> Mapping[str, float]:
        """Take the means of one discriminator update; return values to log, by name."""
        ...

    def state_dict(self) -> dict[str, float]:
        """Return the state."""
        ...

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take the state of a checkpoint."""
        ...


@runtime_checkable
class FeatureExtractor(Protocol):
    """The network of a metric: ``images (N, C, H, W) in [-1, 1] -> features (N, num_features)``.

    ``name`` goes into the metrics' keys (``fd_<name>``). An extractor with a classifier also has
    ``logits(features) -> (N, classes)``, which the inception score needs.
    """

    name: str
    num_features: int

    def __call__(self, images: Tensor) -> Tensor:
        """Return features (N, num_features)."""
        ...


@runtime_checkable
class Metrics(Protocol):
    """``update`` with batches of images in [-1, 1], then ``compute`` once; names come without prefix.

    ``reset`` forgets the generated images; the real ones stay, and ``has_real`` says whether there are any. Not a
    module: ``to`` moves it.
    """

    has_real: bool

    @staticmethod
    def logged_measures(config: Mapping[str, Any]) -> Mapping[str, Better]:
        """Return the values that an object of this configuration computes and that can be an objective.

        Each name has the direction in which its values are better. ``config`` is the plain configuration, ``_target_``
        included; nothing is built or loaded. Empty: not known yet.
        """
        ...

    def to(self, device: torch.device | str) -> Metrics:
        """Move to ``device``."""
        ...

    def update(self, images: Tensor, *, real: bool) -> None:
        """Add a batch of real or generated images."""
        ...

    def compute(self) -> dict[str, float]:
        """Return the values by name."""
        ...

    def reset(self) -> None:
        """Forget the generated images."""
        ...


class DataDescription(Protocol):
    """Properties of prepared images, of a source as of the data module that loads them."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the labels; empty without labels."""
        ...

    @property
    def intensity(self) -> Intensity:
        """The map from [-1, 1] back to stored or physical values."""
        ...

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimeters from row to row and from column to column; None where unknown."""
        ...

    @property
    def modality(self) -> str:
        """DICOM's code (CT, MR, ...); "" where unknown."""
        ...

    @property
    def description(self) -> str:
        """One line about the data, for people."""
        ...

    @property
    def content(self) -> str:
        """A text that is equal where training and validation images are, in the same order and classes."""
        ...


class TrainingData(DataDescription, Protocol):
    """The data of a training, prepared. ``data.module.ImageDataModule`` implements it."""

    @property
    def num_train(self) -> int:
        """Training images in an epoch."""
        ...

    @property
    def num_val(self) -> int:
        """Validation images, on which the best generator is chosen."""
        ...

    @property
    def num_test(self) -> int:
        """Test images, which the training does not see; 0: none."""
        ...

    @property
    def images_are_fixed(self) -> bool:
        """True where the training image of an index is the same in each epoch."""
        ...

    def train_dataloader(self) -> Iterable[Batch]:
        """Return the training batches of an epoch, this process's share of them."""
        ...

    def val_dataloader(self) -> Iterable[Batch]:
        """Return all validation images in order, this process's share of them."""
        ...

    def calibration_batches(self, count: int) -> list[Tensor]:
        """Return up to ``count`` batches (N, C, H, W) of training images, chosen by the seed."""
        ...

    def ordered_batches(self) -> Iterable[Batch]:
        """Return all training images once, in the order of their index."""
        ...

    def val_images(self, count: int) -> Tensor:
        """Return the first ``count`` validation images (count, C, H, W), or all where there are fewer."""
        ...


def contract_members(contract: type) -> list[str]:
    """Return the names of the members that a contract requires, those of the contracts that it extends included."""
    names: dict[str, None] = {}
    for base in reversed(contract.__mro__):
        if getattr(base, "_is_protocol", False) and base is not Protocol:
            declared = [*getattr(base, "__annotations__", ()), *vars(base)]
            names |= dict.fromkeys(name for name in declared if name == "__call__" or not name.startswith("_"))
    return list(names)


def check_contract(component: object, contract: type, option: str) -> None:
    """Check that ``component``, which the configuration's ``option`` has built, has all members of ``contract``.

    Raises:
        InputError: names the class, the missing members and the contract.
    """
    missing = [name for name in contract_members(contract) if not hasattr(component, name)]
    if missing:
        raise InputError(
            f"{option}: {type(component).__name__} has no {' and no '.join(missing)}, which the contract "
            f"{contract.__name__} requires (see medsynth/contracts.py): add {'it' if len(missing) == 1 else 'them'} "
            "to the class."
        )


def activations(discriminator: Discriminator, features: Features, option: str) -> Features:
    """Return the values (N, ...) before the logits of ``discriminator``, or its frozen features where it has no others.

    Args:
        discriminator: the network.
        features: its head's input.
        option: the choice that needs them, for the error.

    Raises:
        InputError: the discriminator has neither.
    """
    if isinstance(discriminator, HasActivations):
        return discriminator.activations(features)
    if discriminator.has_frozen_features:
        return features
    raise InputError(
        f"{option} needs the values before the logit, and {type(discriminator).__name__} has no frozen features: add "
        "the method activations to it (see HasActivations in medsynth/contracts.py), or choose another discriminator."
    )


def doublings(image_size: int, component: str, *, smallest: int = 8) -> int:
    """Return how many times 4 pixels are doubled to reach ``image_size``.

    Args:
        image_size: height and width in pixels.
        component: the choice that the size has to suit, for the error: "generator=dcgan".
        smallest: the smallest size that the component can have.

    Raises:
        InputError: the size is less than ``smallest``, or not 4 times a power of two.
    """
    if image_size < smallest or image_size & (image_size - 1):
        right = ", ".join(str(size) for size in (8, 16, 32, 64, 128) if size >= smallest)
        raise InputError(f"data.image_size={image_size} does not suit {component}: choose {right} or 256.")
    return image_size.bit_length() - 3


def counter_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on all ``parts`` and nothing else.

    All randomness of a run is derived from counters (seed, epoch, index or step) instead of a generator's running
    state, so that a resumed run continues bit for bit and results do not depend on the number of workers.
    """
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def noise(num_samples: int, latent_dim: int, *, seed: int, start: int = 0) -> Tensor:
    """Return standard normal noise ``(num_samples, latent_dim)`` on the CPU; row i depends on (seed, start + i) alone.

    The rows are the same for any batch size, device and number of processes.
    """
    rows = torch.empty(num_samples, latent_dim)
    generator = torch.Generator()
    for row in range(num_samples):
        generator.manual_seed(counter_seed("noise", seed, start + row))
        rows[row].normal_(generator=generator)
    return rows
