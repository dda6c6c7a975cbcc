"""W&B's own process, which its package starts and would wait for without end when this one exits."""

from __future__ import annotations

import contextlib
import sys


def end_service(*, failed: bool = False) -> None:
    """Have it end and wait for that, unless it serves another run of this process and has not ``failed``."""
    import wandb
    from wandb.sdk import wandb_setup

    with contextlib.suppress(Exception, SystemExit):  # it exits this process where its own ended badly
        if failed or wandb_setup.singleton().most_recent_active_run is None:
            wandb.teardown()


def kill_service() -> None:
    """End it at once if this process started it, so that calls that wait for it fail; else nothing.

    W&B has no public way to it. Where a later version keeps it elsewhere, nothing is done.
    """
    setup = sys.modules.get("wandb.sdk.wandb_setup")  # no import: the thread that hangs may be at one
    with contextlib.suppress(AttributeError, OSError):
        setup._singleton._connection._proc._process.kill()
