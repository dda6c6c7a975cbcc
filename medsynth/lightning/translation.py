"""The part of a LightningModule that translation adds to a task: sources, measures against targets, the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from medsynth.contracts import (
    Batch,
    InputError,
    Network,
    ReconstructionTerm,
    TrainingData,
    Translator,
    check_contract,
)
from medsynth.generator.trained import TRANSLATOR
from medsynth.lightning.components import check_network
from medsynth.lightning.distributed import averaged
from medsynth.lightning.microbatch import DrawnMicrobatch
from medsynth.lightning.module import GenerativeModule
from medsynth.lightning.trainer_access import training_data
from medsynth.metrics.paired import copied, paired_measures


class TranslationModule(GenerativeModule):
    """A generator that translates sources, and reconstruction terms where sources have their targets.

    Real images, for a discriminator and the metrics, are the targets. Where the data has pairs, validation measures
    the translations by the averaged network against them, ``val/mae`` and the other measures of ``metrics/paired.py``
    in the target's unit, over the mask where there is one; and, as the baseline, the source copied unchanged,
    ``val/copy_mae`` and so on.

    Args:
        reconstructions: terms of the generator's loss, by name; None: the task has none.
        source_channels: of the data; the generator takes as many.
        objective: the measure that selects the best translator; it is read from the configuration.
        options: those of the task beside it.

    Raises:
        InputError: the generator or a term lacks a member of its contract.
    """

    generator: Translator  # pyright: ignore[reportIncompatibleVariableOverride]  # what it is called with differs
    has_pairs = True

    def __init__(
        self,
        *,
        reconstructions: Mapping[str, ReconstructionTerm] | None = None,
        source_channels: int | None = None,
        objective: str = "mae",
        **options: Any,
    ):
        for name, term in (reconstructions or {}).items():
            check_contract(term, ReconstructionTerm, f"reconstruction={name}")
        super().__init__(**options)
        check_network(self.generator, Translator, "generator")
        if source_channels not in (None, self.generator.source_channels):
            raise InputError(
                f"generator.source_channels={self.generator.source_channels} is not that of the data's sources, "
                f"{source_channels}: leave it out."
            )
        self.target_terms = dict(reconstructions or {})

    def real_images(self, batch: Batch) -> Tensor:
        """Return the targets of a batch.

        Raises:
            InputError: it has none.
        """
        if "target" not in batch:
            raise InputError(
                "A translation needs data with targets: choose data=paired_folder, or another one that reads sources "
                "and targets."
            )
        return batch["target"]

    def sources(self, batch: Batch) -> Tensor:
        """Return the sources of a batch."""
        return batch["image"]

    def made_by(self, network: Network, z: Tensor, labels: Tensor | None, source: Tensor | None) -> Tensor:
        """Return the translations (N, C, H, W) of ``source`` by ``network``."""
        assert source is not None
        return cast(Translator, network)(source, z)

    def reconstruction_terms(self, output: Tensor, microbatch: DrawnMicrobatch) -> dict[str, Tensor]:
        """Return each term of the distance of ``output`` from the targets, by name, float32."""
        assert microbatch.source is not None
        return {
            name: term(output.float(), microbatch.real, microbatch.mask, microbatch.source)
            for name, term in self.target_terms.items()
        }

    def next_command(self, run: str) -> str:
        """Return the command that translates images by the generator of the folder ``run``."""
        return f"medsynth translate run={run} data.root=my/sources out=translated"

    def card_entries(self, data: TrainingData) -> dict[str, Any]:
        """Return what the card of a translator has beside that of a generator."""
        intensity, first = data.source_intensity, data.val_batch(1)
        assert "target" in first
        return {
            "kind": TRANSLATOR,
            "channels": len(first["target"][0]),
            "image_size": first["target"].shape[-1],
            "source_channels": self.generator.source_channels,
            "source_intensity": None if intensity is None else vars(intensity),
            "source_statistics": getattr(data, "source_statistics", None),
        }

    # ---- validation --------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Forget the translations of the last validation."""
        super().on_validation_epoch_start()
        self._sums: dict[str, Tensor] = {}  # of each measure, and of the images that have a value of it
        self.has_pairs = getattr(training_data(self.trainer), "val_paired", True)

    def validation_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Translate the sources, measure the translations, and return them."""
        output = super().validation_step(batch, batch_index)
        if self.has_pairs and "target" in batch:
            self._measure(batch, output)
        return output

    def _measure(self, batch: Batch, output: Tensor) -> None:
        """Add the measures of the translations, and of the sources as they are, to the sums of this validation."""
        data, target = training_data(self.trainer), self.real_images(batch)
        copy = copied(
            batch["image"],
            channels=target.shape[1],
            source_intensity=data.source_intensity,
            intensity=data.intensity,
        )
        for prefix, images in {"": output, "copy_": copy}.items():
            values = paired_measures(images, target, batch.get("mask"), data.intensity)
            for name, value in values.items():
                known = value[value.isfinite()]
                add = torch.stack([known.sum(), known.new_tensor(float(len(known)))]).cpu()
                self._sums[prefix + name] = self._sums.get(prefix + name, torch.zeros(2, dtype=torch.float64)) + add

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics, and the means over all images of the measures against the targets."""
        super().on_validation_epoch_end()
        sums = {f"{name}/{part}": pair[part] for name, pair in self._sums.items() for part in (0, 1)}
        together = averaged({name: value.to(self.device) for name, value in sums.items()})
        means = {f"val/{name}": float(together[f"{name}/0"] / together[f"{name}/1"]) for name in self._sums}
        self.log_dict(means, logger=False)
