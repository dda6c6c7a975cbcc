"""Cautions about choices of a training that work together and are known not to suit each other."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.combinations import discriminator_of
from medsynth.configuration.targets import target_of

_OF_EACH_IMAGE = ("medsynth.penalty.wasserstein_gp.", "medsynth.penalty.dragan.")  # classes that hold its gradient norm
# Of a schedule, and of the one that follows a warm-up.
_ENDS = ("start", "end", "value", "then.start", "then.end", "then.value")
_STRONG = 1.0  # gamma of discriminators that are trained from pixels: R3GAN's is 2 to 0.2


def cautions(config: DictConfig) -> tuple[str, ...]:
    """Return sentences about choices of a training that are known not to suit each other, and what to type instead."""
    return (
        *_about_batch_normalization(config),
        *_about_gamma(config),
        *_about_mirroring(config),
        *_about_margin(config),
    )


def _about_batch_normalization(config: DictConfig) -> Iterator[str]:
    """Gulrajani et al. 2017, section 4: the penalty is of each image, batch normalization mixes the images of a batch.

    R1 with batch normalization, the default, is measured to work (docs/presets.md).
    """
    names = [name for name, penalty in config.penalty.items() if target_of(penalty).startswith(_OF_EACH_IMAGE)]
    where = next((key for key in ("discriminator", "discriminator.trained") if _normalizes_batches(config, key)), None)
    if names and where is not None:
        yield (
            f"penalty={','.join(names)} holds the gradient at each image, but with batch normalization an image's "
            f"logit depends on the other images too: type {where}.normalization=none."
        )


def _normalizes_batches(config: DictConfig, key: str) -> bool:
    return OmegaConf.select(config, f"{key}.normalization") == "batch"


def _about_gamma(config: DictConfig) -> Iterator[str]:
    """Name a strong R1 or R2 on the features of a backbone, which have another scale than pixels have."""
    if "backbone" not in discriminator_of(config):
        return
    for name in config.penalty:
        gammas = [
            value
            for key in (f"penalty.{name}.gamma", *(f"schedules.penalty.{name}.gamma.{end}" for end in _ENDS))
            if isinstance(value := OmegaConf.select(config, key), int | float)
        ]
        if gammas and max(gammas) >= _STRONG:
            yield (
                f"penalty.{name}.gamma is {max(gammas):g}, which suits discriminators that are trained from pixels; on "
                "a backbone's features its strength depends on their scale, and it may leave nothing to learn: type "
                "penalty=none, or a gamma of 0.1 or less."
            )


def _about_mirroring(config: DictConfig) -> Iterator[str]:
    keys = [f"augment.{name}.flip" for name in config.augment]
    for penalty in config.penalty:  # what the logits are not to change with
        nested = OmegaConf.select(config, f"penalty.{penalty}.augmentations")
        keys += [f"penalty.{penalty}.augmentations.{name}.flip" for name in nested or ()]
    asked = [f"{key}=true" for key in keys if OmegaConf.select(config, key) is True]
    flip = OmegaConf.select(config, "data.flip")
    asked += [f"data.flip={flip}"] if flip in ("horizontal", "both") else []
    for option in asked:
        yield (
            f"{option} exchanges left and right: a mirrored chest has its heart on the wrong side. Leave it out unless "
            "the anatomy has no sides."
        )


def _about_margin(config: DictConfig) -> Iterator[str]:
    """Arjovsky et al. 2017, section 3: the better the critic, the better the estimate that the generator reduces."""
    margin = OmegaConf.select(config, "task.discriminator_margin")
    if margin is not None and target_of(config.loss).startswith("medsynth.loss.wasserstein."):
        yield (
            f"task.discriminator_margin={margin:g} holds the discriminator back, but with loss=wasserstein its lead is "
            "the distance that the generator reduces, and the better it is the better: type "
            "task.discriminator_margin=null, or choose another loss."
        )
