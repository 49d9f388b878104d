"""Pruning of spiking networks, and what a pruned network computes."""

from sj_ext.pruning.synops import (
    LayerOperations,
    Operations,
    SynapticOperations,
    synop_rules,
)

__all__ = ["LayerOperations", "Operations", "SynapticOperations", "synop_rules"]

for _name in __all__:
    globals()[_name].__module__ = __name__
