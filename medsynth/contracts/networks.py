"""The networks of a training: generator, discriminator, backbone, and layers that compare images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

Features = tuple[Tensor, ...]
MinibatchFactory = Callable[[int, int], "MinibatchLayer"]  # (channels, positions) of what it stands behind -> the layer


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
class Translator(Network, Protocol):
    """``(source (N, source_channels, H, W), z (N, latent_dim) or None) -> images (N, C, H, W)`` in [-1, 1].

    ``latent_dim`` 0: the images depend on the source alone. Otherwise None for ``z`` means zeros, the center of the
    noise, and different noise gives different translations of the same source.
    """

    latent_dim: int
    source_channels: int

    def __call__(self, source: Tensor, z: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1]."""
        ...


@runtime_checkable
class HasEncoding(Protocol):
    """A translator that shows its encoder's maps, at whose positions patches of source and translation are compared."""

    encoding_channels: tuple[int, ...]

    def encoding(self, source: Tensor, z: Tensor | None = None) -> Features:
        """Return the maps (N, C_l, H_l, W_l) of the chosen layers, C_l as ``encoding_channels`` says."""
        ...


@runtime_checkable
class Encoder(Network, Protocol):
    """``images (N, C, H, W) in [-1, 1] -> mean and logarithm of the variance``, two tensors ``(N, latent_dim)``.

    They are those of the noise from which a generator makes the images: a normal distribution with independent values.
    """

    latent_dim: int

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and logarithms of variances (N, latent_dim)."""
        ...


@runtime_checkable
class HasStyles(Protocol):
    """A generator with a mapping network: ``forward(z, labels) == synthesize(styles(z, labels), z)``.

    ``styles`` are what its images are a smooth function of, such as StyleGAN's w, a row for each layer.
    """

    def styles(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the styles (N, layers, style_dim)."""
        ...

    def synthesize(self, styles: Tensor, z: Tensor) -> Tensor:
        """Return the images (N, C, H, W) of ``styles``; ``z`` gives the values of further random inputs."""
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
class AuxiliaryClassifier(Protocol):
    """A discriminator that can have a second output, which names the class of an image (Odena et al. 2017, AC-GAN).

    ``classifies``: it has the output. The logits then do not depend on labels; both networks learn, beside their loss,
    that the class of an image is its label.
    """

    @property
    def classifies(self) -> bool:
        """Return True if there is the second output."""
        ...

    def head_with_classes(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return logits (N, K) and the logits of the classes (N, num_classes)."""
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
