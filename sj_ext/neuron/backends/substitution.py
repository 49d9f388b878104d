"""Masking on the host's own CUDA, Triton and CuPy kernels, without a new kernel.

The derivative of each fused surrogate vanishes far from the threshold. A masked
element's charged potential h is therefore replaced by +-1e20, on the side where its
spike says that it was: spikes and reset stay exact, and the derivative is zero.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from spikingjelly.activation_based import surrogate as host_surrogate
from torch import Tensor
from torch.autograd.function import once_differentiable

from sj_ext import host
from sj_ext.neuron.backends.bases import FUSED_BASES
from sj_ext.neuron.dynamics import Dynamics
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate

_CONSTANTS = {
    "QIF": ("tau", "v_rest", "v_c", "a0"),
    "EIF": ("tau", "v_rest", "theta_rh", "delta_T"),
    "Izhikevich": ("tau", "v_rest", "v_c", "a0", "a", "b", "tau_w"),
}
# h is float32 in every kernel that is called here, half-precision input or not.
_FAR = 1e20

State = Tensor | tuple[Tensor, Tensor]
"""The potential, or for Izhikevich the potential and the recovery variable."""


class Kernels(NamedTuple):
    """A pair of functions that run all steps, called like the two of the host door.

    Attributes:
        forward: Like `sj_ext.host.fused_forward`.
        backward: Like `sj_ext.host.fused_backward`.
    """

    forward: Callable[..., Any] = host.fused_forward
    backward: Callable[..., Any] = host.fused_backward


def refuses(
    x_seq: Tensor,
    v: State,
    dynamics: Dynamics,
    surrogate: MaskedSurrogate,
    kernel: str,
) -> str | None:
    """Say why this case cannot run exactly on a kernel of the host.

    Args:
        x_seq: Input, `[T, N, ...]`.
        v: Initial potential, `[N, ...]`; for Izhikevich a pair with the recovery.
        dynamics: The neuron's equations.
        surrogate: A masked surrogate.
        kernel: `"cuda"`, `"triton"` or `"cupy"`.

    Returns:
        The reason, or None if it can.
    """
    return (
        _refuses_tensors(x_seq, v, dynamics, kernel)
        or _refuses_derivative(dynamics, surrogate)
        or _refuses_neuron(x_seq, dynamics)
        or host.fused_refusal(kernel, dynamics, x_seq.device)
    )


def multi_step(
    x_seq: Tensor,
    v: State,
    dynamics: Dynamics,
    surrogate: MaskedSurrogate,
    store_v_seq: bool,
    kernel: str,
) -> tuple[Tensor, State, State | None]:
    """Run all steps of a masked neuron on a kernel of the host.

    The mask of all steps is drawn at once, also where no gradient is recorded, so
    that activation checkpointing draws the same one twice.

    Args:
        x_seq: Input, `[T, N, ...]`, float32, float16 or bfloat16.
        v: Initial potential, `[N, ...]` float32; for Izhikevich a pair with the
            recovery, and the states below are pairs as well.
        dynamics: The neuron's equations.
        surrogate: A masked surrogate whose mask is active.
        store_v_seq: Whether to return the potential of every step.
        kernel: `"cuda"`, `"triton"` or `"cupy"`; `refuses` must have said None.

    Returns:
        Spikes `[T, N, ...]` in the dtype of `x_seq`, the last state, and the states
        of all steps or None.
    """
    return _run(x_seq, v, dynamics, surrogate, store_v_seq, kernel, Kernels())


def multiplier(surrogate: MaskedSurrogate, x_seq: Tensor, over_seq: Tensor) -> Tensor:
    """Draw again what `multi_step` draws from the present random state.

    Args:
        surrogate: As given to `multi_step`.
        x_seq: Input, `[T, N, ...]`.
        over_seq: h - v_threshold of all steps, of the same shape.

    Returns:
        A tensor that broadcasts to `[T, N, ...]`.
    """
    # A draw follows the layout of h, which is that of the input.
    laid_out = torch.empty_like(x_seq, dtype=over_seq.dtype).copy_(over_seq)
    return surrogate.multiplier(laid_out, sequence=True)


def _run(
    x_seq: Tensor,
    v: State,
    dynamics: Dynamics,
    surrogate: MaskedSurrogate,
    store_v_seq: bool,
    kernel: str,
    kernels: Kernels,
) -> tuple[Tensor, State, State | None]:
    state = v if isinstance(v, tuple) else (v,)
    call = _Call(kernels, kernel, dynamics, surrogate, store_v_seq, len(state))
    spike_seq, *states = _MaskedKernel.apply(call, x_seq, dynamics.w, *state)
    if not store_v_seq:
        return spike_seq, _like(v, states), None
    return spike_seq, _like(v, [one[-1] for one in states]), _like(v, states)


def _like(v: State, states: list[Tensor]) -> State:
    return (states[0], states[1]) if isinstance(v, tuple) else states[0]


class _Call(NamedTuple):
    kernels: Kernels
    kernel: str
    dynamics: Dynamics
    surrogate: MaskedSurrogate
    store_v_seq: bool
    states: int

    @property
    def weighs_gradient(self) -> bool:
        """Whether the mask multiplies the gradient that arrives at the spikes.

        With the reset detached that is the only way through the surrogate. It takes
        any multiplier and leaves h alone, at the price of keeping the multiplier; so
        does ParametricLIF, whose gradient of w the host then computes itself.
        """
        return _spikes_go_out_only(self.dynamics) and (
            self.dynamics.neuron == "ParametricLIF"
            or not _is_mask(self.surrogate)
            or not _vanishes(self.surrogate.base)
        )


class _MaskedKernel(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, call: _Call, x_seq: Tensor, w: Tensor | None, *state: Tensor
    ) -> tuple[Tensor, ...]:
        dynamics = call.dynamics
        needs_w = ctx.needs_input_grad[2] and not call.weighs_gradient
        spike_seq, states, h_seq, workspace, context = call.kernels.forward(
            call.kernel,
            x_seq,
            state,
            dynamics,
            call.surrogate.base,
            call.store_v_seq or needs_w,
        )
        multiplier = _multiplier(call.surrogate, h_seq, dynamics.v_threshold)
        kept: tuple[Tensor, ...] = ()
        if call.weighs_gradient:
            kept = (multiplier,)
        elif any(ctx.needs_input_grad):
            if dynamics.neuron == "ParametricLIF":
                workspace = ()
            if needs_w:
                kept = (_charge_by_q(x_seq, state[0], states[0], dynamics, h_seq),)
                if not call.store_v_seq:
                    states = (states[0][-1].clone(),)
            _substitute_(h_seq, multiplier, spike_seq)
        ctx.call, ctx.context, ctx.needs_w = call, context, needs_w
        # A schedule may change the rule before the backward pass.
        ctx.dtype, ctx.scale = x_seq.dtype, call.surrogate.mask.scale
        ctx.save_for_backward(w, h_seq, *kept, *workspace)
        ctx.kept = len(kept)
        ctx.set_materialize_grads(False)
        return spike_seq, *states

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_spike_seq: Tensor | None, *grad_states: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        call = ctx.call
        w, h_seq, *saved = ctx.saved_tensors
        kept, workspace = saved[: ctx.kept], tuple(saved[ctx.kept :])
        if grad_spike_seq is None:
            grad_spike_seq = torch.zeros_like(h_seq, dtype=ctx.dtype)
        state_like = h_seq if call.store_v_seq else h_seq[0]
        grads = tuple(
            torch.zeros_like(state_like) if grad is None else grad
            for grad in grad_states
        )
        if call.weighs_gradient:
            masked = grad_spike_seq * kept[0]
            if ctx.scale != 1.0:
                masked = masked * ctx.scale
            grad_spike_seq = masked.to(grad_spike_seq.dtype)
        elif ctx.needs_w:
            # The gradient of w is a sum over that of the input, which half precision
            # would round before.
            grad_spike_seq = grad_spike_seq.to(h_seq.dtype)
        grad_x, grad_init, grad_w = call.kernels.backward(
            call.kernel,
            grad_spike_seq,
            grads,
            h_seq,
            workspace,
            ctx.context,
            call.dynamics,
            call.surrogate.base,
            call.store_v_seq,
        )
        if ctx.needs_w:
            grad_w = _gradient_of_w(grad_x, kept[0], w, call.dynamics.decay_input)
        return None, grad_x.to(ctx.dtype), grad_w, *grad_init


def _multiplier(
    surrogate: MaskedSurrogate, h_seq: Tensor, v_threshold: float
) -> Tensor:
    """Ask the rule for all steps at once."""
    # This rule reads no values, so the subtraction would be one pass for nothing.
    reads_values = type(surrogate.mask) is not BernoulliMask
    x_seq = h_seq - v_threshold if reads_values else h_seq
    return surrogate.multiplier(x_seq, sequence=True)


def _substitute_(h_seq: Tensor, keep: Tensor, spike_seq: Tensor) -> None:
    """Move what is not kept far from the threshold, to the side of its spike."""
    silent = torch.tensor(-_FAR, dtype=h_seq.dtype)
    far = torch.add(silent, spike_seq.to(h_seq.dtype), alpha=2 * _FAR)
    torch.where(keep, h_seq, far, out=h_seq)


def _charge_by_q(
    x_seq: Tensor, v: Tensor, v_seq: Tensor, dynamics: Dynamics, h_seq: Tensor
) -> Tensor:
    """Differentiate h by q = sigmoid(w): x - (v - v_rest), or without the x."""
    v_rest = 0.0 if dynamics.v_reset is None else dynamics.v_reset
    by_q = torch.empty_like(h_seq)
    by_q[0] = v_rest - v
    by_q[1:] = v_rest - v_seq[:-1]
    return by_q.add_(x_seq) if dynamics.decay_input else by_q


def _gradient_of_w(
    grad_x: Tensor, charge_by_q: Tensor, w: Tensor, decay_input: bool
) -> Tensor:
    """Sum over steps and neurons; with `decay_input` grad_x holds the factor q."""
    q = w.to(charge_by_q.dtype).sigmoid()
    total = (grad_x * charge_by_q).sum() * (1 - q)
    return (total if decay_input else total * q).to(w.dtype).reshape(w.shape)


def _refuses_tensors(
    x_seq: Tensor, v: State, dynamics: Dynamics, kernel: str
) -> str | None:
    if kernel not in host.multi_step_backends() or kernel == "torch":
        return f"SpikingJelly {host.RELEASE} has no {kernel} kernels"
    if x_seq.device.type != "cuda":
        return f"needs a CUDA tensor, got one on {x_seq.device}"
    if x_seq.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"the host's kernels take no {x_seq.dtype}"
    state = v if isinstance(v, tuple) else (v,)
    if len(state) != (2 if dynamics.neuron == "Izhikevich" else 1):
        return f"{dynamics.neuron} has not {len(state)} state tensors"
    for one in state:
        if one.dtype != torch.float32:
            return f"the host's kernels keep the state in float32, not {one.dtype}"
        if x_seq.ndim < 2 or one.shape != x_seq.shape[1:] or not x_seq.numel():
            return f"no kernel for input {list(x_seq.shape)}, state {list(one.shape)}"
        if one.device != x_seq.device:
            return f"input on {x_seq.device} and state on {one.device}"
    if x_seq.numel() >= 2**31 and kernel == "cupy":
        return f"the host's CuPy kernels count in int32, got {x_seq.numel()} elements"
    return None


def _refuses_derivative(dynamics: Dynamics, surrogate: MaskedSurrogate) -> str | None:
    base = surrogate.base
    name = type(base).__name__
    if type(base) not in FUSED_BASES:
        return f"the host fuses no {name} into its kernels"
    alpha = base.alpha
    is_number = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
    if not base.spiking or not is_number or not 0.0 < alpha < math.inf:
        return f"the host fuses no {base} into its kernels"
    if _spikes_go_out_only(dynamics):
        return None
    if not _is_mask(surrogate):
        return (
            f"{surrogate.mask} weighs derivatives that it keeps, which is exact only "
            "with detach_reset=True"
        )
    if not _vanishes(base):
        return f"the derivative of {base} is not zero at {_FAR:g}"
    return None


def _refuses_neuron(x_seq: Tensor, dynamics: Dynamics) -> str | None:
    given = {"tau": dynamics.tau, **dict(dynamics.constants)}
    for name in _CONSTANTS.get(dynamics.neuron, ()):
        if given.get(name) is None:
            return f"the dynamics of {dynamics.neuron} lack {name}"
    if dynamics.neuron == "ParametricLIF":
        w = dynamics.w
        if w is None or w.ndim != 0 or w.device != x_seq.device:
            return "ParametricLIF needs a scalar w on the device of the input"
    return None


def _spikes_go_out_only(dynamics: Dynamics) -> bool:
    # A spike of an Izhikevich neuron also feeds its recovery.
    return dynamics.detach_reset and dynamics.neuron != "Izhikevich"


def _is_mask(surrogate: MaskedSurrogate) -> bool:
    return surrogate.mask.binary and surrogate.mask.scale == 1.0


def _vanishes(base: Any) -> bool:
    return _vanishes_far_out(type(base).__name__, float(base.alpha))


@cache
def _vanishes_far_out(name: str, alpha: float) -> bool:
    """Whether the derivative is lost far out, even times h, as a reset takes it."""
    base = getattr(host_surrogate, name)(alpha=alpha)
    with torch.enable_grad():
        x = torch.tensor([-_FAR, _FAR], requires_grad=True)
        (slope,) = torch.autograd.grad(base(x).sum(), x)
    return bool((slope.abs() * _FAR < 1e-9).all())
