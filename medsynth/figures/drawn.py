"""The figures of a run one by one: each is drawn, with its numbers as a table and its caption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medsynth.contracts import counter_seed, noise
from medsynth.figures.embedding import PCA, embed, methods
from medsynth.figures.material import Material
from medsynth.figures.numbers import Table, classes, histogram, path_between, spectrum, spread_out
from medsynth.metrics.appearance import intensity_histograms, radial_spectra
from medsynth.metrics.nearest import nearest
from medsynth.report.drawings import Row, draw_classes, draw_images, draw_lines, draw_points, write_table

_SHOWN = 8  # images in a row
_MOST_CLASSES = 12
_WALKS = 4  # interpolations


class Figures:
    """The figures of one run.

    Args:
        material: its images and their features.
        out: folder that they are written to.
    """

    def __init__(self, material: Material, out: Path) -> None:
        self.material, self.out = material, out
        self.names, self.extractor = material.names, material.extractor
        self.real, self.fake, self.training = material.real, material.fake, material.training
        self.features = material.features

    def draw(self) -> list[dict[str, Any]]:
        """Write all figures; return their descriptions."""
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
        ends = noise(2 * _WALKS, self.material.latent_dim, seed=counter_seed("interpolation", self.material.seed))
        for walk in range(_WALKS):
            z = path_between(ends[2 * walk], ends[2 * walk + 1], _SHOWN)
            label = walk * max(len(self.names), 1) // _WALKS
            images = self.material.generate(z, label)
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

    def _embedding(self, method: str) -> dict[str, Any]:
        real, fake, axes = embed(self.features[0], self.features[1], method, seed=self.material.seed)
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
        sides = [self.material.described(images, intensity_histograms) for images in (self.real, self.fake)]
        intensity = self.material.run.data.intensity
        table = histogram(sides[0], sides[1], intensity)
        write_table(self.out / "intensities.csv", table)
        labels = (f"intensity ({intensity.unit})", "share of pixels")
        files = draw_lines(self.out, "intensities", table, x="from", labels=labels, steps=True)
        caption = f"Intensities of {self.real.count:,} real and as many generated images, in {intensity.unit}."
        return {"name": "intensities", "files": [*files, "csv"], "caption": caption, "unit": intensity.unit}

    def _spectrum(self) -> dict[str, Any]:
        sides = [self.material.described(images, radial_spectra) for images in (self.real, self.fake)]
        table = spectrum(sides[0], sides[1])
        write_table(self.out / "spectrum.csv", table)
        labels = ("spatial frequency (cycles per image)", "power (dB)")
        files = draw_lines(self.out, "spectrum", table, x="cycles", labels=labels)
        caption = (
            "Mean power over directions. Too little at high frequencies is blur; peaks there are the generator's "
            "strides."
        )
        return {"name": "spectrum", "files": [*files, "csv"], "caption": caption}

    def _classes(self) -> dict[str, Any] | None:
        if len(self.names) < 2 or self.real.labels is None or self.fake.labels is None:
            return None
        labels = self.real.labels, self.fake.labels
        table = classes(self.features[0], self.features[1], labels, self.names, seed=self.material.seed)
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
