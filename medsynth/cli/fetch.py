"""``medsynth fetch``: download pretrained weights before they are needed, and show where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from medsynth.backbone.availability import MEASURED, cache_folders, check_weights, location
from medsynth.errors import InputError

INCEPTION = "inception"  # the network of FID
_MEANINGS = {
    "embedded": "in medsynth itself",
    "packaged": "installed with medsynth",
    "cached": "on this machine",
    "download": "type medsynth fetch {name}",
    "none": "no weights are published; give backbone.weights=/path/to/file",
}


def run(config: DictConfig) -> None:
    """Fetch the weights of ``names`` and print path, size and SHA-256 of each; without names show what is at hand."""
    names = [config.names] if isinstance(config.names, str) else list(config.names or ())
    models = {row["backbone"]: row["timm model"] for row in MEASURED}
    unknown = next((name for name in names if name not in (*models, INCEPTION)), None)
    if unknown is not None:
        raise InputError(f"names={unknown} has no weights to fetch: choose among {', '.join([*models, INCEPTION])}.")
    for name in names:
        if name != INCEPTION:
            _fetchable(name, models[name])
    for name in names:
        print(_fetched(name, models), flush=True)
    if not names:
        print("\n".join(_overview(models)))


def _fetchable(name: str, model_name: str) -> None:
    """Refuse before PyTorch is loaded what cannot be had."""
    if location(model_name) == "none":
        raise InputError(f"names={name}: timm has no pretrained weights of it: give backbone.weights=/path/to/file.")
    if location(model_name) == "download":
        check_weights({"model_name": model_name, "weights": "pretrained"})


def _fetched(name: str, models: dict[str, str]) -> str:
    if name == INCEPTION:
        from medsynth.metrics.inception import inception_file

        path = inception_file()
    elif location(models[name]) in ("embedded", "packaged"):
        return f"{name}: nothing to fetch, its weights are {_MEANINGS[location(models[name])]}."
    else:
        from medsynth.backbone.weights import pretrained_file

        path = pretrained_file(models[name])
    return "\n".join(_about(name, path))


def _about(name: str, path: Path) -> Sequence[str]:
    from medsynth.backbone.weights import sha256

    return (
        f"{name}: {path} ({path.stat().st_size / 1e6:.1f} MB)",
        f"  sha256 {sha256(path)}",
        f"  for a machine without a network: copy {_copied(path)} to the same place below its {_variable(path)}",
    )


def _copied(path: Path) -> str:
    """Name what has to be copied: a file, or of the hub the folder of a repository, which holds links to files."""
    folder = next((parent for parent in path.parents if parent.name.startswith("models--")), None)
    return str(path if folder is None else folder)


def _variable(path: Path) -> str:
    hub = cache_folders()["Hugging Face"]
    return "HF_HOME (~/.cache/huggingface)" if hub in path.parents else "TORCH_HOME (~/.cache/torch)"


def _overview(models: dict[str, str]) -> list[str]:
    width = max(map(len, models))
    lines = [
        f"  {name:{width}}  {location(model):9} {_MEANINGS[location(model)].format(name=name)}".rstrip()
        for name, model in models.items()
    ]
    folders = [f"  {service:13} {folder}" for service, folder in cache_folders().items()]
    return ["Pretrained weights:", *lines, "", "Downloads are kept in:", *folders]
