"""Labels in discriminators: projection (Miyato and Koyama 2018), or a classifier (Odena et al. 2017, AC-GAN)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.nn.utils.parametrizations import spectral_norm

from medsynth.contracts import InputError


class ProjectedLogit(nn.Module):
    """One linear unit on pooled features, plus their inner product with the label's embedding.

    Projection conditioning (Miyato and Koyama 2018, equation 5): ``(N, num_features), (N,) -> (N, 1)``.

    Args:
        num_features: length of the features.
        num_classes: classes of the labels; 0: no embedding, and labels are ignored.
        bias: whether the linear unit has a bias.
        spectral: spectral normalization of all parts.
        classifier: instead of the embedding there are ``classes``, linear units whose outputs are the logits of the
            classes (Odena et al. 2017, AC-GAN); the logit ignores labels.

    Raises:
        InputError: a classifier without classes.
    """

    def __init__(
        self, num_features: int, num_classes: int, *, bias: bool, spectral: bool = False, classifier: bool = False
    ):
        super().__init__()
        if classifier and not num_classes:
            raise InputError(
                "discriminator.classifier=true needs labels to learn from: type conditional=true beside it."
            )
        self.linear = nn.Linear(num_features, 1, bias=bias)
        if spectral:
            spectral_norm(self.linear)
        self.embedding = _embedding(0 if classifier else num_classes, num_features, spectral=spectral)
        self.classes = nn.Linear(num_features, num_classes) if classifier else None
        if self.classes is not None and spectral:
            spectral_norm(self.classes)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 1)."""
        logits = self.linear(features)
        if self.embedding is None:
            return logits
        assert labels is not None, "a conditional discriminator needs labels"
        return logits + (self.embedding(labels) * features).sum(dim=1, keepdim=True)


class ProjectedMap(nn.Module):
    """A logit for each position of feature maps: a convolution to one map, plus projection conditioning.

    ``(N, channels, h, w), (N,) -> (N, positions)``, row by row; with ``kernel_size`` 1 there are h * w positions, each
    with a ``ProjectedLogit`` of its features. If a position is a larger window, the inner product with the label's
    embedding is that of the window's mean. The papers have no projection for each position.

    Args:
        channels: of the feature maps.
        num_classes: classes of the labels; 0: no embedding, and labels are ignored.
        kernel_size: height and width of the convolution.
        padding: zeros around the maps.
        spectral: spectral normalization of both parts.
    """

    def __init__(
        self, channels: int, num_classes: int, *, kernel_size: int = 1, padding: int = 0, spectral: bool = False
    ):
        super().__init__()
        self.kernel_size, self.padding = kernel_size, padding
        self.convolution = nn.Conv2d(channels, 1, kernel_size, padding=padding)
        if spectral:
            spectral_norm(self.convolution)
        self.embedding = _embedding(num_classes, channels, spectral=spectral)

    def forward(self, maps: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, positions)."""
        logits = self.convolution(maps).flatten(1)
        if self.embedding is None:
            return logits
        assert labels is not None, "a conditional discriminator needs labels"
        means = avg_pool2d(maps, self.kernel_size, stride=1, padding=self.padding)
        return logits + (self.embedding(labels)[:, :, None, None] * means).sum(dim=1).flatten(1)


def _embedding(num_classes: int, num_features: int, *, spectral: bool) -> nn.Embedding | None:
    if not num_classes:
        return None
    embedding = nn.Embedding(num_classes, num_features)
    if spectral:  # from N(0, 1): the zero matrix has no largest singular value to divide by
        spectral_norm(embedding)
    else:
        nn.init.zeros_(embedding.weight)  # starts as the unconditional discriminator
    return embedding
