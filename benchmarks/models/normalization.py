"""Batch norm over time: statistics of all steps together, or of each by itself.

The host's multi-step layers pool all steps; code that loops over the steps, such as
that released with arXiv 2406.19645, takes each step's own. Results differ, so it is a
choice.
"""

from collections.abc import Callable
from typing import Literal

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

__all__ = ["BatchNorm", "PerStepBatchNorm2d", "batch_norm"]

BatchNorm = Literal["pooled", "per_step"]


class PerStepBatchNorm2d(nn.BatchNorm2d):
    """Normalises each step with its own statistics while it trains.

    Weights and running statistics are shared by all steps; the latter move once a step,
    as in a loop over time. In evaluation it computes what the pooled norm does.

    Shape:
        Input and output are `[T, N, C, H, W]`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: `[T, N, C, H, W]`.

        Returns:
            The same shape.

        Raises:
            ValueError: If `x` has no time axis.
        """
        if x.ndim != 5:
            raise ValueError(f"Expected `x` [T, N, C, H, W], got {list(x.shape)}.")
        if not self.training:
            return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        one_step = super().forward
        return torch.stack([one_step(step) for step in x])


def batch_norm(kind: str) -> Callable[[int], nn.Module]:
    """Say how each batch norm of a network is made.

    Args:
        kind: `"pooled"` or `"per_step"`.

    Returns:
        A function of the number of channels.

    Raises:
        ValueError: If it is called otherwise.
    """
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "pooled": layer.BatchNorm2d,
        "per_step": PerStepBatchNorm2d,
    }
    if kind not in kinds:
        raise ValueError(
            f"Expected `batch_norm` to be {' or '.join(kinds)}, got {kind!r}."
        )
    return kinds[kind]
