"""Sizes and accuracies of the reference system's backbones, as its paper (Tomsk, 2020) gives them for Keras."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
    """Number of parameters for 1,000 classes, with running statistics, and accuracy on ImageNet's validation set."""

    num_parameters: int
    top1: float
    top5: float


# By timm's name. Keras's ResNets have biases before their normalization, its Inception v3 has no scales in it; the
# others have as many parameters as timm's.
PUBLISHED = {
    "resnet50": Published(25_636_712, 0.749, 0.921),
    "resnet101": Published(44_707_176, 0.764, 0.928),
    "resnetv2_50": Published(25_613_800, 0.760, 0.930),
    "inception_v3": Published(23_851_784, 0.779, 0.937),
    "mobilenetv1_100": Published(4_253_864, 0.704, 0.895),
    "mobilenetv2_100": Published(3_538_984, 0.713, 0.901),
    "nasnet_mobile": Published(5_326_716, 0.744, 0.919),
    "legacy_xception": Published(22_910_480, 0.790, 0.945),
}
