"""Refusal of choices that cannot work together, with what to choose instead; for unwise ones see ``cautions.py``."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from medsynth.configuration.choices import choices_with
from medsynth.configuration.least_values import check_least_values
from medsynth.configuration.sizes import check_sizes
from medsynth.configuration.targets import target_of
from medsynth.errors import InputError

_OF_NOISE = ("medsynth.generator_penalty.mode_seeking.", "medsynth.generator_penalty.path_length.")
_WITHOUT_SCALER = ("None", "auto", "32", "32-true", "bf16", "bf16-mixed")  # precisions in which no update is left out
_OF_TASKS = {  # groups whose component a task takes or does not, and the option of the task that takes it
    "discriminator": "discriminator",
    "encoder": "encoder",
    "loss": "loss",
    "penalty": "penalties",
    "generator_penalty": "generator_penalties",
    "reconstruction": "reconstructions",
    "augment": "augmentations",
    "minibatch": "discriminator",
    "discriminator_optimizer": "discriminator_optimizer",
}


def discriminator_of(config: DictConfig) -> DictConfig:
    """Return the configuration of the discriminator; empty where the task has none."""
    return config.get("discriminator") or DictConfig({})


def check_combinations(config: DictConfig) -> None:
    """Refuse a training's composed configuration where one choice would be ignored by another one, or is too small.

    Raises:
        InputError: names both choices and what to type instead.
    """
    check_least_values(config)
    _check_shapes(config)
    check_sizes(config)
    _check_task(config)
    _check_translation(config)
    _check_minibatch(config)
    packing = discriminator_of(config).get("packing") or 1
    if packing > 1 and config.get("conditional"):
        raise InputError(
            f"discriminator.packing={packing} joins images of several classes, which have no label together: leave out "
            "conditional=true or discriminator.packing."
        )
    if discriminator_of(config).get("classifier") and not config.get("conditional"):
        raise InputError("discriminator.classifier=true needs labels to learn from: type conditional=true, too.")
    _check_extrapolation(config)
    _check_doctor(config)


def _check_shapes(config: DictConfig) -> None:
    """Check that networks have the images' size, channels and classes, which are options of the data alone."""
    ours = [group for group in ("generator", "discriminator", "encoder") if _is_of_medsynth(config, group)]
    for network in ours:
        for name, source in (("channels", "data."), ("image_size", "data."), ("num_classes", "")):
            own = OmegaConf.select(config, f"{network}.{name}")
            shared = OmegaConf.select(config, f"{source}{name}")
            with_source = OmegaConf.select(config, "discriminator_channels") if name == "channels" else shared
            if isinstance(own, int) and isinstance(shared, int) and own not in (shared, with_source):
                instead = f"type {source}{name}={own}" if source else "type conditional=true for classes"
                raise InputError(
                    f"{network}.{name}={own} is not that of the images, {shared}: leave {network}.{name} out, or "
                    f"{instead}."
                )


def _is_of_medsynth(config: DictConfig, group: str) -> bool:
    """Tell whether a network is a class of medsynth; in others these names may mean something else."""
    return str(OmegaConf.select(config, f"{group}._target_")).startswith("medsynth.")


def _check_doctor(config: DictConfig) -> None:
    """Check the doctor's options; it starts a run that follows from a single run of one process alone."""
    doctor = config.get("doctor")
    if doctor is None:  # of a run of an earlier version
        return
    if doctor.stop not in (None, "early"):
        raise InputError(f"doctor.stop={doctor.stop} is not known: choose early, or null for never.")
    if doctor.act and not doctor.enabled:
        raise InputError("doctor.act=true needs the doctor: leave out doctor.enabled=false.")
    if doctor.act and (config.sweep.folder is not None or str(config.trainer.devices) != "1"):
        raise InputError(
            "doctor.act=true ends a run and starts the next one, which jobs of a sweep and several processes cannot: "
            "type doctor.stop=early, or leave it out."
        )


def _check_extrapolation(config: DictConfig) -> None:
    """Check that both networks extrapolate and update in the same steps where an optimizer does so in turn."""
    optimizers = [name for name in ("generator_optimizer", "discriminator_optimizer") if config.get(name)]
    standard = [name for name in optimizers if OmegaConf.select(config, f"{name}.extrapolation") == "standard"]
    if not standard:
        return
    past = f"{standard[0]}.extrapolation=standard extrapolates and updates in turn, and "
    if len(standard) < len(optimizers):
        other = next(name for name in optimizers if name not in standard)
        raise InputError(
            f"{past}{other} does not: type optimizer@{other}=extragradient {other}.extrapolation=standard, or "
            f"{standard[0]}.extrapolation=past."
        )
    for option, value, allowed in (
        ("task.discriminator_steps", OmegaConf.select(config, "task.discriminator_steps"), (None, 1)),
        ("task.discriminator_margin", OmegaConf.select(config, "task.discriminator_margin"), (None,)),
        ("trainer.precision", str(OmegaConf.select(config, "trainer.precision")), _WITHOUT_SCALER),
    ):
        if value not in allowed:
            raise InputError(
                f"{past}with {option}={value} both networks do not always do so in the same step: leave that out, or "
                f"type {' '.join(f'{name}.extrapolation=past' for name in optimizers)}."
            )


def _check_task(config: DictConfig) -> None:
    """Check that the task takes every component that is chosen."""
    for group, option in _OF_TASKS.items():
        if config.get(group) and option not in config.task:
            module = str(config.task.get("_target_")).split(".")[-2]
            task = {"gan": "synthesis"}.get(module, module)  # the others are named as their files
            raise InputError(
                f"{group}= has no effect on task={task}: leave it out, or an experiment that chooses it, or choose "
                f"task={' or '.join(choices_with('task', option))}."
            )


def translates(config: DictConfig) -> bool:
    """Tell whether the task of a training's configuration makes images of other images."""
    return "source_channels" in (config.get("task") or {})


def sees_source(config: DictConfig) -> bool:
    """Tell whether the discriminator is to be given the source beside the image.

    Raises:
        InputError: it is asked for, and the discriminator has no part that is trained from pixels.
    """
    asked = config.task.get("conditional_on_source", False)
    if asked not in (True, False, "auto"):
        raise InputError(f"task.conditional_on_source={asked} is unknown: choose auto, true or false.")
    with_source = config.data.channels + config.source_channels  # as filled in, in the configuration of a resumed run
    filled_in = config.source_channels > 0 and with_source in _values(discriminator_of(config), "channels")
    can = filled_in or _refers(discriminator_of(config), "discriminator_channels")
    if asked is True and not can:
        raise InputError(
            "task.conditional_on_source=true needs a discriminator that is trained from pixels, and this one sees "
            "images by a frozen network: leave it out, or choose discriminator=patch or vision_aided."
        )
    return bool(asked) and can


def _check_translation(config: DictConfig) -> None:
    """Check that generator and task both translate or both do not, and what does not go with a translation."""
    task = translates(config)
    if (
        config.get("generator")
        and _is_of_medsynth(config, "generator")
        and ("source_channels" in config.generator) != task
    ):
        name = str(config.generator.get("_target_")).split(".")[-2]
        suitable = choices_with("generator", "source_channels")
        if task:
            raise InputError(
                f"generator={name} makes images of noise, and this task translates images: choose "
                f"generator={' or '.join(suitable)}."
            )
        tasks = choices_with("task", "source_channels")
        raise InputError(
            f"generator={name} translates images, and this task makes them of noise: choose task="
            f"{', '.join(tasks[:-1])} or {tasks[-1]}, or another generator."
        )
    if not task:
        return
    sees_source(config)
    if config.get("conditional"):
        raise InputError(
            "conditional=true has no effect on a translation, whose condition is the source: leave it out."
        )
    if (discriminator_of(config).get("packing") or 1) > 1:
        raise InputError(
            "discriminator.packing joins images of different sources, which a translation does not compare: leave it "
            "out."
        )
    for name, penalty in (config.get("generator_penalty") or {}).items():
        if target_of(penalty).startswith(_OF_NOISE):
            raise InputError(
                f"generator_penalty={name} compares what images are made of different noise, and a translation has its "
                "source: leave it out."
            )


def _refers(node: Any, name: str) -> bool:
    """Tell whether a value below ``node`` is the interpolation of ``name``."""
    return isinstance(node, DictConfig) and any(
        value == f"${{{name}}}" or _refers(value, name) for _, value in node.items_ex(resolve=False)
    )


def _values(node: Any, key: str) -> list[Any]:
    """Return the values of ``key`` anywhere below ``node``."""
    if not isinstance(node, DictConfig):
        return []
    own = [node.get(key)] if key in node else []
    return own + [value for name in node for value in _values(node.get(name), key)]


def _check_minibatch(config: DictConfig) -> None:
    if config.get("minibatch") and not _has_key(discriminator_of(config), "minibatch"):
        suitable = choices_with("discriminator", "minibatch", "trained.minibatch")
        name = str(config.minibatch.get("_target_")).split(".")[-2]
        raise InputError(
            f"minibatch={name} has no effect on this discriminator, which has no layer that compares the images of a "
            f"batch: choose minibatch=none or discriminator={', '.join(suitable[:-1])} or {suitable[-1]}."
        )


def check_pairs(config: DictConfig, images: int) -> None:
    """Refuse penalties of the generator that compare images where ``images``, computed at a time, is one.

    Raises:
        InputError: names the penalty.
    """
    for name, penalty in (config.get("generator_penalty") or {}).items():
        if images < 2 and target_of(penalty).startswith("medsynth.generator_penalty.mode_seeking."):
            raise InputError(
                f"generator_penalty={name} compares the images that are computed at a time, of which there is one: "
                "leave it out, or choose a larger data.batch_size, a smaller task.accumulate or fewer processes."
            )


def _has_key(node: Any, key: str) -> bool:
    """Tell whether ``node`` or a mapping below it has ``key``."""
    return isinstance(node, DictConfig) and (
        key in node or any(_has_key(value, key) for _, value in node.items_ex(resolve=False))
    )
