"""``medsynth checks``: what medsynth finds on this machine. Lines that need no library come first."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

import medsynth
from medsynth.backbone.availability import MEASURED, cache_folders, location
from medsynth.errors import InputError, extra_command
from medsynth.files import user_cache, write_json

LIBRARIES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "timm", "monai", "pydicom", "nibabel", "optuna")
EXTRAS = {  # package of an extra -> its extra, and what it serves
    "python-gdcm": ("dicom", "compressed DICOM beyond JPEG baseline, JPEG 2000 and RLE"),
    "medmnist": ("medmnist", "data=medmnist"),
    "hydra-submitit-launcher": ("slurm", "hydra/launcher=submitit_slurm"),
    "tensorboard": ("tensorboard", "logger=tensorboard"),
    "mlflow-skinny": ("mlflow", "logger=mlflow"),
    "onnx": ("export", "medsynth export format=onnx"),
}


def run(config: DictConfig) -> None:
    """Print one section after the other, and write them to ``out``."""
    out = None if config.out is None else Path(config.out)
    if out is not None and (out.suffix != ".json" or not out.parent.is_dir()):
        raise InputError(f"out={out} must be a .json file in a folder that exists.")
    found: dict[str, list[str]] = {}
    for title, lines in _sections():
        found[title] = lines
        for number, line in enumerate(lines):
            print(f"{title if number == 0 else '':11} {line}", flush=True)
    if out is not None:
        write_json(out, found)


def _sections() -> Iterator[tuple[str, list[str]]]:
    yield "medsynth", [f"{medsynth.__version__}, {Path(medsynth.__file__).parent}"]
    yield "Python", [f"{platform.python_version()} ({sys.executable}), {platform.system()} {platform.machine()}"]
    yield "libraries", [", ".join(f"{name} {_version(name) or 'missing'}" for name in LIBRARIES)]
    yield "extras", [_extra(package) for package in EXTRAS]
    yield "processor", [f"{os.cpu_count()} cores{_available()}, memory {_memory()}"]
    yield "disk", [f"{_gib(shutil.disk_usage('.').free)} free here, {_gib(_free_in_cache())} free for caches"]
    yield "caches", list(_caches())
    yield "weights", list(_weights())
    yield "W&B", [_wandb()]
    yield "offline", list(_offline())
    yield "devices", list(_devices())  # PyTorch takes seconds to load


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extra(package: str) -> str:
    extra, purpose = EXTRAS[package]
    version = _version(package)
    return f"{extra}: {version}" if version else f"{extra}: not installed ({purpose}): {extra_command(extra)}"


def _available() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return f", {usable} usable by this process" if usable not in (None, os.cpu_count()) else ""


def _memory() -> str:
    try:
        return _gib(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not on Windows
        return "not known"


def _gib(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB"


def _free_in_cache() -> int:
    return shutil.disk_usage(user_cache("data")).free


def _caches() -> Iterator[str]:
    """Yield folders that hold what can be made or downloaded again, and their sizes."""
    own = user_cache("data").parent
    folders = {f"medsynth {folder.name}": folder for folder in sorted(own.iterdir()) if folder.is_dir()}
    for name, folder in {**folders, **cache_folders()}.items():
        yield f"{name}: {_gib(_size(folder))}, {folder}"


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _weights() -> Iterator[str]:
    places: dict[str, list[str]] = {}
    for row in MEASURED:
        places.setdefault(location(row["timm model"]), []).append(row["backbone"])
    for place in ("embedded", "packaged", "cached"):
        if place in places:
            yield f"{place}: {', '.join(places[place])}"
    if "download" in places:
        yield f"to fetch (medsynth fetch NAME): {', '.join(places['download'])}"


def _wandb() -> str:
    from medsynth.logger.wandb_mode import has_key, resolved_mode

    key = "an API key is configured" if has_key() else "no API key: `wandb login` or WANDB_API_KEY"
    return f"{_version('wandb') or 'missing'}; {key}; logger=wandb is {resolved_mode('auto')}"


def _offline() -> Iterator[str]:
    yield "works: training on weights that are at hand, evaluate, audit, utility, verdict, report, export, search,"
    yield "       logger=wandb (kept here until `wandb sync`)"
    yield "needs a network once: weights to fetch, metrics=inception, lpips=, data=medmnist with download, the hub"


def _devices() -> Iterator[str]:
    import torch

    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        yield f"cuda:{number}: {device.name}, {_gib(device.total_memory)}"
    if torch.backends.mps.is_available():
        yield "mps: Apple's GPU"
    if not torch.cuda.is_available():
        from medsynth.lightning.precision import final_precision

        yield f"no GPU: trains on the processor, {torch.get_num_threads()} threads, {final_precision('auto', 'cpu')}"
