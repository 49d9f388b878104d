"""Batches `[T, N, C, H, W]` from samples that lie in memory as `[n, T, C, H, W]`."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from benchmarks.data.frames import EventFrames


class Batch(NamedTuple):
    """A batch as networks take it.

    Attributes:
        frames: `[T, N, C, H, W]`, float32 event counts.
        target: `[N]`, class indices.
        index: `[N]`, position of each sample in its part of the split.
    """

    frames: Tensor
    target: Tensor
    index: Tensor


class _Part(Dataset[int]):
    """The samples of one part of a split, fetched a batch at a time."""

    def __init__(self, data: EventFrames, indices: Tensor) -> None:
        self._data = data
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        index = torch.as_tensor(positions)
        chosen = self._indices[index]
        frames = self._data.frames[chosen].transpose(0, 1)
        return Batch(frames.float().contiguous(), self._data.labels[chosen], index)


def batches(
    data: EventFrames,
    indices: Tensor,
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader[Batch]:
    """Load one part of a split batch by batch.

    The order of an epoch follows from `seed` and the sampler's `set_epoch` alone, so
    a resumed run sees the samples that it would have seen. With several processes
    each gets its share; the last samples are repeated to make the shares equal.

    Args:
        data: All samples.
        indices: Those of this part, `[n]`.
        batch_size: Samples a batch and process. When shuffling, a last batch of one
            sample is left out, since batch norm has no variance of it.
        shuffle: Whether the order changes from epoch to epoch.
        seed: Of the order.
        rank: Number of this process.
        world_size: Number of processes.

    Returns:
        A loader of `Batch`.

    Raises:
        ValueError: If `indices` is empty.
    """
    if not len(indices):
        raise ValueError("Expected `indices` to name at least one sample, got none.")
    part = _Part(data, indices)
    sampler: DistributedSampler[int] = DistributedSampler(
        part, num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed
    )
    return DataLoader(
        part,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=shuffle and len(sampler) % batch_size == 1,
        collate_fn=_as_it_is,
    )


def _as_it_is(batch: Batch) -> Batch:
    return batch
