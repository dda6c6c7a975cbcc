"""The model card of a generator that makes images of noise, in words."""

from __future__ import annotations

from collections.abc import Iterator

from medsynth.generator.trained import TrainedGenerator
from medsynth.release.card_table import NOT_RECORDED, counted, spacing_text
from medsynth.release.results import (
    NOT_MEASURED,
    answers_text,
    evaluation_text,
    markdown,
    measured_values,
    scorecard_text,
)
from medsynth.release.run_record import RunRecord


class GeneratorText:
    """The parts of the card; see ``model_card.CardText``."""

    task_type = "unconditional-image-generation"
    tags: tuple[str, ...] = ("medsynth", "gan", "medical-imaging", "synthetic-data", "image-synthesis")
    measured_title = "Verdict"

    def __init__(self, record: RunRecord, generator: TrainedGenerator):
        self.record, self.generator = record, generator

    def title(self) -> str:
        """Return the heading."""
        size = self.generator.image_size
        return f"Generator of synthetic {self.generator.card['modality'] or 'medical'} images, {size} x {size} pixels"

    def summary(self) -> dict[str, str]:
        """Return the rows of the first table."""
        generator = self.generator
        parameters = sum(parameter.numel() for parameter in generator.network.parameters())
        classes = (
            ", ".join(markdown(" ".join(name.split())) for name in generator.class_names) or "none; it takes no labels"
        )
        return {
            "network": f"{type(generator.network).__name__}, {parameters:,} parameters",
            "input": f"standard normal noise (N, {generator.network.latent_dim})"
            + (", labels (N,)" if generator.class_names else ""),
            "output": f"images (N, {generator.channels}, {generator.image_size}, {generator.image_size}) in [-1, 1]",
            "physical units": f"-1 is {generator.intensity.low:g} and 1 is {generator.intensity.high:g} "
            f"{generator.units}",
            "spacing": spacing_text(generator.card["spacing"]),
            "modality": generator.card["modality"] or NOT_RECORDED,
            "classes": classes,
            "images seen in training": counted(generator.card["images_seen"]),
        }

    def intended_use(self) -> str:
        """Return what it is for, and what it is not for."""
        return (
            "Research: more training images for an analysis of images of this kind, tests of software without data of "
            "patients, teaching. Every image is synthetic and is to be marked so.\n\n"
            "Not for diagnosis, nor for statements about a person or a population. Whether the images are faithful, "
            "useful or private is what the section *Verdict* says: an answer that is missing there was not measured."
        )

    def how_to_use(self) -> str:
        """Return a program."""
        label = ", label=0" if self.generator.class_names else ""
        return (
            "```python\n"
            "import medsynth\n\n"
            'generator = medsynth.load_generator("generator.safetensors")\n'
            f"images = generator.sample(16{label}, seed=0)  # float32 in [-1, 1]\n"
            "values = generator.to_physical(images)  # in the unit above\n"
            "```"
        )

    def measured(self) -> dict[str, str]:
        """Return what was measured, by heading."""
        results, private = self.record.results, self.record.private
        return {
            "Faithful, useful, private (`medsynth verdict`)": answers_text(results["verdict"], private),
            "Scorecard": scorecard_text(results["verdict"]),
            "Distance from real images (`medsynth evaluate`)": evaluation_text(results["evaluation"], private),
            "Use in a task (`medsynth utility`)": answers_text(results["utility"], private),
            "Copies and membership inference (`medsynth audit`)": answers_text(results["audit"], private),
        }

    def values(self) -> Iterator[tuple[str, float, str]]:
        """Yield the measures for the card's header: name, value and split."""
        yield from measured_values(self.record.results["evaluation"])

    def limits(self) -> Iterator[str]:
        """Yield what it cannot do."""
        generator = self.generator
        yield (
            f"Single images of {generator.image_size} x {generator.image_size} pixels: neither volumes nor series, and "
            "no detail that is finer than a pixel."
        )
        low, high = generator.intensity.low, generator.intensity.high
        yield f"Values outside of {low:g} to {high:g} {generator.units} do not occur."
        count = self.record.counts.get("num_train")
        yield (
            f"The images vary as the {counted(count)} training images do: what these lack, the generator lacks too."
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
            if not self.record.results[name]:
                yield f"{title}: {NOT_MEASURED}."
