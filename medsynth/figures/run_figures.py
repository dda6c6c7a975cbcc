"""The figures of a run: images of its best generator beside real ones, and what they have in common."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import medsynth
from medsynth.configuration.checked_composition import compose_checked
from medsynth.configuration.override_text import override
from medsynth.evaluation.evaluate import choose_device, extractor_options
from medsynth.evaluation.opened_run import open_run
from medsynth.figures.drawn import Figures
from medsynth.figures.material import Limits, Material
from medsynth.files import write_json
from medsynth.report.figure_files import FOLDER, INDEX, MEASURES

_LEAST_SIZE = 8  # pixels; smaller images are points, which have pictures of their own


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
        material = Material(run, config, limits or Limits(), Path(temporary), seed)
        write_json(out / MEASURES, _measures(material))
        drawn = Figures(material, out).draw()
    write_json(
        out / INDEX,
        {
            "medsynth": medsynth.__version__,
            "seconds": round(time.perf_counter() - started, 1),
            "seed": seed,
            "images": {
                "real": material.real.count,
                "generated": material.fake.count,
                "training": material.training.count,
            },
            "figures": drawn,
        },
    )
    return out


def _measures(material: Material) -> dict[str, Any]:
    """Return the record of the measures of the figures' images."""
    size, channels = material.run.trained.data.image_size, material.run.trained.data.channels
    return {
        "medsynth": medsynth.__version__,
        "real": {
            "source": f"{material.run.data.description}, split val",
            "count": material.real.count,
            "split": "val",
            "selected": True,
        },
        "fake": {"source": material.run.path.name, "count": material.fake.count},  # no path: it may name a person
        "training": material.training.count,
        "seed": material.seed,
        "extractors": extractor_options(material.config, size, channels),
        "measures": [measure.to_dict() for measure in material.evaluation.measures()],
        "notes": ["Measured at the end of the training on few images: medsynth evaluate measures on more."],
    }
