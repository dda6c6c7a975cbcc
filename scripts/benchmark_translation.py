"""Compare translations on CT slices of two reconstruction kernels, at equal processor time: soft from sharp.

    uv run scripts/benchmark_translation.py lung_ct_kernel_pairs_256.zip --out translation
    uv run scripts/benchmark_translation.py --table --out translation

The archive has 94 pairs of two patients. With so few, training, validation and test are contiguous blocks of slices of
each patient, with slices between them left out: the numbers say nothing about other patients. Each method has
``--seconds`` of processor time of one core from the start of its process; then it is stopped in order, and its best
translator, as selected by the MAE of the validation slices, translates the test slices as wholes. Errors are means over
the body, which a mask holds; intervals are 95 %, by a bootstrap of blocks of three neighboring slices.

``texture`` is the standard deviation of what a Gaussian of 1 pixel takes away from the image, in the body, divided by
that of the target: 1 is the target's sharpness and noise, less is blurred.

Runs that exist below ``--out`` are not repeated. Needs Linux.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from processor_time import run_for
from scipy.ndimage import binary_closing, binary_fill_holes, gaussian_filter

from medsynth.contracts import Intensity
from medsynth.generator.trained import FILE, load_translator
from medsynth.metrics.paired import paired_measures

ROOT = Path(__file__).resolve().parent.parent
HU = Intensity(-1000.0, 400.0, "HU")
SPLITS = {  # numbers of slices
    "A0001": {"train": range(40), "val": range(42, 50), "test": range(52, 64)},
    "A0002": {"train": range(18), "val": range(19, 23), "test": range(24, 30)},
}
COMMON = (
    *("data=paired_folder", "data.reader.source=sharp", "data.reader.target=soft", "data.reader.mask=mask"),
    *("data.image_size=64", "data.random_crop=256", "data.intensity_range=[0,255]", "trainer.accelerator=cpu"),
    *("trainer.precision=32-true", "max_images=10000000", "val_every_images=1000", "doctor.enabled=false"),
    *("report=false", "generator=unet", "generator.width=16", "generator.levels=4", "generator.residual=true"),
    *("generator_optimizer.lr=1e-3", "task.ema_half_life=500"),
)
INSIDE = "reconstruction.l1.outside=0"  # errors are measured in the body alone
METHODS = {
    "regression": ("task=regression", INSIDE),
    "pix2pix": ("task=paired_translation", INSIDE),
    "pix2pix, vision-aided": (
        *("task=paired_translation", "discriminator=vision_aided", "backbone=efficientnet_lite0"),
        *("discriminator@discriminator.trained=patch", "augment=none", INSIDE),
    ),
    "pix2pix, projected": (
        *("task=paired_translation", "discriminator=projected", "backbone=efficientnet_lite0", "loss=hinge"),
        *("augment=none", INSIDE, "val_every_images=200"),  # it sees fewer images than others validate after
    ),
    "CycleGAN": ("task=unpaired_translation",),
    "CUT": ("task=cut",),
}
BLOCK = 3  # neighboring slices that are drawn together


def images(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Return an image of the archive, 8 bits."""
    return np.array(Image.open(io.BytesIO(archive.read(name))))


def body(image: np.ndarray) -> np.ndarray:
    """Return the body as 255: what is above air, with the lungs."""
    return binary_fill_holes(binary_closing(image > 25, iterations=3)).astype(np.uint8) * 255


def slices(split: str) -> Iterator[str]:
    """Yield the names of a split's slices, in order."""
    for patient, splits in SPLITS.items():
        yield from (f"{patient}_{number:02d}.png" for number in splits[split])


def divide(path: Path, folder: Path) -> None:
    """Write the splits of the archive, and masks of the body, to ``folder``."""
    with zipfile.ZipFile(path) as archive:
        for split in ("train", "val", "test"):
            for name in slices(split):
                pair = {kind: images(archive, f"{kind}/{name}") for kind in ("sharp", "soft")}
                for kind, image in {**pair, "mask": body(pair["soft"])}.items():
                    target = folder / kind / split / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(image).save(target)


def train(method: str, data: Path, run: Path, seconds: float, options: Sequence[str]) -> None:
    """Train a method for so many seconds of processor time."""
    command = [sys.executable, str(ROOT / "train.py"), *COMMON, *METHODS[method], *options, f"data.root={data}"]
    run.parent.mkdir(parents=True, exist_ok=True)
    with (run.parent / f"{run.name}.log").open("w") as log:
        run_for([*command, f"hydra.run.dir={run}"], seconds, log=log)


def load(data: Path, kind: str) -> torch.Tensor:
    """Return the test images (N, 1, H, W) of a kind, from 0 to 255."""
    found = [np.array(Image.open(data / kind / "test" / name)) for name in slices("test")]
    return torch.from_numpy(np.stack(found)).float()[:, None]


def texture(image: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """Return the standard deviation (N,) of what a Gaussian of 1 pixel takes away."""
    rows = [np.asarray(values[0]) for values in image]
    return np.array(
        [(row - gaussian_filter(row, 1))[m[0] > 0].std() for row, m in zip(rows, mask.numpy(), strict=True)]
    )


def measured(output: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> dict[str, np.ndarray]:
    """Return each measure's values (N,)."""
    values = paired_measures(output, target, mask, HU)
    ratio = texture(output, mask) / texture(target, mask)
    return {name: values[name].numpy() for name in ("mae", "psnr", "ssim")} | {"texture": ratio}


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval, by a bootstrap of blocks of neighboring slices."""
    generator = np.random.default_rng(0)
    means = values.reshape(-1, BLOCK).mean(axis=1)
    drawn = means[generator.integers(0, len(means), (2000, len(means)))].mean(axis=1)
    return values.mean(), *np.quantile(drawn, [0.025, 0.975])


def table(out: Path, data: Path) -> None:
    """Print a row for each method, and write pictures of the first slices."""
    source, target = (load(data, kind) / 127.5 - 1 for kind in ("sharp", "soft"))
    mask = (load(data, "mask") > 0).float()
    outputs = {"the source copied": source}
    for method in METHODS:
        run = out / method.replace(", ", "_")
        if (run / FILE).is_file():
            outputs[method] = load_translator(run).translate(source, batch_size=4)
    values = {name: measured(output, target, mask) for name, output in outputs.items()}
    print("| method | images seen | MAE, HU | less than copying | PSNR, dB | SSIM | texture |")
    print("|---|---|---|---|---|---|---|")
    for name, own in values.items():
        run = out / name.replace(", ", "_")
        seen = f"{json.loads((run / 'summary.json').read_text())['images_seen']:,}" if name in METHODS else ""
        gain = interval(1 - own["mae"] / values["the source copied"]["mae"])
        columns = [f"{m:.3g} ({low:.3g} to {high:.3g})" for m, low, high in (interval(own[key]) for key in own)]
        less = f"{gain[0]:.0%} ({gain[1]:.0%} to {gain[2]:.0%})" if name in METHODS else ""
        print(f"| {name} | {seen} | {columns[0]} | {less} | {columns[1]} | {columns[2]} | {columns[3]} |")
    draw(outputs, target, out / "translation.png")


def draw(outputs: dict[str, torch.Tensor], target: torch.Tensor, path: Path) -> None:
    """Write a part of two slices: a column for each method and the target, the absolute error below."""
    rows = []
    for number in (4, len(target) - 2):
        place = (number, 0, slice(100, 196), slice(140, 236))
        shown = [*(output[place] for output in outputs.values()), target[place]]
        rows += [torch.cat(shown, dim=1) / 2 + 0.5, torch.cat([(x - target[place]).abs() * 4 for x in shown], dim=1)]
    picture = (torch.cat(rows).clamp(0, 1) * 255).byte().numpy()
    Image.fromarray(picture).resize((picture.shape[1] * 2, picture.shape[0] * 2), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--options", nargs="*", default=[], help="further options of these methods")
    parser.add_argument("--table", action="store_true", help="print the table of the runs that exist")
    options = parser.parse_args()
    data = options.out.resolve() / "pairs"
    if not options.table:
        if options.archive is None:
            parser.error("name the archive of pairs")
        if not data.is_dir():
            divide(options.archive, data)
        for method in options.methods:
            run = options.out.resolve() / method.replace(", ", "_")
            if not (run / FILE).is_file():
                train(method, data, run, options.seconds, options.options)
    table(options.out.resolve(), data)


if __name__ == "__main__":
    main()
