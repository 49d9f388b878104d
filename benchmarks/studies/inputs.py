"""What networks of finished runs are shown: samples as they were in their training.

Frames are transformed as for the validation and test parts of a run, and images that
stand still are told from recordings.
"""

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.data.batches import Batch, batches
from benchmarks.data.frames import EventFrames
from benchmarks.data.transforms import input_transform
from benchmarks.runs.config import DataConfig
from benchmarks.studies.nulls import steps_are_equal
from sj_ext.attack import Attackable

_AT_ONCE = 256


def as_tested(
    config: DataConfig,
    frames: EventFrames,
    indices: Tensor,
    batch_size: int,
    device: torch.device | None = None,
) -> DataLoader[Batch]:
    """Load samples in their order, transformed as those of the test part.

    Args:
        config: Of the run that trained the network.
        frames: All samples.
        indices: Which of them, `[n]`.
        batch_size: How many at a time.
        device: Where frames are transformed and delivered; None leaves them.

    Returns:
        A loader of `Batch`.
    """
    augment = input_transform(config, training=False)
    return batches(frames, indices, batch_size, augment=augment, device=device)


def bounds_of(config: DataConfig, frames: EventFrames) -> tuple[float, float]:
    """Say between which values inputs are, over all samples.

    Args:
        config: Of the run that trained the network.
        frames: All samples.

    Returns:
        No event, and the largest value that there is after the transform.
    """
    if input_transform(config, training=False) is None:
        return 0.0, float(frames.frames.max())
    loaded = as_tested(config, frames, torch.arange(len(frames)), _AT_ONCE)
    return 0.0, max(float(batch.frames.max()) for batch in loaded)


def repeats(frames: EventFrames) -> int | None:
    """Say how many times a network sees the same image.

    Args:
        frames: All samples.

    Returns:
        `T` of `attackable`: the number of time steps where all show the same, so that
        an attack changes one image; None where they are those of a recording.
    """
    return frames.time_steps if steps_are_equal(frames.frames) else None


def as_attacked(model: Attackable, frames: Tensor) -> Tensor:
    """Give samples as an adapter takes them.

    Args:
        model: Takes recordings, or images that it repeats.
        frames: `[T, N, C, H, W]`.

    Returns:
        `[N, T, C, H, W]`, or `[N, C, H, W]`.
    """
    x = frames.transpose(0, 1) if model.takes_frames else frames[0]
    return x.contiguous()
