"""Train a corpus of short runs, some with one fault planted each, which the doctor is measured with.

    uv run scripts/doctor_corpus.py --images my/heads my/hands my/chests --labelled my/classes --out corpus.jsonl
    uv run scripts/doctor_corpus.py ... --worker 0/2      # and 1/2 beside it: every second run
    uv run scripts/fit_doctor.py corpus.jsonl             # thresholds, and how well they find the faults

Each folder of ``--images`` holds images of one kind, that of ``--labelled`` a folder for each class; embedded phantoms
are added. A run is a composition (networks, loss, penalty), a set, a seed, and one fault or none. All have 32 px and
3,200 images, and are validated every 320 on 256. One line of JSON for each run is appended to ``--out``: the signals of
all its validations; runs that have a line there are not repeated. Needs about 30 s of one core for a run.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import io
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from row_file import append_rows, read_rows
from torchvision.utils import save_image

IMAGES, EVERY, SIZE = 3200, 320, 32
ONSET = IMAGES // 2  # of faults that begin within a run
COMMON = (
    f"data.image_size={SIZE}",
    f"max_images={IMAGES}",
    f"val_every_images={EVERY}",
    "data.batch_size=8",
    "report=false",
    "trainer=cpu",
    "trainer.precision=32-true",
    "task.feature_cache=null",
)
TRAINING, VALIDATION = 900, 256  # images
FEW, FEW_VALIDATION = 24, 20  # images, where that is the fault
FOLDER = ("data=csv", "data.join_duplicates=none")

COMPOSITIONS = {
    "default": ("generator.width=8", "discriminator.width=16"),
    "dcgan": (
        "generator=dcgan",
        "generator.width=16",
        "discriminator.width=16",
        "penalty=none",
        "optimizer@generator_optimizer=adam",
        "optimizer@discriminator_optimizer=adam",
    ),
    "hinge": ("generator.width=8", "discriminator=sngan", "discriminator.width=8", "loss=hinge", "penalty=none"),
    "least_squares": ("generator=dcgan", "generator.width=16", "discriminator.width=16", "loss=least_squares"),
    "pairing": (
        "generator=dcgan",
        "generator.width=16",
        "discriminator=r3gan",
        "discriminator.width=16",
        "loss=relativistic_pairing",
        "penalty=[r1,r2]",
        "penalty.r2.interval=4",
        "penalty.r1.interval=4",
    ),
    "fastgan": ("generator=fastgan", "discriminator.width=16", "augment=translation_cutout"),
}
CONDITIONAL = "conditional"  # the default, conditional, on the labelled set


@dataclasses.dataclass(frozen=True)
class Fault:
    """A planted fault: overrides, or a callback that begins at ``onset``; ``shows`` lists the findings that name it."""

    overrides: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()
    onset: int = 0
    compositions: tuple[str, ...] = tuple(COMPOSITIONS)


def _planted(kind: str, value: float, onset: int = 0) -> tuple[str, ...]:
    prefix = "+callbacks.planted"
    return (
        f"{prefix}._target_=doctor_corpus.Planted",
        f"{prefix}.kind={kind}",
        f"{prefix}.value={value}",
        f"{prefix}.onset={onset}",
    )


_LOST = (
    "discriminator_too_strong",
    "discriminator_too_weak",
    "mode_collapse",
    "texture",
    "divergence",
    "not_learning",
    "oscillation",
)
_MODES = ("mode_collapse",)
FAULTS = {
    "none": Fault(),
    "discriminator_lr": Fault(_planted("discriminator_lr", 50), _LOST),
    "discriminator_lr_late": Fault(_planted("discriminator_lr", 50, ONSET), _LOST, ONSET),
    "generator_lr": Fault(_planted("generator_lr", 50), _LOST),
    "generator_lr_late": Fault(_planted("generator_lr", 50, ONSET), _LOST, ONSET),
    "one_mode": Fault(_planted("modes", 1), _MODES),
    "four_modes": Fault(_planted("modes", 4), _MODES),
    "one_mode_late": Fault(_planted("modes", 1, ONSET), _MODES, ONSET),
    "saturating": Fault(
        ("loss=minimax", "penalty=none", "discriminator.normalization=none", "discriminator_optimizer.lr=2e-3"),
        ("discriminator_too_strong", "vanishing_gradient", *_LOST),
        compositions=("default", "dcgan"),
    ),
    "few_images": Fault((), ("discriminator_overfitting", "copying")),
    "leak": Fault(
        ("augment=ada", "augment.ada.target=null", "augment.ada.strength=1"),
        ("augmentation_leak",),
        compositions=("default", "dcgan", "hinge", "least_squares", "pairing"),
    ),
    "linear_head": Fault(
        ("discriminator=transfer", "backbone=mini", "discriminator.width", "discriminator.normalization", "penalty"),
        ("texture", *_LOST),
        compositions=("default", "dcgan"),
    ),
    "capacity": Fault(("generator.width=1",), _LOST),
    "batch_of_2": Fault(("data.batch_size=2",), _LOST, compositions=("dcgan", "hinge", "least_squares")),
    "too_short": Fault(("max_images=1000", "val_every_images=125"), ("too_short",)),
    "few_validation_images": Fault((), ("few_validation_images",)),
    "checkerboard": Fault(_planted("checkerboard", 0.25), ("checkerboard",)),
    "copies": Fault(_planted("copies", 0.5), ("copying",)),
    "ignored_labels": Fault(_planted("ignored_labels", 1), ("ignored_labels",), compositions=(CONDITIONAL,)),
    "shuffled_labels": Fault((), ("uninformative_labels",), compositions=(CONDITIONAL,)),
    "within_class": Fault(
        _planted("class_modes", 1), ("within_class_collapse", "mode_collapse"), compositions=(CONDITIONAL,)
    ),
}


class Planted(pl.Callback):
    """Plants a fault into a training, from ``onset`` images on.

    ``discriminator_lr`` and ``generator_lr`` multiply a learning rate by ``value``; ``modes`` leaves the generator
    ``value`` different noises, ``class_modes`` does so for images of the first class alone; ``ignored_labels`` gives it
    labels that depend on the noise alone. Of the averaged generator alone, whose images are validated:
    ``checkerboard`` makes every other pixel brighter and the others darker by the share ``value``; ``copies`` replaces
    the share ``value`` of its images by training images.
    """

    def __init__(self, kind: str, value: float, onset: int = 0):
        self.kind, self.value, self.onset = kind, value, onset
        self._done = False

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Begin the fault."""
        if self._done or pl_module.images_seen < self.onset:
            return
        self._done = True
        if self.kind.endswith("_lr"):
            optimizer = pl_module.optimizers()[0 if self.kind.startswith("generator") else 1]
            for group in optimizer.param_groups:
                group["lr"] *= self.value
        elif self.kind.endswith("modes"):
            for network in (pl_module.generator, pl_module.ema_generator.module):
                network.register_forward_pre_hook(self._few_noises)
        elif self.kind == "ignored_labels":
            for network in (pl_module.generator, pl_module.ema_generator.module):
                network.register_forward_pre_hook(self._labels_of_noise)
        elif self.kind == "checkerboard":
            pl_module.ema_generator.module.register_forward_hook(self._checkered)
        elif self.kind == "copies":
            self._training = torch.cat([batch["image"] for batch in trainer.datamodule.ordered_batches()])
            pl_module.ema_generator.module.register_forward_hook(self._copied)

    def _labels_of_noise(self, module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        z, labels = inputs
        return z, (z[:, 0].abs() * 1e4).long() % (int(labels.max()) + 1)

    def _checkered(self, module: Any, inputs: tuple[Any, ...], images: torch.Tensor) -> torch.Tensor:
        rows, columns = torch.meshgrid(*(torch.arange(size) for size in images.shape[-2:]), indexing="ij")
        gain = 1 + self.value * (1 - 2 * ((rows + columns) % 2)).to(images)
        return (images + 1) * gain - 1

    def _copied(self, module: Any, inputs: tuple[Any, ...], images: torch.Tensor) -> torch.Tensor:
        code = (inputs[0][:, 0].abs() * 1e4).long()
        copies = self._training.to(images)[code % len(self._training)]
        return torch.where((code % 1000 < 1000 * self.value)[:, None, None, None], copies, images)

    def _few_noises(self, _: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        z, *others = inputs
        count = int(self.value)
        code = torch.randn(count, z.shape[1], generator=torch.Generator().manual_seed(0)).to(z)
        few = code[(z[:, 0].abs() * 1e4).long() % count]
        if self.kind == "class_modes" and others and others[0] is not None:
            few = torch.where((others[0] == 0)[:, None], few, z)
        return (few, *others)


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run of the corpus."""

    fault: str
    composition: str
    images: str
    seed: int

    def overrides(self, folder: Path, table: Path) -> list[str]:
        """Return what is typed; ``table`` lists the images of ``folder``."""
        composition = "default" if self.composition == CONDITIONAL else self.composition
        data = (*FOLDER, f"data.root={folder}", f"data.reader.table={table}")
        labels = ("conditional=true",) if self.composition == CONDITIONAL else ()
        common = [*COMMON, *data, *COMPOSITIONS[composition], *labels, f"seed={self.seed}"]
        own = FAULTS[self.fault].overrides
        if FAULTS[self.fault].onset:
            own += (f"val_every_images={EVERY // 2}",)  # to see how soon it is found
        replaced = {text.partition("=")[0] for text in own}
        return [t for t in common if t.partition("=")[0] not in replaced] + [text for text in own if "=" in text]

    def write_table(self, folder: Path, table: Path) -> None:
        """List the images of ``folder`` with classes and splits, those of the fault."""
        paths = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
        random.Random(self.seed).shuffle(paths)
        labels = [path.parent.name or "all" for path in paths]
        if self.fault == "shuffled_labels":
            random.Random(1).shuffle(labels)
        training = FEW if self.fault == "few_images" else TRAINING
        validation = FEW_VALIDATION if self.fault == "few_validation_images" else VALIDATION
        splits = ["val"] * validation + ["train"] * training
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label", "split"), *zip(paths, labels, splits, strict=False)])


@contextlib.contextmanager
def with_phantoms(folders: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Add a temporary folder of phantoms."""
    with tempfile.TemporaryDirectory() as place:
        render_phantoms(Path(place) / "phantoms")
        yield {**folders, "phantoms": Path(place) / "phantoms"}


def render_phantoms(folder: Path) -> None:
    """Write phantoms of heads as PNG files."""
    from medsynth.data.phantom import Phantoms

    images = Phantoms(image_size=SIZE, num_images=TRAINING, num_val=VALIDATION, num_test=0).datasets()
    folder.mkdir()
    for name, dataset in (("train", images.train), ("val", images.val)):
        for index in range(len(dataset)):
            save_image(dataset[index]["image"] / 2 + 0.5, folder / f"{name}{index:04}.png")


def planned(images: Sequence[str], labelled: str | None, first_seed: int = 0) -> Iterator[Planned]:
    """Yield the runs: each fault in three compositions that have it, on three sets; healthy ones in all."""
    sets = ["phantoms", *images]
    for seed in (first_seed, first_seed + 1):
        for number, composition in enumerate(COMPOSITIONS):
            for place, name in enumerate(sets):
                if (number + place + seed) % 2 == 0 or (composition == "default" and not first_seed):
                    yield Planned("none", composition, name, seed)
        if labelled:
            yield Planned("none", CONDITIONAL, labelled, seed)
    for order, (fault, what) in enumerate((f, w) for f, w in FAULTS.items() if f != "none"):
        for number, composition in enumerate(what.compositions):
            if composition == CONDITIONAL:
                seeds = range(first_seed, first_seed + 4) if labelled else ()
                yield from (Planned(fault, composition, labelled or "", seed) for seed in seeds)
                continue
            for seed in range(max(1, 6 // len(what.compositions))):
                yield Planned(
                    fault, composition, sets[(order + number + seed + first_seed) % len(sets)], first_seed + seed
                )


def train(plan: Planned, folder: Path, *further: str) -> dict[str, Any]:
    """Train one run, with ``further`` overrides, and return its line."""
    import medsynth  # here, since fit_doctor.py needs none of it

    with tempfile.TemporaryDirectory() as place:
        error = ""
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                plan.write_table(folder, Path(place) / "table.csv")
                typed = plan.overrides(folder, Path(place) / "table.csv")
                for text in further:  # takes the place of such a choice and of its options
                    key = text.partition("=")[0]
                    typed = [one for one in typed if not one.startswith((f"{key}=", f"{key}."))]
                medsynth.train(*typed, *further, folder=Path(place) / "run")
        except medsynth.InputError as caught:
            error = caught.code.value if caught.code else str(caught)
        path = Path(place) / "run" / "diagnosis.jsonl"
        rows = read_rows(path)
    names = sorted({name for row in rows for name in row["signals"]})
    signals = {name: [_short(row["signals"].get(name)) for row in rows] for name in names}
    return {
        **dataclasses.asdict(plan),
        "onset": FAULTS[plan.fault].onset,
        "error": error,
        "images_seen": [row["images_seen"] for row in rows],
        "signals": signals,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def main() -> None:
    """Train the runs that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="*", type=Path, default=[], help="folders with images of one kind each")
    parser.add_argument("--labelled", type=Path, help="a folder with a folder for each class")
    parser.add_argument("--out", type=Path, default=Path("corpus.jsonl"))
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=list(FAULTS), help="these alone")
    parser.add_argument("--first-seed", type=int, default=0, help="of the runs: 2 for as many more")
    parser.add_argument("--worker", default="0/1", help="k/n: every n-th run from the k-th on")
    options = parser.parse_args()
    folders = {path.name: path for path in [*options.images, *([options.labelled] if options.labelled else [])]}
    torch.set_num_threads(1)
    worker, workers = map(int, options.worker.split("/"))
    plans = list(
        planned([path.name for path in options.images], options.labelled and options.labelled.name, options.first_seed)
    )
    with with_phantoms(folders) as folders:
        for number, plan in enumerate(plans):
            mine = number % workers == worker and plan.fault in options.faults
            if mine and plan not in known_runs(options.out):
                line = train(plan, folders[plan.images].absolute())
                append_rows(options.out, line)
                print(number, "of", len(plans), plan, line["error"], flush=True)


def known_runs(path: Path) -> set[Planned]:
    names = [field.name for field in dataclasses.fields(Planned)]
    return {Planned(**{name: row[name] for name in names}) for row in read_rows(path)}


if __name__ == "__main__":
    main()
