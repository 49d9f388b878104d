"""Small networks, in every way in which parameters and time can be arranged."""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from sj_ext.neuron import MaskedLIFNode, MaskedParametricLIFNode
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate

T, N, K = 4, 3, 5


def lif(**kwargs):
    # Wide, so that every layer has gradients of some size.
    return neuron.LIFNode(
        v_threshold=0.4, surrogate_function=surrogate.Sigmoid(alpha=2.0), **kwargs
    )


def parametric_lif(**kwargs):
    return neuron.ParametricLIFNode(
        v_threshold=0.4, surrogate_function=surrogate.Sigmoid(alpha=2.0), **kwargs
    )


def masked_lif(**kwargs):
    mask = MaskedSurrogate("Sigmoid", BernoulliMask(0.5), {"alpha": 2.0})
    return MaskedLIFNode(v_threshold=0.4, surrogate_function=mask, **kwargs)


def masked_parametric_lif(**kwargs):
    mask = MaskedSurrogate("Sigmoid", BernoulliMask(0.5), {"alpha": 2.0})
    return MaskedParametricLIFNode(v_threshold=0.4, surrogate_function=mask, **kwargs)


def ready(net, step_mode="m"):
    """Double precision, with the statistics and affine maps of a trained network."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0.1, 0.2)
            module.running_var.uniform_(0.3, 0.9)
            module.weight.data.uniform_(0.7, 1.5)
            module.bias.data.normal_(0.2, 0.2)
    functional.set_step_mode(net, step_mode)
    return net.double()


def convolutional(node=lif, step_mode="m", **kwargs):
    return ready(
        nn.Sequential(
            layer.Conv2d(2, 4, 3, padding=1, bias=False),
            layer.BatchNorm2d(4),
            node(**kwargs),
            layer.Conv2d(4, 6, 3, stride=2, groups=2),
            node(**kwargs),
            layer.Flatten(),
            layer.Linear(24, K),
        ),
        step_mode,
    )


def frames(samples=N, shape=(2, 6, 6), steps=T):
    return (torch.rand(steps, samples, *shape) < 0.5).double()


def fully_connected(node=lif, step_mode="m", **kwargs):
    return ready(
        nn.Sequential(
            layer.Linear(8, 16),
            layer.BatchNorm1d(16),
            node(**kwargs),
            layer.Linear(16, 16, bias=False),
            node(**kwargs),
            layer.Linear(16, K),
        ),
        step_mode,
    )


class Temporal1d(nn.Module):
    """Convolutions along a line, with reflected and uneven padding."""

    def __init__(self):
        super().__init__()
        self.first = layer.Conv1d(2, 4, 3, padding=2, padding_mode="reflect")
        self.second = layer.Conv1d(4, 4, 4, padding="same", dilation=2, groups=2)
        self.first_node, self.second_node = lif(), lif()
        self.head = layer.Linear(4, K)

    def forward(self, x):
        x = self.first_node(self.first(x))
        return self.head(self.second_node(self.second(x)).mean(-1))


class Folded(nn.Module):
    """Plain layers on `[T * N, ...]`, as published transformers have them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.node = lif()
        self.tokens = nn.Linear(4, 6)
        self.head = nn.Linear(6, K)

    def forward(self, x):
        steps, samples = x.shape[:2]
        y = self.norm(self.conv(x.flatten(0, 1)))
        y = self.node(y.unflatten(0, (steps, samples)))
        y = self.tokens(y.flatten(3).mT)
        return self.head(y.mean(2))


class OneBatch(nn.Module):
    """Neurons in single-step mode that take all steps for one batch."""

    def __init__(self, node=lif):
        super().__init__()
        self.unused = lif()
        self.conv = nn.Conv2d(2, 4, 3)
        self.node = node()
        self.head = nn.Linear(4, K)

    def forward(self, x):
        y = self.node(self.conv(x.flatten(0, 1)))
        return self.head(y.mean((2, 3)).unflatten(0, x.shape[:2]))


class Repeated(nn.Module):
    """One layer called twice, one weight in two layers, activations in place."""

    def __init__(self):
        super().__init__()
        self.first = layer.Linear(8, 8)
        self.nodes = nn.ModuleList([lif(), lif()])
        self.twin = layer.Linear(8, 8, bias=False)
        self.twin.weight = self.first.weight
        self.head = layer.Linear(8, K)

    def forward(self, x):
        y = nn.functional.relu_(self.first(x))
        y = self.nodes[0](self.first(y))
        y = self.nodes[1](self.twin(y) + y)
        return self.head(y)


class RepeatedEverywhere(nn.Module):
    """Convolution, norm and a neuron that learns, each called twice in a step."""

    def __init__(self, **kwargs):
        super().__init__()
        self.conv = layer.Conv2d(2, 2, 3, padding=1)
        self.norm = layer.BatchNorm2d(2)
        self.node = parametric_lif(**kwargs)
        self.head = layer.Linear(72, K)

    def forward(self, x):
        for _ in range(2):
            x = self.node(self.norm(self.conv(x)))
        return self.head(x.flatten(-3))


class OtherParameters(nn.Module):
    """Parameters that no rule covers: a gain of its own, and standardised weights."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.rand(8) + 0.5)
        self.first = layer.WSLinear(8, 8, gain=False)
        self.node = lif()
        self.head = layer.Linear(8, K)

    def forward(self, x):
        return self.head(self.node(self.first(self.gain * x)))


class Unrelated(layer.Linear):
    """Its weights act otherwise than those of the class that it derives from."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight.tanh(), self.bias)


class LoopsOverTime(nn.Module):
    """A network in single-step mode that loops over the steps itself."""

    def __init__(self):
        super().__init__()
        self.inner = fully_connected(step_mode="s")

    def forward(self, x):
        return torch.stack([self.inner(step) for step in x])


class AcrossTime(nn.Module):
    """Steps that act on each other in both directions: it runs as a whole only."""

    def __init__(self):
        super().__init__()
        self.first = layer.Linear(8, 8)
        self.node = lif()
        self.head = layer.Linear(8, K)

    def forward(self, x):
        y = self.first(x)
        return self.head(self.node(y - y.mean(0)))
