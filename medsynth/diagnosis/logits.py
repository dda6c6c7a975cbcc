"""Signals of the discriminator's logits: of training images, of images that it has not seen, and of generated ones."""

from __future__ import annotations

import torch
from torch import Tensor

from medsynth.contracts import Loss

_SATURATED = 0.05  # of the slope of an undecided logit
_EPSILON = 1e-12


def logit_signals(*, training: Tensor, held_out: Tensor, fake: Tensor, loss: Loss) -> dict[str, float]:
    """Compare logits (N, K) of un-augmented training, validation and generated images.

    * ``gap``: mean of the training images minus that of generated ones, in standard deviations within the two;
    * ``separated``: share of pairs of a validation and a generated image in which the validation image has the higher
      logit (the area under the ROC curve): 0.5 is undecided, 1 a discriminator that always knows;
    * ``overfitting``: (training - validation) / (training - generated), of the means (Karras et al. 2020,
      StyleGAN2-ADA, eq. 1): 1 where it takes validation images for generated ones;
    * ``training_separated``: share of pairs of a training and a validation image in which the training image has the
      higher logit: 0.5 where the discriminator does not know its training images;
    * ``slope``: mean derivative of the generator's loss with respect to a generated image's logit over that at an
      undecided logit: near 0, the generator learns nothing;
    * ``saturated``: share of generated images whose derivative is below 5 % of that.
    """
    training, held_out, fake = (side.detach().float().cpu().mean(dim=1) for side in (training, held_out, fake))
    within = ((training.var() + fake.var()) / 2).sqrt()
    gap = training.mean() - fake.mean()
    return {
        "gap": float(gap / (within + _EPSILON)),
        "separated": separated(held_out, fake),
        "overfitting": float((training.mean() - held_out.mean()) / gap) if abs(float(gap)) > 1e-3 else 0.0,
        "training_separated": separated(training, held_out),
        **_slopes(training, fake, loss),
    }


def separated(high: Tensor, low: Tensor) -> float:
    """Return the share of pairs in which the value of ``high`` (N,) exceeds that of ``low`` (M,), ties counted half."""
    difference = high[:, None] - low
    return float((difference > 0).double().mean() + 0.5 * (difference == 0).double().mean())


def _slopes(real: Tensor, fake: Tensor, loss: Loss) -> dict[str, float]:
    """Return the size of the generator's derivative at its images' logits, relative to undecided ones."""
    count = min(len(real), len(fake))
    real, fake = real[:count, None], fake[:count, None]
    undecided = real if loss.boundary is None else torch.full_like(fake, loss.boundary)
    reference = float(_derivatives(real, undecided, loss).mean())
    slopes = _derivatives(real, fake, loss)
    if reference <= _EPSILON:
        return {}
    return {
        "slope": float(slopes.mean()) / reference,
        "saturated": float((slopes < _SATURATED * reference).float().mean()),
    }


def _derivatives(real: Tensor, fake: Tensor, loss: Loss) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():  # Lightning validates in inference mode
        logits = fake.clone().requires_grad_(True)
        value = loss.generator(real=real.clone() if loss.relativistic else None, fake=logits)
        (derivatives,) = torch.autograd.grad(value, logits)
    return derivatives.detach().abs().flatten()
