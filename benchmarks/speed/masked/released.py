"""The peer: masked surrogate gradients as released, written from its description.

Y. Li et al., arXiv 2406.19645. A loop over time steps; at each an autograd function
whose backward pass is the triangle 2 - 4|x|, masked where a uniform draw of the shape
of the potentials falls below p. Hard reset to 0 that is not detached.
"""

from typing import Any

import torch
from torch import Tensor, nn


class _MaskedTriangle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.p = p
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        triangle = (2.0 - 4.0 * x.abs()).clamp_min(0.0)
        keep = (torch.rand_like(x) >= ctx.p).to(x)
        return grad * triangle * keep, None


class ReleasedMaskedLIF(nn.Module):
    """A leaky neuron, looped over steps.

    Args:
        p: Probability that a derivative is dropped.
        v_threshold: Firing threshold.
        tau: Time constant in steps.
    """

    def __init__(self, p: float, v_threshold: float, tau: float = 2.0) -> None:
        super().__init__()
        self.p, self.v_threshold, self.tau = p, v_threshold, tau

    def forward(self, x_seq: Tensor, v: Tensor | None = None) -> Tensor:
        """Spike.

        Args:
            x_seq: `[T, N, ...]`.
            v: Potential to start from, `[N, ...]`; by default zeros.

        Returns:
            Spikes of the same shape.
        """
        if v is None:
            v = torch.zeros_like(x_seq[0])
        spikes = []
        for x in x_seq:
            v = v + (x - v) / self.tau
            spike = _MaskedTriangle.apply(v - self.v_threshold, self.p)
            v = v * (1.0 - spike)
            spikes.append(spike)
        return torch.stack(spikes)
