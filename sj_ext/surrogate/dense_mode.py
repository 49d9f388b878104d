"""Evaluation with gradients: no random mask, no batch statistics, no dropout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from spikingjelly.activation_based import neuron
from torch import nn

from sj_ext import host
from sj_ext.surrogate.masked import MaskedSurrogate

_Net = TypeVar("_Net", bound=nn.Module)
_LEARNS_ONLINE = (neuron.OTTTLIFNode, neuron.SLTTLIFNode)


@contextmanager
def dense(net: _Net) -> Iterator[_Net]:
    """Put `net` into evaluation while its surrogates stay differentiable and dense.

    Inside, batch norm and dropout evaluate, masked surrogates have their base's whole
    derivative, and every neuron passes gradients, also on a host whose neurons pass
    none in eval mode. Afterwards each module is in the mode it was found in. Analyses
    and attacks run in it; neuron states are the caller's to reset.

    Args:
        net: A network, of which any part may hold masked surrogates, or none.

    Yields:
        `net` itself.

    Raises:
        TypeError: If `net` holds a neuron of an online learning rule (OTTT, SLTT),
            which has no gradient through time.
    """
    for name, module in net.named_modules():
        if isinstance(module, _LEARNS_ONLINE):
            raise TypeError(
                "Expected neurons with a gradient through time, got "
                f"{type(module).__name__} at {name or 'the top'!r}."
            )
    modes = [(module, module.training) for module in net.modules()]
    masked = [m for m in net.modules() if isinstance(m, MaskedSurrogate)]
    active = [surrogate.mask_active for surrogate in masked]
    try:
        net.eval()
        for node in host.nodes_without_gradient_in_eval(net):
            node.training = True
        for surrogate in masked:
            surrogate.mask_active = False
        yield net
    finally:
        for module, training in modes:
            module.training = training
        for surrogate, was_active in zip(masked, active, strict=True):
            surrogate.mask_active = was_active
