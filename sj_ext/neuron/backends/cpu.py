"""IF, LIF and ParametricLIF neurons on the CPU: one fused pass, the mask drawn in it.

Forward writes spikes and potentials only. Backward charges the neurons again from
their input and draws each element's fate from a hash of (seed, step, element), so no
mask and no intermediate sequence is ever stored. Spikes are the host's to the bit.
"""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sj_ext.neuron.backends._fused_operator import (
    Charge,
    Slope,
    drop_threshold,
    sequence_strides,
    state_dtype,
)
from sj_ext.neuron.backends.bases import FUSED_BASES
from sj_ext.neuron.dynamics import Dynamics
from sj_ext.surrogate.bernoulli import BernoulliMask
from sj_ext.surrogate.constant import ConstantMask
from sj_ext.surrogate.masked import MaskedSurrogate
from sj_ext.surrogate.window import WindowMask

_NEURONS = ("IF", "LIF", "ParametricLIF")
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_RULES: tuple[type, ...] = (BernoulliMask, WindowMask, ConstantMask)
_HAS_NUMBA = find_spec("numba") is not None


def refuses(
    x_seq: Tensor, v: Tensor, dynamics: Dynamics, surrogate: MaskedSurrogate
) -> str | None:
    """Say why this backend cannot run a case exactly.

    Args:
        x_seq: Input, `[T, N, ...]`.
        v: Initial potential, `[N, ...]`.
        dynamics: The neuron's equations.
        surrogate: A masked surrogate.

    Returns:
        The reason, or None where `multi_step` runs it.
    """
    return (
        _refuses_dynamics(dynamics)
        or _refuses_tensors(x_seq, v)
        or _refuses_base(surrogate.base)
        or _refuses_rule(surrogate.mask)
        or (None if _HAS_NUMBA else "numba is not installed")
    )


def multi_step(
    x_seq: Tensor,
    v: Tensor,
    dynamics: Dynamics,
    surrogate: MaskedSurrogate,
    store_v_seq: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run a neuron over all steps; gradients reach `x_seq`, `v` and `dynamics.w`.

    A Bernoulli rule takes one seed from torch's default CPU generator for each call,
    recorded gradient or not; a window takes none. The state is float32 for half
    precision input, else of the input's type. `x_seq` is kept for the backward pass,
    so it must not be changed in place before that.

    Args:
        x_seq: Input, `[T, N, ...]`, in any memory layout.
        v: Initial potential, `[N, ...]`.
        dynamics: The neuron's equations.
        surrogate: A masked surrogate that `refuses` lets pass.
        store_v_seq: Whether to return the potentials of all steps.

    Returns:
        Spikes `[T, N, ...]` in the type and layout of `x_seq`, the last potential
        `[N, ...]`, and all potentials `[T, N, ...]` or None.

    Raises:
        ValueError: If `refuses` gives a reason.
    """
    if reason := refuses(x_seq, v, dynamics, surrogate):
        raise ValueError(f"Expected a case that the CPU kernel can run: {reason}.")
    q = None
    if dynamics.w is not None:
        w = dynamics.w
        q = (w if w.dtype in (torch.float32, torch.float64) else w.float()).sigmoid()
    seed = _next_seed() if isinstance(surrogate.mask, BernoulliMask) else None
    spikes, v_last, v_seq = _FusedNeuron.apply(
        x_seq,
        v,
        q,
        seed,
        Charge(
            dynamics.tau,
            dynamics.decay_input,
            float(dynamics.v_threshold),
            None if dynamics.v_reset is None else float(dynamics.v_reset),
        ),
        _slope_of(surrogate, dynamics.detach_reset),
        store_v_seq,
    )
    return spikes, v_last, v_seq if store_v_seq else None


def _next_seed() -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device="cpu")


def multiplier(surrogate: MaskedSurrogate, x_seq: Tensor, over_seq: Tensor) -> Tensor:
    """Draw again what `multi_step` draws from the present random state.

    Args:
        surrogate: As given to `multi_step`.
        x_seq: Input, `[T, N, ...]`.
        over_seq: h - v_threshold of all steps, of the same shape.

    Returns:
        A tensor that broadcasts to `[T, N, ...]`.
    """
    rule = surrogate.mask
    if isinstance(rule, BernoulliMask):
        return draw(int(_next_seed()), x_seq.shape, rule.p, x_seq.stride())
    return rule.multiplier(over_seq, sequence=True)


def draw(
    seed: int, shape: Sequence[int], p: float, stride: Sequence[int] | None = None
) -> Tensor:
    """Give the mask that the backward pass draws from `seed`.

    Args:
        seed: Any integer of 64 bits.
        shape: That of the input, `[T, N, ...]`.
        p: Probability of being dropped, in [0, 1).
        stride: Strides of the input; by default it is contiguous. Elements are
            counted in the order in which a step lies in memory.

    Returns:
        A bool tensor of the shape `shape`, true with probability 1 - p to 2**-32.
    """
    T, *rest = shape
    neurons = math.prod(rest)
    keep = np.empty((T, neurons), dtype=bool)
    index = np.arange(neurons, dtype=np.uint64)
    low_index = index.astype(np.uint32)
    stream = _mix(seed % 2**64)
    for t in range(T):
        keys = {
            chunk: _mix((stream + ((chunk << 32) | t) * _GOLDEN) % 2**64)
            for chunk in range((neurons >> 32) + 1)
        }
        for chunk, key in keys.items():
            part = slice(chunk << 32, (chunk + 1) << 32)
            bits = _hash(low_index[part], key & 0xFFFFFFFF, key >> 32)
            keep[t, part] = bits >= np.uint32(drop_threshold(p))
    flat = torch.from_numpy(keep)
    if stride is None:
        return flat.view(*shape)
    return flat.as_strided(tuple(shape), sequence_strides(shape, stride))


_GOLDEN = 0x9E3779B97F4A7C15


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def _hash(index: NDArray[np.uint32], low: int, high: int) -> NDArray[np.uint32]:
    z = (index ^ np.uint32(low)) * np.uint32(0x21F0AAAD)
    z = ((z ^ (z >> np.uint32(15))) + np.uint32(high)) * np.uint32(0x735A2D97)
    z = (z ^ (z >> np.uint32(15))) * np.uint32(0x846CA68B)
    return z ^ (z >> np.uint32(16))


# What can be run.


def _refuses_tensors(x_seq: Tensor, v: Tensor) -> str | None:
    if x_seq.device.type != "cpu" or v.device.type != "cpu":
        return f"the tensors are on {x_seq.device} and {v.device}, not on the CPU"
    if x_seq.layout != torch.strided or v.layout != torch.strided:
        return f"the layouts are {x_seq.layout} and {v.layout}, not strided"
    if x_seq.dtype not in _DTYPES:
        return f"the input is of type {x_seq.dtype}"
    if v.dtype not in (x_seq.dtype, state_dtype(x_seq)):
        return f"the input is of type {x_seq.dtype} but the potential of {v.dtype}"
    if x_seq.dim() < 2 or x_seq.shape[0] == 0:
        return f"the input is of shape {list(x_seq.shape)}, not [T, N, ...]"
    if v.shape != x_seq.shape[1:]:
        return (
            f"the potential is of shape {list(v.shape)}, the input's steps of "
            f"{list(x_seq.shape[1:])}"
        )
    return None


def _refuses_dynamics(dynamics: Dynamics) -> str | None:
    if dynamics.neuron not in _NEURONS:
        return f"there is no fused {dynamics.neuron} neuron"
    if (dynamics.tau is not None) != (dynamics.neuron == "LIF"):
        return f"tau is {dynamics.tau} in a neuron of kind {dynamics.neuron}"
    if (dynamics.w is not None) != (dynamics.neuron == "ParametricLIF"):
        return f"w is {dynamics.w} in a neuron of kind {dynamics.neuron}"
    if dynamics.w is not None and dynamics.w.dim() != 0:
        return f"w is of shape {list(dynamics.w.shape)}, not a scalar"
    for name in ("v_threshold", "v_reset", "tau"):
        value = getattr(dynamics, name)
        if value is not None and not _is_number(value):
            return f"{name} is no number but {type(value).__name__}"
    return None


def _refuses_base(base: object) -> str | None:
    if type(base) not in FUSED_BASES:
        return f"there is no fused derivative of {type(base).__name__}"
    if not getattr(base, "spiking", False):
        return "the surrogate is set not to spike"
    alpha: Any = getattr(base, "alpha", None)
    if not _is_number(alpha) or not 0.0 < float(alpha) < math.inf:
        return f"alpha is {alpha!r}, no positive number"
    return None


def _refuses_rule(rule: object) -> str | None:
    if type(rule) not in _RULES:
        return f"there is no fused rule {type(rule).__name__}"
    if getattr(rule, "shared", ()):
        return f"{type(rule).__name__} shares its draws"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _slope_of(surrogate: MaskedSurrogate, detach_reset: bool) -> Slope:
    rule = surrogate.mask
    return Slope(
        detach_reset,
        FUSED_BASES.index(type(surrogate.base)),
        float(surrogate.base.alpha),
        _RULES.index(type(rule)),
        rule.p if isinstance(rule, BernoulliMask) else 0.0,
        rule.scale,
        rule.half_width if isinstance(rule, WindowMask) else 0.0,
    )


# Autograd.


class _FusedNeuron(torch.autograd.Function):
    @staticmethod
    def forward(
        x_seq: Tensor,
        v: Tensor,
        q: Tensor | None,
        seed: Tensor | None,
        charge: Charge,
        slope: Slope,
        store_v_seq: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ops.sj_ext.fused_neuron(x_seq, v, q, *charge, store_v_seq)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x_seq, v, q, seed, charge, slope, store_v_seq = inputs
        ctx.save_for_backward(x_seq, v, q, seed)
        ctx.charge, ctx.slope, ctx.store_v_seq = charge, slope, store_v_seq
        ctx.set_materialize_grads(False)
        if not store_v_seq:
            ctx.mark_non_differentiable(output[2])

    @staticmethod
    def backward(
        ctx: Any, grad_s: Tensor | None, grad_v: Tensor | None, grad_v_seq: Any
    ) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            # Otherwise the second derivative would silently lack its part from here.
            raise RuntimeError(
                "The fused CPU neuron has no second derivative: set backend='torch' "
                "for create_graph=True."
            )
        x_seq, v, q, seed = ctx.saved_tensors
        grad_x, grad_v0, grad_q = torch.ops.sj_ext.fused_neuron_backward(
            grad_s,
            grad_v,
            grad_v_seq if ctx.store_v_seq else None,
            x_seq,
            v,
            q,
            seed,
            *ctx.charge,
            *ctx.slope,
        )
        return grad_x, grad_v0, grad_q if q is not None else None, *(None,) * 4
