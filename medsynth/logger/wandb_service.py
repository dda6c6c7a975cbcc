"""Ending of W&B's own process, which its package starts and would otherwise wait for without limit at exit."""

from __future__ import annotations

import contextlib
import sys
from typing import Any


def end_service(*, failed: bool = False) -> None:
    """End the process and wait for that, unless it serves another run of this process and has not ``failed``."""
    import wandb
    from wandb.sdk import wandb_setup

    with contextlib.suppress(Exception, SystemExit):  # it exits this process if its own has failed
        if failed or wandb_setup.singleton().most_recent_active_run is None:
            wandb.teardown()


def kill_service() -> None:
    """Kill the process if this one started it, so that calls that wait for it fail.

    W&B has no public function for this. If a later version stores the process elsewhere, nothing is done.
    """
    setup: Any = sys.modules.get("wandb.sdk.wandb_setup")  # no import: the thread that hangs may hold the import lock
    with contextlib.suppress(AttributeError, OSError):
        setup._singleton._connection._proc._process.kill()
