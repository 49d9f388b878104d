"""The peer: temporal Fisher information as released, written from its description.

Y. Kim et al., arXiv 2211.14406. For each t a new pass of all T steps, the mean of the
first t outputs, the cross-entropy's mean over the batch, and the squared norm of its
gradient.
"""

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sj_ext.surrogate import dense


def released_fisher(net: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Measure a batch.

    Args:
        net: Takes `x` and returns logits `[T, N, K]`.
        x: `[T, N, ...]`.
        target: `[N]`.

    Returns:
        ||mean gradient of the batch||^2 for each t, `[T]` float64, by parameter.
    """
    parameters = dict(net.named_parameters())
    squares = torch.zeros(len(x), len(parameters), dtype=torch.float64)
    with dense(net):
        for t in range(1, len(x) + 1):
            functional.reset_net(net)
            loss = cross_entropy(net(x)[:t].mean(0), target)
            found = torch.autograd.grad(loss, list(parameters.values()))
            squares[t - 1] = torch.stack([g.double().square().sum() for g in found])
    functional.reset_net(net)
    return dict(zip(parameters, squares.unbind(1), strict=True))
