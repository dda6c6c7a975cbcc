"""Exchange between the processes of a distributed training, and why the networks are not wrapped.

PyTorch's DistributedDataParallel averages gradients during the backward pass and expects each parameter to take part in
each pass. A GAN's step has passes of two networks, one of them frozen, a penalty now and then, and microbatches that
accumulate: a wrapper then either fails ("parameters that were not used"), or looks for unused parameters in every pass,
or averages gradients that are thrown away. Here nothing is wrapped: each process computes the gradients of its share of
the batch, and they are averaged once, just before the network's update. That is exact for any order of passes and sends
the least possible; it gives up the overlap of sending with computing (scripts/benchmark_ddp.py measures the price).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from medsynth.contracts import Network

_BUCKET = 32 * 2**20  # bytes sent at a time: large enough for speed, small beside the network


class Unwrapped(DDPStrategy):
    """Lightning's DDP without the wrapper: processes, devices, checkpoints written by the first process alone."""

    def configure_ddp(self) -> None:
        """Copy the first process's weights to all processes."""
        assert self.model is not None
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            dist.broadcast(tensor.data, src=0)


def is_distributed() -> bool:
    """Return True if there are other processes to exchange with."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace each parameter's gradient by its mean over the processes; all have gradients for the same ones."""
    if is_distributed():
        _average([parameter.grad for parameter in parameters if parameter.grad is not None])


def average_batch_statistics(module: Network) -> None:
    """Replace the running statistics of batch normalization by their means, so that all processes keep the same.

    In training each process normalizes its share by that share's own statistics, unless ``trainer.sync_batchnorm`` is
    set; only the running statistics, used in evaluation, are averaged here.
    """
    if is_distributed():
        layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
        # Statistics of a frozen part do not change, and the generator's backward pass needs them untouched.
        norms = [layer for layer in layers if layer.training]
        _average(
            [tensor for layer in norms for tensor in (layer.running_mean, layer.running_var) if tensor is not None]
        )


def averaged(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the means of scalars over the processes, which all have the same names."""
    if not is_distributed() or not values:
        return dict(values)
    together = torch.stack([value.detach().double() for value in values.values()])
    dist.all_reduce(together)
    return dict(zip(values, (together / dist.get_world_size()).float(), strict=True))


@contextlib.contextmanager
def first_process_first() -> Iterator[None]:
    """Run the body in the first process, then in the others."""
    if is_distributed() and dist.get_rank() > 0:
        dist.barrier()
    yield
    if is_distributed() and dist.get_rank() == 0:
        dist.barrier()


def leave_processes() -> None:
    """End the exchange after a success, with all results written.

    Processes that end without it have been seen to abort on the way.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def share(items: Any, rank: int, world_size: int) -> Any:
    """Return the share of process ``rank`` of a batch, a tensor or a list: every n-th item."""
    return items[rank::world_size]


def gathered(images: Tensor, rank: int, world_size: int) -> Tensor:
    """Return the whole batch, of which ``share`` gives each process its part; all have equally many images."""
    if world_size == 1:
        return images
    whole = images.new_zeros(len(images) * world_size, *images.shape[1:])
    whole[rank::world_size] = images
    dist.all_reduce(whole)
    return whole


def _average(tensors: Sequence[Tensor]) -> None:
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for tensor, mean in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield groups of tensors of one type, in order, up to the size of a bucket."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or sum(t.nbytes for t in bucket) + tensor.nbytes > _BUCKET):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
