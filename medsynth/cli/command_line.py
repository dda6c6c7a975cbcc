"""The words of the command line: the commands, folders typed without a key, and what help prints.

This file imports nothing heavy, so that help, the version and typing errors are shown at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence

COMMANDS = {
    "start": "look at a folder of images and propose a training, with reasons",
    "data": "preview a data set: counts, splits, intensities, duplicates, pictures",
    "train": "train a GAN; `python train.py` is the same program",
    "generate": "write images made by a trained generator",
    "translate": "translate series of images by the translator of a run",
    "evaluate": "measure a trained generator, or one folder of images against another",
    "utility": "measure whether generated images help to train a network, against controls",
    "audit": "find out whether a generator leaks its training images",
    "verdict": "say whether a trained generator is faithful, useful and private",
    "report": "write one HTML page of a run or a sweep",
    "card": "write the model card of a run: data, composition, what was measured, limits",
    "export": "write a trained generator as a MONAI bundle, ONNX or torch.export",
    "sweep": "resume a sweep that was stopped, or retry its failed jobs",
    "search": "look for good options: train with what the results so far suggest",
    "plan": "estimate what a training takes on several devices",
    "backbones": "show the networks that a discriminator can use as its backbone",
    "pretrain": "train a classifier whose features measure and discriminate",
    "fetch": "download pretrained weights before they are needed, and say where they lie",
    "checks": "show versions, devices, caches, weights at hand, and what works offline",
}
OTHER_NAMES = {  # words of other programs -> command
    "synthesize": "generate",
    "sample": "generate",
    "synthesise": "generate",
    "preview": "data",
    "eval": "evaluate",
    "metrics": "evaluate",
    "fid": "evaluate",
    "advise": "start",
    "init": "start",
    "privacy": "audit",
    "weights": "fetch",
    "download": "fetch",
    "prefetch": "fetch",
    "doctor": "checks",
    "check": "checks",
    "info": "checks",
    "models": "backbones",
    "resume": "sweep",
    "tune": "search",
    "fit": "train",
}
ALIASES = {"weights": "fetch"}
# For bash, and zsh with bashcompinit: commands first, then what Hydra knows of options and choices, and files.
_COMPLETION = """
_medsynth() {
    local line="${COMP_LINE:0:COMP_POINT}" words choices
    read -ra words <<< "$line"
    local word="${line##* }"
    if [ "${#words[@]}" -lt 2 ] || { [ "${#words[@]}" -eq 2 ] && [ -n "$word" ]; }; then
        choices="@COMMANDS@"
    else
        local rest="medsynth ${line#*"${words[1]}" }"
        choices=$(COMP_LINE="$rest" COMP_POINT="${#rest}" "${words[0]}" "${words[1]}" -sc query=bash 2>/dev/null)
    fi
    COMPREPLY=($(compgen -o nospace -o default -W "$choices" -- "$word"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _medsynth medsynth
"""


@dataclasses.dataclass(frozen=True)
class Positions:
    """Keys that words without a key stand for, by the number of such words.

    Attributes:
        keys: for each possible number of words the keys, in their order.
        listed: the key of a list that takes any number of words; None: there is none.
    """

    keys: tuple[tuple[str, ...], ...] = ()
    listed: str | None = None


_RUN = (("run",),)
POSITIONS = {
    "start": Positions((("data.root",),)),
    "data": Positions((("data.root",),)),
    "generate": Positions((*_RUN, ("run", "out"))),
    "translate": Positions((*_RUN, ("run", "data.root"), ("run", "data.root", "out"))),
    "evaluate": Positions((*_RUN, ("real", "fake"))),
    "utility": Positions((*_RUN, ("real", "test", "fake"))),
    "audit": Positions((*_RUN, ("real", "held_out", "fake"))),
    "verdict": Positions(_RUN),
    "card": Positions(_RUN),
    "export": Positions((*_RUN, ("run", "out"))),
    "sweep": Positions((("resume",),)),
    "report": Positions(listed="folders"),
    "backbones": Positions(listed="names"),
    "fetch": Positions(listed="names"),
}


def usage() -> str:
    """Return what ``medsynth help`` prints."""
    lines = [f"  medsynth {name:10} {purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: medsynth COMMAND key=value ...",
            "",
            *lines,
            "",
            "`medsynth help COMMAND` describes its options. New here? `medsynth start my/images` looks at a folder of",
            "images and proposes a training; `medsynth train` trains on embedded images, without any data.",
            '`eval "$(medsynth completion)"` completes commands and options in bash.',
        ]
    )


def completion() -> str:
    """Return the program of the shell that completes commands, options and choices."""
    return _COMPLETION.replace("@COMMANDS@", " ".join(["help", *COMMANDS]))


def unknown_command(word: str) -> str:
    """Return the sentence for a word that is no command: the one that was probably meant, or where to find them all."""
    if "=" in word:
        return f"{word} is an option and no command: type medsynth train {word}, or medsynth help."
    near = [OTHER_NAMES[word]] if word in OTHER_NAMES else difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"there is no command {word!r}: {meant}`medsynth help` lists all commands."


def with_keys(command: str, arguments: Sequence[str]) -> list[str]:
    """Turn words that are typed first and without a key into ``key=value``.

    A number of words that the command does not take is left as it is, for Hydra's own sentence about each.
    """
    arguments, positions = list(arguments), POSITIONS.get(command)
    count = next((n for n, word in enumerate(arguments) if word.startswith("-") or "=" in word), len(arguments))
    if positions is None or not count:
        return arguments
    words, rest = arguments[:count], arguments[count:]
    if positions.listed:
        return [f"{positions.listed}=[{','.join(map(_quoted, words))}]", *rest]
    keys = next((keys for keys in positions.keys if len(keys) == count), None)
    if keys is None:
        return arguments
    return [*(f"{key}={_quoted(word)}" for key, word in zip(keys, words, strict=True)), *rest]


def _quoted(word: str) -> str:
    """Quote a word for Hydra, in whose quoted strings a backslash is literal except before a quote."""
    escaped = re.sub(r'(\\*)("|$)', lambda match: match[1] * 2 + ('\\"' if match[2] else ""), word)
    return f'"{escaped}"'
