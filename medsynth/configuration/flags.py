"""Flags of Hydra's command line, checked and moved behind the options, so that they may stand anywhere.

Hydra's parser takes options in one place alone, and answers a mistake with its usage in several lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medsynth.errors import InputError

HOW = "options are typed as key=value, without dashes"


@dataclass(frozen=True)
class Flag:
    """A flag.

    Attributes:
        name: with two dashes.
        short: with one dash; "": there is none.
        example: what may follow; "": nothing.
        choices: all values that may follow; empty: any.
        otherwise: the value where none follows; "": one has to.
        action: it takes the place of a run, so that no other action goes with it.
    """

    name: str
    short: str = ""
    example: str = ""
    choices: tuple[str, ...] = ()
    otherwise: str = ""
    action: bool = False


_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
FLAGS = (
    Flag("--help", "-h"),
    Flag("--hydra-help"),
    Flag("--version"),
    Flag("--cfg", "-c", "job", ("job", "hydra", "all"), action=True),
    Flag("--resolve"),
    Flag("--package", "-p", "data"),
    Flag("--run", "-r", action=True),
    Flag("--multirun", "-m", action=True),
    Flag("--shell-completion", "-sc", action=True),
    Flag("--config-path", "-cp", "my/conf"),
    Flag("--config-name", "-cn", "my_train"),
    Flag("--config-dir", "-cd", "my/conf"),
    Flag("--experimental-rerun", example="config.pickle"),
    Flag("--info", "-i", "all", _INFO, otherwise="all", action=True),
)


def flags_last(arguments: Sequence[str]) -> list[str]:
    """Return ``arguments`` with all flags at the end, each in one word by its long name: ``--config-dir=my/conf``.

    An option that is typed with two dashes stays where it is: ``composition_errors.check_dashes`` knows its name.

    Raises:
        InputError: a flag is unknown, lacks its value, has one too many, or does not go with another one.
    """
    options: list[str] = []
    flags: list[str] = []
    words = iter([argument for argument in arguments if argument != "--"])
    pending: str | None = next(words, None)
    while pending is not None:
        typed, pending = pending, next(words, None)
        found = _flag(typed) if typed.startswith("-") and typed != "-" else None
        if found is None:
            options.append(typed)
            continue
        flag, value = found
        if flag.example and value is None and _may_follow(flag, pending):
            value, pending = pending, next(words, None)
        flags.append(_checked(flag, value, typed, pending))
    _check_together(flags)
    return [*options, *flags]


def _flag(typed: str) -> tuple[Flag, str | None] | None:
    """Return the flag in a word and the value behind its equal sign; None: the word may be an option with dashes."""
    word, equals, value = typed.partition("=")
    if typed.startswith("--"):
        near = [flag for flag in FLAGS if flag.name.startswith(word)]
        exact = [flag for flag in near if flag.name == word]
        if len(near) > 1 and not exact:
            raise InputError(f"{word} may be {' or '.join(flag.name for flag in near)}: type one of them.")
        return ((exact or near)[0], value if equals else None) if near else None
    exact = [flag for flag in FLAGS if word == flag.short]
    if exact:
        return exact[0], value if equals else None
    longer = [flag for flag in FLAGS if len(word) > 2 and flag.name.startswith(f"-{word}")]
    if longer:
        raise InputError(f"{word} has one dash too few: type {longer[0].name}.")
    raise InputError(_unknown(typed))


def _unknown(typed: str) -> str:
    """Say what to type for a word of one dash that is no flag, such as ``-x`` or ``-mseed=1,2``."""
    if "=" in typed:
        joined = next(
            (flag for flag in FLAGS if flag.short and not flag.example and typed.startswith(flag.short)), None
        )
        bare = typed.lstrip("-")
        separate = f"{joined.short} {typed.removeprefix(joined.short)}" if joined else ""
        return f"{typed} is no flag: {HOW}: {bare}{f', or {separate}' if separate else ''}."
    return f"{typed} is no flag: {HOW}, and flags are {', '.join(flag.name for flag in FLAGS)}."


def _may_follow(flag: Flag, word: str | None) -> bool:
    """Tell whether a word is the flag's value; where it has to have one, any word but a flag is, right or wrong."""
    if word is None or word.startswith("-"):
        return False
    return word in flag.choices if flag.otherwise else True


def _checked(flag: Flag, value: str | None, typed: str, following: str | None) -> str:
    if not flag.example:
        if value is not None:
            raise InputError(f"{typed}: {flag.name} takes no value: type {flag.name} alone.")
        return flag.name
    value = value or flag.otherwise
    if not value:
        next_word = f", and {following} is another flag" if following and following.startswith("-") else ""
        raise InputError(f"{typed} needs a value{next_word}: type {_example(flag)}.")
    if flag.choices and value not in flag.choices:
        raise InputError(f"{flag.name} takes {', '.join(flag.choices)}, and not {value}: type {_example(flag)}.")
    if flag.name == "--config-dir" and not Path(value).is_dir():
        raise InputError(
            f"--config-dir {value}: there is no such folder; give one that has folders of choices as conf/ has, "
            f"{_example(flag)}."
        )
    return f"{flag.name}={value}"


def _example(flag: Flag) -> str:
    return f"{flag.name} {flag.example}"


def _check_together(flags: Sequence[str]) -> None:
    actions = list(dict.fromkeys(_actions(flags)))
    if len(actions) > 1:
        raise InputError(f"{' and '.join(actions)} do not go together: type one of them.")
    if "--resolve" in flags and not {"--cfg", "--help"} & {flag.partition("=")[0] for flag in flags}:
        raise InputError("--resolve goes with --cfg or --help: type --cfg job --resolve.")


def _actions(flags: Sequence[str]) -> Iterator[str]:
    known = {flag.name for flag in FLAGS if flag.action}
    yield from (name for name in (flag.partition("=")[0] for flag in flags) if name in known)
