"""Frames whose class evidence is in known time steps, or in all steps alike.

Pure functions of recordings. What the Fisher information of prefixes is said to show
can be checked on them, as the truth is known.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from benchmarks.data.frames import EventFrames

__all__ = ["identical_steps", "plant", "pooled"]


def plant(
    data: EventFrames, parts: Mapping[str, Tensor], first: int, last: int, seed: int
) -> EventFrames:
    """Take the evidence for the class out of all steps but `first` to `last`.

    In the other steps the counts of every pixel and polarity are permuted among the
    recordings of a part, each on its own. So every step keeps its rate, and every
    pixel of it its counts, exactly; but which recording has which count is drawn
    without regard to classes, and all that pixels say together is gone.

    Args:
        data: Recordings of T steps.
        parts: Positions of the recordings of each part of a split. No count goes from
            one part to another.
        first: First step with evidence, counted from 1.
        last: Last step with evidence.
        seed: Of the permutations.

    Returns:
        The same recordings with other frames.

    Raises:
        ValueError: If the steps are not 1 <= first <= last <= T.
    """
    T = data.time_steps
    if not 1 <= first <= last <= T:
        raise ValueError(
            f"Expected `first` and `last` with 1 <= first <= last <= {T}, got {first} "
            f"and {last}."
        )
    frames = data.frames.numpy().copy()
    for number, indices in enumerate(parts.values()):
        rows = indices.numpy()
        for t in range(T):
            # Drawn for every step, so that noise does not depend on the position.
            generator = np.random.default_rng([seed, number, t])
            if not first <= t + 1 <= last:
                counts = frames[rows, t].reshape(len(rows), -1)
                permuted = generator.permuted(counts, axis=0)
                frames[rows, t] = permuted.reshape(frames[rows, t].shape)
    return _with_frames(data, torch.from_numpy(frames))


def identical_steps(
    data: EventFrames, parts: Mapping[str, Tensor], seed: int
) -> EventFrames:
    """Make all steps of a recording independent draws from one distribution.

    Every step is replaced by any step of any recording of the same class and part. No
    step then says more than another, and their order says nothing.

    Args:
        data: Recordings of T steps.
        parts: As in `plant`.
        seed: Of the draws.

    Returns:
        The same recordings with other frames.
    """
    frames = data.frames.clone()
    generator = torch.Generator().manual_seed(seed)
    T = data.time_steps
    for indices in parts.values():
        labels = data.labels[indices]
        for label in labels.unique():
            members = indices[labels == label]
            size = (len(members), T)
            chosen = torch.randint(len(members), size, generator=generator)
            steps = torch.randint(T, size, generator=generator)
            frames[members] = data.frames[members[chosen], steps]
    return _with_frames(data, frames)


def pooled(data: EventFrames, size: int) -> EventFrames:
    """Add up the events of squares of pixels.

    Args:
        data: Recordings.
        size: Side of a square; height and width are multiples of it.

    Returns:
        `[n, T, C, H / size, W / size]`.

    Raises:
        ValueError: If `size` does not divide height and width, or a sum is above 255.
    """
    height, width = data.frames.shape[3:]
    if size < 1 or height % size or width % size:
        raise ValueError(f"Expected `size` to divide {height} and {width}, got {size}.")
    squares = data.frames.unflatten(4, (-1, size)).unflatten(3, (-1, size))
    sums = squares.sum((4, 6), dtype=torch.int32)
    if len(sums) and int(sums.max()) > 255:
        raise ValueError(
            f"Expected at most 255 events in squares of `size` {size}, got "
            f"{int(sums.max())}."
        )
    return _with_frames(data, sums.to(torch.uint8))


def _with_frames(data: EventFrames, frames: Tensor) -> EventFrames:
    return EventFrames(frames, data.labels, data.names, data.classes)
