"""SpikingJelly 2.0.0: native CUDA and Triton kernels, picked by the host itself."""

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Any

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

_FAMILIES = {
    "IF": "if_",
    "LIF": "lif",
    "ParametricLIF": "plif",
    "QIF": "qif",
    "EIF": "eif",
    "Izhikevich": "izhikevich",
}
_CONSTANTS = {
    "QIF": ("tau", "v_rest", "v_c", "a0"),
    "EIF": ("tau", "v_rest", "theta_rh", "delta_T"),
    "Izhikevich": ("tau", "v_rest", "v_c", "a0", "a", "b", "tau_w"),
}
_COMMON = ("threshold", "reset", "detach_reset", "alpha", "store_v_seq", "surrogate_id")
# What sj_ext passes by position, between the tensors and what all families share.
_PASSED = {
    "IF": (("x", "v"), ("gs", "gv", "h"), ()),
    "LIF": (("x", "v"), ("gs", "gv", "h"), ("tau", "decay_input")),
    "ParametricLIF": (
        ("x", "v", "w"),
        ("gs", "gv", "x", "v", "w", "h"),
        ("decay_input",),
    ),
    "QIF": (
        ("x", "v"),
        ("gs", "gv", "h", "previous"),
        ("tau", "rest", "critical", "a0"),
    ),
    "EIF": (
        ("x", "v"),
        ("gs", "gv", "h", "previous"),
        ("tau", "rest", "theta", "delta"),
    ),
    "Izhikevich": (
        ("x", "v", "w"),
        ("gs", "gv", "gw", "h", "previous"),
        ("tau", "rest", "critical", "a0", "a", "b", "tau_w"),
    ),
}
_RETURNS = {
    "IF": (3, 2),
    "LIF": (3, 2),
    "ParametricLIF": (3, 3),
    "QIF": (4, 2),
    "EIF": (4, 2),
    "Izhikevich": (5, 3),
}
_SURROGATE_IDS = {
    "Sigmoid": 0,
    "ATan": 1,
    "PiecewiseQuadratic": 2,
    "PiecewiseExp": 3,
    "SoftSign": 4,
    "SuperSpike": 5,
    "Erf": 6,
}


def nodes_without_gradient_in_eval(net: nn.Module) -> list[nn.Module]:
    """List the neurons of `net` that pass no gradient while in eval mode.

    Returns:
        The nodes that replace their surrogate by a plain step function unless
        `training` is set, which has no other effect on them.
    """
    return [m for m in net.modules() if isinstance(m, neuron.ComplementaryLIFNode)]


def multi_step_backends() -> dict[str, str]:
    """Say which multi-step kernels this release has and how one is chosen.

    Returns:
        What each kernel runs on, by its name.
    """
    return {
        "torch": "any device; any surrogate",
        "triton": "CUDA; chosen by the host for its seven fused surrogates",
        "cuda": "CUDA; chosen by the host where its native extension was built",
    }


def set_kernel(node: nn.Module, kernel: str) -> None:
    """Choose what a node's multi-step pass runs on; this release chooses by itself.

    Args:
        node: A neuron of the host.
        kernel: `"torch"` or the name of a kernel.
    """


def enter_registry(
    neurons: Iterable[type[nn.Module]], surrogates: Iterable[type[nn.Module]]
) -> bool:
    """Let the host's configurations name classes by their path.

    Args:
        neurons: Classes derived from the host's `BaseNode`.
        surrogates: Classes derived from its `SurrogateFunctionBase`.

    Returns:
        Whether the host has a registry that took them.
    """
    try:
        vision = import_module("spikingjelly.activation_based.distributed.vision")
    except ImportError:
        # A torch without torch.distributed: then there are no configurations either.
        return False
    for neuron_class in neurons:
        vision.register_neuron_class(neuron_class)
    for surrogate_class in surrogates:
        vision.register_surrogate_class(surrogate_class)
    return True


def surrogate_refusal(node: nn.Module) -> str | None:
    """Say why a neuron cannot run a surrogate that the host does not know.

    Args:
        node: A neuron of the host, or of a class derived from one.

    Returns:
        The reason, or None if it can.
    """
    if isinstance(node, neuron.ILIFNode):
        return "its multi-step pass takes no surrogate but MultiLevelSpikeCount"
    return None


def fused_refusal(kernel: str, dynamics: Any, device: torch.device) -> str | None:
    """Say why a multi-step kernel of the host cannot be called for this neuron.

    Args:
        kernel: `"cuda"` or `"triton"`.
        dynamics: The neuron's `sj_ext.neuron` dynamics.
        device: A CUDA device.

    Returns:
        The reason, or None if it can.
    """
    if kernel not in ("cuda", "triton"):
        return f"SpikingJelly 2.0.0 has no {kernel} kernels"
    if dynamics.neuron not in _FAMILIES:
        return f"SpikingJelly 2.0.0 has no multi-step kernel for {dynamics.neuron}"
    reason = _interface_change(dynamics.neuron)
    if reason is not None:
        return reason
    try:
        family = import_module(f"spikingjelly._ops.{_FAMILIES[dynamics.neuron]}")
        chosen = family._selection._get_cuda_selection(device).name
    except (AttributeError, RuntimeError, ValueError) as error:
        return f"the host names no kernel for {device}: {error}"
    if chosen != kernel:
        return f"the host runs its {chosen} kernel for {dynamics.neuron} on {device}"
    return None


def fused_forward(
    kernel: str,
    x_seq: Tensor,
    state: tuple[Tensor, ...],
    dynamics: Any,
    base: Any,
    store_v_seq: bool,
) -> tuple[Tensor, tuple[Tensor, ...], Tensor, tuple[Tensor, ...], Any]:
    """Run all steps of a neuron on the host's kernel, without autograd.

    Args:
        kernel: Which kernel; here the host picks it by itself.
        x_seq: Input, `[T, N, ...]`, float32 or half.
        state: The potential, `[N, ...]` float32, and Izhikevich's recovery.
        dynamics: The neuron's `sj_ext.neuron` dynamics.
        base: One of the host's seven fused surrogates.
        store_v_seq: Whether states come back for every step, or for the last.

    Returns:
        Spikes; the new states; the charged potential h, `[T, N, ...]` float32 and
        writable; tensors and whatever else the backward kernel needs besides.
    """
    family = _operators(dynamics.neuron)
    tensors = (*state, dynamics.w) if dynamics.neuron == "ParametricLIF" else state
    out = family.forward(x_seq, *tensors, *_scalars(dynamics, base, store_v_seq))
    if dynamics.neuron == "ParametricLIF":
        workspace: tuple[Tensor, ...] = (x_seq, *state)
    else:
        workspace = tuple(out[2 + len(state) :])
    states = tuple(out[1 : 1 + len(state)])
    return out[0], states, out[1 + len(state)], workspace, None


def fused_backward(
    kernel: str,
    grad_spike_seq: Tensor,
    grad_state: tuple[Tensor, ...],
    h_seq: Tensor,
    workspace: tuple[Tensor, ...],
    context: Any,
    dynamics: Any,
    base: Any,
    store_v_seq: bool,
) -> tuple[Tensor, tuple[Tensor, ...], Tensor | None]:
    """Run the host's backward kernel on what `fused_forward` gave.

    Args:
        kernel: As in `fused_forward`.
        grad_spike_seq: Gradient of the spikes, `[T, N, ...]`.
        grad_state: Gradients of the states, shaped as they came back.
        h_seq: The charged potential, or what stands in for it.
        workspace: As given; for ParametricLIF it may be empty, which leaves out the
            gradient of w.
        context: As given.
        dynamics: As in `fused_forward`.
        base: As in `fused_forward`.
        store_v_seq: As in `fused_forward`.

    Returns:
        Gradients of the input, of the states and of ParametricLIF's w, or None.
    """
    family = _operators(dynamics.neuron)
    scalars = _scalars(dynamics, base, store_v_seq)
    if dynamics.neuron == "ParametricLIF":
        # Without a workspace, x and v only take part in the sum that is thrown away.
        x_seq, v = workspace or (grad_spike_seq, h_seq[0])
        grad_x, grad_v, grad_w = family.backward(
            grad_spike_seq, *grad_state, x_seq, v, dynamics.w, h_seq, *scalars
        )
        return grad_x, (grad_v,), grad_w if workspace else None
    out = family.backward(grad_spike_seq, *grad_state, h_seq, *workspace, *scalars)
    return out[0], tuple(out[1:]), None


def _scalars(dynamics: Any, base: Any, store_v_seq: bool) -> tuple[Any, ...]:
    if dynamics.neuron == "LIF":
        own: tuple[Any, ...] = (float(dynamics.tau), dynamics.decay_input)
    elif dynamics.neuron == "ParametricLIF":
        own = (dynamics.decay_input,)
    else:
        given = {"tau": dynamics.tau, **dict(dynamics.constants)}
        names = _CONSTANTS.get(dynamics.neuron, ())
        own = tuple(float(given[name]) for name in names)
    reset = None if dynamics.v_reset is None else float(dynamics.v_reset)
    return (
        *own,
        float(dynamics.v_threshold),
        reset,
        bool(dynamics.detach_reset),
        float(base.alpha),
        store_v_seq,
        _SURROGATE_IDS[type(base).__name__],
    )


def _operators(name: str) -> Any:
    # The import registers the operators.
    import_module(f"spikingjelly._ops.{_FAMILIES[name]}")
    return getattr(torch.ops, f"sj_{_FAMILIES[name].rstrip('_')}")


@cache
def _interface_change(name: str) -> str | None:
    """Compare the private operators with what this module passes to them."""
    inputs, gradients, own = _PASSED[name]
    try:
        family = _operators(name)
        known = dict(import_module("spikingjelly._ops.surrogate")._SURROGATE_IDS)
        schemas = [family.forward.default._schema, family.backward.default._schema]
    except (ImportError, AttributeError) as error:
        return f"the host's operators of {name} are not where they were: {error}"
    for schema, tensors, returned in zip(
        schemas, (inputs, gradients), _RETURNS[name], strict=True
    ):
        found = tuple(argument.name for argument in schema.arguments)
        if found != (*tensors, *own, *_COMMON) or len(schema.returns) != returned:
            return f"the host's operator changed: {schema}"
    if known != _SURROGATE_IDS:
        return f"the host's surrogate numbers changed: {known}"
    return None
