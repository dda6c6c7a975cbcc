"""``medsynth train`` and ``python train.py``: train a GAN and print what it achieved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from medsynth.configuration.override_text import override
from medsynth.errors import EndCode
from medsynth.figures.completion import complete_report
from medsynth.report.summary import summary_text
from medsynth.runs.placement import shown
from medsynth.runs.run_folder import Launch
from medsynth.runs.successor import link, successor_of
from medsynth.training import train


def run(config: DictConfig) -> float:
    """Train as ``config`` says; return the best value of the objective, which sweeps minimize."""
    hydra = HydraConfig.get()
    named = any(override.startswith("hydra.run.dir=") for override in hydra.overrides.hydra)
    result = train(config, Launch(Path(hydra.runtime.output_dir), tuple(hydra.overrides.task), folder_named=named))
    result = complete_report(result)
    typed = tuple(hydra.overrides.task)
    if result.summary:
        opening = f"The run {shown(result.folder)} is complete.\n" if result.code == EndCode.ALREADY_COMPLETE else ""
        print(f"{opening}\n{summary_text(result.summary)}", flush=True)
        successor = successor_of(result, typed)
        if successor is not None:
            link(result, successor)
            print(f"\nnext run   {' '.join(successor.typed)}", flush=True)
            sources = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
            searched = [part for source in sources for part in ("--config-dir", source)]
            options = [*searched, *successor.typed, override("hydra.run.dir", successor.folder)]
            sys.exit(subprocess.run([sys.executable, "-m", "medsynth", "train", *options], check=False).returncode)
    return result.best
