"""The figures of a run: images of its best generator beside real ones, and what they have in common."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

import medsynth
from medsynth.configuration.checked_composition import compose_checked
from medsynth.configuration.override_text import override
from medsynth.contracts import Generator, counter_seed, noise
from medsynth.evaluation.evaluate import build_extractors, choose_device, extractor_options
from medsynth.evaluation.image_sets import generated, shuffled, split_of
from medsynth.evaluation.opened_run import OpenedRun, open_run
from medsynth.figures.embedding import PCA, embed, methods
from medsynth.figures.numbers import Table, classes, histogram, path_between, spectrum, spread_out
from medsynth.files import write_json
from medsynth.metrics.appearance import intensity_histograms, radial_spectra
from medsynth.metrics.evaluation import Evaluation
from medsynth.metrics.feature_store import FeatureStore
from medsynth.metrics.image_set import ImageSet
from medsynth.metrics.nearest import nearest
from medsynth.report.drawings import Row, draw_classes, draw_images, draw_lines, draw_points, write_table
from medsynth.report.figure_files import FOLDER, INDEX, MEASURES

_LEAST_SIZE = 8  # pixels; smaller images are points, which have pictures of their own
_SHOWN = 8  # images in a row
_MOST_CLASSES = 12
_WALKS = 4  # interpolations


@dataclass(frozen=True)
class Limits:
    """Limits of the numbers of images that take part, so that the time is bounded.

    Attributes:
        images: real ones, and as many generated.
        training: images among which the nearest are looked for.
        seconds: that the generated images may take; fewer are made of a slow generator.
    """

    images: int = 512
    training: int = 2048
    seconds: float = 30.0


def write_figures(
    folder: Path, *, limits: Limits | None = None, device: str = "auto", trust: bool = False, seed: int = 0
) -> Path | None:
    """Write the figures of the run in ``folder`` into its ``report/``; return that folder.

    They show real images and stay on this machine: nothing is sent to logging services.

    Args:
        folder: of the run.
        limits: of the number of images; None: those of ``Limits``.
        device: auto, cpu or cuda.
        trust: the run may name classes of its own.
        seed: of noise, choice of images, intervals.

    Returns:
        The folder; None: images of this size have no figures.

    Raises:
        InputError: no generator, or images that are not finite or all equal.
    """
    typed = [override("run", str(folder)), "extractor=[mini]", override("trust", trust), override("device", device)]
    config = compose_checked("evaluate", typed)
    run = open_run(folder, config, choose_device(device))
    if run.data.image_size < _LEAST_SIZE:
        return None
    out = folder / FOLDER
    out.mkdir(exist_ok=True)
    (out / INDEX).unlink(missing_ok=True)  # until the figures are complete again
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="medsynth-figures-") as temporary:
        figures = _Figures(run, config, limits or Limits(), Path(temporary), out, seed)
        drawn = figures.draw()
    write_json(
        out / INDEX,
        {
            "medsynth": medsynth.__version__,
            "seconds": round(time.perf_counter() - started, 1),
            "seed": seed,
            "images": {"real": figures.real.count, "generated": figures.fake.count, "training": figures.training.count},
            "figures": drawn,
        },
    )
    return out


class _Figures:
    """The images of one run and their features, from which each figure is drawn."""

    def __init__(
        self, run: OpenedRun, config: DictConfig, limits: Limits, temporary: Path, out: Path, seed: int
    ) -> None:
        self.run, self.config, self.out, self.seed = run, config, out, seed
        self.device = next(run.generator.parameters()).device
        self.names = run.data.class_names if run.trained.num_classes else ()
        count = min(limits.images, _affordable(run.generator, limits.seconds, self.device, bool(self.names)))
        self.real = shuffled(split_of(run.data, run.trained, "val"), most=count)
        self.training = shuffled(split_of(run.data, run.trained, "train"), most=limits.training)
        self.fake = generated(
            run.generator, self.real.count, reference=self.real, conditional=bool(self.names), seed=seed
        )
        size, channels = run.trained.data.image_size, run.trained.data.channels
        ((key, extractor),) = build_extractors(config, size, channels, self.device).items()
        store = FeatureStore(temporary, cache=None, batch_size=config.batch_size, device=self.device, progress=False)
        self.evaluation = Evaluation(
            store,
            real=self.real,
            fake=self.fake,
            training=self.training,
            extractors={key: extractor},
            pairs=min(config.pairs, 500),
            seed=seed,
        )
        of = {images.name: np.array(store.features(images, {key: extractor})[key]) for images in self._sides()}
        self.features = [of[images.name] for images in self._sides()]
        self.extractor = extractor.name

    def _sides(self) -> tuple[ImageSet, ImageSet, ImageSet]:
        return self.real, self.fake, self.training

    def draw(self) -> list[dict[str, Any]]:
        """Write all figures and the record of the measures; return their descriptions."""
        self._write_measures()
        steps: list[Callable[[], dict[str, Any] | None]] = [
            self._samples,
            self._nearest,
            self._interpolation,
            *(lambda method=method: self._embedding(method) for method in methods()),
            self._intensities,
            self._spectrum,
            self._classes,
        ]
        return [drawn for step in steps if (drawn := step()) is not None]

    def _write_measures(self) -> None:
        size, channels = self.run.trained.data.image_size, self.run.trained.data.channels
        record = {
            "medsynth": medsynth.__version__,
            "real": {
                "source": f"{self.run.data.description}, split val",
                "count": self.real.count,
                "split": "val",
                "selected": True,
            },
            "fake": {"source": self.run.path.name, "count": self.fake.count},  # no path: it may name a person
            "training": self.training.count,
            "seed": self.seed,
            "extractors": extractor_options(self.config, size, channels),
            "measures": [measure.to_dict() for measure in self.evaluation.measures()],
            "notes": ["Measured at the end of the training on few images: medsynth evaluate measures on more."],
        }
        write_json(self.out / MEASURES, record)

    def _samples(self) -> dict[str, Any]:
        rows: list[Row] = []
        table: Table = []
        for number, class_name in enumerate(self.names[:_MOST_CLASSES] or ("",)):
            for name, images in (("real", self.real), ("generated", self.fake)):
                labels = images.labels if self.names else None
                own = range(images.count) if labels is None else np.flatnonzero(labels == number)
                chosen = [int(place) for place in own[: _SHOWN if self.names else 3 * _SHOWN]]
                table += [{"set": name, "class": class_name, "image": place} for place in chosen]
                for start in range(0, len(chosen), _SHOWN):
                    title = f"{class_name}, {name}".lstrip(", ") if start == 0 else ""
                    rows.append((title, images.read(chosen[start : start + _SHOWN]).numpy()))
        return self._figure("samples", rows=rows, table=table, caption="Real and generated images, not chosen by eye.")

    def _nearest(self) -> dict[str, Any]:
        real, fake, training = self.features
        distances, rows = nearest(fake, training, 3)
        held_out = float(np.median(nearest(real, training)[0]))
        chosen = spread_out(distances[:, 0], _SHOWN)
        pictures: list[Row] = [("generated", self.fake.read(chosen).numpy())]
        for rank in range(rows.shape[1]):
            found = self.training.read([int(row) for row in rows[chosen, rank]]).numpy()
            pictures.append((f"nearest {rank + 1}", found))
        table: Table = [
            {"image": image, "rank": rank + 1, "training_image": int(rows[image, rank]), "distance": float(value)}
            for image in chosen
            for rank, value in enumerate(distances[image])
        ]
        return self._figure(
            "nearest",
            rows=pictures,
            columns=[f"{distances[image, 0]:.3f}" for image in chosen],
            table=table,
            caption=(
                f"Generated images and the nearest of {self.training.count:,} training images, by cosine distance in "
                f"the features of {self.extractor} (above the columns): the {(_SHOWN + 1) // 2} nearest of "
                f"{self.fake.count:,}, then others over the whole range. Real images that were not trained on have "
                f"{held_out:.3f} (median). It shows real images."
            ),
        )

    def _interpolation(self) -> dict[str, Any]:
        rows: list[Row] = []
        table: Table = []
        changes: list[float] = []
        ends = noise(2 * _WALKS, _width(self.run.generator), seed=counter_seed("interpolation", self.seed))
        for walk in range(_WALKS):
            z = path_between(ends[2 * walk], ends[2 * walk + 1], _SHOWN)
            label = walk * max(len(self.names), 1) // _WALKS
            images = self._generate(z, label)
            title = self.names[label] if self.names else f"path {walk + 1}"
            rows.append((title, images.numpy()))
            steps = (images[1:] - images[:-1]).abs().flatten(1).mean(1).tolist()
            changes += steps
            table += [
                {"path": walk + 1, "step": step, "class": title if self.names else "", "change": change}
                for step, change in enumerate([0.0, *steps])
            ]
        return self._figure(
            "interpolation",
            rows=rows,
            table=table,
            caption=(
                "Images along great circles between random noises, in equal steps. Neighbors differ by "
                f"{np.mean(changes):.3f} of a range from -1 to 1 on average, at most by {max(changes):.3f}: jumps "
                "between equal images tell of memorized ones."
            ),
        )

    @torch.inference_mode()
    def _generate(self, z: torch.Tensor, label: int) -> torch.Tensor:
        labels = torch.full((len(z),), label, device=self.device) if self.names else None
        return self.run.generator(z.to(self.device), labels).float().clamp(-1, 1).cpu()

    def _embedding(self, method: str) -> dict[str, Any]:
        real, fake, axes = embed(self.features[0], self.features[1], method, seed=self.seed)
        table: Table = []
        for kind, points, images in (("real", real, self.real), ("generated", fake, self.fake)):
            labels = images.labels if self.names else None
            for place, (x, y) in enumerate(points.tolist()):
                name = "" if labels is None else self.names[int(labels[place])]
                table.append({"set": kind, "class": name, "x": x, "y": y})
        key = "embedding" if method == PCA else f"embedding_{method.lower()}"
        write_table(self.out / f"{key}.csv", table)
        files = draw_points(self.out, key, table, (f"{method} 1", f"{method} 2"))
        caption = f"{method} of the features of {self.extractor}, fitted to real and generated images together. {axes}"
        return {"name": key, "files": [*files, "csv"], "caption": caption}

    def _intensities(self) -> dict[str, Any]:
        sides = [self._described(images, intensity_histograms) for images in (self.real, self.fake)]
        intensity = self.run.data.intensity
        table = histogram(sides[0], sides[1], intensity)
        write_table(self.out / "intensities.csv", table)
        labels = (f"intensity ({intensity.unit})", "share of pixels")
        files = draw_lines(self.out, "intensities", table, x="from", labels=labels, steps=True)
        caption = f"Intensities of {self.real.count:,} real and as many generated images, in {intensity.unit}."
        return {"name": "intensities", "files": [*files, "csv"], "caption": caption, "unit": intensity.unit}

    def _spectrum(self) -> dict[str, Any]:
        sides = [self._described(images, radial_spectra) for images in (self.real, self.fake)]
        table = spectrum(sides[0], sides[1])
        write_table(self.out / "spectrum.csv", table)
        labels = ("spatial frequency (cycles per image)", "power (dB)")
        files = draw_lines(self.out, "spectrum", table, x="cycles", labels=labels)
        caption = (
            "Mean power over directions. Too little at high frequencies is blur; peaks there are the generator's "
            "strides."
        )
        return {"name": "spectrum", "files": [*files, "csv"], "caption": caption}

    def _described(self, images: ImageSet, describe: Callable[[torch.Tensor], np.ndarray]) -> np.ndarray:
        size = self.config.batch_size
        batches = (range(start, min(start + size, images.count)) for start in range(0, images.count, size))
        return np.concatenate([describe(images.read(batch)) for batch in batches])

    def _classes(self) -> dict[str, Any] | None:
        if len(self.names) < 2 or self.real.labels is None or self.fake.labels is None:
            return None
        labels = self.real.labels, self.fake.labels
        table = classes(self.features[0], self.features[1], labels, self.names, seed=self.seed)
        if not table:
            return None
        write_table(self.out / "classes.csv", table)
        files = draw_classes(self.out, "classes", table, ("precision", "recall"))
        caption = (
            "Precision (generated images among real ones) and recall (real images among generated ones) of each class, "
            f"in the features of {self.extractor}, with 95 % intervals."
        )
        return {"name": "classes", "files": [*files, "csv"], "caption": caption}

    def _figure(
        self, name: str, *, rows: list[Row], table: Table, caption: str, columns: list[str] | None = None
    ) -> dict[str, Any]:
        write_table(self.out / f"{name}.csv", table)
        files = draw_images(self.out, name, rows, columns=columns or ())
        return {"name": name, "files": [*files, "csv"], "caption": caption}


def _width(generator: nn.Module) -> int:
    return cast(Generator, generator).latent_dim


@torch.inference_mode()
def _affordable(generator: nn.Module, seconds: float, device: torch.device, conditional: bool) -> int:
    """Return how many images the generator makes in that time, by a batch of few, 64 at least."""
    few = 8
    z = noise(few, _width(generator), seed=0).to(device)
    labels = torch.zeros(few, dtype=torch.long, device=device) if conditional else None
    generator(z, labels)  # the first call is slower
    started = time.perf_counter()
    generator(z, labels).float().cpu()
    return max(64, int(few * seconds / max(time.perf_counter() - started, 1e-9)))
