"""``medsynth card``: write the model card of a run."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from medsynth.files import replacing
from medsynth.release.model_card import model_card
from medsynth.release.run_record import read_run


def run(config: DictConfig) -> None:
    """Write the card to a file."""
    record = read_run(config.run, trust=config.trust, class_names=config.class_names)
    out = Path(config.out) if config.out else record.generator.path.parent / "model_card.md"
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        temporary.write_text(model_card(record, license_name=config.license), encoding="utf-8")
    print(f"The model card is in {out}.")
