"""The model card of a run: Markdown with the header of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

import medsynth
from medsynth.generator.trained import TrainedTranslator
from medsynth.release.card_table import NOT_RECORDED, counted, table
from medsynth.release.generator_text import GeneratorText
from medsynth.release.results import NOT_MEASURED, markdown
from medsynth.release.run_record import RunRecord
from medsynth.release.translator_text import TranslatorText
from medsynth.report.findings import finding_texts

_NAMES = {"num_train": "training images", "num_val": "validation images", "num_test": "test images"}
_SPLITS = {  # in words, by ``ImageFiles.split_by``
    "given": "as the data says",
    "patient": "by patient: none is both trained on and held out",
    "image": "image by image: other images of the same patients may be trained on",
    "blocks": "contiguous blocks of slices: other slices of the same patients are trained on",
}
_LICENSE = "no license was given with the run: ask those who gave you the file"


class CardText(Protocol):
    """The parts of a card that a generator and a translator have words of their own for.

    Attributes:
        task_type: the Hub's name of the task.
        tags: for the Hub.
        measured_title: the heading of what was measured.
    """

    task_type: str
    tags: tuple[str, ...]
    measured_title: str

    def title(self) -> str:
        """Return the heading."""
        ...

    def summary(self) -> dict[str, str]:
        """Return the rows of the first table."""
        ...

    def intended_use(self) -> str:
        """Return what it is for, and what it is not for."""
        ...

    def how_to_use(self) -> str:
        """Return a program or a command."""
        ...

    def measured(self) -> dict[str, str]:
        """Return what was measured, by heading."""
        ...

    def values(self) -> Iterator[tuple[str, float, str]]:
        """Yield the measures for the card's header: name, value and split."""
        ...

    def limits(self) -> Iterator[str]:
        """Yield what it cannot do."""
        ...


def card_text(record: RunRecord) -> CardText:
    """Return the words for the kind of network that a run has."""
    trained = record.generator
    return TranslatorText(record, trained) if isinstance(trained, TrainedTranslator) else GeneratorText(record, trained)


def model_card(record: RunRecord, *, license_name: str | None = None) -> str:
    """Return the card's text.

    Args:
        record: of the run.
        license_name: of the weights, by the Hub's names, such as ``cc-by-4.0``; None: the card says that there is none.
    """
    text = card_text(record)
    sections = {
        "Intended use": text.intended_use(),
        "How to use it": text.how_to_use(),
        "Data": _data(record),
        "Composition": _composition(record),
        text.measured_title: "\n\n".join(f"### {title}\n\n{found}" for title, found in text.measured().items()),
        "Diagnosis": _diagnosis(record),
        "Limits": "\n".join(f"* {line}" for line in text.limits()),
        "Provenance": _provenance(record, license_name),
    }
    body = "\n\n".join(f"## {title}\n\n{section}" for title, section in sections.items())
    header = _header(record, text, license_name).to_yaml(line_break="\n")
    return str(ModelCard(f"---\n{header}\n---\n\n# {text.title()}\n\n{table(text.summary())}\n\n{body}\n"))


def _header(record: RunRecord, text: CardText, license_name: str | None) -> ModelCardData:
    results = [
        EvalResult(
            task_type=text.task_type,
            dataset_type="not-published",
            dataset_name="the run's own data",
            dataset_split=split,
            metric_type=name,
            metric_name=name,
            metric_value=value,
        )
        for name, value, split in text.values()
    ]
    modality = record.generator.card["modality"].lower()
    return ModelCardData(
        library_name="medsynth",
        license=license_name,
        pipeline_tag=text.task_type,
        tags=[*text.tags, *([modality] if modality else [])],
        model_name=type(record.generator.network).__name__ if results else None,
        eval_results=results or None,
    )


def _data(record: RunRecord) -> str:
    environment = record.environment
    digest = environment.get("data_fingerprint")
    rows = {
        name: counted(record.counts.get(key)) if key in record.counts else NOT_RECORDED for key, name in _NAMES.items()
    }
    if (split := environment.get("split_by")) in _SPLITS:
        rows["held out"] = _SPLITS[split]
    return (
        table(rows | {"fingerprint": f"`{digest}`" if _is_word(digest) else NOT_RECORDED})
        + "\n\nThe fingerprint is equal where runs see the same images prepared in the same way. Names of files, "
        "folders and patients are not part of this card."
    )


def _composition(record: RunRecord) -> str:
    if not record.composition:
        return NOT_RECORDED
    text = yaml.safe_dump(dict(record.composition), sort_keys=False, default_flow_style=False, allow_unicode=True)
    return f"```yaml\n{text}```\n\nTexts that could name a place or a person are left out."


def _diagnosis(record: RunRecord) -> str:
    if not isinstance(record.summary.get("findings"), list):
        return NOT_MEASURED
    texts = [f"* {markdown(record.private.removed(text))}" for text in finding_texts(record.summary)]
    return "\n".join(texts) or "The training's doctor (`medsynth/diagnosis`) has no findings."


def _provenance(record: RunRecord, license_name: str | None) -> str:
    commit, version = record.environment.get("commit"), record.summary.get("medsynth")
    rows = {
        "SHA-256 of the run's generator.safetensors": f"`{record.sha256}`",
        "trained with medsynth": version if _is_word(version) else NOT_RECORDED,
        "commit": f"`{commit}`" if _is_word(commit) else NOT_RECORDED,
        "seed": NOT_RECORDED if record.generator.card["seed"] is None else str(record.generator.card["seed"]),
        "card written by medsynth": medsynth.__version__,
        "license": license_name or _LICENSE,
    }
    return table(rows)


def _is_word(text: Any) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text) <= 60
        and text.replace("-", "").replace(".", "").replace("+", "").isalnum()
    )
