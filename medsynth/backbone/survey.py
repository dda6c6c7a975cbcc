"""Properties of a backbone, counted and measured on the network itself: for choosing one."""

from __future__ import annotations

import dataclasses

import torch

from medsynth.backbone.input_size import native_size, smallest_size
from medsynth.backbone.network import TimmBackbone
from medsynth.backbone.published import PUBLISHED, Published
from medsynth.backbone.stages import stages
from medsynth.backbone.timm_network import TimmNetwork, create_network, pretrained_config
from medsynth.backbone.weights import weights_location
from medsynth.contracts import Network


@dataclasses.dataclass(frozen=True)
class Description:
    """Properties of a network.

    Attributes:
        model_name: timm's name.
        parameters: number of parameters with the classifier; running statistics are counted, as Keras does.
        headless_parameters: the same without the classifier.
        published: numbers of the reference system's paper, if it has this network.
        native_size: height and width in pixels that the weights were trained with.
        smallest_size: smallest height and width in pixels.
        num_features: length of the pooled features.
        level_channels: channels of each level's maps.
        weights_location: ``embedded``, ``packaged``, ``cached``, ``download`` or ``none``: see ``weights_location``.
    """

    model_name: str
    parameters: int
    headless_parameters: int
    published: Published | None
    native_size: int
    smallest_size: int
    num_features: int
    level_channels: tuple[int, ...]
    weights_location: str


def describe(model_name: str) -> Description:
    """Describe a network of timm without allocating its weights.

    Raises:
        InputError: there is no such model.
    """
    config = pretrained_config(model_name)
    with torch.device("meta"):
        network, headless = create_network(model_name), create_network(model_name, num_classes=0)
    return Description(
        model_name=model_name,
        parameters=count_parameters(network),
        headless_parameters=count_parameters(headless),
        published=PUBLISHED.get(model_name),
        native_size=native_size(config),
        smallest_size=smallest_size(config),
        num_features=headless.head_hidden_size,
        level_channels=tuple(info["num_chs"] for info in stages(headless)),
        weights_location=weights_location(model_name),
    )


def count_parameters(network: Network | TimmNetwork) -> int:
    """Count parameters and running statistics, as Keras does, but no counters of batches or images."""
    return sum(value.numel() for value in network.state_dict().values() if value.is_floating_point())


def second_derivative(model_name: str) -> str:
    """Test whether the features are twice differentiable with respect to the images: ``yes``, ``not fused`` or ``no``.

    Gradient penalties on a trained backbone need the second derivative. ``not fused``: it exists with
    ``fused_attention=false`` only. Computed for random weights and two images of the smallest size.
    """
    if _differentiates_twice(model_name, fused_attention=True):
        return "yes"
    return "not fused" if _differentiates_twice(model_name, fused_attention=False) else "no"


def _differentiates_twice(model_name: str, *, fused_attention: bool) -> bool:
    config = pretrained_config(model_name)
    channels, size = config.input_size[0], smallest_size(config)
    backbone = TimmBackbone(
        model_name=model_name,
        channels=channels,
        image_size=size,
        weights="random",
        fused_attention=fused_attention,
    ).freeze()
    images = torch.zeros(2, channels, size, size, requires_grad=True)
    features = backbone(images)
    (gradient,) = torch.autograd.grad(features.square().sum(), images, create_graph=True)
    try:
        torch.autograd.grad(gradient.square().sum(), images)
    except RuntimeError:  # "derivative for ... is not implemented"
        return False
    return True
