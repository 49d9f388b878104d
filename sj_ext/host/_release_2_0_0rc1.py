"""SpikingJelly 2.0.0rc1: CuPy and Triton kernels, chosen by a node's `backend`."""

import inspect
import math
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

_SWAPPING_IN_EVAL = (neuron.IFNode, neuron.LIFNode, neuron.ComplementaryLIFNode)

_CUPY = "spikingjelly.activation_based.cuda_kernel.neuron_kernel.multi_step"
_TRITON = "spikingjelly.activation_based.triton_kernel.neuron_kernel"
_CUPY_MODULES = {
    "IF": "integrate_and_fire",
    "LIF": "lif",
    "ParametricLIF": "plif",
    "QIF": "qif",
    "EIF": "eif",
    "Izhikevich": "izhikevich",
}
_TRITON_MODULES = {"IF": "integrate_and_fire", "LIF": "lif", "ParametricLIF": "plif"}
_SHORT = {"IF": "if", "LIF": "lif", "ParametricLIF": "plif"}
_CAPTURED = {
    "QIF": ("_qif", ("tau", "v_threshold", "v_reset", "v_rest", "v_c", "a0")),
    "EIF": (
        "_eif",
        ("tau", "v_threshold", "v_reset", "v_rest", "theta_rh", "delta_T"),
    ),
    "Izhikevich": (
        "_iz",
        (
            "tau",
            "v_threshold",
            "v_reset",
            "v_rest",
            "a",
            "b",
            "tau_w",
            "v_c",
            "a0",
        ),
    ),
}
_CUPY_SCALARS = {
    "if": (),
    "lif": ("decay", "decay_input"),
    "plif": ("decay", "decay_input"),
}
_RESET = ("v_th", "v_reset", "soft_reset", "detach_reset")
_TRITON_FORWARD = {
    "if": (*_RESET[1:], "sg_triton_id", "sg_alpha", "store_v_seq"),
    "lif": (*_RESET[1:], "sg_triton_id", "sg_alpha", "store_v_seq"),
    "plif": (*_RESET[1:], "sg_triton_id", "sg_alpha"),
}
_TRITON_OWN = {
    "if": (),
    "lif": ("decay_input", "tau"),
    "plif": ("r_tau", "decay_input"),
}
_TRITON_BACKWARD = {
    "grad_s_seq",
    "grad_v_seq",
    "h_seq",
    "grad_x_seq",
    "grad_v_init",
    "v_threshold",
    "v_reset",
    "sg_alpha",
    "compute_dtype",
    "sg_triton_id",
    "soft_reset",
    "detach_reset",
    "use_torch_wrap",
}
_TRITON_BACKWARD_OWN = {
    "if": {"store_v_seq"},
    "lif": {"store_v_seq", "tau", "decay_input"},
    "plif": {"v_init", "v_seq", "grad_r_tau", "r_tau", "decay_input"},
}


def nodes_without_gradient_in_eval(net: nn.Module) -> list[nn.Module]:
    """List the neurons of `net` that pass no gradient while in eval mode.

    Returns:
        The nodes that replace their surrogate by a plain step function unless
        `training` is set, which has no other effect on them.
    """
    return [m for m in net.modules() if isinstance(m, _SWAPPING_IN_EVAL)]


def multi_step_backends() -> dict[str, str]:
    """Say which multi-step kernels this release has and how one is chosen.

    Returns:
        What each kernel runs on, by its name.
    """
    return {
        "torch": "any device; any surrogate",
        "triton": "CUDA; node.backend = 'triton' for IF, LIF, ParametricLIF",
        "cupy": "CUDA with CuPy; node.backend = 'cupy' for six multi-step neurons",
    }


def set_kernel(node: Any, kernel: str) -> None:
    """Choose what a node's multi-step pass runs on.

    Args:
        node: A neuron of the host.
        kernel: `"torch"` or the name of a kernel; one that the node has none of
            leaves it as it is.
    """
    if kernel in getattr(node, "supported_backends", ()):
        node._backend = kernel


def enter_registry(
    neurons: Iterable[type[nn.Module]], surrogates: Iterable[type[nn.Module]]
) -> bool:
    """Let the host's configurations name classes by their path.

    Args:
        neurons: Classes derived from the host's `BaseNode`.
        surrogates: Classes derived from its `SurrogateFunctionBase`.

    Returns:
        Whether the host has a registry that took them; this release has none.
    """
    return False


def surrogate_refusal(node: nn.Module) -> str | None:
    """Say why a neuron cannot run a surrogate that the host does not know.

    Args:
        node: A neuron of the host, or of a class derived from one.

    Returns:
        The reason, or None if it can.
    """
    backend = getattr(node, "backend", "torch")
    if backend not in ("cupy", "triton"):
        return None
    return (
        f"its backend is {backend!r}, whose kernels take the host's surrogates only: "
        "set it to 'torch'"
    )


def fused_refusal(kernel: str, dynamics: Any, device: torch.device) -> str | None:
    """Say why a multi-step kernel of the host cannot be called for this neuron.

    Args:
        kernel: `"cupy"` or `"triton"`.
        dynamics: The neuron's `sj_ext.neuron` dynamics.
        device: A CUDA device.

    Returns:
        The reason, or None if it can.
    """
    if kernel not in ("cupy", "triton"):
        return f"SpikingJelly 2.0.0rc1 has no {kernel} kernels"
    modules = _CUPY_MODULES if kernel == "cupy" else _TRITON_MODULES
    if dynamics.neuron not in modules:
        return f"SpikingJelly 2.0.0rc1 has no {kernel} kernel for {dynamics.neuron}"
    if find_spec(kernel) is None:
        return f"{kernel} is not installed"
    if kernel == "cupy" and import_module(f"{_CUPY}.base").cupy is None:
        return "cupy is installed but cannot be imported"
    reason = (
        _cupy_interface_change(dynamics.neuron)
        if kernel == "cupy"
        else _triton_interface_change(dynamics.neuron)
    )
    if reason is not None or kernel != "cupy" or dynamics.neuron not in _CAPTURED:
        return reason
    if import_module("spikingjelly.configure").save_spike_as_bool_in_neuron_kernel:
        return "SJ_SAVE_SPIKE_AS_BOOL_IN_NEURON_KERNEL keeps the spikes elsewhere"
    if dynamics.neuron == "Izhikevich" and dynamics.detach_reset and dynamics.v_reset:
        return "the host's Izhikevich kernel does not detach a hard reset wholly"
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

    Half-precision input is computed in float32, as the state is kept in it.

    Args:
        kernel: `"cupy"` or `"triton"`.
        x_seq: Input, `[T, N, ...]`, float32 or half.
        state: The potential, `[N, ...]` float32, and Izhikevich's recovery.
        dynamics: The neuron's `sj_ext.neuron` dynamics.
        base: One of the host's seven fused surrogates.
        store_v_seq: Whether states come back for every step, or for the last.

    Returns:
        Spikes; the new states; the charged potential h, `[T, N, ...]` float32 and
        writable; tensors and whatever else the backward kernel needs besides.
    """
    order = _storage_order(x_seq)
    x_rows = _rows(x_seq.float(), order)
    state_rows = tuple(_rows(one.unsqueeze(0), order)[0] for one in state)
    run = _cupy_forward if kernel == "cupy" else _triton_forward
    spikes, state_seqs, h_rows, workspace, context = run(
        x_rows, state_rows, dynamics, base
    )
    shape = x_seq.shape
    states = tuple(
        _unrows(rows, order, shape)
        if store_v_seq
        # A copy, so that one step does not hold the memory of all.
        else _unrows(rows[-1:].clone(), order, shape)[0]
        for rows in state_seqs
    )
    spike_seq = _unrows(spikes, order, shape).to(x_seq.dtype)
    return spike_seq, states, _unrows(h_rows, order, shape), workspace, context


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
    order = _storage_order(h_seq)
    h_rows = _rows(h_seq, order)
    spike_rows = _rows(grad_spike_seq.float(), order)
    state_rows = []
    for grad in grad_state:
        if store_v_seq:
            state_rows.append(_rows(grad, order))
        else:
            rows = torch.zeros_like(h_rows)
            rows[-1] = _rows(grad.unsqueeze(0), order)[0]
            state_rows.append(rows)
    run = _cupy_backward if kernel == "cupy" else _triton_backward
    grad_x, grad_init, grad_q = run(
        spike_rows, state_rows, h_rows, workspace, context, dynamics, base
    )
    shape = h_seq.shape
    grad_w = None
    if grad_q is not None and workspace:
        q = dynamics.w.float().sigmoid()
        grad_w = (grad_q.reshape(()) * q * (1 - q)).to(dynamics.w.dtype)
    return (
        _unrows(grad_x, order, shape),
        tuple(_unrows(rows.unsqueeze(0), order, shape)[0] for rows in grad_init),
        grad_w,
    )


class _CudaSource:
    """The derivative of a surrogate as the host's CuPy kernels ask for it."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def cuda_codes(self, y: str, x: str, dtype: str) -> str:
        """Write the derivative at `x` into `y`, in float32."""
        if dtype != "float":
            raise NotImplementedError(f'Expected `dtype` to be "float", got {dtype!r}.')
        alpha = float(self.base.alpha)
        a = f"{alpha!r}f"
        width = f"({1.0 / alpha!r}f + fabsf({x}))"
        formulas = {
            "PiecewiseQuadratic": f"fmaxf(0.0f, {a} - {a} * {a} * fabsf({x}))",
            "PiecewiseExp": f"0.5f * {a} * expf(-{a} * fabsf({x}))",
            "SoftSign": f"1.0f / (2.0f * {a} * {width} * {width})",
            "SuperSpike": f"{a} / ((1.0f + fabsf({x})) * (1.0f + fabsf({x})))",
            "Erf": f"{alpha / math.sqrt(math.pi)!r}f"
            f" * expf(-({a} * {x}) * ({a} * {x}))",
        }
        name = type(self.base).__name__
        # The host has source for two of the seven only.
        if name not in formulas:
            return str(self.base.cuda_codes(y=y, x=x, dtype=dtype))
        return f"{y} = {formulas[name]};"


def _cupy_forward(
    x_seq: Tensor, state: tuple[Tensor, ...], dynamics: Any, base: Any
) -> tuple[Tensor, tuple[Tensor, ...], Tensor, tuple[Tensor, ...], Any]:
    module = import_module(f"{_CUPY}.{_CUPY_MODULES[dynamics.neuron]}")
    source = _CudaSource(base)
    if dynamics.neuron in _CAPTURED:
        prefix, names = _CAPTURED[dynamics.neuron]
        given = _captured_values(dynamics)
        captured = import_module(f"{_CUPY}.runtime")._CapturedAutogradCtx()
        spikes, *states = getattr(module, f"{prefix}_forward")(
            captured,
            # The host fills its context only for inputs that require a gradient.
            x_seq.detach().requires_grad_(),
            *state,
            *(given[name] for name in names),
            bool(dynamics.detach_reset),
            source.cuda_codes,
        )
        h_seq, *workspace = captured.saved_tensors
        captured.saved_tensors = ()
        return (
            spikes.detach(),
            tuple(one.detach() for one in states),
            h_seq.detach(),
            tuple(one.detach() for one in workspace),
            captured,
        )
    short = _SHORT[dynamics.neuron]
    spikes, v_seq, h_seq = getattr(module, f"cupy_multistep_{short}_forward")(
        x_seq, *state, *_cupy_scalars(dynamics, source)
    )
    return spikes, (v_seq,), h_seq, (*state, v_seq) if short == "plif" else (), None


def _cupy_backward(
    grad_spike_seq: Tensor,
    grad_state: list[Tensor],
    h_seq: Tensor,
    workspace: tuple[Tensor, ...],
    context: Any,
    dynamics: Any,
    base: Any,
) -> tuple[Tensor, tuple[Tensor, ...], Tensor | None]:
    module = import_module(f"{_CUPY}.{_CUPY_MODULES[dynamics.neuron]}")
    if dynamics.neuron in _CAPTURED:
        prefix, _ = _CAPTURED[dynamics.neuron]
        context.saved_tensors = (h_seq, *workspace)
        try:
            grads = getattr(module, f"{prefix}_backward")(
                context, grad_spike_seq, *grad_state
            )
        finally:
            context.saved_tensors = ()
        return grads[0], tuple(grads[1 : 1 + len(grad_state)]), None
    short = _SHORT[dynamics.neuron]
    scalars = _cupy_scalars(dynamics, _CudaSource(base))
    backward = getattr(module, f"cupy_multistep_{short}_backward")
    if short == "plif":
        # Without a workspace, v only takes part in the sum that is thrown away; the
        # kernel reads its first T rows.
        v_v_seq = h_seq
        if workspace:
            v_v_seq = torch.cat((workspace[0][None], workspace[1]))
        grad_x, grad_v, grad_q = backward(
            grad_spike_seq, *grad_state, h_seq, v_v_seq, *scalars
        )
        return grad_x, (grad_v,), grad_q
    grad_x, grad_v = backward(grad_spike_seq, *grad_state, h_seq, *scalars)
    return grad_x, (grad_v,), None


def _cupy_scalars(dynamics: Any, source: _CudaSource) -> tuple[Any, ...]:
    own: tuple[Any, ...] = ()
    if dynamics.neuron == "LIF":
        own = (1.0 / float(dynamics.tau), bool(dynamics.decay_input))
    elif dynamics.neuron == "ParametricLIF":
        own = (dynamics.w.float().sigmoid(), bool(dynamics.decay_input))
    registry = import_module(f"{_CUPY.rpartition('.')[0]}.surrogate_registry")
    identity = registry._resolve_cuda_code_id(source, "float")
    return (*_reset_scalars(dynamics), *own, identity)


def _triton_forward(
    x_seq: Tensor, state: tuple[Tensor, ...], dynamics: Any, base: Any
) -> tuple[Tensor, tuple[Tensor, ...], Tensor, tuple[Tensor, ...], Any]:
    module = import_module(f"{_TRITON}.{_TRITON_MODULES[dynamics.neuron]}")
    short = _SHORT[dynamics.neuron]
    own: tuple[Any, ...] = ()
    if short == "lif":
        own = (bool(dynamics.decay_input), float(dynamics.tau))
    elif short == "plif":
        own = (dynamics.w.float().sigmoid(), bool(dynamics.decay_input))
    spikes, v_seq, h_seq = getattr(module, f"multistep_{short}_forward")(
        x_seq,
        *state,
        *own,
        *_reset_scalars(dynamics),
        *module.resolve_sg_triton_id_and_alpha(base),
        *(() if short == "plif" else (True,)),
    )
    workspace = (*state, v_seq) if short == "plif" else ()
    return spikes, (v_seq,), h_seq, workspace, None


def _triton_backward(
    grad_spike_seq: Tensor,
    grad_state: list[Tensor],
    h_seq: Tensor,
    workspace: tuple[Tensor, ...],
    context: Any,
    dynamics: Any,
    base: Any,
) -> tuple[Tensor, tuple[Tensor, ...], Tensor | None]:
    module = import_module(f"{_TRITON}.{_TRITON_MODULES[dynamics.neuron]}")
    short = _SHORT[dynamics.neuron]
    identity, alpha = module.resolve_sg_triton_id_and_alpha(base)
    v_threshold, v_reset, soft_reset, detach_reset = _reset_scalars(dynamics)
    grad_x = torch.empty_like(grad_spike_seq)
    grad_v = torch.empty_like(h_seq[0])
    own: dict[str, Any] = {}
    grad_q = None
    if short != "if":
        own["decay_input"] = bool(dynamics.decay_input)
    if short == "lif":
        own["tau"] = float(dynamics.tau)
    if short == "plif":
        grad_q = torch.empty_like(grad_v)
        # As for CuPy: without a workspace the sum over v is thrown away.
        own["v_init"], own["v_seq"] = workspace or (h_seq[0], h_seq)
        own["grad_r_tau"] = grad_q
        own["r_tau"] = dynamics.w.float().sigmoid()
    else:
        own["store_v_seq"] = True
    getattr(module, f"_launch_{short}_backward_kernel")(
        grad_s_seq=grad_spike_seq,
        grad_v_seq=grad_state[0],
        h_seq=h_seq,
        grad_x_seq=grad_x,
        grad_v_init=grad_v,
        v_threshold=v_threshold,
        v_reset=v_reset,
        sg_alpha=alpha,
        compute_dtype=module.type_dict[torch.float32],
        sg_triton_id=identity,
        soft_reset=soft_reset,
        detach_reset=detach_reset,
        use_torch_wrap=False,
        **own,
    )
    return grad_x, (grad_v,), None if grad_q is None else grad_q.sum()


def _reset_scalars(dynamics: Any) -> tuple[float, float, bool, bool]:
    soft_reset = dynamics.v_reset is None
    v_reset = 0.0 if soft_reset else float(dynamics.v_reset)
    detach_reset = bool(dynamics.detach_reset)
    return float(dynamics.v_threshold), v_reset, soft_reset, detach_reset


def _captured_values(dynamics: Any) -> dict[str, float | None]:
    given: dict[str, Any] = {"tau": dynamics.tau, **dict(dynamics.constants)}
    values: dict[str, float | None] = {
        name: float(given[name])
        for name in _CAPTURED[dynamics.neuron][1]
        if name not in ("v_threshold", "v_reset")
    }
    values["v_threshold"] = float(dynamics.v_threshold)
    values["v_reset"] = None if dynamics.v_reset is None else float(dynamics.v_reset)
    return values


def _storage_order(x_seq: Tensor) -> list[int]:
    """Order the axes behind T as they lie in memory, so that no copy is needed."""
    order = sorted(range(1, x_seq.ndim), key=lambda axis: -x_seq.stride()[axis])
    if x_seq.permute(0, *order).is_contiguous():
        return order
    return list(range(1, x_seq.ndim))


def _rows(x_seq: Tensor, order: list[int]) -> Tensor:
    return x_seq.permute(0, *order).reshape(x_seq.shape[0], -1).contiguous()


def _unrows(rows: Tensor, order: list[int], shape: torch.Size) -> Tensor:
    stored = rows.reshape(rows.shape[0], *(shape[axis] for axis in order))
    back = [0] * len(shape)
    for position, axis in enumerate(order, start=1):
        back[axis] = position
    return stored.permute(back)


@cache
def _cupy_interface_change(name: str) -> str | None:
    """Compare the private CuPy functions with what this module passes to them."""
    try:
        module = import_module(f"{_CUPY}.{_CUPY_MODULES[name]}")
        if name in _CAPTURED:
            prefix, constants = _CAPTURED[name]
            states = ("v_init", "w_init") if name == "Izhikevich" else ("v_init",)
            grads = ("grad_v_seq", "grad_w_seq")[: len(states)]
            forward = _parameters(getattr(module, f"{prefix}_forward"))
            backward = _parameters(getattr(module, f"{prefix}_backward"))
            tail = ("detach_reset", "sg_cuda_codes_fun")
            as_known = forward == (
                "ctx",
                "x_seq",
                *states,
                *constants,
                *tail,
            ) and backward == ("ctx", "grad_spike_seq", *grads)
        else:
            short = _SHORT[name]
            forward, backward = (
                _operator_parameters(f"cupy_multistep_{short}_{direction}")
                for direction in ("forward", "backward")
            )
            scalars = (*_RESET, *_CUPY_SCALARS[short], "sg_cupy_id")
            saved = ("h_seq", "v_v_seq") if short == "plif" else ("h_seq",)
            as_known = forward == (
                "x_seq",
                "v_init",
                *scalars,
            ) and backward == ("grad_spike_seq", "grad_v_seq", *saved, *scalars)
    except (ImportError, AttributeError) as error:
        return f"the host's CuPy kernel of {name} is not where it was: {error}"
    if not as_known:
        return f"the host's CuPy kernel of {name} changed: {forward}, {backward}"
    return None


@cache
def _triton_interface_change(name: str) -> str | None:
    """Compare the private Triton functions with what this module passes to them."""
    short = _SHORT[name]
    try:
        module = import_module(f"{_TRITON}.{_TRITON_MODULES[name]}")
        forward = _operator_parameters(f"multistep_{short}_forward")
        backward = _parameters(getattr(module, f"_launch_{short}_backward_kernel"))
    except (ImportError, AttributeError) as error:
        return f"the host's Triton kernel of {name} is not where it was: {error}"
    expected = (
        "x_seq",
        "v_init",
        *_TRITON_OWN[short],
        "v_threshold",
        *_TRITON_FORWARD[short],
    )
    if (
        forward != expected
        or set(backward) != _TRITON_BACKWARD | _TRITON_BACKWARD_OWN[short]
    ):
        return f"the host's Triton kernel of {name} changed: {forward}, {backward}"
    return None


def _parameters(function: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def _operator_parameters(name: str) -> tuple[str, ...]:
    schema = getattr(torch.ops.sj, name).default._schema
    return tuple(argument.name for argument in schema.arguments)
