"""Callback that writes the configuration of a resumed run after its first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl


class KeepConfiguration(pl.Callback):
    """Calls ``save`` after the first step: until then a resumed run's files stay as they were before.

    Args:
        save: writes the configuration.
    """

    def __init__(self, save: Callable[[], None]):
        self.save = save
        self._done = False

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Write the configuration once."""
        if not self._done:
            self.save()
            self._done = True
