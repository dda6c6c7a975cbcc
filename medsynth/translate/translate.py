"""Translation of all series below a folder by the translator of a run."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

import medsynth
from medsynth.contracts import InputError, Intensity, Translator, counter_seed, noise
from medsynth.data.reading import Reader
from medsynth.data.whole_series import Series, whole_series
from medsynth.data.writer.series import SERIES_WRITERS
from medsynth.data.writer.translation import SeriesWriter, Translation, new_uids
from medsynth.generator.trained import load_translator
from medsynth.terminal import track
from medsynth.translate.patches import translated
from medsynth.translate.sources import Sources, neighbors, positive, resized, sources_of


@dataclasses.dataclass(frozen=True)
class OpenedTranslator:
    """A trained translator and what its card says.

    Attributes:
        network: in evaluation mode, on its device.
        card: the description in its file.
        path: the file.
        channels: of the images that it makes.
        sources: the way of raw images to it.
    """

    network: Translator
    card: dict[str, Any]
    path: Path
    channels: int
    sources: Sources

    @property
    def intensity(self) -> Intensity:
        """The way from [-1, 1] to physical units."""
        return Intensity(**self.card["intensity"])


def open_translator(folder: str, *, trusted: bool, device: torch.device) -> OpenedTranslator:
    """Open the translator of a run, or a file of one.

    Raises:
        InputError: there is none, the run's generator makes images from noise, or the file's description is damaged.
    """
    trained = load_translator(folder, trust=trusted)
    network = cast(Translator, cast(nn.Module, trained.network).to(device))
    return OpenedTranslator(network, trained.card, trained.path, trained.channels, sources_of(trained))


def check_options(config: DictConfig) -> None:
    """Refuse values that are not possible.

    Raises:
        InputError: names the option.
    """
    if config.format not in SERIES_WRITERS:
        raise InputError(f"format={config.format} is unknown: choose {', '.join(SERIES_WRITERS)}.")
    for name in ("samples", "batch_size"):
        positive(name, config[name])
    if not 0 <= config.overlap < 1:
        raise InputError(f"overlap={config.overlap} is not possible: choose 0 or more, and less than 1.")
    if config.identity not in ("keep", "remove"):
        raise InputError(f"identity={config.identity} is unknown: choose keep or remove.")


def translate_all(
    folder: Path, translator: OpenedTranslator, reader: Reader, config: DictConfig, device: torch.device
) -> dict[str, Any]:
    """Write the translations of all series of a reader into ``folder``, and return the record of what was done.

    Raises:
        InputError: a series is of another kind than the training's sources, or does not fit the format.
    """
    _check_samples(translator, config.samples)
    digest = _sha256(translator.path)
    common = Translation(  # of all series; each has its own number
        intensity=translator.intensity,
        modality=translator.card.get("modality") or "",
        channels=translator.channels,
        made_by=f"medsynth {medsynth.__version__}, translator {digest[:16]}, seed {config.seed}",
        identity=config.identity == "keep",
        kind="translation",
        number=0,
        uids=new_uids(),
    )
    written = []
    for number, series in enumerate(whole_series(reader)):
        place = _described(series, reader, config)
        found = translator.sources.check(series, place, allowed=config.allow_other_source)
        _check_neighbors(translator, series, place)
        options = dataclasses.replace(common, number=number)
        path = folder / _output_name(series, number, config)
        outputs, stored = _write(path, series, translator, options, config, device)
        written.append(
            {
                "source": series.name if config.data.get("show_paths") else number,
                "slices": len(series.slices),
                "modality": series.modality,
                "values": found,
                "outputs": [str(output.relative_to(folder)) for output in outputs],
                "stored": stored,
            }
        )
    return {
        "format": 1,
        "version": medsynth.__version__,
        "translator": translator.path.name,  # its folder may have a private name; the checksum identifies it
        "translator_sha256": digest,
        "seed": config.seed,
        "samples": config.samples,
        "overlap": config.overlap,
        "intensity": translator.card["intensity"],
        "modality": translator.card.get("modality") or "",
        "series": written,
    }


def _write(
    path: Path,
    series: Series,
    translator: OpenedTranslator,
    options: Translation,
    config: DictConfig,
    device: torch.device,
) -> tuple[list[Path], dict[str, Any]]:
    """Write the translations of one series and, of several samples, their standard deviation."""
    make = SERIES_WRITERS[config.format]
    count, writers = config.samples, list[SeriesWriter]()
    if count == 1:
        writers = [make(path, series, options)]
    else:
        path.mkdir(parents=True, exist_ok=True)
        for sample in range(count):
            kind = f"translation, sample {sample}"
            writers.append(make(path / f"sample_{sample}", series, dataclasses.replace(options, kind=kind)))
        deviation = dataclasses.replace(
            options,
            intensity=Intensity(0.0, (options.intensity.high - options.intensity.low) / 2, options.intensity.unit),
            kind=f"standard deviation of {count} translations",
        )
        writers.append(make(path / "uncertainty", series, deviation))
    for number, samples in enumerate(_slices(series, translator, config, device)):
        for writer, image in zip(writers, samples, strict=False):
            writer.add(number, image.double())
        if count > 1:
            spread = torch.stack(samples).double().std(dim=0, correction=1)
            writers[-1].add(number, (2 * spread - 1).clamp(-1, 1))  # physical units: a deviation of 1 is half the range
    for writer in writers:
        writer.close()
    return [writer.path for writer in writers], writers[0].stored


def _slices(
    series: Series, translator: OpenedTranslator, config: DictConfig, device: torch.device
) -> Iterator[list[Tensor]]:
    """Yield the translations (C, H, W) in [-1, 1] of each slice, one for each sample, on the grid of the source."""
    count, sources = len(series.slices), translator.sources

    @functools.lru_cache(maxsize=2 * translator.sources.neighbors + 2)
    def prepared(index: int) -> tuple[Tensor, tuple[int, int]]:
        raw = series.slices[index]
        image = sources.mapped(raw)
        return sources.on_grid(image, raw), (image.shape[-2], image.shape[-1])

    for index in track(range(count), "translating", total=count, unit="slices"):
        reached = [prepared(near) for near in neighbors(index, count, translator.sources.neighbors)]
        image, shape = torch.cat([each for each, _ in reached]), prepared(index)[1]
        yield [
            resized(
                translated(
                    [image],
                    _sampler(translator, config.seed, sample, device),
                    size=translator.sources.image_size,
                    overlap=config.overlap,
                    batch_size=config.batch_size,
                )[0],
                *shape,
            ).clamp(-1, 1)
            for sample in range(config.samples)
        ]


def _sampler(translator: OpenedTranslator, seed: int, sample: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return the translation of patches with the noise of a sample, which is that of all slices and patches.

    The center of the noise is the first sample of one alone.
    """
    width = translator.network.latent_dim
    z = noise(1, width, seed=counter_seed("translate", seed, sample), start=0).to(device) if width else None

    @torch.inference_mode()
    def translate(patches: Tensor) -> Tensor:
        each = None if z is None else z.expand(len(patches), -1)
        images = translator.network(patches.to(device), each).float().cpu()
        if not images.isfinite().all():
            raise InputError(f"{translator.path} makes values that are not finite: choose a run that converged.")
        return images.clamp(-1, 1).clone()

    return translate


def _check_samples(translator: OpenedTranslator, samples: int) -> None:
    if samples > 1 and not translator.network.latent_dim:
        raise InputError(
            f"samples={samples} would all be equal, since this translator has no noise: train one with "
            "generator.latent_dim=8 for several translations of a source."
        )


def _check_neighbors(translator: OpenedTranslator, series: Series, place: str) -> None:
    reach = translator.sources.neighbors
    if reach and not series.ordered:
        raise InputError(
            f"{place} is a single image, and this translator sees {reach} slices on either side of the one that it "
            "translates: give series of slices, as DICOM or NIfTI (data=dicom, data=nifti)."
        )


def _output_name(series: Series, number: int, config: DictConfig) -> str:
    """Return the name of what is written for a series: its number, and with data.show_paths its file's name."""
    if not config.data.get("show_paths"):
        return f"series_{number:04d}"
    stem = Path(series.name).name.split(".")[0]
    return f"series_{number:04d}_" + "".join(char if char.isalnum() or char in "-_" else "_" for char in stem)


def _described(series: Series, reader: Reader, config: DictConfig) -> str:
    if config.data.get("show_paths"):
        return f"{series.name} in data.root={config.data.root}"
    number = reader.tree.names.index(series.name) + 1
    return f"The series of file {number} of the {len(reader.tree.names)} in data.root={config.data.root}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
