"""The model card of a translator, in words: source and target, errors beside the baselines, limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medsynth.generator.trained import TrainedTranslator
from medsynth.release.card_table import NOT_RECORDED, counted, spacing_text
from medsynth.release.results import NOT_MEASURED, evaluation_text, measured_values
from medsynth.release.run_record import RunRecord
from medsynth.release.translation_results import (
    TASKS,
    compared_tasks,
    errors_text,
    paired_values,
    validation_text,
)
from medsynth.release.usage import neighbors_of


class TranslatorText:
    """The parts of the card; see ``model_card.CardText``."""

    task_type = "image-to-image"
    tags: tuple[str, ...] = ("medsynth", "medical-imaging", "synthetic-data", "image-to-image", "image-translation")
    measured_title = "Errors"

    def __init__(self, record: RunRecord, translator: TrainedTranslator):
        self.record, self.translator = record, translator
        self.statistics: dict[str, Any] = translator.card["source_statistics"] or {}

    def title(self) -> str:
        """Return the heading."""
        source, target = self.statistics.get("modality") or "medical", self.translator.card["modality"] or "synthetic"
        size = self.translator.image_size
        return f"Translator of {source} images to {target} images, {size} x {size} pixels"

    def summary(self) -> dict[str, str]:
        """Return the rows of the first table."""
        translator, size = self.translator, self.translator.image_size
        parameters = sum(parameter.numel() for parameter in translator.network.parameters())
        reach, width = neighbors_of(translator), translator.network.latent_dim
        shown = f"images (N, {translator.source_channels}, {size}, {size}) in [-1, 1]"
        nearby = f": the channels of {2 * reach + 1} neighboring slices, the translated one in the middle"
        source, target = translator.source_intensity, translator.intensity
        return {
            "task": self._task(),
            "network": f"{type(translator.network).__name__}, {parameters:,} parameters",
            "source": shown + (nearby if reach else "") + (f"; noise (N, {width})" if width else ""),
            "modality of the source": self.statistics.get("modality") or NOT_RECORDED,
            "physical units of the source": f"-1 is {source.low:g} and 1 is {source.high:g} {source.unit}",
            "target": f"images (N, {translator.channels}, {size}, {size}) in [-1, 1]",
            "modality of the target": translator.card["modality"] or NOT_RECORDED,
            "physical units of the target": f"-1 is {target.low:g} and 1 is {target.high:g} {target.unit}",
            "spacing": spacing_text(translator.card["spacing"]),
            "images seen in training": counted(translator.card["images_seen"]),
        }

    def intended_use(self) -> str:
        """Return what it is for, and what it is not for."""
        return (
            "Research: images of one kind computed from images of another kind, for methods that need both, with the "
            "errors of the section *Errors* in mind. Every image that it makes is synthetic and is to be marked so.\n\n"
            "Not for diagnosis or treatment: a translator can leave out what is there, such as a lesion, and show what "
            "is not. An error that is missing in the section *Errors* was not measured."
        )

    def how_to_use(self) -> str:
        """Return a command and a program."""
        return (
            "Whole series, with the grid, the values and the check of the sources of the training:\n\n"
            "```\nmedsynth translate run=generator.safetensors data.root=my/series out=translated\n```\n\n"
            "Images that are prepared already:\n\n"
            "```python\n"
            "from medsynth.generator.trained import load_translator\n\n"
            'translator = load_translator("generator.safetensors")\n'
            "images = translator.translate(sources)  # float32 in [-1, 1] in and out\n"
            "values = translator.intensity.to_physical(images)  # in the unit of the target\n"
            "```"
        )

    def measured(self) -> dict[str, str]:
        """Return what was measured, by heading."""
        records, private = self.record.results["evaluation"], self.record.private
        errors = errors_text(records, private)
        if errors != NOT_MEASURED and "regression" not in compared_tasks(records):
            errors += "\n\nA regression on the same data, the baseline of every translator, was not measured beside it."
        return {
            "Against the targets, the source copied and other translators (`medsynth evaluate against=`)": errors,
            "In the validation of the training": validation_text(
                self.translator.card["metrics"], self.translator.units
            ),
            "Distance of the translations from real targets (`medsynth evaluate`)": evaluation_text(records, private),
        }

    def values(self) -> Iterator[tuple[str, float, str]]:
        """Yield the measures for the card's header: name, value and split."""
        records = self.record.results["evaluation"]
        yield from paired_values(records)
        yield from measured_values(records)

    def limits(self) -> Iterator[str]:
        """Yield what it cannot do."""
        translator, statistics = self.translator, self.statistics
        reach, size = neighbors_of(translator), translator.image_size
        seen = f" beyond the {reach} on either side that it sees for each" if reach else ""
        yield (
            f"It translates slice by slice, in patches of {size} x {size} pixels: nothing makes neighboring slices fit "
            f"each other{seen}."
        )
        low, high = translator.intensity.low, translator.intensity.high
        yield f"Values outside of {low:g} to {high:g} {translator.units} do not occur."
        source = translator.source_intensity
        yield f"Values of sources outside of {source.low:g} to {source.high:g} {source.unit} are clipped."
        if "quantiles" in statistics:
            yield (
                "Sources have to be like those of the training: `medsynth translate` refuses other modalities and "
                "values; the other files of an export do not."
            )
        count = self.record.counts.get("num_train")
        yield (
            f"It was trained on {counted(count)} images: what these lack, it has not learned."
            if count
            else "What the training images lack, it has not learned; their number is not recorded."
        )
        yield "Lesions and other rare findings: their recall is measured of phantoms alone."
        if not self.record.results["evaluation"]:
            yield f"Errors on images that it was not selected on: {NOT_MEASURED}."

    def _task(self) -> str:
        """Return the task by its choice; a task of the user's own has none that is known."""
        task = self.record.composition.get("task")
        target = str(task.get("_target_")) if isinstance(task, dict) else ""
        name = target.removeprefix("medsynth.").partition(".")[0]
        return f"`{name}`" if target.startswith("medsynth.") and name in TASKS else NOT_RECORDED
