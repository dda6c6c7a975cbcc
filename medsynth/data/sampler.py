"""The order of the training images: one endless sequence of batches that can be entered at any batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

from medsynth.contracts import counter_seed


class BlockSampler(Sampler[list[int]]):
    """All indices once and in order, in batches that ``world_size`` processes take in turns."""

    def __init__(self, num_samples: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        starts = range(rank * batch_size, num_samples, world_size * batch_size)
        self._batches = [list(range(start, min(start + batch_size, num_samples))) for start in starts]

    def __len__(self) -> int:
        """Return the number of batches of this process."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)


class ResumableBatchSampler(Sampler[list[int]]):
    """Batches of indices, each a function of its number alone, so that a resumed run sees the same batches.

    With ``labels`` all classes are drawn equally often. Draw d of all epochs is one of class ``d % classes``; the draws
    of a class go through its images in one random order after another, so that each occurs as often as the others of
    its class. An epoch has ``num_samples`` draws, shuffled. With data that ``varies`` each occurrence of an image has
    an index of its own.

    Batch b is batch ``b % len`` of epoch ``b // len``. An epoch is a random permutation of ``range(num_samples)``;
    for ``endless`` data it is the next ``num_samples`` indices without shuffling, since such data is random by itself.
    Data that ``varies`` gets the permutation plus ``epoch * num_samples``: each epoch has its own indices. The
    incomplete last batch of an epoch is dropped. No random state is kept: the order depends on ``seed`` alone, not on
    the number of workers, on what they fetch ahead, or on other users of random numbers.

    Process ``rank`` of ``world_size`` gets every n-th index of each batch: together the processes see the same
    batches, in the same order, for any number of processes.

    Each ``iter()`` yields the next ``len(sampler)`` batches, one epoch unless ``start_at`` was called. After a
    ``start_at`` inside an epoch it continues into the next epoch instead of stopping early, and ``len`` remains the
    length of a full epoch: Lightning compares ``len`` with its own restored count of batches to find the end of the
    resumed epoch, and stops there. The same holds if ``limit_train_batches`` makes Lightning's epochs shorter.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int,
        endless: bool,
        varies: bool = False,
        labels: Sequence[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert 1 <= batch_size <= num_samples
        assert batch_size % world_size == 0
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.endless = endless
        self.varies = varies
        self.balanced = labels is not None
        self._members = _members(labels or ())
        self.rank = rank
        self.world_size = world_size
        self._next_batch = 0
        self._permutation: tuple[int, list[int]] | None = None  # (epoch, order), the last one used

    def __len__(self) -> int:
        """Return the number of batches in a full epoch."""
        return self.num_samples // self.batch_size

    def start_at(self, batch: int) -> None:
        """Let the next ``iter()`` begin with batch number ``batch``, counted from the beginning of the training."""
        self._next_batch = batch

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, so that this runs with the first batch: a DataLoader with workers calls iter() twice and uses
        # the second. The position moves by a whole epoch, since workers draw batches ahead of the training.
        first = self._next_batch
        self.start_at(first + len(self))
        for number in range(first, first + len(self)):
            yield self.batch(number)[self.rank :: self.world_size]

    def batch(self, number: int) -> list[int]:
        """Return the ``batch_size`` indices of batch ``number``, counted from the beginning of the training."""
        epoch, position = divmod(number, len(self))
        chosen = slice(position * self.batch_size, (position + 1) * self.batch_size)
        if self.endless:
            return [epoch * self.num_samples + index for index in range(self.num_samples)[chosen]]
        return self._order(epoch)[chosen]

    def _order(self, epoch: int) -> list[int]:
        """Return the indices of an epoch in their order."""
        if self._permutation is None or self._permutation[0] != epoch:
            order = _permutation(self.num_samples, "order", self.seed, epoch)
            if self.balanced:
                draws = self._draws(epoch)
                order = [draws[position] for position in order]
            elif self.varies:
                order = [index + epoch * self.num_samples for index in order]
            self._permutation = (epoch, order)
        return self._permutation[1]

    def _draws(self, epoch: int) -> list[int]:
        """Return the indices that an epoch draws, the classes in turn."""
        draws = np.arange(epoch * self.num_samples, (epoch + 1) * self.num_samples)
        indices = np.empty(self.num_samples, dtype=np.int64)
        for number, members in enumerate(self._members):
            own = draws % len(self._members) == number
            rounds, positions = np.divmod(draws[own] // len(self._members), len(members))
            chosen = np.empty(len(rounds), dtype=np.int64)
            for turn in np.unique(rounds).tolist():
                order = np.asarray(_permutation(len(members), "class", self.seed, number, turn))
                chosen[rounds == turn] = members[order[positions[rounds == turn]]]
            indices[own] = chosen + rounds * self.num_samples * self.varies
        return indices.tolist()


def _permutation(count: int, *counters: str | int) -> list[int]:
    generator = torch.Generator().manual_seed(counter_seed(*counters))
    return torch.randperm(count, generator=generator).tolist()


def _members(labels: Sequence[int]) -> list[np.ndarray]:
    """Return the indices of the images of each class that has any."""
    array = np.asarray(labels, dtype=np.int64)
    return [np.flatnonzero(array == label) for label in np.unique(array)]
