"""Layers of the host whose parameters act otherwise than those of their bases."""

from spikingjelly.activation_based import layer

from sj_ext.fisher.rules.rule import not_covered

# Standardised weights; a scale for each time step after the norm.
not_covered(
    layer.WSConv2d,
    layer.WSLinear,
    layer.TemporalEffectiveBatchNorm1d,
    layer.TemporalEffectiveBatchNorm2d,
    layer.TemporalEffectiveBatchNorm3d,
)
