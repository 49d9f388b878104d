"""Masked neurons: the host's, with a masked surrogate, on fused backends."""

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
