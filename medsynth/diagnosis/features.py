"""Signals in the features of a validation's extractor, relative to training images at equal N."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from monai.metrics.embedding_collapse import compute_embedding_collapse
from torch import Tensor

from medsynth.metrics.kernel import gaussian_kernel
from medsynth.metrics.memorization import memorization
from medsynth.metrics.neighbors import Neighbors
from medsynth.metrics.pairwise import observe_pairs

_NEIGHBORS = 5
_NOTABLE = 0.02  # a kernel distance that chance does not reach
_FEWEST_OF_CLASS = 8  # images of a class whose variation is compared


def feature_signals(fake: Tensor, real: Tensor, training: Tensor) -> dict[str, float]:
    """Compare features (N, d) of generated images with those (N, d) of validation and of training images.

    * ``rank``: log2 of the ratio of effective ranks (Roy & Vetterli 2007), generated over real;
    * ``variation``: log2 of the ratio of total variances;
    * ``precision``, ``recall``, ``coverage``: those of generated images divided by those of training images, against
      the same validation images at the same N;
    * ``mean_distance``: squared distance of the means over the real images' total variance, less that of training
      images: near 0 for a texture with the right means, whatever else is wrong;
    * ``distance``: unbiased squared distance with a Gaussian kernel, whose width follows the real images, so that
      values of data sets compare: 0 is equal, above 0.5 has hardly an image in common.
    """
    count = min(len(fake), len(real), len(training))
    fake, real, training = (side[:count].double().cpu() for side in (fake, real, training))
    variance = float(real.var(dim=0).sum()) + 1e-12
    signals = {
        "rank": math.log2(_rank(fake) / _rank(real)),
        "variation": math.log2((float(fake.var(dim=0).sum()) + 1e-12) / variance),
        "mean_distance": (_mean_distance(fake, real) - _mean_distance(training, real)) / variance,
        "distance": _kernel_distance(real, fake),
    }
    if count > _NEIGHBORS:
        values, of_training = _neighbors(real, fake), _neighbors(real, training)
        for name in ("precision", "recall", "coverage"):
            signals[name] = values[name] / max(of_training[name], 1 / count)
    return signals


def copy_signals(fake: Tensor, held_out: Tensor, training: Tensor) -> dict[str, float]:
    """Tell which share of generated images are copies of training images, beyond the share among new real images.

    Args:
        fake: features (N, d).
        held_out: features (M, d) of real images that are not trained on.
        training: features (L, d) of all training images, or of as many as are kept.
    """
    found = memorization(*(side.double().cpu().numpy() for side in (training, fake, held_out)))
    return {"copies": found.copies.value - found.by_chance} if math.isfinite(found.copies.value) else {}


def leak_signals(fake: Tensor, real: Tensor, augmented: Tensor) -> dict[str, float]:
    """Tell whether generated images are more like augmented real images than like real ones (N, d).

    ``leak`` is (d(generated, real) - d(generated, augmented)) / d(augmented, real), of kernel distances, within -1 and
    1: 1 where generated images are like augmented ones, -1 where they are like real ones. It is left out where the
    augmentation changes the features too little.
    """
    count = min(len(fake), len(real), len(augmented))
    fake, real, augmented = (side[:count].double().cpu() for side in (fake, real, augmented))
    between = _kernel_distance(real, augmented)
    if between < _NOTABLE:
        return {}
    difference = _kernel_distance(real, fake) - _kernel_distance(augmented, fake)
    return {"leak": max(-1.0, min(1.0, difference / between))}


def class_signals(fake: Tensor, real: Tensor, labels: Tensor) -> dict[str, float]:
    """Compare generated and real images (N, d) of the same labels (N,), class by class.

    * ``within_class``: the lowest log2 ratio, over the classes, of the variation within a class;
    * ``label_agreement``: share of generated images that are nearest to the real images' mean of their own class,
      minus the share among classes drawn by chance, over the same of real images (each half by the other's means);
    * ``label_information``: that share of real images minus chance: 0 where labels say nothing about images.
    """
    fake, real, labels = fake.double().cpu(), real.double().cpu(), labels.cpu()
    classes = [int(c) for c in labels.unique() if int((labels == c).sum()) >= _FEWEST_OF_CLASS]
    if len(classes) < 2:
        return {}
    ratios = [
        math.log2(
            (float(fake[labels == c].var(dim=0).sum()) + 1e-12) / (float(real[labels == c].var(dim=0).sum()) + 1e-12)
        )
        for c in classes
    ]
    chance = max(float((labels == c).double().mean()) for c in classes)
    of_real = _nearest_mean(real[0::2], labels[0::2], real[1::2], labels[1::2], classes)
    of_fake = _nearest_mean(real, labels, fake, labels, classes)
    return {
        "within_class": min(ratios),
        "label_information": of_real - chance,
        "label_agreement": (of_fake - chance) / max(of_real - chance, 0.05),
    }


def predicted_class_signals(fake: Tensor, real: Tensor) -> dict[str, float]:
    """Compare the numbers of classes that a classifier sees, from its logits (N, K).

    ``classes`` is log2 of their ratio; the number of classes is the exponential of the entropy of their shares.
    """
    return {"classes": math.log2(_classes(fake) / _classes(real))}


def _classes(logits: Tensor) -> float:
    shares = logits.double().cpu().argmax(dim=1).bincount(minlength=logits.shape[1]) / len(logits)
    return float(torch.special.entr(shares).sum().exp())


def _rank(features: Tensor) -> float:
    score = compute_embedding_collapse(features.float(), include_indicators=["effective_rank"], reduction="none")
    largest = min(len(features) - 1, features.shape[1])
    return max((1 - float(cast(Tensor, score["effective_rank_score"]))) * largest, 1.0)


def _mean_distance(one: Tensor, other: Tensor) -> float:
    return float((one.mean(dim=0) - other.mean(dim=0)).square().sum())


def _kernel_distance(real: Tensor, fake: Tensor) -> float:
    return gaussian_kernel(real.numpy(), fake.numpy()).value / 1000


def _neighbors(real: Tensor, other: Tensor) -> dict[str, float]:
    x, y = real.numpy(), other.numpy()
    observer = Neighbors(len(x), len(y), k=_NEIGHBORS)
    observe_pairs(x, y, [observer])
    return observer.values()


def _nearest_mean(known: Tensor, of_known: Tensor, rows: Tensor, of_rows: Tensor, classes: list[int]) -> float:
    means = torch.stack([known[of_known == c].mean(dim=0) for c in classes])
    counted = torch.isin(of_rows, torch.tensor(classes))
    nearest = torch.tensor(classes)[torch.cdist(rows[counted], means).argmin(dim=1)]
    return float(np.mean((nearest == of_rows[counted]).numpy()))
