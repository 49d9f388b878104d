"""A registered network without batch norm, whose gradients are plain means of samples.

`python -m tests.benchmarks.without_norms TASK ...` is the command line with it.
"""

import sys

import torch
from spikingjelly.activation_based import functional, layer

from benchmarks.__main__ import main
from sj_ext import register

NAME = "without_norms"


@register("model", NAME)
def without_norms(in_channels, classes, size, neuron):
    """Build it."""
    net = torch.nn.Sequential(
        layer.AvgPool2d(4),
        layer.Flatten(),
        layer.Linear(in_channels * size[0] * size[1] // 16, 8),
        neuron(),
        layer.Linear(8, classes),
    )
    functional.set_step_mode(net, "m")
    return net


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
