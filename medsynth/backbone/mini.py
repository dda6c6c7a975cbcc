"""``medsynth_mini``: a small network whose weights ship with medsynth, so that a backbone needs no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet

WEIGHTS = Path(__file__).with_name("mini.safetensors")
CLASSES = tuple(
    f"{anatomy} {lesions}"
    for anatomy in ("head", "abdomen", "chest")
    for lesions in ("healthy", "one_lesion", "several_lesions")
)
IMAGE_SIZE = 64


class MiniResNet(ResNet):
    """A ResNet-10 for small gray images: one channel in, 128 features.

    It has 311,569 parameters, 310,408 without classifier, both with running statistics. Its total stride is 16 instead
    of 32, since the stem has no pooling: the last maps of 64 pixels have 4x4 positions instead of 2x2, so that a
    discriminator sees more detail, and no max pooling lies in the generator's gradient. The stem is three 3x3
    convolutions, the shortcuts average (He et al. 2019, "Bag of Tricks for Image Classification with Convolutional
    Neural Networks", ResNet-D).
    """

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.maxpool = torch.nn.Identity()
        for level in self.feature_info[1:]:
            level["reduction"] = int(level["reduction"]) // 2


default_cfgs = generate_default_cfgs(
    {
        "medsynth_mini.phantoms": {
            "file": str(WEIGHTS),
            "num_classes": len(CLASSES),
            "input_size": (1, IMAGE_SIZE, IMAGE_SIZE),
            "min_input_size": (1, 32, 32),
            "mean": (0.5,),
            "std": (0.5,),
            "first_conv": "conv1.0",
            "classifier": "fc",
        }
    }
)


@register_model
def medsynth_mini(pretrained: bool = False, **arguments: Any) -> ResNet:
    """Create the network, trained on phantoms by scripts/train_mini_backbone.py; the arguments are timm's."""
    architecture = {
        "block": BasicBlock,
        "layers": (1, 1, 1, 1),
        "channels": (16, 32, 64, 128),
        "stem_type": "deep",
        "stem_width": 8,
        "avg_down": True,
        "num_classes": len(CLASSES),
        "in_chans": 1,
    }
    return build_model_with_cfg(MiniResNet, "medsynth_mini", pretrained, **(architecture | arguments))
