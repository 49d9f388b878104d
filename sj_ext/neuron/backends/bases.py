"""The surrogate functions that fused neurons know, by exact class."""

from spikingjelly.activation_based import surrogate

FUSED_BASES: tuple[type, ...] = (
    surrogate.Sigmoid,
    surrogate.ATan,
    surrogate.PiecewiseQuadratic,
    surrogate.PiecewiseExp,
    surrogate.SoftSign,
    surrogate.SuperSpike,
    surrogate.Erf,
)
"""Those the host fuses; the CPU kernel numbers its derivatives in this order."""
