"""Composition of a command's configuration from conf/ and overrides."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from medsynth.configuration.override_text import quoted

_SEARCHED = "hydra.searchpath="
_FILES = "file://"
_typed: ContextVar[tuple[str, ...]] = ContextVar("folders of choices that are typed", default=())


def conf_folder() -> Path:
    """Return ``conf/`` of this installation: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def own_folders() -> list[str]:
    """Return the user's folders of choices, given by --config-dir and hydra.searchpath to the command that runs now.

    Before Hydra has composed, and after it has failed, they are those of ``folders_of``.
    """
    if HydraConfig.initialized():
        found = [(source.provider, source.schema, source.path) for source in HydraConfig.get().runtime.config_sources]
    elif GlobalHydra.instance().is_initialized():  # --help: no job runs
        sources = GlobalHydra.instance().config_loader().get_sources()
        found = [(source.provider, source.scheme(), source.path) for source in sources]
    else:
        return list(_typed.get())
    return [path for provider, scheme, path in found if scheme == "file" and "command-line" in provider]


@contextlib.contextmanager
def folders_of(arguments: Sequence[str]) -> Iterator[None]:
    """Let ``own_folders`` know the folders that a command's arguments name, also while Hydra does not run."""
    token = _typed.set(tuple(_named_folders(arguments)))
    try:
        yield
    finally:
        _typed.reset(token)


def _named_folders(arguments: Sequence[str]) -> Iterator[str]:
    for number, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == "-cd" or (flag.startswith("--config-d") and "--config-dir".startswith(flag)):
            following = arguments[number + 1 : number + 2]
            yield from (str(Path(folder).absolute()) for folder in ([value] if equals else following))
        elif argument.startswith(_SEARCHED):
            yield from (place.removeprefix(_FILES) for place in _places(argument) if place.startswith(_FILES))


def _places(override: str) -> list[str]:
    """Return the places in a typed ``hydra.searchpath=[...]``; empty where it cannot be read."""
    try:
        value = OverridesParser.create().parse_override(override).value()
    except HydraException:
        return []
    return [str(place) for place in value] if isinstance(value, list) else []


def is_group(override: str) -> bool:
    """Tell whether an override chooses a file of conf/ (``loss=hinge``) instead of setting a value."""
    key, equals, _ = override.partition("=")
    group = key.partition("@")[0]
    return bool(group and equals) and not group.startswith("/") and (conf_folder() / group).is_dir()


def compose(command: str, overrides: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """Compose the configuration of ``command``, with the user's folders of choices; ``with_hydra``: with Hydra's own.

    Hydra's global state is restored afterwards: this may run inside of a job.
    """
    folders = [quoted(f"{_FILES}{folder}") for folder in own_folders()]
    if folders and not any(override.startswith(_SEARCHED) for override in overrides):
        overrides = [*overrides, f"{_SEARCHED}[{','.join(folders)}]"]
    state, hydra_config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return hydra.compose(command, overrides=list(overrides), return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra = state
        HydraConfig.instance().cfg = hydra_config
