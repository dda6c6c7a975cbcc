"""The Inception v3 network of 2015 that defines FID, KID and the inception score, from torch-fidelity.

Its weights (95 MB) do not ship with medsynth. They are read from PyTorch's cache, downloaded there where a network
is, or taken from a file named in the configuration.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import socket
from collections.abc import Generator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3  # pyright: ignore[reportMissingTypeStubs]
from torchmetrics.image.fid import NoTrainInceptionV3

from medsynth.contracts import InputError
from medsynth.metrics.quantization import to_uint8

WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
CONNECTION_TIMEOUT = 10.0  # seconds; a machine whose firewall swallows packets would else wait for minutes

logger = logging.getLogger(__name__)


class InceptionExtractor(nn.Module):
    """The FID network: images ``(N, C, H, W)`` in [-1, 1], C = 1 or 3 -> pooled features ``(N, 2048)``.

    Images are rounded to 8 bits, as FID is defined on 8-bit images; gray is repeated to 3 channels. The network
    resizes to 299 pixels as the original TensorFlow graph does (bilinear, no antialiasing), so that values compare
    with published ones; torchmetrics' own default resizes with antialiasing.

    ``canonical`` tells whether the weights are the published ones (by SHA-256): only then do values bear the names
    fid, kid and is.

    Args:
        weights: file with the network's state dict; None takes PyTorch's cache ($TORCH_HOME/hub/checkpoints),
            which is filled by a download where it is empty.

    Raises:
        InputError: no weights can be had, or the file does not fit the network.

    Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium".
    """

    name = "inception"
    num_features = 2048
    canonical = True  # until the weights turn out to be others

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        path = inception_file() if weights is None else Path(weights).expanduser()
        _check_loadable(path)
        try:
            self.network = NoTrainInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path), antialias=False
            )
        except RuntimeError as error:  # load_state_dict
            raise InputError(
                f"metrics.extractor.weights={path} holds the weights of another network than the Inception v3 of "
                "torch-fidelity; give its weights-inception-2015-12-05-6726825d.pth."
            ) from error
        self.canonical = _sha256(path) == WEIGHTS_SHA256
        if not self.canonical:
            logger.warning("%s are not the published FID weights: values are named fd_inception, not fid.", path)

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled features (N, 2048) of images (N, C, H, W) in [-1, 1]."""
        channels = images.shape[1]
        if channels not in (1, 3):
            raise InputError(f"metrics=inception takes images of 1 or 3 channels, these have {channels}: metrics=mini.")
        return self.network(to_uint8(images).expand(-1, 3, -1, -1))

    def logits(self, features: Tensor) -> Tensor:
        """Compute logits ``(N, 1008)`` without bias from features ``(N, 2048)``, for the inception score."""
        layer = cast(nn.Linear, self.network.fc)
        return features @ layer.weight.to(features.dtype).T


def inception_file() -> Path:
    """Return the weights' path in PyTorch's cache; download them if they are missing."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(CONNECTION_TIMEOUT):
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=WEIGHTS_SHA256)
    except (OSError, RuntimeError) as error:  # no network, a folder that cannot be written; a damaged download
        raise InputError(
            f"The FID network's weights are not at {path} and cannot be downloaded ({error}): put {path.name} there, "
            "name its place by metrics.extractor.weights=/path, or take the embedded network, metrics=mini."
        ) from error
    return path


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Generator[None, None, None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _check_loadable(path: Path) -> None:
    """torch-fidelity unpickles without restriction: let no file through that holds more than tensors."""
    if not path.is_file():
        raise InputError(
            f"metrics.extractor.weights={path} does not exist: give the path of torch-fidelity's "
            "weights-inception-2015-12-05-6726825d.pth, or take the embedded network, metrics=mini."
        )
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(
            f"metrics.extractor.weights={path} is not a PyTorch file of weights alone: give that of torch-fidelity."
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
