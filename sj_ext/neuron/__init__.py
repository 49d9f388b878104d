"""Masked neurons: the host's, with a masked surrogate, on fused backends.

On SpikingJelly 2.0.0 the host's configurations can name them by their path.
"""

from sj_ext import host
from sj_ext.neuron.dynamics import Dynamics
from sj_ext.neuron.masked import (
    MaskedEIFNode,
    MaskedIFNode,
    MaskedIzhikevichNode,
    MaskedLIFNode,
    MaskedNode,
    MaskedParametricLIFNode,
    MaskedQIFNode,
)
from sj_ext.neuron.swap import SwapReport, mask_neurons, unmask_neurons
from sj_ext.surrogate import MaskedSurrogate

__all__ = [
    "Dynamics",
    "MaskedEIFNode",
    "MaskedIFNode",
    "MaskedIzhikevichNode",
    "MaskedLIFNode",
    "MaskedNode",
    "MaskedParametricLIFNode",
    "MaskedQIFNode",
    "SwapReport",
    "mask_neurons",
    "unmask_neurons",
]

for _class in (
    Dynamics,
    MaskedEIFNode,
    MaskedIFNode,
    MaskedIzhikevichNode,
    MaskedLIFNode,
    MaskedNode,
    MaskedParametricLIFNode,
    MaskedQIFNode,
    SwapReport,
):
    _class.__module__ = __name__

host.enter_registry(
    (
        MaskedEIFNode,
        MaskedIFNode,
        MaskedIzhikevichNode,
        MaskedLIFNode,
        MaskedParametricLIFNode,
        MaskedQIFNode,
    ),
    (MaskedSurrogate,),
)
