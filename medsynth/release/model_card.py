"""The model card of a run: Markdown with the header of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

import medsynth
from medsynth.release.results import (
    NOT_MEASURED,
    answers_text,
    evaluation_text,
    markdown,
    measured_values,
    scorecard_text,
)
from medsynth.release.run_record import RunRecord
from medsynth.report.findings import finding_texts

NOT_RECORDED = "not recorded"
TAGS = ("medsynth", "gan", "medical-imaging", "synthetic-data", "image-synthesis")
_NAMES = {"num_train": "training images", "num_val": "validation images", "num_test": "test images"}
_LICENSE = "no license was given with the run: ask those who gave you the file"


def model_card(record: RunRecord, *, license_name: str | None = None) -> str:
    """Return the card's text.

    Args:
        record: of the run.
        license_name: of the weights, by the Hub's names, such as ``cc-by-4.0``; None: the card says that there is none.
    """
    sections = {
        "Intended use": _intended_use(),
        "How to use it": _how_to_use(record),
        "Data": _data(record),
        "Composition": _composition(record),
        "Verdict": _verdict(record),
        "Diagnosis": _diagnosis(record),
        "Limits": _limits(record),
        "Provenance": _provenance(record, license_name),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    header = _header(record, license_name).to_yaml(line_break="\n")
    text = f"---\n{header}\n---\n\n# {_title(record)}\n\n{_summary(record)}\n\n{body}\n"
    return str(ModelCard(text))


def _header(record: RunRecord, license_name: str | None) -> ModelCardData:
    results = [
        EvalResult(
            task_type="unconditional-image-generation",
            dataset_type="not-published",
            dataset_name="the run's own data",
            dataset_split=split,
            metric_type=str(measure["name"]),
            metric_name=str(measure["name"]),
            metric_value=value,
        )
        for measure, value, split in measured_values(record.results["evaluation"])
    ]
    return ModelCardData(
        library_name="medsynth",
        license=license_name,
        pipeline_tag="unconditional-image-generation",
        tags=[*TAGS, *([record.generator.card["modality"].lower()] if record.generator.card["modality"] else [])],
        model_name=type(record.generator.network).__name__ if results else None,
        eval_results=results or None,
    )


def _title(record: RunRecord) -> str:
    modality = record.generator.card["modality"] or "medical"
    size = record.generator.image_size
    return f"Generator of synthetic {modality} images, {size} x {size} pixels"


def _summary(record: RunRecord) -> str:
    generator = record.generator
    parameters = sum(parameter.numel() for parameter in generator.network.parameters())
    classes = (
        ", ".join(markdown(" ".join(name.split())) for name in generator.class_names) or "none; it takes no labels"
    )
    rows = {
        "network": f"{type(generator.network).__name__}, {parameters:,} parameters",
        "input": f"standard normal noise (N, {generator.network.latent_dim})"
        + (", labels (N,)" if generator.class_names else ""),
        "output": f"images (N, {generator.channels}, {generator.image_size}, {generator.image_size}) in [-1, 1]",
        "physical units": f"-1 is {generator.intensity.low:g} and 1 is {generator.intensity.high:g} {generator.units}",
        "spacing": _spacing(generator.card["spacing"]),
        "modality": generator.card["modality"] or NOT_RECORDED,
        "classes": classes,
        "images seen in training": _counted(generator.card["images_seen"]),
    }
    return _table(rows)


def _intended_use() -> str:
    return (
        "Research: more training images for an analysis of images of this kind, tests of software without data of "
        "patients, teaching. Every image is synthetic and is to be marked so.\n\n"
        "Not for diagnosis, nor for statements about a person or a population. Whether the images are faithful, useful "
        "or private is what the section *Verdict* says: an answer that is missing there was not measured."
    )


def _how_to_use(record: RunRecord) -> str:
    label = ", label=0" if record.generator.class_names else ""
    return (
        "```python\n"
        "import medsynth\n\n"
        'generator = medsynth.load_generator("generator.safetensors")\n'
        f"images = generator.sample(16{label}, seed=0)  # float32 in [-1, 1]\n"
        "values = generator.to_physical(images)  # in the unit above\n"
        "```"
    )


def _data(record: RunRecord) -> str:
    environment = record.environment
    digest = environment.get("data_fingerprint")
    rows = {
        name: _counted(record.counts.get(key)) if key in record.counts else NOT_RECORDED for key, name in _NAMES.items()
    }
    return (
        _table(rows | {"fingerprint": f"`{digest}`" if _is_word(digest) else NOT_RECORDED})
        + "\n\nThe fingerprint is equal where runs see the same images prepared in the same way. Names of files, "
        "folders and patients are not part of this card."
    )


def _composition(record: RunRecord) -> str:
    if not record.composition:
        return NOT_RECORDED
    text = yaml.safe_dump(dict(record.composition), sort_keys=False, default_flow_style=False, allow_unicode=True)
    return f"```yaml\n{text}```\n\nTexts that could name a place or a person are left out."


def _verdict(record: RunRecord) -> str:
    results, private = record.results, record.private
    parts = {
        "Faithful, useful, private (`medsynth verdict`)": answers_text(results["verdict"], private),
        "Scorecard": scorecard_text(results["verdict"]),
        "Distance from real images (`medsynth evaluate`)": evaluation_text(results["evaluation"], private),
        "Use in a task (`medsynth utility`)": answers_text(results["utility"], private),
        "Copies and membership inference (`medsynth audit`)": answers_text(results["audit"], private),
    }
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts.items())


def _diagnosis(record: RunRecord) -> str:
    if not isinstance(record.summary.get("findings"), list):
        return NOT_MEASURED
    texts = [f"* {markdown(record.private.removed(text))}" for text in finding_texts(record.summary)]
    return "\n".join(texts) or "The training's doctor (`medsynth/diagnosis`) has no findings."


def _limits(record: RunRecord) -> str:
    return "\n".join(f"* {line}" for line in _limit_lines(record))


def _limit_lines(record: RunRecord) -> Iterator[str]:
    generator = record.generator
    yield (
        f"Single images of {generator.image_size} x {generator.image_size} pixels: neither volumes nor series, and no "
        "detail that is finer than a pixel."
    )
    low, high = generator.intensity.low, generator.intensity.high
    yield f"Values outside of {low:g} to {high:g} {generator.units} do not occur."
    count = record.counts.get("num_train")
    yield (
        f"The images vary as the {_counted(count)} training images do: what these lack, the generator lacks too."
        if count
        else "The images vary as the training images do, whose number is not recorded."
    )
    yield "Labels are asked for, not verified." if generator.class_names else "The images have no labels."
    yield "Training had no differential privacy: what protects people in the data is measured, not proven."
    for name, title in (
        ("audit", "Copies of training images"),
        ("utility", "Use in a task"),
        ("evaluation", "Fidelity"),
    ):
        if not record.results[name]:
            yield f"{title}: {NOT_MEASURED}."


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
    return _table(rows)


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _spacing(spacing: Any) -> str:
    if not spacing:
        return NOT_RECORDED
    row, column = spacing
    return f"{row:.4g} mm from row to row, {column:.4g} mm from column to column"


def _counted(number: Any) -> str:
    return NOT_RECORDED if number is None else f"{number:,}"


def _is_word(text: Any) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text) <= 60
        and text.replace("-", "").replace(".", "").replace("+", "").isalnum()
    )
