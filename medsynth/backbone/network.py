"""Any image model of timm as a backbone: images in [-1, 1] -> pooled features."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.modules.batchnorm import _BatchNorm

from medsynth.backbone import mini, nasnet_mobile  # noqa: F401  registers them with timm
from medsynth.backbone.input_size import choose_size
from medsynth.backbone.split import NotTraceable, Split, split
from medsynth.backbone.stages import chosen_levels, count_stages, stages
from medsynth.backbone.timm_network import TimmNetwork, create_network, pretrained_config
from medsynth.backbone.weights import embedded_file, load_file, load_packaged, load_pretrained, weights_location
from medsynth.contracts import Features, InputError

_log = logging.getLogger(__name__)


class TimmBackbone(nn.Module):
    """``images (N, C, H, W) in [-1, 1] -> pooled features (N, num_features)``.

    It adapts images to the network: gray is repeated to 3 channels (or color averaged to one), images are resized to
    ``input_size`` (bilinear, differentiable, with antialiasing where they shrink) and standardized with the mean and
    standard deviation that the weights were trained with, from timm's ``pretrained_cfg``.

    Args:
        model_name: timm's name, with or without a tag of the weights, such as ``resnet50`` or ``resnet50.a1_in1k``.
        channels: channels of the images, 1 or 3.
        image_size: height and width of the images in pixels.
        weights: ``pretrained``: timm's, from the local cache or downloaded; a path: a ``.safetensors`` file or a
            PyTorch file with a state dict; ``embedded``: the file that ships with medsynth (medsynth_mini only);
            ``packaged``: ImageNet's from a package that is installed with medsynth (see ``packaged.PACKAGES``);
            ``random``: random weights, which with batch normalization need ``calibrate`` first, since their running
            statistics are unknown (the gradient with respect to the images would vanish or explode); ``auto``:
            embedded, packaged or pretrained where available, in this order, else random, with a warning.
        input_size: height and width in pixels that the network sees; ``native``: the size that the weights were trained
            with; None: ``image_size``, or the nearest size that the network accepts.
        enlarge: whether images may be enlarged.
        classifier: keep the weights' classifier, for ``logits``.
        fused_attention: whether transformers compute attention by PyTorch's fused function. It has no second
            derivative, which a gradient penalty needs where the backbone is trained.

    Raises:
        InputError: unknown model, weights that are not available or do not fit, or a size that the network rejects.
    """

    calibrated_on: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        *,
        model_name: str | None,
        channels: int,
        image_size: int,
        weights: str = "pretrained",
        input_size: int | str | None = None,
        enlarge: bool = True,
        classifier: bool = False,
        fused_attention: bool = True,
    ):
        super().__init__()
        config = pretrained_config(model_name)
        self.input_size = choose_size(config, image_size=image_size, input_size=input_size, enlarge=enlarge)
        assert model_name is not None  # pretrained_config has checked it
        self.model_name: str = model_name
        self.has_classifier = classifier
        self.frozen = False
        self._trains_all = True
        self._split: Split | None = None  # if some stages are trained and others frozen
        self.network, self._weights_description = _network(model_name, weights, classifier)
        self.num_features = self.network.head_hidden_size
        for module in self.network.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # pyright: ignore  # maps that are returned must not be overwritten
            if hasattr(module, "fused_attn"):
                module.fused_attn = module.fused_attn and fused_attention  # pyright: ignore
        self._calibrates = self._weights_description == "random" and any(
            isinstance(m, _BatchNorm) for m in self.network.modules()
        )
        # The number of images used for calibration is in the state dict, so that a resumed run knows it too.
        self.register_buffer("calibrated_on", torch.tensor(0), persistent=self._calibrates)
        network_channels = config.input_size[0]
        if channels not in (1, 3, network_channels) or network_channels not in (1, 3, channels):
            raise InputError(
                f"data.channels={channels} does not suit backbone {model_name}, which takes 1 or 3: choose another "
                "network, or for points metrics=modes and, in medsynth evaluate, extractor=pixels."
            )
        self._average_channels = network_channels == 1
        # (images + 1) / 2 is in [0, 1], as mean and std are; both steps in one. Not learned, so not in the state dict.
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (config.mean, config.std))
        self.register_buffer("scale", 0.5 / std, persistent=False)
        self.register_buffer("offset", (0.5 - mean) / std, persistent=False)

    @property
    def weights_description(self) -> str:
        """Describe the weights in use, for people."""
        images = int(self.calibrated_on)
        return f"{self._weights_description}, calibrated on {images} images" if images else self._weights_description

    def forward(self, images: Tensor) -> Tensor:
        """Return pooled features (N, num_features) of images (N, C, H, W) in [-1, 1]."""
        maps = self.network.forward_features(self._to_input(images))
        return self.network.forward_head(maps, pre_logits=True)

    def logits(self, features: Tensor) -> Tensor:
        """Return the classifier's logits (N, classes) for pooled features (N, num_features)."""
        assert self.has_classifier
        return self.network.get_classifier()(features)

    def freeze(self, *, except_stages: int | None = 0) -> TimmBackbone:
        """Freeze all weights but those of the last ``except_stages`` stages; None freezes none.

        Running statistics stay fixed and dropout is off in all stages, in training mode too. Stages are timm's (see
        ``stages``); layers before the first stage belong to it, layers after the last stage to the last.

        Raises:
            InputError: there are fewer stages, or the network cannot be split between them.
        """
        self.frozen = True
        self.eval()
        number = count_stages(self.network, self.model_name, at_least=except_stages or 0)
        self._trains_all = except_stages is None or 0 < except_stages == number
        self._split = self._cut(except_stages) if except_stages and not self._trains_all else None
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in self._split.trained if self._split else self._trains_all)
        return self

    def frozen_part(self, images: Tensor) -> Features:
        """Return the output of the frozen stages for images (N, C, H, W) in [-1, 1].

        These are the pooled features if all stages are frozen, and the images if none is (as before ``freeze``).
        """
        if self._split:
            return self._split.before(self, self._to_input(images))
        return (images,) if self._trains_all else (self(images),)

    def trained_part(self, features: Features) -> Tensor:
        """Return the pooled features (N, num_features) from the output of the frozen stages."""
        if self._split:
            return self._split.after(self, *features)
        (only,) = features
        return self(only) if self._trains_all else only

    def level_channels(self, count: int | None) -> tuple[int, ...]:
        """Return the channels of the maps that ``levels`` returns; None: of all levels, and of five at most.

        Raises:
            InputError: there are fewer levels.
        """
        infos = stages(self.network)
        return tuple(infos[index]["num_chs"] for index in chosen_levels(self.network, self.model_name, count))

    def levels(self, images: Tensor, count: int) -> Features:
        """Return maps (N, C_l, H_l, W_l) after each of the last ``count`` stages, the finest first.

        In transformers of one resolution, after ``count`` evenly spaced blocks, the last one included. Images are
        (N, C, H, W) in [-1, 1].

        Raises:
            InputError: there are fewer levels.
        """
        indices = chosen_levels(self.network, self.model_name, count)
        maps = self.network.forward_intermediates(self._to_input(images), indices=indices, intermediates_only=True)
        return tuple(maps)

    def train(self, mode: bool = True) -> TimmBackbone:
        """Set the mode; a frozen backbone stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    @torch.no_grad()
    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Estimate the batch normalizations' statistics of random weights on real images in [-1, 1].

        They become part of the state dict. Other weights, and networks without batch normalization, stay unchanged.
        The statistics are cumulative averages over the batches, of all layers in one pass: meanwhile each layer
        normalizes by its batch, so that a second pass would give the same result.
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
        self.calibrated_on.fill_(sum(map(len, batches)))

    def _to_input(self, images: Tensor) -> Tensor:
        if self._average_channels:
            images = images.mean(dim=1, keepdim=True)
        if images.shape[-1] != self.input_size:
            size, shrinks = (self.input_size, self.input_size), images.shape[-1] > self.input_size
            images = interpolate(images, size, mode="bilinear", antialias=shrinks)
        return images * self.scale + self.offset  # (N, 1 or 3, ...) -> (N, the network's channels, ...)

    def _cut(self, count: int) -> Split:
        """Split the network before its last ``count`` stages."""
        assert not self.has_classifier
        try:
            return split(self.network, stages(self.network)[-count - 1]["module"])
        except NotTraceable as error:
            raise InputError(
                f"discriminator.unfreeze={count}: {self.model_name} cannot be split there; choose none or all."
            ) from error


def _network(model_name: str, weights: str, classifier: bool) -> tuple[TimmNetwork, str]:
    """Return the network with the chosen weights, and a description of these."""
    options = {} if classifier else {"num_classes": 0}
    if weights == "auto":
        location = weights_location(model_name)
        weights = location if location in ("embedded", "packaged") else "pretrained"
        try:
            return _network(model_name, weights, classifier)
        except InputError:
            _log.warning(
                "No pretrained weights of %s are available here: its weights are random, and the results say so.",
                model_name,
            )
            weights = "random"
    if weights == "pretrained":
        return load_pretrained(model_name, options)
    network = create_network(model_name, **options)
    if weights == "random":
        return network, "random"
    if weights == "packaged":
        return network, load_packaged(network, headless=not classifier)
    path = embedded_file(model_name) if weights == "embedded" else Path(weights).expanduser()
    return network, load_file(network, path, model_name, headless=not classifier)
