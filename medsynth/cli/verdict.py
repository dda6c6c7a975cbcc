"""``medsynth verdict``: say whether a run's generator is faithful, useful and private."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from medsynth.configuration.checked_composition import compose_checked
from medsynth.configuration.override_text import override
from medsynth.contracts import InputError
from medsynth.evaluation.answers import NO, NOT_SHOWN
from medsynth.files import write_json
from medsynth.generator.trained import FILE, TrainedTranslator, load_trained
from medsynth.report.answers import verdict_text
from medsynth.report.final_report import refresh_report
from medsynth.runs.existing import require_run
from medsynth.verdict.records import FOLDERS, newest, read
from medsynth.verdict.verdict import QUESTIONS, UNMEASURED, verdict


def run(config: DictConfig) -> None:
    """Measure what was not measured, print the verdict, and write it; end with code 1 if an answer is no."""
    folder = Path(config.run or "")
    if config.run is None:
        raise InputError("run= is needed: the folder of a run.")
    require_run(folder)
    unknown = next((question for question in config.skip if question not in QUESTIONS), None)
    if unknown is not None:
        raise InputError(f"skip=[{unknown}] is unknown: choose from {', '.join(QUESTIONS)}.")
    for name in ("margin", "share"):
        if not 0 < config[name] < 1:
            raise InputError(f"{name}={config[name]} must be between 0 and 1.")
    card = _card(folder, trust=config.trust) if (folder / FILE).is_file() else None
    records = {
        command: None if question in config.skip else _record(config, folder, command)
        for question, command in QUESTIONS.items()
    }
    found = verdict(
        records["evaluate"], records["utility"], records["audit"], card=card, margin=config.margin, share=config.share
    )
    record = found.to_dict()
    out = folder / "verdict" / "verdict.json" if config.out is None else Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, record)
    print(verdict_text(record))
    print(f"\nThe record is in {out}; medsynth report {folder} shows it in the run's page.")
    refresh_report(folder)
    refused = (NO, NOT_SHOWN) if config.strict else (NO,)
    if any(answer.answer in refused for answer in found.answers if answer.question not in config.skip):
        sys.exit(1)


def _card(folder: Path, *, trust: bool) -> dict[str, Any]:
    """Return the card of a run's generator.

    Raises:
        InputError: it translates images.
    """
    trained = load_trained(folder, trust=trust)
    if isinstance(trained, TrainedTranslator):
        raise InputError(
            f"run={folder} translates images, for which there is no verdict: measure its errors beside those of a "
            f"regression and of the source copied by medsynth evaluate run={folder} against=[outputs/regression]."
        )
    return trained.card


def _record(config: DictConfig, folder: Path, command: str) -> Mapping[str, Any] | None:
    """Return a stored record, or that of the command, which is run where there is none."""
    named = config[FOLDERS[command]]
    if named is not None:
        return read(Path(named), command)
    stored = None if config.refresh else newest(folder, command)
    if stored is not None:
        return stored
    print(f"\n== medsynth {command} run={folder}\n", flush=True)
    typed = [override("run", str(folder)), override("trust", config.trust), *config.options.get(command, ())]
    try:
        with contextlib.suppress(SystemExit):  # its own answer is no: the record says so
            importlib.import_module(f"medsynth.cli.{command}").run(compose_checked(command, typed))
    except InputError as error:
        if command == "evaluate":
            raise
        print(f"medsynth {command}: {error}", file=sys.stderr)
        return {"answer": NOT_SHOWN, "rule": UNMEASURED, "reasons": [f"it could not be measured: {error}"]}
    return newest(folder, command)
