"""The mode of W&B: online where a key is configured, else offline. This file imports nothing heavy."""

from __future__ import annotations

import netrc
import os

from medsynth.errors import InputError

MODES = ("auto", "online", "offline", "disabled")


def resolved_mode(mode: str) -> str:
    """Return ``online``, ``offline`` or ``disabled`` for ``mode``, which may be ``auto``.

    Raises:
        InputError: the mode is unknown, or ``online`` without an API key.
    """
    if mode not in MODES:
        raise InputError(f"logger.wandb.mode={mode} is unknown: choose {', '.join(MODES)}.")
    if mode == "auto":
        return os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    if mode == "online" and not has_key():
        raise InputError(
            "logger.wandb.mode=online needs a W&B key: set WANDB_API_KEY, run `wandb login`, or choose offline."
        )
    return mode


def has_key() -> bool:
    """Tell whether an API key is configured."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)
