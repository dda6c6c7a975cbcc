"""Measure which part of a training's processor time the doctor takes.

    uv run scripts/benchmark_doctor.py                                  # the main job
    uv run scripts/benchmark_doctor.py data.image_size=32 max_images=6000 val_every_images=1000

The time in the doctor's own hooks is divided by the time of all of the training, in one run.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import medsynth
from medsynth.lightning.doctor import Doctor

HOOKS = ("on_train_batch_end", "on_validation_start", "on_validation_batch_end", "on_validation_end", "state_dict")


def timed(hook: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    """Return the hook, which adds its processor time to ``spent``."""

    @functools.wraps(hook)
    def run(*arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return hook(*arguments, **options)
        finally:
            spent[name] = spent.get(name, 0.0) + time.process_time() - start

    return run


def main() -> None:
    """Train, and print the part of each hook."""
    spent: dict[str, float] = {}
    for name in HOOKS:
        setattr(Doctor, name, timed(getattr(Doctor, name), spent, name))
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        result = medsynth.train(*sys.argv[1:], "report=false", folder=Path(folder) / "run")
        total = time.process_time() - start
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"{name:26} {seconds:8.2f} s  {seconds / total:6.2%}")
    print(f"doctor {sum(spent.values()) / total:.2%} of {total:.0f} s for {result.images_seen:,} images")


if __name__ == "__main__":
    main()
