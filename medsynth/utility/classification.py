"""Classification: a linear layer on the features of a frozen network, or a whole network of timm."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from medsynth.backbone.classifier import make_classifier
from medsynth.backbone.network import TimmBackbone
from medsynth.metrics.classification import OF_A_CLASS, OVERALL, classification_measures
from medsynth.metrics.image_set import ImageSet
from medsynth.utility.augmentation import Augmentation
from medsynth.utility.fit import seeded
from medsynth.utility.task import Examples

CHUNK = 128  # images computed at a time


@dataclasses.dataclass(frozen=True)
class Network:
    """Options of a network of timm: see ``backbone.network.TimmBackbone``.

    Attributes:
        model_name: timm's name.
        weights: initial ones: ``random``, ``packaged``, ``pretrained`` or a path.
        input_size: height and width in pixels that images are resized to; None: those of the images.
    """

    model_name: str
    weights: str
    input_size: int | None = None

    def build(self, images_shape: tuple[int, ...]) -> TimmBackbone:
        """Build the network for images (C, H, W)."""
        return TimmBackbone(
            model_name=self.model_name,
            channels=images_shape[0],
            image_size=images_shape[-1],
            weights=self.weights,
            input_size=self.input_size,
        )


class _Classification:
    """The measures and targets of a classifier."""

    name = "classification"

    def __init__(self, class_names: tuple[str, ...]):
        self.class_names = class_names

    def labeled(self, predictions: Tensor) -> np.ndarray:
        """Return the classes (N,) with the highest logits."""
        return predictions.argmax(dim=1).numpy()

    def measure_names(self) -> tuple[str, ...]:
        """Return the names of all measures."""
        return (*OVERALL, *(f"{name}/{of}" for name in OF_A_CLASS for of in self.class_names))

    def scores(self, predictions: Tensor, targets: np.ndarray) -> Tensor:
        """Return the logits themselves: measures are of all images together."""
        return predictions

    def is_error(self, measure: str) -> bool:
        """Return False: higher values of all measures are better."""
        return False

    def measures(self, scores: Tensor, targets: np.ndarray) -> dict[str, float]:
        """Return all measures of logits (N, classes) by name."""
        return classification_measures(scores, torch.as_tensor(targets), self.class_names)


class _Standardized(nn.Module):
    """A linear layer on features that are standardized by the mean and deviation of the training features."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: np.ndarray, classes: int):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(features.mean(axis=0)))
        self.register_buffer("deviation", torch.as_tensor(features.std(axis=0) + 1e-3))
        self.layer = nn.Linear(features.shape[1], classes)

    def forward(self, features: Tensor) -> Tensor:
        return self.layer((features - self.mean) / self.deviation)


class LinearProbe(_Classification):
    """A linear layer that is trained on the pooled features of a frozen network (Alain and Bengio 2016).

    Features are computed once for each image, so that a training takes a fraction of a second.

    Args:
        network: the frozen network.
        class_names: in the order of the labels.
        augmentation: of the arm with augmentation.
        views: augmented views of each real image, whose features that arm draws from; 1 or more.
        device: to compute the features on.
    """

    def __init__(
        self,
        network: Network,
        class_names: tuple[str, ...],
        *,
        augmentation: Augmentation,
        views: int = 8,
        device: str = "cpu",
    ):
        super().__init__(class_names)
        self.network, self.augmentation, self.views, self.device = network, augmentation, views, device

    @torch.no_grad()
    def encode(self, images: ImageSet, *, augmented: bool) -> np.ndarray:
        """Return features (N, 1 + views, F) float32, the first those of the image itself; else (N, 1, F)."""
        network = None
        parts = []
        with torch.random.fork_rng(devices=[]):
            seeded(0)
            for chunk in chunks(images):
                if network is None:
                    network = self.network.build(tuple(chunk.shape[1:])).freeze().to(self.device)
                views = [chunk, *(self.augmentation(chunk) for _ in range(self.views if augmented else 0))]
                features = [network(view.to(self.device)).float().cpu() for view in views]
                parts.append(torch.stack(features, dim=1).numpy())
        return np.concatenate(parts)

    def start(self, examples: list[Examples], *, seed: int) -> nn.Module:
        """Return an untrained linear layer."""
        seeded(seed)
        features = np.concatenate([example.inputs[:, 0] for example in examples])
        return _Standardized(features, len(self.class_names))

    def batch(self, examples: Examples, positions: np.ndarray, *, augmented: bool) -> tuple[Tensor, np.ndarray]:
        """Return features (n, F), of a random augmented view of each image if ``augmented``, and labels (n,)."""
        assert examples.targets is not None
        view = torch.randint(1, examples.inputs.shape[1], (len(positions),)).numpy() if augmented else 0
        return torch.as_tensor(examples.inputs[positions, view]), examples.targets[positions]

    def loss(self, network: nn.Module, inputs: Tensor, targets: np.ndarray) -> Tensor:
        """Return the cross-entropy."""
        return cross_entropy(network(inputs), torch.as_tensor(targets))

    @torch.no_grad()
    def predict(self, network: nn.Module, inputs: np.ndarray) -> Tensor:
        """Return logits (N, classes) of the images themselves."""
        return network(torch.as_tensor(inputs[:, 0]))

    def describe(self) -> dict[str, Any]:
        """Return plain values that the results depend on."""
        return {
            "task": self.name,
            "trained": "head",
            "network": dataclasses.asdict(self.network),
            "augmentation": dataclasses.asdict(self.augmentation),
            "views": self.views,
            "class_names": list(self.class_names),
        }


class WholeNetwork(_Classification):
    """All weights of a network of timm are trained, from random or given ones.

    Args:
        network: the network.
        class_names: in the order of the labels.
        augmentation: of the arm with augmentation, drawn anew for each batch.
        device: to train on.
    """

    def __init__(
        self, network: Network, class_names: tuple[str, ...], *, augmentation: Augmentation, device: str = "cpu"
    ):
        super().__init__(class_names)
        self.network, self.augmentation, self.device = network, augmentation, device

    def encode(self, images: ImageSet, *, augmented: bool) -> np.ndarray:
        """Return the images (N, C, H, W) as float16."""
        return np.concatenate([chunk.half().numpy() for chunk in chunks(images)])

    def start(self, examples: list[Examples], *, seed: int) -> nn.Module:
        """Return the network with a new classifier."""
        seeded(seed)
        network = self.network.build(examples[0].inputs.shape[1:])
        make_classifier(network, len(self.class_names))
        return network.to(self.device)

    def batch(self, examples: Examples, positions: np.ndarray, *, augmented: bool) -> tuple[Tensor, np.ndarray]:
        """Return images (n, C, H, W), at random views of them if ``augmented``, and labels (n,)."""
        assert examples.targets is not None
        images = torch.as_tensor(examples.inputs[positions]).float().to(self.device)
        return (self.augmentation(images) if augmented else images), examples.targets[positions]

    def loss(self, network: nn.Module, inputs: Tensor, targets: np.ndarray) -> Tensor:
        """Return the cross-entropy."""
        assert isinstance(network, TimmBackbone)
        return cross_entropy(network.logits(network(inputs)), torch.as_tensor(targets).to(self.device))

    @torch.no_grad()
    def predict(self, network: nn.Module, inputs: np.ndarray) -> Tensor:
        """Return logits (N, classes)."""
        assert isinstance(network, TimmBackbone)
        parts = [network.logits(network(part.float().to(self.device))) for part in torch.as_tensor(inputs).split(CHUNK)]
        return torch.cat(parts).cpu()

    def describe(self) -> dict[str, Any]:
        """Return plain values that the results depend on."""
        return {
            "task": self.name,
            "trained": "all",
            "network": dataclasses.asdict(self.network),
            "augmentation": dataclasses.asdict(self.augmentation),
            "class_names": list(self.class_names),
        }


def chunks(images: ImageSet) -> Iterator[Tensor]:
    """Yield all images in parts that are computed at a time."""
    for start in range(0, images.count, CHUNK):
        yield images.read(range(start, min(start + CHUNK, images.count)))
