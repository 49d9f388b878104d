"""What the formulas say, one sample and one prefix at a time."""

import torch
from spikingjelly.activation_based import functional
from torch.nn.functional import cross_entropy

from sj_ext.surrogate import dense


def gradients(net, x, label, t):
    """The gradient of -log f_t(label | x), x [T, 1, ...], by parameter."""
    functional.reset_net(net)
    logits = net(x)[:t].mean(0)
    loss = cross_entropy(logits, label.reshape(1))
    parameters = {n: p for n, p in net.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if one is None else one
        for (name, parameter), one in zip(parameters.items(), found, strict=True)
    }


def squared_norms(net, x, labels):
    """||g||^2 [N, T] by parameter, for labels [T, N] or [N]."""
    T, N = x.shape[:2]
    labels = labels.expand(T, N)
    norms = {
        n: torch.zeros(N, T).double()
        for n, p in net.named_parameters()
        if p.requires_grad
    }
    with dense(net):
        for i in range(N):
            for t in range(1, T + 1):
                found = gradients(net, x[:, i : i + 1], labels[t - 1, i], t)
                for name, gradient in found.items():
                    norms[name][i, t - 1] = gradient.square().sum()
    functional.reset_net(net)
    return norms


def information(net, x, labels):
    """I_t [T]: the mean over samples of the squared norm of all parameters."""
    return sum(squared_norms(net, x, labels).values()).mean(0)


def released(net, x, labels):
    """For each t a new pass, and the squared norm of the batch-mean gradient."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    values = []
    with dense(net):
        for t in range(1, len(x) + 1):
            functional.reset_net(net)
            loss = cross_entropy(net(x)[:t].mean(0), labels)
            found = torch.autograd.grad(loss, parameters)
            values.append(sum(one.square().sum() for one in found))
    functional.reset_net(net)
    return torch.stack(values)
