"""A MONAI bundle of a generator or translator, which MONAI runs without medsynth.

``models/model.pt2`` is the program of ``torch.export`` that ``configs/inference.json`` runs, ``models/model.pt`` the
state dictionary that the specification asks for. Noise, images and files of a generator are those of ``medsynth
generate`` with ``format=nifti`` and the same seed; for a translator's see ``translation_bundle.py``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

import medsynth
from medsynth.generator.trained import TrainedGenerator, TrainedTranslator
from medsynth.release import translation_bundle
from medsynth.release.run_record import RunRecord

# Of the bundles with generators in MONAI's model zoo, whose input is a latent vector.
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_generator_20220718.json"
)
_EVALUATED = ("$", "@", "%")  # MONAI's expressions, references and macros
_FREE = {"is_patch_data": False}
_SEED = "int.from_bytes(hashlib.blake2b('/'.join(map(str, {parts})).encode(), digest_size=8).digest(), 'little') >> 1"


def write_bundle(folder: Path, record: RunRecord, program: Path, card: str, usage: Mapping[str, Any]) -> None:
    """Write the bundle.

    Args:
        folder: to write; it does not exist yet.
        record: of the run.
        program: the .pt2 file of the network.
        card: the model card, for ``docs/README.md``.
        usage: the description of inputs and outputs.

    Raises:
        InputError: a translator whose sources a bundle cannot prepare.
    """
    trained = record.generator
    if isinstance(trained, TrainedTranslator):
        translation_bundle.check_bundle(trained)
        schema, inputs = translation_bundle.SCHEMA, translation_bundle.network_inputs(trained)
        words, inference = _words_of_translator(trained), translation_bundle.inference(trained)
    else:
        schema, inputs, words = SCHEMA, _network_inputs(trained), _words_of_generator(trained)
        inference = _inference(trained)
    for name in ("configs", "models", "docs"):
        (folder / name).mkdir(parents=True)
    _write(folder / "configs" / "metadata.json", _inert(_metadata(record, schema, inputs, words, usage)))
    for side in ("source_intensity", "intensity"):
        if side in inference:
            inference[side] = _inert(inference[side], "unit")
    _write(folder / "configs" / "inference.json", inference)
    network = trained.network
    assert isinstance(network, nn.Module)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    shutil.copyfile(program, folder / "models" / "model.pt2")
    (folder / "docs" / "README.md").write_text(card, encoding="utf-8")


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4, allow_nan=False) + "\n", encoding="utf-8")


def _inert(node: Any, kind: str = "class") -> Any:
    """Return ``node`` without texts that MONAI would evaluate: names of classes may come from anyone."""
    if isinstance(node, Mapping):
        return {key: _inert(value, kind) for key, value in node.items()}
    if isinstance(node, list):
        return [_inert(item, kind) for item in node]
    return f"{kind} {node}" if isinstance(node, str) and node.startswith(_EVALUATED) else node


def _words_of_generator(generator: TrainedGenerator) -> dict[str, str]:
    size, name = generator.image_size, type(generator.network).__name__
    return {
        "task": f"Generate synthetic images ({generator.card['modality'] or 'n/a'})",
        "description": f"{name} of a GAN: noise to images of {size} x {size} pixels. All images are synthetic.",
    }


def _words_of_translator(translator: TrainedTranslator) -> dict[str, str]:
    size, name = translator.image_size, type(translator.network).__name__
    source = (translator.card["source_statistics"] or {}).get("modality") or "n/a"
    return {
        "task": f"Translate images ({source}) to synthetic images ({translator.card['modality'] or 'n/a'})",
        "description": f"{name}: volumes to volumes, slice by slice, in patches of {size} x {size} pixels. All "
        "translations are synthetic.",
    }


def _metadata(
    record: RunRecord, schema: str, inputs: Mapping[str, Any], words: Mapping[str, str], usage: Mapping[str, Any]
) -> dict[str, Any]:
    generator = record.generator
    packages = {"nibabel": version("nibabel")}
    return {
        "schema": schema,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by medsynth {medsynth.__version__}"},
        "monai_version": version("monai"),
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": version("numpy"),
        "optional_packages_version": packages,
        "required_packages_version": packages,
        "name": f"medsynth {type(generator.network).__name__}",
        **words,
        "authors": "not recorded",
        "copyright": "not recorded",
        "intended_use": "Research. Not for diagnosis. See docs/README.md.",
        "data_source": generator.card["data"],
        "network_data_format": {"inputs": dict(inputs), "outputs": {"pred": _output(generator)}},
        "network": {  # whose state is in model.pt
            "class": record.rebuild["_target_"],
            "arguments": {name: value for name, value in record.rebuild.items() if name != "_target_"},
        },
        "usage": dict(usage),
    }


def _network_inputs(generator: TrainedGenerator) -> dict[str, Any]:
    latent = {
        "type": "tuples",
        "format": "latent",
        "modality": "n/a",
        "num_channels": 0,
        "spatial_shape": [generator.network.latent_dim],
        "dtype": "float32",
        "value_range": [],
        **_FREE,
        "channel_def": {},
    }
    if not generator.class_names:
        return {"latent": latent}
    labels = {
        "type": "tuples",
        "format": "classes",
        "modality": "n/a",
        "num_channels": 0,
        "spatial_shape": [1],
        "dtype": "int64",
        "value_range": [0, len(generator.class_names) - 1],
        **_FREE,
        "channel_def": {str(number): name for number, name in enumerate(generator.class_names)},
    }
    return {"latent": latent, "labels": labels}


def _output(generator: TrainedGenerator | TrainedTranslator) -> dict[str, Any]:
    return {
        "type": "image",
        "format": "magnitude",
        "modality": generator.card["modality"] or "n/a",
        "num_channels": generator.channels,
        "spatial_shape": [generator.image_size, generator.image_size],
        "dtype": "float32",
        "value_range": [-1, 1],
        **_FREE,
        "channel_def": {str(number): f"channel {number}" for number in range(generator.channels)},
    }


def _inference(generator: TrainedGenerator) -> dict[str, Any]:
    """Return the configuration that MONAI's ConfigParser executes: noise, network, physical units, NIfTI files."""
    low, high = generator.intensity.low, generator.intensity.high
    row, column = generator.card["spacing"] or (1.0, 1.0)
    run_seed = _SEED.format(parts="('generate', @seed)")
    row_seed = _SEED.format(parts="('noise', @noise_seed, i)")
    classes = len(generator.class_names)
    all_in_turn = f"torch.arange(@num_samples) % {classes}"
    one_class = "torch.full((@num_samples,), @label)"
    one_channel, unit = generator.channels == 1, "mm" if generator.card["spacing"] else "unknown"
    volume = "value.numpy()" if one_channel else "value.numpy()[:, :, None, None, :]"
    labels = {
        "label": None,
        "labels": f"${all_in_turn} if @label is None else {one_class}",
        "inputs": "$zip(@noise.split(@batch_size), @labels.split(@batch_size))",
    }
    return {
        "imports": ["$import hashlib", "$import os", "$import nibabel", "$import numpy", "$import torch"],
        "bundle_root": ".",
        "device": "cpu",
        "program_path": "$os.path.join(@bundle_root, 'models', 'model.pt2')",
        "output_dir": "$os.path.join(@bundle_root, 'outputs')",
        "num_samples": 16,
        "seed": 0,
        "batch_size": 64,
        "latent_dim": generator.network.latent_dim,
        "network_def": "$torch.export.load(@program_path).module()",
        "noise_seed": f"${run_seed}",
        "noise": "$torch.stack([torch.empty(@latent_dim).normal_(generator=torch.Generator().manual_seed("
        f"{row_seed})) for i in range(@num_samples)])",
        **(labels if classes else {"inputs": "$((z,) for z in @noise.split(@batch_size))"}),
        "images": "$torch.cat([@network_def(*batch) for batch in @inputs])",
        "intensity": {"low": low, "high": high, "unit": generator.units},
        "affine": [[-column, 0, 0, 0], [0, -row, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        # NIfTI has columns first, and channels as the fifth dimension.
        "values": f"$({low!r} + (@images.double() + 1) / 2 * {high - low!r}).float().permute(0, 3, 2, 1)",
        "volumes": f"$[nibabel.Nifti1Image({volume}, numpy.array(@affine)) for value in @values]",
        "describe": [
            f"$[volume.header.set_xyzt_units('{unit}') for volume in @volumes]",
            "$[volume.header.__setitem__('descrip', b'synthetic image: medsynth') for volume in @volumes]",
        ],
        "create": "$os.makedirs(@output_dir, exist_ok=True)",
        "save": "$[nibabel.save(volume, os.path.join(@output_dir, f'{number:06d}.nii.gz')) "
        "for number, volume in enumerate(@volumes)]",
        "run": ["$@describe", "$@create", "$@save"],
    }
