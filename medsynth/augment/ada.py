"""Adaptive discriminator augmentation (ADA), for training with few images (Karras et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medsynth.augment.geometry import Blit, Geometry, Move, move, normal
from medsynth.augment.options import checked, chosen
from medsynth.contracts import InputError

_POLICIES = ("blit", "geometry", "color")
_LARGEST = {
    **{"translation": 1.0, "shift": 1.0, "brightness": 2.0, "rotation": 180.0},
    **dict.fromkeys(("scale", "stretch", "contrast", "saturation"), 2.0),  # a factor of 4 at one standard deviation
}


class AdaptiveAugmentation:
    """Random changes of each image, the more of them the more the discriminator overfits (Karras et al. 2020).

    ``strength`` is the probability p of each change of each image, all independent. Overfitting is measured by
    r = E[sign(D(real))] (section 3.1): 0 if the discriminator cannot tell real from generated images, 1 if all real
    images are classified correctly. Every ``interval`` discriminator updates p rises if the mean of r over these
    updates is above ``target``, and falls if it is below.

    The changes have the order and magnitudes of the paper's appendix B:

    * blit: [mirroring, quarter turns,] a shift by whole pixels, uniformly distributed.
    * geometry: scale, rotation, stretch in a random direction, fractional shift. There is a rotation before the stretch
      and another after it, with probabilities such that an image has neither with probability 1 - p.
    * color: brightness, contrast about 0, and saturation if there are several channels. Nothing is clipped.

    While p < 1 a change does not leak into the generated images, since unchanged images are more frequent than images
    changed in any one way; in practice the authors rely on this up to about 0.8. As p may become as large, changes that
    make wrong anatomy or density plausible are left out: mirroring and quarter turns unless chosen (the heart is on the
    left, the table below), inverted intensities (bone is brighter than air), and hues (channels may not be colors).
    Rotation by any angle stays, since geometry helped most in the paper; ``rotation`` bounds it if it leaks.

    Images are sampled once and at twice the density, as in the paper, with filters that keep as much of the high
    frequencies as the paper's wavelets (``geometry.resample``). The paper's filtering and corruption of images, which
    did not help there, are left out. An image without any change stays bit for bit.

    Args:
        batch_size: real images in a discriminator update, over all processes and microbatches.
        strength: p at the start of the training.
        target: of r; None: the strength stays as it is.
        interval: discriminator updates from one adjustment of p to the next.
        ramp_images: real images in which p rises from 0 to 1 if it rises at every adjustment.
        policy: any of blit, geometry and color.
        flip: blit includes mirroring left and right.
        rotate90: blit includes turns by 0, 90, 180 or 270 degrees, equally frequent.
        translation: largest shift by whole pixels, as a fraction of height and width.
        scale: standard deviation of the logarithm to base 2 of the factor in size.
        rotation: largest angle in degrees, in both directions, uniformly distributed; 180: any angle.
        stretch: standard deviation of the logarithm to base 2 of the factor along one axis; the other has its inverse.
        shift: standard deviation of the fractional shift, as a fraction of height and width.
        brightness: standard deviation of the added value, in units of [-1, 1].
        contrast: standard deviation of the logarithm to base 2 of the factor by which the image is multiplied.
        saturation: standard deviation of the logarithm to base 2 of the factor of each pixel's deviation from the mean
            of its channels.

    Raises:
        InputError: names the option that is unknown or out of range.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        strength: float = 0.0,
        target: float | None = 0.6,
        interval: int = 4,
        ramp_images: int = 500_000,
        policy: Sequence[str] = _POLICIES,
        flip: bool = False,
        rotate90: bool = False,
        translation: float = 0.125,
        scale: float = 0.2,
        rotation: float = 180.0,
        stretch: float = 0.2,
        shift: float = 0.125,
        brightness: float = 0.2,
        contrast: float = 0.5,
        saturation: float = 1.0,
    ):
        self.policy = chosen("ada", policy, _POLICIES)
        for name, value in {"batch_size": batch_size, "interval": interval, "ramp_images": ramp_images}.items():
            if not value >= 1:
                raise InputError(f"augment.ada.{name}={value} must be 1 or more.")
        if not 0 <= strength <= 1:
            raise InputError(f"augment.ada.strength={strength} is a probability and must be from 0 to 1.")
        if target is not None and not -1 <= target <= 1:
            raise InputError(f"augment.ada.target={target} must be from -1 to 1, or null to keep the strength.")
        self.strength = float(strength)
        self.target = target
        self.interval = interval
        self._adjustment = interval * batch_size / ramp_images
        self._blit = Blit(flip=flip, rotate90=rotate90, translation=_checked("translation", translation))
        self._geometry = Geometry(
            scale=_checked("scale", scale),
            rotation=math.radians(_checked("rotation", rotation)),
            stretch=_checked("stretch", stretch),
            shift=_checked("shift", shift),
        )
        self._brightness = _checked("brightness", brightness)
        self._contrast = _checked("contrast", contrast)
        self._saturation = _checked("saturation", saturation)
        self._signs, self._updates = 0.0, 0  # sum and number since the last adjustment

    def observe(self, *, real_logits: float, fake_logits: float, real_signs: float) -> Mapping[str, float]:
        """Adapt the strength every ``interval`` discriminator updates; return the strength and r so far."""
        self._signs += real_signs
        self._updates += 1
        overfitting = self._signs / self._updates
        if self._updates == self.interval:
            if self.target is not None and overfitting != self.target:
                change = math.copysign(self._adjustment, overfitting - self.target)
                self.strength = min(max(self.strength + change, 0.0), 1.0)
            self._signs, self._updates = 0.0, 0
        return {"strength": self.strength, "overfitting": overfitting}

    def state_dict(self) -> dict[str, float]:
        """Return the strength, and the signs since its last adjustment."""
        return {"strength": self.strength, "signs": self._signs, "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the strength, and the signs since its last adjustment."""
        self.strength, self._signs, self._updates = state["strength"], state["signs"], int(state["updates"])

    def __call__(self, images: Tensor) -> Tensor:
        """Return augmented images (N, C, H, W)."""
        if self.strength == 0 or not self.policy:
            return images
        wide = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images  # rounded once, at the end
        with torch.autocast(images.device.type, enabled=False):
            if self.policy & {"blit", "geometry"}:
                wide = move(wide, self._moves(wide))
            if "color" in self.policy:
                wide = self._color(wide)
        return wide.to(images.dtype)

    def _moves(self, images: Tensor) -> list[Move]:
        blit = self._blit.moves(images, self.strength) if "blit" in self.policy else ()
        geometry = self._geometry.moves(images, self.strength) if "geometry" in self.policy else ()
        return [*blit, *geometry]

    def _color(self, images: Tensor) -> Tensor:
        """Change brightness, contrast and saturation; the latter keeps the mean of the channels."""
        deviations = images.new_tensor([self._brightness, self._contrast, self._saturation])
        drawn = torch.stack([normal(images) for _ in deviations], dim=1) * deviations
        applied = torch.rand(drawn.shape, device=images.device) < self.strength
        brightness, contrast, saturation = torch.where(applied, drawn, 0).T[..., None, None, None]
        gray = images.mean(dim=1, keepdim=True)
        changed = (torch.lerp(gray, images, saturation.exp2()) + brightness) * contrast.exp2()
        return torch.where(applied.any(dim=1)[:, None, None, None], changed, images)


def _checked(name: str, value: float) -> float:
    return checked("ada", name, value, _LARGEST[name])
