"""A peer: per-sample gradients by Opacus, which has none for batch norm."""

import warnings
from collections.abc import Callable

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.speed.fisher.network import batch_norms
from sj_ext.surrogate import dense


def opacus_measure(
    net: nn.Module, x: Tensor, target: Tensor
) -> Callable[[], dict[str, Tensor]]:
    """Prepare a network; for each t a new pass of the first t steps.

    Opacus drops what a layer took in after one backward pass, so that none can share
    a forward pass with another.

    Args:
        net: Takes `x` and returns logits `[T, N, K]`. Its batch norms are frozen.
        x: `[T, N, ...]`.
        target: `[N]`.

    Returns:
        What measures: the mean of ||gradient of a sample||^2 for each t, `[T]`, by
        parameter.
    """
    from opacus.grad_sample import GradSampleModule

    for norm in batch_norms(net):
        norm.requires_grad_(False)
    wrapped = GradSampleModule(net, batch_first=False, loss_reduction="sum")
    parameters = {n: p for n, p in net.named_parameters() if p.requires_grad}
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]

    def measure() -> dict[str, Tensor]:
        squares: dict[str, list[Tensor]] = {name: [] for name in parameters}
        with dense(net), warnings.catch_warnings():
            # It is told that the frames need no gradient, which is as it should be.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            for layer in layers:
                # Only layers in train mode are followed, and these have no other.
                layer.training = True
            for t in range(1, len(x) + 1):
                functional.reset_net(net)
                logits = wrapped(x[:t]).mean(0)
                cross_entropy(logits, target, reduction="sum").backward()
                for name, parameter in parameters.items():
                    gradients = parameter.grad_sample.flatten(1).double()
                    squares[name].append(gradients.square().sum(1).mean().cpu())
                wrapped.zero_grad()
        functional.reset_net(net)
        return {name: torch.stack(found) for name, found in squares.items()}

    return measure
