"""What there is to know about a backbone before it is chosen, counted and measured on the network itself."""

from __future__ import annotations

import dataclasses

import timm
import torch
from torch import nn

from medsynth.backbone.input_size import native_size, smallest_size
from medsynth.backbone.network import TimmBackbone, pretrained_config
from medsynth.backbone.published import PUBLISHED, Published
from medsynth.backbone.stages import stages
from medsynth.backbone.weights import whereabouts


@dataclasses.dataclass(frozen=True)
class Description:
    """One network. Weights are counted with the running statistics, as Keras does; sizes are in pixels."""

    model_name: str
    weights: int  # with the classifier
    headless_weights: int
    published: Published | None
    native_size: int
    smallest_size: int
    num_features: int
    level_channels: tuple[int, ...]
    whereabouts: str  # of the pretrained weights: embedded, at hand, download, none


def describe(model_name: str) -> Description:
    """Count a network of timm's, without making its weights.

    Raises:
        InputError: there is no such model.
    """
    config = pretrained_config(model_name)
    with torch.device("meta"):
        network, headless = timm.create_model(model_name), timm.create_model(model_name, num_classes=0)
    return Description(
        model_name=model_name,
        weights=count_weights(network),
        headless_weights=count_weights(headless),
        published=PUBLISHED.get(model_name),
        native_size=native_size(config),
        smallest_size=smallest_size(config),
        num_features=headless.head_hidden_size,
        level_channels=tuple(info["num_chs"] for info in stages(headless)),
        whereabouts=whereabouts(model_name),
    )


def count_weights(network: nn.Module) -> int:
    """Parameters and running statistics, as papers count, but no counters of batches or images."""
    return sum(value.numel() for value in network.state_dict().values() if value.is_floating_point())


def second_derivative(model_name: str) -> str:
    """Whether the features can be differentiated twice with respect to the images: ``yes``, ``not fused``, ``no``.

    A penalty of gradients on a trained backbone needs that. ``not fused``: with ``fused_attention=false`` alone. Tried
    on random weights and two images of the smallest size.
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
