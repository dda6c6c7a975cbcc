"""The frozen features of the real images, read from a cache where they are always the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from medsynth.contracts import Batch, Discriminator, Features, TrainingData
from medsynth.discriminator.feature_cache import CachedFeatures, FeatureCache
from medsynth.lightning.preparation import evaluating


class _RealImages:
    """All training batches in the order of their index, with what is real to the task as "image"; again and again."""

    def __init__(self, data: TrainingData, real_images: Callable[[Batch], Tensor]) -> None:
        self._data, self._real_images = data, real_images

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._data.ordered_batches():
            yield {**batch, "image": self._real_images(batch)}


def open_cache(
    cache: FeatureCache,
    discriminator: Discriminator,
    data: TrainingData,
    *,
    real_images: Callable[[Batch], Tensor],
    rounding: Callable[[], contextlib.AbstractContextManager[None]],
    augmentations: Sequence[str],
    images_left: int,
    device: torch.device,
) -> CachedFeatures | None:
    """Open the cache of the discriminator's frozen features of all training images.

    Args:
        cache: its options.
        discriminator: whose ``features`` are kept.
        data: the training images.
        real_images: a batch -> its images that generated ones are to be like.
        rounding: the context in which features of generated images are computed, by the training's precision.
        augmentations: names of those that change the images at each step.
        images_left: real images until the end of the training.
        device: of the discriminator.

    Returns:
        The features; None: they are computed in each step.

    Raises:
        InputError: the cache is asked for, and the features are not always the same.
    """
    if not discriminator.has_frozen_features and cache.enabled is not True:
        return None

    @torch.no_grad()
    def encode(images: Tensor) -> Features:
        with rounding():  # rounded as the features of generated images are
            return discriminator.features(images.to(device))

    with evaluating(discriminator):
        return cache.open(
            encode=encode,
            batches=_RealImages(data, real_images),
            num_images=data.num_train,
            images_left=images_left,
            obstacle=_obstacle(discriminator, augmentations, data),
        )


def _obstacle(discriminator: Discriminator, augmentations: Sequence[str], data: TrainingData) -> str | None:
    """Return why the features of a training image are not always the same; None: they are."""
    if not discriminator.has_frozen_features:
        return "the discriminator has no frozen features"
    if augmentations:
        return f"augment={','.join(augmentations)} changes the images at each step"
    if not data.images_are_fixed:
        return "the training images are never the same"
    return None
