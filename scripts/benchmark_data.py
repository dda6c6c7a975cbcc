"""Measure the speed of batches from the second epoch on, and the memory, against MONAI's and torchvision's datasets.

    uv run scripts/benchmark_data.py --images FOLDER      # one subfolder per class, images of 64 x 64
    uv run scripts/benchmark_data.py --dicom FOLDER       # one subfolder per series

All deliver shuffled batches of 64 (DICOM: 16), float32 in [-1, 1], from the main process. They take turns, so that
whatever else the machine does hits all of them; the first epoch, in which each fills its cache, is not counted. Memory,
for --images, is what the process has resident beyond what it had before the data, after two epochs over a tenth of the
images and over all.
"""

from __future__ import annotations

import argparse
import functools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from monai.data import CacheDataset, PersistentDataset
from monai.transforms import Compose, EnsureChannelFirst, EnsureType, LoadImage, Resize, ScaleIntensityRange
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder as TorchvisionFolder

from medsynth.configuration.compose import conf_folder
from medsynth.data.dicom import Dicom
from medsynth.data.files import image_files
from medsynth.data.image_folder import ImageFolder

SIZE = 64
BATCH = {"images": 64, "dicom": 16}
WINDOW = (-600.0, 1500.0)


def main() -> None:
    options = _options()
    if options.memory:
        print(_resident_after(options))
        return
    for kind, folder in (("images", options.images), ("dicom", options.dicom)):
        if folder:
            with tempfile.TemporaryDirectory() as scratch:
                loaders = {name: make(folder, Path(scratch)) for name, make in LOADERS[kind].items()}
                _report_speed(kind, loaders, options.rounds)
    if options.images:
        _report_memory(options.images)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder with a subfolder of images for each class")
    parser.add_argument("--dicom", type=Path, help="folder of DICOM files")
    parser.add_argument("--rounds", type=int, default=5, help="epochs counted of each")
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # name of a loader: this process measures its memory
    options = parser.parse_args()
    if not (options.images or options.dicom):
        parser.error("--images or --dicom is needed")
    return options


# ---- The loaders: (folder, scratch folder) -> DataLoader -------------------------------------------------------------


def _ours(reader: Callable, folder: Path, scratch: Path, **changes: object) -> DataLoader:
    config = OmegaConf.to_container(OmegaConf.load(conf_folder() / "data" / "base" / "files.yaml"))
    fixed = {"root": str(folder), "reader": reader, "image_size": SIZE, "seed": 0}
    config = {name: value for name, value in config.items() if name != "_target_"} | fixed | changes
    data = image_files(**config | {"cache_dir": str(scratch / "ours")})
    return data.train_dataloader()


def _images(folder: Path, scratch: Path) -> DataLoader:
    return _ours(ImageFolder, folder, scratch, batch_size=BATCH["images"])


def _dicom(folder: Path, scratch: Path) -> DataLoader:
    return _ours(Dicom, folder, scratch, batch_size=BATCH["dicom"], window=list(WINDOW), split_by="image")


def _monai(folder: Path, *, dicom: bool) -> tuple[list[str], Compose]:
    files = sorted(str(path) for path in folder.rglob("*") if path.is_file() and path.name != "LICENSE")
    reader = {"reader": "PydicomReader"} if dicom else {"reader": "PILReader", "reverse_indexing": False}
    low, high = (WINDOW[0] - WINDOW[1] / 2, WINDOW[0] + WINDOW[1] / 2) if dicom else (0.0, 255.0)
    steps = [
        LoadImage(image_only=True, **reader),
        EnsureChannelFirst(),
        ScaleIntensityRange(low, high, -1, 1, clip=True),
    ]
    return files, Compose([*steps, *([Resize((SIZE, SIZE))] if dicom else []), EnsureType(track_meta=False)])


def _cache_dataset(folder: Path, scratch: Path, *, dicom: bool) -> DataLoader:
    return _shuffled(CacheDataset(*_monai(folder, dicom=dicom), num_workers=2, progress=False), dicom=dicom)


def _persistent_dataset(folder: Path, scratch: Path, *, dicom: bool) -> DataLoader:
    return _shuffled(PersistentDataset(*_monai(folder, dicom=dicom), cache_dir=scratch / "persistent"), dicom=dicom)


def _torchvision(folder: Path, scratch: Path) -> DataLoader:
    steps = [transforms.Grayscale(), transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]
    return _shuffled(TorchvisionFolder(str(folder), transforms.Compose(steps)), dicom=False)


def _shuffled(dataset: Dataset, *, dicom: bool) -> DataLoader:
    return DataLoader(dataset, batch_size=BATCH["dicom" if dicom else "images"], shuffle=True, drop_last=True)


LOADERS: dict[str, dict[str, Callable[[Path, Path], DataLoader]]] = {
    "images": {
        "medsynth": _images,
        "MONAI CacheDataset": functools.partial(_cache_dataset, dicom=False),
        "MONAI PersistentDataset": functools.partial(_persistent_dataset, dicom=False),
        "torchvision ImageFolder": _torchvision,
    },
    "dicom": {
        "medsynth": _dicom,
        "MONAI CacheDataset": functools.partial(_cache_dataset, dicom=True),
        "MONAI PersistentDataset": functools.partial(_persistent_dataset, dicom=True),
    },
}


# ---- Speed ----------------------------------------------------------------------------------------------------------


def _report_speed(kind: str, loaders: dict[str, DataLoader], rounds: int) -> None:
    speeds: dict[str, list[float]] = {name: [] for name in loaders}
    for loader in loaders.values():
        _epoch(loader)
    for _ in range(rounds):
        for name, loader in loaders.items():
            speeds[name].append(_epoch(loader))
    print(f"\n{kind}: images/s from the second epoch on, median [quartiles] of {rounds}; medsynth's speed over theirs")
    for name, values in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(speeds["medsynth"], values, strict=True)]
        print(f"  {name:26} {_quartiles(values, '10,.0f')}   {_quartiles(ratios, '.2f')}")


def _epoch(loader: DataLoader) -> float:
    """Return the images/s of one epoch; a set of few images is repeated until a second is over."""
    start, count = time.perf_counter(), 0
    while True:
        for images in _image_batches(loader):
            assert images.shape[1:] == (1, SIZE, SIZE)
            assert images.dtype == torch.float32
            count += len(images)
        if count >= 10_000 or time.perf_counter() - start > 1:
            return count / (time.perf_counter() - start)


def _image_batches(loader: DataLoader) -> Iterator[torch.Tensor]:
    for batch in loader:
        yield batch["image"] if isinstance(batch, dict) else batch[0] if isinstance(batch, list) else batch


def _quartiles(values: Sequence[float], form: str) -> str:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{statistics.median(values):{form}} [{format(low, form).strip()}, {format(high, form).strip()}]"


# ---- Memory ---------------------------------------------------------------------------------------------------------


def _report_memory(folder: Path) -> None:
    print("MiB resident after two epochs over a tenth of the images, and over all of them")
    for name in LOADERS["images"]:
        grown = []
        for every in (10, 1):
            with tempfile.TemporaryDirectory() as scratch:
                _link(folder, Path(scratch) / "part", every)
                command = [sys.executable, __file__, "--images", str(Path(scratch) / "part"), "--memory", name]
                for _ in range(2):  # the first fills what is kept on disk
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                grown.append(float(done.stdout.split()[-1]))
        print(f"  {name:26} {grown[0]:8.0f} {grown[1]:8.0f}")


def _link(folder: Path, part: Path, every: int) -> None:
    """Return a folder of links to every ``every``-th file."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file())[::every]:
        link = part / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())


def _resident_after(options: argparse.Namespace) -> float:
    """Return the MiB that two epochs add to this process."""
    torch.ones(1000).sum()
    before = _resident()
    loader = LOADERS["images"][options.memory](options.images, options.images.parent)
    for _ in range(2):
        _epoch(loader)
    return _resident() - before


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
