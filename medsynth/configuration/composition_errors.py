"""Explanation of Hydra's errors in one sentence that names the option and the valid choices."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from medsynth.configuration.choices import choices, choices_with
from medsynth.configuration.compose import compose, is_group
from medsynth.configuration.flags import FLAGS, HOW
from medsynth.errors import InputError, causes

_OTHER_NAMES = {  # options and what other programs call them
    "trainer.devices": ("gpus", "gpu", "num_gpus", "n_gpus", "ngpu"),
    "trainer.accelerator": ("device", "cuda", "use_gpu"),
    "trainer.precision": ("fp16", "amp", "mixed_precision"),
    "max_epochs": ("epochs", "num_epochs", "n_epochs", "epoch"),
    "max_images": ("steps", "max_steps", "iterations", "niter", "kimg"),
    "data.root": ("root", "dataroot", "data_dir", "data_path", "dataset", "path", "folder"),
    "data.batch_size": ("batch", "bs"),
    "data.image_size": ("size", "resolution", "img_size", "imgsz"),
    "data.num_workers": ("workers",),
    "generator.latent_dim": ("z_dim",),
    "generator_optimizer.lr": ("learning_rate", "lr_g"),
    "discriminator_optimizer.lr": ("lr_d",),
    "num_samples": ("samples", "number", "count", "n"),
    "out": ("outdir", "out_dir", "output", "output_dir"),
}


def composition_error(error: BaseException, command: str, overrides: Sequence[str]) -> str | None:
    """Explain an error of Hydra or OmegaConf; None: it is another error.

    Args:
        error: as caught.
        command: whose configuration was composed.
        overrides: as typed; the groups among them decide which options exist.
    """
    if isinstance(error, InstantiationException) and (sentence := _unexpected_option(error)):
        return sentence
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    for cause in causes(error):
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
            return _unknown_key(cause.full_key, command, overrides)
        if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
            group, _, name = cause.missing_cfg_file.rpartition("/")
            names = cause.options or choices(group)  # Hydra does not name them for one of a list
            if not group:
                return f"--config-name={name}: neither conf/ nor --config-dir has {name}.yaml: leave the flag out."
            if names:
                return f"There is no {group}={name}: choose {' or '.join(names)}."
    return _without_notes(str(error))


def _unreadable(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override} is no option: type key=value, without spaces around the equal sign."
    text = value.replace('"', "")
    return (
        f"{override} cannot be read as key=value: every bracket, brace and quote has to be closed, and text with such "
        f"characters has quotes inside those of the shell: '{key}=\"{text}\"'."
    )


def _without_notes(message: str) -> str:
    """Put a message of Hydra or OmegaConf into one line, without the lines that are for developers."""
    notes = ("full_key", "object_type", "Set the environment", "Config search path", "provider=")
    lines = [line.strip() for line in message.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(notes)).replace("\t", " ").rstrip(".") + "."


def _unexpected_option(error: InstantiationException) -> str | None:
    """Name an option that a class does not have; None: the class raised another error.

    Python has no class for it and Hydra no attribute, so that their messages are read.
    """
    for cause in causes(error):
        unexpected = re.search(r"got an unexpected keyword argument '(\w+)'", str(cause))
        if isinstance(cause, TypeError) and unexpected:
            key = re.search(r"full_key: (\S+)", str(error))
            return f"{key[1] if key else 'A component'} has no option {unexpected[1]}; `--cfg job` prints its options."
    return None


def check_dashes(arguments: Sequence[str], command: str) -> None:
    """Refuse options that are typed with dashes, as other programs have them: ``--max_images 1000``.

    Raises:
        InputError: shows the option without dashes, or which options there are.
    """
    for number, argument in enumerate(arguments):
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or any(flag.name == f"--{name}" for flag in FLAGS):
            continue
        following = arguments[number + 1] if number + 1 < len(arguments) else ""
        if not equals and "=" not in following and not following.startswith("-"):
            value = following
        overrides = [item for item in arguments if not item.startswith("-")]
        key = name.replace("-", "_")
        if key in _paths(_with_groups(command, overrides)):
            raise InputError(f"{argument} is typed without dashes and with an equal sign: {key}={value or '...'}")
        unknown = _unknown_key(key, command, overrides)
        raise InputError(f"{argument}: {HOW}. {unknown}")


def _unknown_key(key: str, command: str, overrides: Sequence[str]) -> str:
    """Name the keys that exist where ``key`` was looked for, and the one that was probably meant."""
    parent, _, name = key.rpartition(".")
    config = _with_groups(command, overrides)
    node = OmegaConf.select(config, parent) if parent else config
    known = sorted(str(k) for k in node if not str(k).startswith("_")) if isinstance(node, DictConfig) else []
    near = _meant(name, config) or difflib.get_close_matches(name, known, n=1)
    if not near and parent and (belonging := _other_choices(key)):
        return belonging
    hint = f"; did you mean {' or '.join(near[:3])}?" if near else "."
    place = f"{parent} has" if parent else "there are"
    if not known:
        return f"There is no option {key}: {parent} holds one value."
    return f"There is no option {key}: {place} {', '.join(known)}{hint}"


def _meant(name: str, config: DictConfig) -> list[str]:
    """Return the keys of that name elsewhere, without those that only repeat another option; or by other names."""
    elsewhere = [path for path in _paths(config) if path.rpartition(".")[2] == name]
    own = [path for path in elsewhere if not _repeats(path, config)]
    others = [key for key, names in _OTHER_NAMES.items() if name in names]
    return own or elsewhere or [key for key in others if OmegaConf.select(config, key, default=others) is not others]


def _repeats(path: str, config: DictConfig) -> bool:
    parent, _, name = path.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return isinstance(node, DictConfig) and OmegaConf.is_interpolation(node, name)


def _other_choices(key: str) -> str:
    """Name the choices of a group that have the option which the chosen one lacks; "" where there are none."""
    group, _, option = key.partition(".")
    names = choices_with(group, option)
    if not names:
        return ""
    return f"{key} is an option of {group}={' or '.join(names)}: choose one of these, too."


def _with_groups(command: str, overrides: Sequence[str]) -> DictConfig:
    """Compose the choices among what was typed, of a sweep's the first ones; none of them where they do not compose."""
    try:
        return compose(command, [_first_choice(override) for override in overrides if is_group(override)])
    except (HydraException, OmegaConfBaseException):
        return compose(command, [])


def _first_choice(override: str) -> str:
    group, _, names = override.partition("=")
    return override if names.startswith(("[", "'", '"')) else f"{group}={names.partition(',')[0]}"


def _paths(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield all keys that can be set: ``data``, ``data.batch_size``, ..."""
    for key in config:
        yield prefix + str(key)
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_interpolation() and not node._is_none():
            yield from _paths(node, f"{prefix}{key}.")
