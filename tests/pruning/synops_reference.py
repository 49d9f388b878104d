"""Synaptic operations as loops that read like the definition."""

import itertools

import torch
from torch.nn import functional as F


def connected(weight, x, stride, padding, dilation, groups, mode="zeros"):
    """Non-zero inputs [C, H, W] times non-zero weights, output by output."""
    sides = (padding[1], padding[1], padding[0], padding[0])
    x = F.pad(x, sides, mode="constant" if mode == "zeros" else mode)
    outputs, per_group, *kernel = weight.shape
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, d, k, s in zip(x.shape[1:], dilation, kernel, stride, strict=True)
    ]
    count = 0
    for o, row, column in itertools.product(range(outputs), *map(range, sizes)):
        first = o // (outputs // groups) * per_group
        for c, i, j in itertools.product(range(per_group), *map(range, kernel)):
            place = (row * stride[0] + i * dilation[0], column * stride[1])
            place = (place[0], place[1] + j * dilation[1])
            count += bool(x[(first + c, *place)] != 0 and weight[o, c, i, j] != 0)
    return count


def fully_connected(weight, x):
    """The same for inputs [I]."""
    return sum(
        bool(x[i] != 0 and weight[o, i] != 0)
        for o, i in itertools.product(*map(range, weight.shape))
    )


def sparse(*shape, share=0.5):
    return torch.randn(shape) * (torch.rand(shape) < share)
