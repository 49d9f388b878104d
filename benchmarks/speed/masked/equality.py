"""Masked neurons are compared under the very masks that they draw.

Each candidate draws its own, in its own order. With a gradient of one at the spikes of
step t alone, the gradient of x[t] is the masked derivative times 1/tau, since nothing
comes back from later steps: where the derivative is not zero it shows the mask. Given
that mask, gradients must be those of the equations in float64.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from spikingjelly.activation_based import base, functional
from torch import Tensor, nn

from benchmarks.speed.masked.neurons import TAU, THRESHOLD

_SEED = 20


class Case(NamedTuple):
    """One kind of input.

    Attributes:
        title: Names it in an error.
        shape: `[T, N, C, H, W]`.
        channels_last: Memory layout.
        initial_state: Whether the neurons start from a potential, whose gradient is
            then compared as well.
    """

    title: str
    shape: tuple[int, ...]
    channels_last: bool = False
    initial_state: bool = False


CASES = (
    Case("contiguous", (5, 3, 4, 5, 5)),
    Case("channels last", (5, 3, 4, 5, 5), channels_last=True),
    # CUDA blocks end at 1024 neurons.
    Case("an initial state, 4608 neurons", (4, 2, 4, 24, 24), initial_state=True),
)


def check_equality(
    neurons: Mapping[str, Callable[[], nn.Module]],
    dropped: Mapping[str, float],
    device: torch.device,
) -> None:
    """Refuse to time candidates that do not compute the same thing.

    Args:
        neurons: Factories of leaky neurons by name.
        dropped: The share of derivatives that each drops; with 0 it must drop none.
        device: Where they run.

    Raises:
        AssertionError: If spikes differ, if the gradients of the input or of the
            initial state are not those of the mask that the candidate drew, or if the
            mask keeps another share.
    """
    for case in CASES:
        x, v, cotangent = _inputs(case, device)
        for name, make in neurons.items():
            node = make().to(device)
            title = f"{name}, {case.title}"
            mask = _drawn_mask(node, x, v)
            found = _run(node, x, v, cotangent)
            *expected, slope = _equations(x, v, mask, cotangent)
            for ours, reference in zip(found, expected, strict=True):
                torch.testing.assert_close(
                    ours.double(),
                    reference,
                    rtol=1e-5,
                    atol=1e-5,
                    msg=lambda m, title=title: f"{title}: {m}",
                )
            _check_share(mask[slope > 0], 1.0 - dropped[name], title)


def _inputs(case: Case, device: torch.device) -> tuple[Tensor, Tensor | None, Tensor]:
    # Multiples of 1/64 and tau = 2 keep every potential exact: no rounding, which
    # kernels may do differently, moves a spike across the threshold.
    generator = torch.Generator().manual_seed(_SEED)
    x = torch.randn(case.shape, generator=generator).mul(64).round() / 64
    v = torch.randn(case.shape[1:], generator=generator).mul(16).round() / 64
    cotangent = torch.randn(case.shape, generator=generator)
    if case.channels_last:
        flat = x.flatten(0, 1).to(memory_format=torch.channels_last)
        x = flat.unflatten(0, case.shape[:2])
    start = v.to(device) if case.initial_state else None
    return x.to(device), start, cotangent.to(device)


def _run(
    node: nn.Module, x: Tensor, v: Tensor | None, cotangent: Tensor
) -> tuple[Tensor, ...]:
    torch.manual_seed(_SEED)
    functional.reset_net(node)
    leaves = [one.clone().requires_grad_() for one in (x, v) if one is not None]
    if v is None:
        spikes = node(leaves[0])
    elif isinstance(node, base.MemoryModule):
        node.v = leaves[1]
        spikes = node(leaves[0])
    else:
        spikes = node(*leaves)
    grads = torch.autograd.grad(spikes, leaves, cotangent)
    functional.reset_net(node)
    return (spikes.detach(), *grads)


def _drawn_mask(node: nn.Module, x: Tensor, v: Tensor | None) -> Tensor:
    mask = torch.zeros_like(x, dtype=torch.bool)
    for t in range(len(x)):
        cotangent = torch.zeros_like(x)
        cotangent[t] = 1.0
        mask[t] = _run(node, x, v, cotangent)[1][t] != 0
    return mask


def _equations(
    x: Tensor, v: Tensor | None, mask: Tensor, cotangent: Tensor
) -> tuple[Tensor, ...]:
    x_seq = x.double().requires_grad_()
    start = (torch.zeros_like(x[0]) if v is None else v).double().requires_grad_()
    potential, spikes, slopes = start, [], []
    for t, x_t in enumerate(x_seq):
        h = potential + (x_t - potential) / TAU
        u = h - THRESHOLD
        slope = (2.0 - 4.0 * u.detach().abs()).clamp_min(0.0)
        spike = (u >= 0).double() + slope * mask[t] * (u - u.detach())
        potential = h * (1.0 - spike)
        spikes.append(spike)
        slopes.append(slope)
    leaves = [x_seq] if v is None else [x_seq, start]
    spike_seq = torch.stack(spikes)
    grads = torch.autograd.grad(spike_seq, leaves, cotangent.double())
    return (spike_seq.detach(), *grads, torch.stack(slopes))


def _check_share(mask: Tensor, kept: float, title: str) -> None:
    share = mask.double().mean().item()
    deviation = math.sqrt(kept * (1.0 - kept) / mask.numel())
    if abs(share - kept) > 5.0 * deviation:
        raise AssertionError(
            f"{title}: expected {kept:.1%} of the derivatives to be kept, got "
            f"{share:.1%}"
        )
