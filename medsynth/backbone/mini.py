"""The small network that ships with its weights, so that a run with a backbone needs no network: ``medsynth_mini``."""

from __future__ import annotations

from pathlib import Path

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
    """A ResNet-10 of 311,569 weights (310,408 without classifier, both with running statistics) for small gray images:
    one channel in, 128 features.

    Its total stride is 16 instead of 32, since the pooling of the stem is left out: 64 pixels then end in 4x4 places
    instead of 2x2, so that a discriminator on top sees more than a blur of the image, and no max pooling stands in the
    generator's gradient. The stem is three 3x3 convolutions, the shortcuts average (He et al. 2019, "Bag of Tricks for
    Image Classification with Convolutional Neural Networks", ResNet-D).
    """

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.maxpool = torch.nn.Identity()
        for level in self.feature_info[1:]:
            level["reduction"] //= 2


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
def medsynth_mini(pretrained: bool = False, **arguments) -> ResNet:
    """Trained on phantoms (scripts/train_mini_backbone.py). The keyword arguments are timm's."""
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
