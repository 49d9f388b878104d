"""Images as input to spiking networks: what comes before the first neuron, once.

With direct coding every step is the same image, so convolution and batch norm before
the first neuron give the same at every step: they are computed for one and repeated.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.models.normalization import PerStepBatchNorm2d

__all__ = ["computed_once"]


def computed_once(
    frames: Tensor, layers: Sequence[Callable[[Tensor], Tensor]]
) -> Tensor:
    """Apply layers without state to the first step, and repeat the result.

    Running statistics move as they do step by step, but for the correction of the
    pooled norm's variance, which counts N H W values in place of T N H W.

    Args:
        frames: `[T, N, C, H, W]`, all steps equal.
        layers: Applied one after the other.

    Returns:
        `[T, N, ...]`: a view of one step, in evaluation and in training.

    Raises:
        ValueError: If first and last step differ: events are no image.
    """
    steps = len(frames)
    if not torch.equal(frames[0], frames[-1]):
        raise ValueError(
            "Expected `frames` with equal steps for direct coding, got steps that "
            "differ: set `direct_coding` to false for events."
        )
    x = frames[:1]
    for each in layers:
        with _momentum_of(each, steps):
            x = each(x)
    return x.expand(steps, *x.shape[1:])


@contextmanager
def _momentum_of(each: object, steps: int) -> Iterator[None]:
    """Let a norm's running statistics take `steps` equal moves in one."""
    norms = (
        [m for m in each.modules() if isinstance(m, PerStepBatchNorm2d)]
        if isinstance(each, nn.Module)
        else []
    )
    with ExitStack() as stack:
        for norm in norms:
            stack.enter_context(_compounded(norm, steps))
        yield


@contextmanager
def _compounded(norm: _BatchNorm, steps: int) -> Iterator[None]:
    former = norm.momentum
    if former is None:
        yield  # a mean of all moves, which equal ones do not change
        return
    norm.momentum = 1 - (1 - former) ** steps
    try:
        yield
    finally:
        norm.momentum = former
