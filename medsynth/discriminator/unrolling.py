"""Unrolled discriminator (Metz et al. 2017, "Unrolled generative adversarial networks")."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from medsynth.contracts import Discriminator, Features, InputError, Loss
from medsynth.runs.run_end import is_out_of_memory

Head = Callable[[Features, Tensor | None], Tensor]


class UnrolledHead:
    """The head as it would be after some gradient steps on its loss, as a function of the generated images.

    Metz et al. 2017, equations 7 to 9: from the weights t_0 = t of the head,

        t_(k+1) = t_k - lr dL(t_k; real, fake) / dt_k

    on the batch of the step, and the generator descends on its loss at t_K, whose gradient has a second part through
    t_K: how the discriminator would react to other fakes. The steps are computed for that gradient only: the
    discriminator, its statistics and its optimizer stay as they are. They are plain gradient steps as in equation 8
    (the paper's experiments unroll Adam), and on the loss alone, without penalties. In float32 at all times: a
    gradient's gradient does not survive bfloat16. Each step costs what a gradient penalty does: a pass of the head
    forward and back, and back through both; the graphs of all steps are kept in memory.

    Args:
        discriminator: the network; may be frozen meanwhile.
        trained: the parameters that the steps change.
        loss: of the discriminator.
        steps: K, 1 or more.
        lr: learning rate of the steps.
    """

    def __init__(self, discriminator: Discriminator, trained: Iterable[Tensor], loss: Loss, *, steps: int, lr: float):
        self.loss, self.steps, self.lr = loss, steps, lr
        self.module = _HeadModule(discriminator)
        numbers = {id(parameter) for parameter in trained}
        self.trained = {name: value for name, value in self.module.named_parameters() if id(value) in numbers}

    def __call__(self, *, real: Features, fake: Features, labels: Tensor | None) -> Head:
        """Return the head after the steps on ``real`` and ``fake``, differentiable by ``fake``."""
        weights = {name: value.detach().requires_grad_(True) for name, value in self.trained.items()}
        statistics = {name: value.clone() for name, value in self.module.named_buffers()}

        def head(features: Features, labels: Tensor | None) -> Tensor:
            with torch.autocast(features[0].device.type, enabled=False):
                inputs = tuple(_in_full(tensor) for tensor in features)
                return functional_call(self.module, {**weights, **statistics}, (inputs, labels))

        for _ in range(self.steps):
            loss = self.loss.discriminator(real=head(real, labels), fake=head(fake, labels))
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True, materialize_grads=True)
            moves = zip(weights.items(), gradients, strict=True)
            weights = {name: value - self.lr * gradient for (name, value), gradient in moves}
        return head

    def check(self, features: Features, labels: Tensor | None) -> None:
        """Check on the features of a few images that the head can be differentiated twice. Changes no statistics.

        Raises:
            InputError: it cannot.
        """
        fake = tuple(tensor.detach().clone().requires_grad_(True) for tensor in features)
        try:
            # backward and not grad, which passes by functions that refuse a second derivative
            torch.autograd.backward(self(real=features, fake=fake, labels=labels)(fake, labels).sum())
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise InputError(
                f"task.unrolled_steps={self.steps} needs second derivatives of the trained part of "
                f"{type(self.module.discriminator).__name__}, which it does not have "
                f"({str(error).splitlines()[0].rstrip('.')}): choose task.unrolled_steps=0, "
                "discriminator.unfreeze=none, another discriminator, or another backbone (`medsynth backbones` says "
                "which have them)."
            ) from error


def _in_full(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class _HeadModule(nn.Module):
    """A module whose call is the head's, for ``functional_call``."""

    def __init__(self, discriminator: Discriminator):
        super().__init__()
        assert isinstance(discriminator, nn.Module)
        self.discriminator = discriminator

    def forward(self, features: Features, labels: Tensor | None) -> Tensor:
        return self.discriminator.head(features, labels)
