"""The words of each finding, and the overrides to try, the most promising first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

SENTENCES = {
    "mode_collapse": "Mode collapse: generated images are more alike than real ones",
    "within_class_collapse": "Mode collapse within a class: its generated images are more alike than its real ones",
    "texture": "The generator makes a texture: fine detail without the layout that real images share",
    "not_learning": "The generator does not learn: hardly any of its images is close to a real one",
    "discriminator_too_strong": "The discriminator is too strong: it tells nearly all images apart",
    "discriminator_too_weak": "The discriminator tells the generator nothing, while images are far from real ones",
    "vanishing_gradient": "The generator's gradient vanishes: the loss is flat where its images are",
    "discriminator_overfitting": "The discriminator overfits: it tells training images from unseen real ones",
    "copying": "The generator copies: its images are nearer to training images than new real images are",
    "oscillation": "The networks circle around each other: the generator's images jump between validations",
    "divergence": "The training has turned: images become worse since the best validation, whose generator is kept",
    "augmentation_leak": "The augmentation leaks: generated images vary like augmented ones, which real images do not",
    "checkerboard": "Generated images have a checkerboard: too much power at the generator's strides",
    "uninformative_labels": "The labels say nothing about the images: real images do not differ by class",
    "ignored_labels": "The generator ignores the labels: its images do not resemble the real ones of their class",
    "too_short": "The run was too short: the distance still fell when it ended",
    "few_validation_images": "There are too few validation images to tell good runs from each other",
}

_ADVICE: dict[str, tuple[str, ...]] = {
    "mode_collapse": (
        "penalty=r1",
        "discriminator_optimizer.lr={faster_discriminator:.2g}",
        "generator_penalty=mode_seeking",
    ),
    "within_class_collapse": ("minibatch=std", "data.balance_classes=true", "generator_penalty=mode_seeking"),
    "texture": ("discriminator=dcgan", "penalty=r1"),
    "not_learning": ("generator=resnet", "penalty=r1", "generator_optimizer.lr={generator_lr:.2g}"),
    "discriminator_too_strong": (
        "penalty=r1",
        "discriminator_optimizer.lr={discriminator_lr:.2g}",
        "augment=translation_cutout",
    ),
    "discriminator_too_weak": ("discriminator_optimizer.lr={discriminator_lr:.2g}",),
    "vanishing_gradient": ("loss=non_saturating", "penalty=r1", "discriminator_optimizer.lr={discriminator_lr:.2g}"),
    "discriminator_overfitting": ("augment=translation_cutout", "penalty=lecam", "backbone=efficientnet_lite0"),
    "copying": ("augment=translation_cutout", "penalty=lecam"),
    "oscillation": ("penalty=r1", "generator_optimizer.lr={generator_lr:.2g}"),
    "divergence": ("penalty=r1", "discriminator_optimizer.lr={discriminator_lr:.2g}", "doctor.stop=early"),
    "augmentation_leak": ("augment=none", "augment=translation_cutout"),
    "checkerboard": ("penalty=r1", "generator=resnet"),
    "uninformative_labels": ("conditional=false",),
    "ignored_labels": ("data.balance_classes=true", "discriminator=sngan"),
    "too_short": ("max_images={twice_the_images}",),
    "few_validation_images": ("data.val_fraction=0.2",),
}
_JOINED = ("penalty", "generator_penalty")  # several at a time: a further one joins those in use
_SLOWER = 5  # times lower learning rate
_FASTER = 4  # times higher one, and mode_seeking: the overrides that help on stacked phantoms (docs/modes.md)


@dataclasses.dataclass(frozen=True)
class InUse:
    """The choices of a run that advice depends on.

    Attributes:
        choices: by group, as they are typed: ``{"penalty": ("r1",), "generator": ("resnet",)}``.
        learning_rates: of each network, as it began.
        max_images: of the run.
    """

    choices: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    learning_rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    max_images: int = 0


def advice(finding: str, in_use: InUse) -> tuple[str, ...]:
    """Return the overrides to try for a finding, without those that the run has already."""
    values = {
        "generator_lr": in_use.learning_rates.get("generator", 1e-3) / _SLOWER,
        "discriminator_lr": in_use.learning_rates.get("discriminator", 1e-3) / _SLOWER,
        "faster_discriminator": in_use.learning_rates.get("discriminator", 1e-3) * _FASTER,
        "twice_the_images": 2 * in_use.max_images,
    }
    adapted = [_adapted(text, in_use.choices) for text in _ADVICE[finding]]
    return tuple(text.format(**values) for text in adapted if text)


def _adapted(override: str, choices: Mapping[str, tuple[str, ...]]) -> str:
    """Add an override's choice to those that the run has of its group; "" where it has it already."""
    group, _, choice = override.partition("=")
    current = tuple(c for c in choices.get(group, ()) if c != "none")
    if choice in current or (choice == "none" and group in choices and not current):
        return ""
    if group in _JOINED and current:
        return f"{group}=[{','.join((*current, choice))}]"
    return override
