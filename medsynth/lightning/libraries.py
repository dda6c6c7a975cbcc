"""Silencing of notes that libraries print about choices which this program makes on purpose."""

from __future__ import annotations

import logging
import warnings


def quiet_libraries() -> None:
    """Silence these notes for the rest of the process."""
    for library in ("pytorch_lightning", "lightning_fabric", "timm"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*in eval mode at the start of training.*",
        ".*smaller than the logging interval.*",
        ".*recommended to use `.*sync_dist=True.*",
        "Checkpoint directory .* exists and is not empty.*",
        "The dirpath has changed.*",
        r".*LeafSpec.*",
        r".*isinstance\(treespec, LeafSpec\).*",
        ".*`srun` command is available.*",
    ):
        warnings.filterwarnings("ignore", message=message, module="(pytorch_lightning|lightning_fabric).*")
