"""The parts of a translator's MONAI bundle: volumes in, translated volumes out, as ``medsynth translate`` does it.

Volumes are brought to axial slices as they are displayed, mapped to [-1, 1], resampled to the grid of the training,
translated in patches by MONAI's sliding windows, and brought back to their own grid and place.
"""

from __future__ import annotations

from typing import Any

from medsynth.data.geometry import Geometry
from medsynth.errors import InputError
from medsynth.generator.trained import TrainedTranslator
from medsynth.release.usage import neighbors_of

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20220324.json"
_ALMOST = 0.01  # a grid that differs by a smaller fraction is not resampled, as in ``translate.sources``


def network_inputs(translator: TrainedTranslator) -> dict[str, Any]:
    """Return the description of the network's inputs for metadata.json."""
    modality = (translator.card["source_statistics"] or {}).get("modality") or "n/a"
    channels, reach = translator.source_channels, neighbors_of(translator)
    each = channels // (2 * reach + 1)
    names = [f"channel {number % each} of slice {number // each - reach:+d}" for number in range(channels)]
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": modality,
        "num_channels": channels,
        "spatial_shape": [translator.image_size, translator.image_size],
        "dtype": "float32",
        "value_range": [-1, 1],
        "is_patch_data": True,
        "channel_def": {str(number): name for number, name in enumerate(names)},
    }
    return {"image": image}


def check_bundle(translator: TrainedTranslator) -> None:
    """Check that the values and channels of the sources can be prepared by a bundle.

    Raises:
        InputError: they are mapped image by image or equalized, or have colors.
    """
    options = (translator.card["source_statistics"] or {}).get("normalization") or {}
    own = options.get("normalize_per") == "image" and not {"window", "intensity_range"} & options.keys()
    colors = translator.source_channels // (2 * neighbors_of(translator) + 1) > 1
    if own or options.get("clahe") or colors or translator.channels > 1:
        what = "colors" if colors or translator.channels > 1 else "values that are mapped image by image"
        raise InputError(
            f"format=monai makes bundles for gray volumes with one map of values, and this translator has {what}: "
            "choose format=[safetensors,torch,onnx]."
        )


def inference(translator: TrainedTranslator) -> dict[str, Any]:
    """Return the configuration that MONAI's ConfigParser executes: NIfTI volumes, network, NIfTI volumes."""
    source, target, size = translator.source_intensity, translator.intensity, translator.image_size
    width, reach = translator.network.latent_dim, neighbors_of(translator)
    return {
        "imports": [f"$import {name}" for name in ("glob", "hashlib", "os", "nibabel", "numpy", "torch")],
        "bundle_root": ".",
        "device": "cpu",
        "program_path": "$os.path.join(@bundle_root, 'models', 'model.pt2')",
        "dataset_dir": "$os.path.join(@bundle_root, 'inputs')",
        "output_dir": "$os.path.join(@bundle_root, 'outputs')",
        "files": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.nii')) + "
        "glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))",
        "batch_size": 16,
        "overlap": 0.25,
        "image_size": size,
        "neighbors": reach,
        "source_intensity": {"low": source.low, "high": source.high, "unit": source.unit},
        "intensity": {"low": target.low, "high": target.high, "unit": target.unit},
        "network_def": "$torch.export.load(@program_path).module()",
        **(_noise(width) if width else {"network": "$@network_def"}),
        "load": {"_target_": "LoadImage", "image_only": True, "ensure_channel_first": True},
        "orient": {"_target_": "Orientation", "axcodes": "LPS", "labels": None},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [size, size],
            "sw_batch_size": "@batch_size",
            "overlap": "@overlap",
            "mode": "gaussian",
            "padding_mode": "replicate",
        },
        # Functions, in their order: of a volume (1, columns, rows, slices), then of slices (N, C, rows, columns).
        "sources": "$lambda volume: (2 * (volume.as_tensor().double().permute(3, 0, 2, 1) - "
        f"{source.low!r}) / {source.high - source.low!r} - 1).clamp(-1, 1).float()",
        "scales": _scales(translator),
        "resized": "$lambda slices, size: slices if tuple(slices.shape[-2:]) == tuple(size) else "
        "torch.nn.functional.interpolate(slices, size, mode='bilinear', antialias=True)",
        "on_grid": "$lambda slices, scales: slices if max(abs(scale - 1) for scale in scales) <= "
        f"{_ALMOST} else @resized(slices, [max(1, round(n * scale)) for n, scale in zip(slices.shape[-2:], scales)])",
        "stacked": "$lambda slices: torch.cat([slices[(torch.arange(len(slices)) + offset).clamp(0, len(slices) - 1)] "
        "for offset in range(-@neighbors, @neighbors + 1)], dim=1)",
        "translated": "$lambda volume: @resized(@inferer(@stacked(@on_grid(@sources(volume), "
        "@scales(volume))), @network), [volume.shape[2], volume.shape[1]]).clamp(-1, 1)",
        "values": "$lambda images: "
        f"({target.low!r} + (images.double() + 1) / 2 * {target.high - target.low!r}).float().permute(1, 3, 2, 0)",
        "upright": "$lambda values, volume: @orient.inverse(monai.data.MetaTensor("
        "values, meta=volume.meta, applied_operations=volume.applied_operations))",
        "translate": "$lambda volume: @upright(@values(@translated(volume)), volume)",
        **_saving(),
    }


def _noise(width: int) -> dict[str, Any]:
    """Return the noise, the same for all patches: that of ``medsynth translate`` with the same seed."""
    seed = (
        "int.from_bytes(hashlib.blake2b('/'.join(map(str, {parts})).encode(), digest_size=8).digest(), 'little') >> 1"
    )
    return {
        "seed": 0,
        "sample": 0,
        "noise_seed": "$" + seed.format(parts="('translate', @seed, @sample)"),
        "row_seed": "$" + seed.format(parts="('noise', @noise_seed, 0)"),
        "noise": f"$torch.empty(1, {width}).normal_(generator=torch.Generator().manual_seed(@row_seed))",
        "network": "$lambda patches: @network_def(patches, @noise.expand(len(patches), -1))",
    }


def _saving() -> dict[str, Any]:
    """Return the expressions that write the files, marked as synthetic."""
    return {
        "place": "$lambda file: os.path.join(@output_dir, "
        "os.path.basename(file).removesuffix('.gz').removesuffix('.nii') + '_translated.nii.gz')",
        "image": "$lambda made: nibabel.Nifti1Image(made[0].numpy(), numpy.asarray(made.affine, dtype=float))",
        "described": "$lambda image: [image.header.set_xyzt_units('mm'), "
        "image.header.__setitem__('descrip', b'synthetic translation: medsynth'), image][-1]",
        "written": "$lambda file: nibabel.save(@described(@image(@translate(@orient(@load(file))))), @place(file))",
        "create": "$os.makedirs(@output_dir, exist_ok=True)",
        "save": "$[@written(file) for file in @files]",
        "report": "$print(len(@files), 'volumes of', @dataset_dir, 'are translated in', @output_dir)",
        "run": ["$@create", "$@save", "$@report"],
    }


def _scales(translator: TrainedTranslator) -> str:
    """Return the pixels of the training for each pixel of a volume, along rows and columns: ``Sources._scales``."""
    spacing, size = translator.card["spacing"], translator.image_size
    if spacing:
        row, column = spacing
        return f"$lambda volume: (float(volume.pixdim[1]) / {row!r}, float(volume.pixdim[0]) / {column!r})"
    options = (translator.card["source_statistics"] or {}).get("geometry")
    geometry = Geometry(**options) if options else Geometry(size=size, channels=1)
    if geometry.resize == "none":
        return "$lambda volume: (1.0, 1.0)"
    if geometry.resize == "stretch":
        return f"$lambda volume: ({geometry.size} / volume.shape[2], {geometry.size} / volume.shape[1])"
    if geometry.resize == "fit":
        return f"$lambda volume: ({geometry.size} / max(volume.shape[1:3]),) * 2"
    crop = geometry.crop
    limit = [] if crop is None else [crop if isinstance(crop, int) else min(crop)]
    return f"$lambda volume: ({geometry.size} / min(*volume.shape[1:3], *{limit!r}),) * 2"
