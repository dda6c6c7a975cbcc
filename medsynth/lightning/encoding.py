"""The part of a LightningModule that an encoder adds to a task: its EMA, reconstructions and their errors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medsynth.backbone.survey import count_parameters
from medsynth.contracts import Batch, Encoder, InputError
from medsynth.generator.ema import EMA
from medsynth.lightning.components import check_network
from medsynth.lightning.distributed import average_batch_statistics, averaged
from medsynth.lightning.module import GenerativeModule

_SHOWN = 64  # reconstructions that are kept to be shown


class EncodingModule(GenerativeModule):
    """An encoder beside the generator, trained by the generator's optimizer, and reconstructions in validation.

    ``val/reconstruction`` is the mean absolute and ``val/reconstruction_mse`` the mean squared difference of pixels in
    [-1, 1], by the averaged networks, from the mean of each image's distribution.

    Args:
        encoder: images -> mean and log variance of the noise.
        options: those of the task beside it.

    Raises:
        InputError: the encoder lacks a member of its contract, or has another ``latent_dim`` than the generator.
    """

    encoder: Encoder

    def __init__(self, *, encoder: Encoder, channels_last: bool = False, **options: Any):
        check_network(encoder, Encoder, "encoder")
        super().__init__(channels_last=channels_last, **options)
        if encoder.latent_dim != self.generator.latent_dim:
            raise InputError(
                f"encoder.latent_dim={encoder.latent_dim} differs from generator.latent_dim={self.generator.latent_dim}"
                ": leave it out."
            )
        assert isinstance(encoder, nn.Module)
        if channels_last:
            encoder.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # its stub lacks it
        self.encoder = encoder
        self.ema_encoder = EMA(encoder, half_life=self.ema_generator.half_life, rampup=self.ema_generator.rampup)

    def parameter_groups(self, network: str) -> list[dict[str, Any]]:
        """Return the trained parameters of a network as an optimizer's groups; the encoder's are with the generator."""
        groups = super().parameter_groups(network)
        return [*groups, {"params": list(self.encoder.parameters())}] if network == "generator" else groups

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of each network, by name."""
        return {**super().parameter_counts(), "encoder": count_parameters(self.encoder)}

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the noise of images, (N, latent_dim) each, float32."""
        mean, log_variance = self.encoder(images)
        return mean.float(), log_variance.float()

    def update_ema(self) -> None:
        """Move the averaged generator and encoder towards their networks."""
        super().update_ema()
        average_batch_statistics(self.encoder)
        assert isinstance(self.encoder, nn.Module)
        self.ema_encoder.half_life = self.ema_generator.half_life  # which a schedule may have changed
        self.ema_encoder.update(self.encoder, self.images_seen)

    # ---- validation --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return reconstructions (N, C, H, W) in [-1, 1], float32, by the averaged networks."""
        with torch.autocast(self.device.type, enabled=False):
            mean, _ = self.ema_encoder.module(images.to(self.device))
        return self.sample(mean, labels)

    def on_validation_epoch_start(self) -> None:
        """Forget the generated images and the reconstructions of the last validation."""
        super().on_validation_epoch_start()
        self._errors = torch.zeros(3, dtype=torch.float64)  # sums of absolute and squared differences, and their number
        self.reconstructions = None

    def validation_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Generate images as every task does, which are returned, and reconstruct the real ones."""
        fake = super().validation_step(batch, batch_index)
        real = batch["image"]
        made = self.reconstruct(real, batch.get("label"))
        difference = (made - real).double()
        sums = [difference.abs().sum().item(), difference.square().sum().item(), difference.numel()]
        self._errors += torch.tensor(sums, dtype=torch.float64)
        shown = (real.cpu(), made.cpu())
        if self.reconstructions is not None:
            shown = tuple(map(torch.cat, zip(self.reconstructions, shown, strict=True)))
        self.reconstructions = (shown[0][:_SHOWN], shown[1][:_SHOWN])
        return fake

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics and the errors of the reconstructions."""
        super().on_validation_epoch_end()
        absolute, squared, count = averaged(dict(zip("asn", self._errors.to(self.device), strict=True))).values()
        errors = {"val/reconstruction": absolute / count, "val/reconstruction_mse": squared / count}
        self.log_dict({name: float(value) for name, value in errors.items()}, logger=False)
