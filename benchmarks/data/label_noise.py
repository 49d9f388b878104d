"""Wrong labels on purpose: a share of the training labels replaced by others."""

import torch
from torch import Tensor

from benchmarks.data.frames import EventFrames

__all__ = ["with_label_noise"]


def with_label_noise(
    data: EventFrames, indices: Tensor, share: float, seed: int
) -> EventFrames:
    """Give some recordings another label, drawn evenly from the other classes.

    Args:
        data: All recordings.
        indices: Those that may be changed: the training part.
        share: How many of them are, in [0, 1].
        seed: Of the draw. A larger share changes the same ones and more.

    Returns:
        The same recordings, the others' labels as they were.

    Raises:
        ValueError: If `share` is outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"Expected `share` in [0, 1], got {share}.")
    generator = torch.Generator().manual_seed(seed)
    n, K = len(indices), len(data.classes)
    chosen = indices[torch.randperm(n, generator=generator)]
    shift = torch.randint(1, K, (n,), generator=generator)
    wrong = round(share * n)
    labels = data.labels.clone()
    labels[chosen[:wrong]] = (labels[chosen[:wrong]] + shift[:wrong]) % K
    return EventFrames(data.frames, labels, data.names, data.classes)
