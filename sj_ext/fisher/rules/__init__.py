"""Per-sample gradients of one layer's parameters, a small file for each kind of layer.

A rule sees what went into a layer and the gradient of what came out, both by sample.
A layer of one's own gets one by deriving from `Rule` and `@covers(ItsClass)`; without
it, its parameters are differentiated sample by sample.
"""

# Importing a file of rules registers them.
from sj_ext.fisher.rules import (  # noqa: F401
    batch_norm,
    convolution,
    linear,
    parametric_lif,
    reparametrised,
)
from sj_ext.fisher.rules.rule import Item, Rule, covers, not_covered, rule_for

__all__ = ["Item", "Rule", "covers", "not_covered", "rule_for"]
