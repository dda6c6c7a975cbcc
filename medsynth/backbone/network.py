"""Any image model of timm as a backbone: images in [-1, 1] -> pooled features."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.modules.batchnorm import _BatchNorm

from medsynth.backbone import mini  # noqa: F401  registers medsynth_mini with timm
from medsynth.backbone.weights import embedded_file, load_file, load_pretrained
from medsynth.contracts import InputError

SMALLEST_SIZE = 32  # pixels: the total stride of most networks
SMALLEST_SIZES = {"inception_v3": 75}  # where timm does not say it


class TimmBackbone(nn.Module):
    """``images (N, C, H, W) in [-1, 1] -> pooled features (N, num_features)``.

    Owns its input: gray is repeated to the network's 3 channels (or color averaged to its one), images are resized to
    ``input_size`` (bilinear, differentiable; with antialiasing where they shrink) and standardized with the mean and
    standard deviation that the weights were trained with, from timm's ``pretrained_cfg``.

    Args:
        model_name: timm's name, with or without a tag of the weights, such as ``resnet50`` or ``resnet50.a1_in1k``.
        channels: channels of the images, 1 or 3.
        image_size: height and width of the images in pixels.
        weights: ``pretrained``: timm's, from the local cache or downloaded; a path: a ``.safetensors`` file or a
            PyTorch file with a state dict; ``embedded``: what ships with medsynth (medsynth_mini only); ``random``:
            random, and with batch normalization of no use before ``calibrate``, since the statistics that belong to
            the weights are not known (the gradient with respect to the images then vanishes or explodes).
        input_size: height and width in pixels that the network sees; None: ``image_size``, or the smallest size that
            the network takes if that is larger, or its only one.
        enlarge: whether images may be enlarged.
        classifier: keep the weights' classifier, for ``logits``.

    Raises:
        InputError: there is no such model, its weights cannot be had or do not fit, or the sizes do not go together.

    ``weights_description`` says in words which weights are in use.
    """

    def __init__(
        self,
        *,
        model_name: str,
        channels: int,
        image_size: int,
        weights: str = "pretrained",
        input_size: int | None = None,
        enlarge: bool = True,
        classifier: bool = False,
    ):
        super().__init__()
        config = _pretrained_config(model_name)
        self.input_size = _input_size(config, image_size, input_size, enlarge)
        self.model_name = model_name
        self.has_classifier = classifier
        self.frozen = False
        self.network, self.weights_description = _network(model_name, weights, classifier)
        self.num_features: int = self.network.head_hidden_size
        self._calibrates = weights == "random" and any(isinstance(m, _BatchNorm) for m in self.network.modules())
        network_channels = config.input_size[0]
        if channels not in (1, 3, network_channels) or network_channels not in (1, 3, channels):
            raise InputError(f"data.channels={channels} does not go with backbone {model_name}, which takes 1 or 3.")
        self._average_channels = network_channels == 1
        # (images + 1) / 2 is in [0, 1], as mean and std are; both steps in one. Not in the state dict: not learned.
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (config.mean, config.std))
        self.register_buffer("scale", 0.5 / std, persistent=False)
        self.register_buffer("offset", (0.5 - mean) / std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.network.forward_features(self._to_input(images))
        return self.network.forward_head(maps, pre_logits=True)

    def logits(self, features: Tensor) -> Tensor:
        """Pooled features (N, num_features) -> logits (N, classes) of what the weights were trained to classify."""
        assert self.has_classifier
        return self.network.get_classifier()(features)

    def freeze(self) -> TimmBackbone:
        """Weights and running statistics stay as they are from here on, whatever mode is set from outside."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> TimmBackbone:
        return super().train(mode and not self.frozen)

    @torch.no_grad()
    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Estimate the batch normalizations' statistics of random weights on real images in [-1, 1].

        They become part of the state dict. Other weights, and networks without batch normalization, stay as they are.
        A cumulative average of each batch's statistics, all layers in one pass: while they are estimated each layer
        normalizes by its batch, so that a second pass would find the same.
        """
        if not self._calibrates:
            return
        assert batches
        training = self.training
        self.eval()  # no dropout
        layers = [module for module in self.network.modules() if isinstance(module, _BatchNorm)]
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
        with torch.autocast(self.scale.device.type, enabled=False):
            for images in batches:
                self(images.to(self.scale))
        for layer, layer.momentum in zip(layers, momenta, strict=True):
            layer.eval()
        self.train(training)
        self.weights_description = f"random, calibrated on {sum(map(len, batches))} images"

    def _to_input(self, images: Tensor) -> Tensor:
        if self._average_channels:
            images = images.mean(dim=1, keepdim=True)
        if images.shape[-1] != self.input_size:
            size, shrinks = (self.input_size, self.input_size), images.shape[-1] > self.input_size
            images = interpolate(images, size, mode="bilinear", antialias=shrinks)
        return images * self.scale + self.offset  # (N, 1 or 3, ...) -> (N, the network's channels, ...)


def _pretrained_config(model_name: str):
    """timm's record of a model: what its input looks like, and where its weights are."""
    if not timm.is_model(model_name):
        close = difflib.get_close_matches(model_name, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}" if close else "see timm.list_models()"
        raise InputError(f"backbone.model_name={model_name} is not a model of timm {timm.__version__}: {hint}?")
    name, _, tag = model_name.partition(".")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise InputError(
            f"backbone.model_name={model_name}: timm has no weights {tag} of {name}, but {', '.join(tags)}."
        )
    return timm.get_pretrained_cfg(model_name)


def _network(model_name: str, weights: str, classifier: bool) -> tuple[nn.Module, str]:
    options = {} if classifier else {"num_classes": 0}
    if weights == "pretrained":
        return load_pretrained(model_name, options)
    network = timm.create_model(model_name, **options)
    if weights == "random":
        return network, "random"
    path = embedded_file(model_name) if weights == "embedded" else Path(weights).expanduser()
    return network, load_file(network, path, headless=not classifier)


def _input_size(config, image_size: int, input_size: int | None, enlarge: bool) -> int:
    """Height and width in pixels that the network sees."""
    name = config.architecture
    if config.fixed_input_size:
        smallest = largest = config.input_size[-1]
    else:
        smallest = config.min_input_size[-1] if config.min_input_size else SMALLEST_SIZES.get(name, SMALLEST_SIZE)
        largest = float("inf")
    if input_size is None:
        input_size = min(max(image_size, smallest), largest)
    if not smallest <= input_size <= largest:
        right = f"{smallest} or more" if largest > smallest else f"{smallest}"
        raise InputError(f"backbone.input_size={input_size} is not a size that {name} takes: {right}.")
    if input_size > image_size and not enlarge:
        raise InputError(
            f"data.image_size={image_size} is too small for backbone {name} with backbone.enlarge=false: "
            f"data.image_size={input_size} is the smallest right value, or set backbone.enlarge=true."
        )
    return input_size
