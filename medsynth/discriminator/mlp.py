"""The fully connected discriminator, the counterpart of ``generator=mlp`` (Goodfellow et al. 2014)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

from medsynth.contracts import InputError, MinibatchFactory
from medsynth.discriminator.label import ProjectedLogit
from medsynth.discriminator.trained import LayeredDiscriminator, dropout_layer, minibatch_layer


class MLPDiscriminator(LayeredDiscriminator):
    """Dense layers with leaky ReLU and dropout, one logit, without any structure of neighboring pixels.

    Goodfellow et al. 2014 (section 5) have fully connected networks and dropout in the discriminator; leaky ReLU in the
    place of their maxout units is that of the later articles. No normalization. Labels enter by projection.

    Args:
        image_size: height and width in pixels; any.
        channels: channels of the images.
        widths: units of the hidden layers.
        dropout: probability with which each hidden unit is left out.
        minibatch: makes a layer that compares the images of a batch, on the last hidden units; None: there is none.
        packing: images that have one row of logits together (``TrainedDiscriminator``).
        num_classes: classes of the labels; 0 means unconditional.
        classifier: labels are learned by a classifier beside the logit instead of projection (``ProjectedLogit``).

    Raises:
        InputError: no hidden layer, or one without units.
    """

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        widths: Sequence[int] = (1024, 512, 256),
        dropout: float = 0.0,
        minibatch: MinibatchFactory | None = None,
        packing: int = 1,
        num_classes: int = 0,
        classifier: bool = False,
    ):
        super().__init__(packing=packing, num_classes=num_classes)
        if not widths or min(widths) < 1:
            raise InputError(f"discriminator.widths={list(widths)} must be one or more numbers of units.")
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise([packing * channels * image_size**2, *widths]):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2), dropout_layer(dropout)]
        compare, features = minibatch_layer(minibatch, widths[-1], positions=1)
        self.layers = nn.Sequential(nn.Flatten(), *layers, compare)
        self.logit = ProjectedLogit(features, num_classes, bias=True, classifier=classifier)
