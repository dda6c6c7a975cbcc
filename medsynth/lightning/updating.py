"""Named networks, an optimizer for each, and the updates of their weights: gradients that are gathered and checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from medsynth.backbone.survey import count_parameters
from medsynth.contracts import InputError, Network
from medsynth.errors import EndCode
from medsynth.lightning.distributed import average_gradients, averaged
from medsynth.lightning.half_precision import HalfPrecision


class TrainingDiverged(InputError):
    """A loss or a gradient is no longer finite; the weights were not updated with it."""

    code = EndCode.DIVERGED


class UpdatingModule(pl.LightningModule):
    """Manual optimization of named networks.

    Args:
        networks: by name; each becomes an attribute of its name.
        optimizers: for each network by its name, in the order of checkpoints: groups of parameters -> optimizer.
        gradient_clip_norm: bound of each network's total gradient norm; None: no bound.
    """

    images_seen: int

    def __init__(
        self,
        *,
        networks: Mapping[str, Network],
        optimizers: Mapping[str, Callable[[Any], Optimizer]],
        gradient_clip_norm: float | None,
    ):
        super().__init__()
        self.automatic_optimization = False
        for name, network in networks.items():
            setattr(self, name, network)
        self._network_names = tuple(networks)
        self.optimizer_factories = dict(optimizers)
        self.gradient_clip_norm = gradient_clip_norm

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of each network, by name."""
        return {name: count_parameters(getattr(self, name)) for name in self._network_names}

    def parameter_groups(self, network: str) -> list[dict[str, Any]]:
        """Return the trained parameters of a network as an optimizer's groups."""
        return [{"params": list(getattr(self, network).parameters())}]

    def build_optimizer(self, network: str) -> Optimizer:
        """Build the optimizer of a network; a group's ``lr_factor`` multiplies its learning rate.

        Raises:
            InputError: the optimizer refuses its options.
        """
        try:
            optimizer = self.optimizer_factories[network](self.parameter_groups(network))
        except (TypeError, ValueError) as error:
            raise InputError(f"{network}_optimizer cannot be built with these options: {error}.") from error
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_factor", 1.0)
        return optimizer

    def descend(self, network: str, loss: Tensor, **options: Any) -> None:
        """Add the gradients of ``loss``; in float16 scaled by the network's own scaler.

        Args:
            network: name of the network whose optimizer is to step.
            loss: a scalar with its graph.
            options: of ``torch.Tensor.backward``.
        """
        precision = self.trainer.precision_plugin
        loss = precision.scaled(loss, network) if isinstance(precision, HalfPrecision) else loss
        self.manual_backward(loss, **options)

    def update(self, network: str, values: dict[str, Tensor]) -> None:
        """Step the network's optimizer, unless ``leaves_out``, with the gradients gathered, their means over processes.

        ``values``, what the step logs, becomes its means over all processes too, and gets the gradient's norm.

        Raises:
            TrainingDiverged: the loss or a gradient is not finite; the weights stay as they were.
        """
        optimizer = self._lightning_optimizer(network)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        average_gradients(parameters)
        values.update(averaged(values))
        precision = self.trainer.precision_plugin
        overflow = isinstance(precision, HalfPrecision) and precision.overflows(optimizer.optimizer, network)
        norm = get_total_norm([p.grad for p in parameters])
        values[f"{network}_gradient_norm"] = norm
        loss = values[f"{network}_loss"]
        if not math.isfinite((loss if overflow else loss + norm).item()):  # one wait for the device, not two
            raise TrainingDiverged(
                f"The {network}'s loss is {loss.item():.4g} and its gradient norm {norm.item():.4g} after "
                f"{self.images_seen:,} images, and the weights were not updated with them: "
                f"lower {network}_optimizer.lr, set task.gradient_clip_norm, or choose another loss or penalty."
            )
        if self.leaves_out(network, values):
            if isinstance(precision, HalfPrecision):
                precision.leave_out(network)
        else:
            if self.gradient_clip_norm is not None:
                clip_grads_with_norm_(parameters, self.gradient_clip_norm, norm)
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def leaves_out(self, network: str, values: dict[str, Tensor]) -> bool:
        """Tell, by what the step logs (the same in all processes), whether a network keeps its weights in this step."""
        return False

    def network_of(self, optimizer: Optimizer) -> str:
        """Return the name of the network that an optimizer is for."""
        return list(self.optimizer_factories)[self.trainer.optimizers.index(optimizer)]

    def _lightning_optimizer(self, network: str) -> Any:
        wrapped = self.optimizers()
        wrapped = wrapped if isinstance(wrapped, list) else [wrapped]  # Lightning hands out a single one bare
        return dict(zip(self.optimizer_factories, wrapped, strict=True))[network]
