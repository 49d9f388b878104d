"""Which layers of a network a comparison of representations looks at."""

from collections.abc import Iterator

from spikingjelly.activation_based import base
from torch import nn

from benchmarks.models.preactivation_resnet import PreactivationBlock
from benchmarks.models.resnet import BasicBlock

_SKIPPED = (nn.Flatten, nn.Linear, nn.Identity, nn.Dropout)


def feature_layers(net: nn.Module) -> list[str]:
    """Name the outputs of convolutions, norms, neurons, poolings and blocks.

    They are the features of arXiv 2304.13098: 73 in a pre-activation ResNet-20.

    Args:
        net: A network of `benchmarks.models`.

    Returns:
        Names as in `net.named_modules()`, in the order of execution.
    """
    return list(_visit(net, ""))


def _visit(module: nn.Module, name: str) -> Iterator[str]:
    children = list(module.named_children())
    if isinstance(module, base.MemoryModule) or not children:
        # The surrogate of a spiking neuron is its child and no layer.
        if not isinstance(module, _SKIPPED):
            yield name
        return
    for child, inner in children:
        yield from _visit(inner, f"{name}.{child}" if name else child)
    if isinstance(module, (PreactivationBlock, BasicBlock)):
        yield name
