"""Batches `[T, N, C, H, W]` from samples that lie in memory as `[n, T, C, H, W]`."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from benchmarks.data.frames import EventFrames
from benchmarks.data.transforms import EventMixup, Transform


class Batch(NamedTuple):
    """A batch as networks take it.

    Attributes:
        frames: `[T, N, C, H, W]`, float32 event counts.
        target: `[N]`, class indices; of mixed samples `[N, K]`, shares of the classes.
        index: `[N]`, position of each sample in its part of the split.
    """

    frames: Tensor
    target: Tensor
    index: Tensor


class _Part(Dataset[int]):
    """The samples of one part of a split, fetched a batch at a time."""

    def __init__(
        self,
        data: EventFrames,
        indices: Tensor,
        augment: Transform | None,
        device: torch.device | None,
        seed: int,
        mixup: EventMixup | None,
    ) -> None:
        self._data = data
        self._indices = indices
        self._augment = augment
        self._device = device
        self._seed = seed
        self._mixup = mixup
        self.sampler: DistributedSampler[int] | None = None

    def __len__(self) -> int:
        return len(self._indices)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        index = torch.as_tensor(positions)
        chosen = self._indices[index]
        # By whole rows; indexing by a tensor copies number by number.
        frames = self._data.frames.index_select(0, chosen)
        # Moved as small integers, a quarter of the bytes of what they become.
        frames = frames.to(self._device).transpose(0, 1)
        frames = frames.to(torch.float32, memory_format=torch.contiguous_format)
        target = self._data.labels[chosen]
        if self._mixup is None and self._augment is None:
            return Batch(frames, target, index)
        generator = self._generator(positions)
        if self._mixup is not None:
            # Events are mixed while counts are whole: before frames are resized.
            mixed = self._mixup(frames, generator)
            frames = mixed.frames
            target = mixed.target(target, len(self._data.classes))
        if self._augment is not None:
            frames = self._augment(frames, generator)
        return Batch(frames, target, index)

    def _generator(self, positions: Sequence[int]) -> torch.Generator:
        """Draw by seed, epoch and samples alone, so that a resumed run draws alike."""
        epoch = 0 if self.sampler is None else self.sampler.epoch
        text = f"{self._seed}:{epoch}:{','.join(map(str, positions))}"
        number = hashlib.sha256(text.encode()).digest()[:7]
        return torch.Generator().manual_seed(int.from_bytes(number))


def batches(
    data: EventFrames,
    indices: Tensor,
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    augment: Transform | None = None,
    device: torch.device | None = None,
    mixup: EventMixup | None = None,
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
        augment: Changes the frames of each batch; what it draws follows from `seed`,
            the epoch and the samples of the batch.
        device: Where frames are augmented and delivered; None leaves them.
        mixup: Mixes the events of each batch, before anything else.

    Returns:
        A loader of `Batch`.

    Raises:
        ValueError: If `indices` is empty.
    """
    if not len(indices):
        raise ValueError("Expected `indices` to name at least one sample, got none.")
    part = _Part(data, indices, augment, device, seed, mixup)
    sampler: DistributedSampler[int] = DistributedSampler(
        part, num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed
    )
    part.sampler = sampler
    return DataLoader(
        part,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=shuffle and len(sampler) % batch_size == 1,
        collate_fn=_as_it_is,
    )


def _as_it_is(batch: Batch) -> Batch:
    return batch
