"""Peers that need nothing but torch: a loop over samples, and one batched backward."""

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from sj_ext.surrogate import dense


def loop_over_samples(net: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Measure the samples one by one: one forward and T backward passes of each.

    Args:
        net: Takes `x` and returns logits `[T, N, K]`.
        x: `[T, N, ...]`.
        target: `[N]`.

    Returns:
        The mean of ||gradient of a sample||^2 for each t, `[T]`, by parameter.
    """
    T, N = x.shape[:2]
    parameters = dict(net.named_parameters())
    squares = torch.zeros(T, len(parameters), dtype=torch.float64)
    with dense(net):
        for i in range(N):
            functional.reset_net(net)
            logits = net(x[:, i : i + 1])
            for t in range(1, T + 1):
                loss = cross_entropy(logits[:t].mean(0), target[i : i + 1])
                found = torch.autograd.grad(
                    loss, list(parameters.values()), retain_graph=t < T
                )
                norms = torch.stack([g.double().square().sum() for g in found])
                squares[t - 1] += norms.cpu() / N
    functional.reset_net(net)
    return dict(zip(parameters, squares.unbind(1), strict=True))


def one_batched_backward(
    net: nn.Module, x: Tensor, target: Tensor
) -> dict[str, Tensor]:
    """Measure a batch as released, all prefixes in one backward pass.

    Each of the T cotangents has all T steps, most of them zero.

    Args:
        net: Takes `x` and returns logits `[T, N, K]`.
        x: `[T, N, ...]`.
        target: `[N]`.

    Returns:
        ||mean gradient of the batch||^2 for each t, `[T]`, by parameter.
    """
    parameters = dict(net.named_parameters())
    with dense(net):
        functional.reset_net(net)
        logits = net(x)
        T, N, K = logits.shape
        cotangents = logits.new_zeros(T, *logits.shape)
        for t in range(1, T + 1):
            share = logits[:t].detach().mean(0).softmax(-1)
            cotangents[t - 1, :t] = (share - one_hot(target, K)) / (t * N)
        found = torch.autograd.grad(
            logits, list(parameters.values()), cotangents, is_grads_batched=True
        )
    functional.reset_net(net)
    return {
        name: gradient.flatten(1).double().square().sum(1).cpu()
        for name, gradient in zip(parameters, found, strict=True)
    }
