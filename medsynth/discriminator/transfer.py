"""The discriminator of the reference system (Tomsk, 2020): an ImageNet backbone and a small trained head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medsynth.contracts import Backbone, Features, InputError
from medsynth.discriminator.label import ProjectedLogit


class TransferDiscriminator(nn.Module):
    """Pooled features of a backbone, normalization without scale and offset, and one linear unit without bias.

    With ``unfreeze`` none the backbone is frozen and only the linear unit is trained: with Xception 2,048 parameters,
    as in the paper. Otherwise the last stages of the backbone, or all, are fine-tuned as a part of ``head``, and
    ``features`` are the output of the frozen stages. ``forward``: (N, C, H, W) -> logits (N, 1).

    The paper's head is most plausibly batch normalization before the unit. Computed over a batch of real or of fake
    images alone, it would subtract their mean, the only difference that a linear unit can detect: every batch would
    have the mean logit 0. Therefore running statistics over both are used, to which batch normalization converges.
    They start from real images (``calibrate``) and are updated while the head is trained. For the same reason a
    fine-tuned backbone keeps its own running statistics; its weights and scales are trained.

    Args:
        backbone: images -> (N, num_features).
        unfreeze: ``none``, the number of the backbone's last stages that are trained too, or ``all``.
        backbone_lr_factor: learning rate of the unfrozen stages, as a factor of the head's.
        momentum: of the running statistics, per batch (Keras's default).
        num_classes: classes of the labels; 0 means unconditional.

    Raises:
        InputError: another value of ``unfreeze``, or a factor that is not positive.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        unfreeze: int | str = "none",
        backbone_lr_factor: float = 0.1,
        momentum: float = 0.01,
        num_classes: int = 0,
    ):
        super().__init__()
        stages = _stages(unfreeze)
        if backbone_lr_factor <= 0:
            raise InputError(
                f"discriminator.backbone_lr_factor={backbone_lr_factor} must be more than 0: to keep the backbone as "
                "it is set discriminator.unfreeze=none."
            )
        self.backbone_lr_factor = backbone_lr_factor
        self.backbone = backbone.freeze(except_stages=stages).eval()
        self.has_frozen_features = not all(parameter.requires_grad for parameter in backbone.parameters())
        self.momentum = momentum
        self.norm = nn.BatchNorm1d(backbone.num_features, affine=False, momentum=momentum)
        self.logit = ProjectedLogit(backbone.num_features, num_classes, bias=False)

    def features(self, images: Tensor) -> Features:
        """Return the output of the backbone's frozen stages."""
        return self.backbone.frozen_part(images)

    def head(self, features: Features, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 1); while the head is trained, update the running statistics."""
        pooled = self.backbone.trained_part(features).float()
        if self.training and self.logit.linear.weight.requires_grad:  # not in the generator's step
            self._follow(pooled.detach())
        return self.logit(self._normalized(pooled), labels)

    def activations(self, features: Features) -> Features:
        """Return the pooled features (N, num_features), not normalized."""
        return (self.backbone.trained_part(features),)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N, 1) of images (N, C, H, W)."""
        return self.head(self.features(images), labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the linear unit's parameters, and the backbone's unfrozen ones with their ``lr_factor``."""
        groups: list[dict[str, Any]] = [{"params": list(self.logit.parameters())}]
        unfrozen = [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]
        if unfrozen:
            groups.append({"params": unfrozen, "lr_factor": self.backbone_lr_factor})
        return groups

    @torch.no_grad()
    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Calibrate the backbone, then estimate mean and variance of the features, on real images in [-1, 1]."""
        self.backbone.calibrate(batches)
        pooled = torch.cat([self.backbone(images).float() for images in batches])
        mean, variance = self._statistics()
        mean.copy_(pooled.mean(dim=0))
        variance.copy_(pooled.var(dim=0))

    @torch.no_grad()
    def _follow(self, pooled: Tensor) -> None:
        mean, variance = self._statistics()
        mean.lerp_(pooled.mean(dim=0), self.momentum)
        variance.lerp_(pooled.var(dim=0), self.momentum)

    def _normalized(self, pooled: Tensor) -> Tensor:
        # Copies, since the statistics are updated before the backward pass.
        mean, variance = (statistic.clone() for statistic in self._statistics())
        # Without a lower bound, features that are constant on all real images would outweigh all the others.
        smallest = 1e-2 * variance.mean() + self.norm.eps * 1e-3
        return (pooled - mean) * variance.clamp_min(smallest).rsqrt()  # (N, num_features)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance (num_features,), to be read or changed in place."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        return mean, variance

    def train(self, mode: bool = True) -> TransferDiscriminator:
        """Set the mode; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self


def _stages(unfreeze: int | str) -> int | None:
    """Return the number of the backbone's last stages to train: 0 for ``none``, None for ``all``."""
    if unfreeze in ("none", "all"):
        return {"none": 0, "all": None}[unfreeze]
    if not isinstance(unfreeze, int) or isinstance(unfreeze, bool) or unfreeze < 1:
        raise InputError(
            f"discriminator.unfreeze={unfreeze} is unknown: choose none, all, or the number of the backbone's last "
            "stages to train, 1 or more."
        )
    return unfreeze
