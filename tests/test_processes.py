"""Two processes that exchange by gloo train as one does: forked from this one, so that they start at once."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn

from medsynth.lightning import distributed as parallel
from tests.test_gan import Images, Listener, fit, gan, weights

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
WORLD = 2


def in_processes(body, folder: Path) -> list:
    """Run ``body(rank)`` in two processes that form a group; return what it returns in each."""
    arguments = (_process, (body, str(folder)), WORLD)
    context = torch.multiprocessing.start_processes(*arguments, join=False, daemon=True, start_method="fork")
    end = time.monotonic() + 60
    while not context.join(5):
        assert time.monotonic() < end, "the processes wait for each other"
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


def _process(rank: int, body, folder: str) -> None:
    torch.set_num_threads(1)  # the threads of the process that was forked are not there
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    torch.save(body(rank), Path(folder) / f"{rank}.pt")
    parallel.leave_processes()


def exchanged(rank: int) -> dict:
    weights = [torch.zeros(5, 3), torch.zeros(7), torch.zeros(2, 2, dtype=torch.float64)]
    for number, weight in enumerate(weights):
        weight.grad = torch.full_like(weight, 1.0 + number + rank * 2)
    parallel._BUCKET = 70  # bytes: several buckets, and one tensor that is larger
    parallel.average_gradients(weights)
    layers = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4).eval())
    for layer in layers:
        layer.running_mean.fill_(rank)
    parallel.average_batch_statistics(layers)
    values = parallel.averaged({"a": torch.tensor(float(rank)), "b": torch.tensor(1.0)})
    return {
        "gradients": [weight.grad.unique().tolist() for weight in weights],
        "statistics": [layer.running_mean.unique().tolist() for layer in layers],
        "values": {name: value.item() for name, value in values.items()},
    }


def test_gradients_statistics_and_values_are_averaged(tmp_path):
    first, second = in_processes(exchanged, tmp_path)
    assert first["gradients"] == second["gradients"] == [[2.0], [3.0], [4.0]]
    assert first["statistics"] == [[0.5], [0.0]], "a frozen part keeps its own"
    assert second["statistics"] == [[0.5], [1.0]]
    assert first["values"] == second["values"] == {"a": 0.5, "b": 1.0}


def test_the_first_process_comes_first(tmp_path):
    def in_turn(rank: int) -> list[str]:
        with parallel.first_process_first():
            (tmp_path / f"turn-{rank}").touch()
            return sorted(path.name for path in tmp_path.glob("turn-*"))

    assert in_processes(in_turn, tmp_path) == [["turn-0"], ["turn-0", "turn-1"]]


class Shares(Images):
    """The share of a process of each batch, as ``ResumableBatchSampler`` divides it."""

    def __init__(self, rank: int, world_size: int):
        super().__init__()
        self.rank, self.world_size = rank, world_size

    def train_dataloader(self):
        batches = [list(range(i, i + 8))[self.rank :: self.world_size] for i in range(0, 64, 8)]
        return torch.utils.data.DataLoader(self.items(), batch_sampler=batches)


def trained(rank: int, world_size: int, **options) -> dict:
    """Train three steps, or as ``options`` say, as process ``rank`` of ``world_size``."""
    outputs = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, model, values, batch, batch_idx):
            outputs.append({name: value.item() for name, value in values.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl.Trainer, "world_size", property(lambda _: world_size))
        patch.setattr(pl.Trainer, "global_rank", property(lambda _: rank))
        model = gan(**{"penalties": {"listener": Listener()}, "max_images": 24, "num_classes": 2} | options)
        fit(model, Shares(rank, world_size), callbacks=[Watch()], limit_val_batches=0)
    networks = {name: weights(getattr(model, name)) for name in ("generator", "discriminator", "ema_generator")}
    return networks | {"outputs": outputs, "images": model.images_seen}


def test_two_processes_take_the_steps_of_one(tmp_path):
    """Weights of both networks and the EMA after three steps, the logged values, and the number of images."""
    one = trained(0, 1)
    for other in in_processes(lambda rank: trained(rank, WORLD), tmp_path):
        assert other["images"] == one["images"] == 24
        for name in ("generator", "discriminator", "ema_generator"):
            torch.testing.assert_close(other[name], one[name], rtol=1e-5, atol=1e-6)
        for mine, theirs in zip(one["outputs"], other["outputs"], strict=True):
            assert theirs == pytest.approx(mine, rel=1e-4, abs=1e-5)
