"""IF, LIF and ParametricLIF neurons on the CPU: one fused pass, the mask drawn in it.

Forward writes spikes and potentials only. Backward charges the neurons again from
their input and draws each element's fate from a hash of (seed, step, element), so no
mask and no intermediate sequence is ever stored. Spikes are the host's to the bit.
"""

import ctypes
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    seed = None
    if isinstance(surrogate.mask, BernoulliMask):
        seed = torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device="cpu")
    spikes, v_last, v_seq = _FusedNeuron.apply(
        x_seq,
        v,
        q,
        seed,
        _Charge(
            dynamics.tau,
            dynamics.decay_input,
            float(dynamics.v_threshold),
            None if dynamics.v_reset is None else float(dynamics.v_reset),
        ),
        _slope_of(surrogate, dynamics.detach_reset),
        store_v_seq,
    )
    return spikes, v_last, v_seq if store_v_seq else None


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
            keep[t, part] = bits >= np.uint32(_dropped(p))
    flat = torch.from_numpy(keep)
    if stride is None:
        return flat.view(*shape)
    return flat.as_strided(tuple(shape), _sequence_strides(shape, stride))


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


def _dropped(p: float) -> int:
    return min(round(p * 2**32), 2**32 - 1)


# What can be run.


def _refuses_tensors(x_seq: Tensor, v: Tensor) -> str | None:
    if x_seq.device.type != "cpu" or v.device.type != "cpu":
        return f"the tensors are on {x_seq.device} and {v.device}, not on the CPU"
    if x_seq.layout != torch.strided or v.layout != torch.strided:
        return f"the layouts are {x_seq.layout} and {v.layout}, not strided"
    if x_seq.dtype not in _DTYPES:
        return f"the input is of type {x_seq.dtype}"
    if v.dtype not in (x_seq.dtype, _state_dtype(x_seq)):
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
        return f"there is no fused rule {rule!r}"
    if getattr(rule, "shared", ()):
        return f"{rule!r} shares its draws"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# What a kernel needs to know.


class _Charge(NamedTuple):
    tau: float | None
    decay_input: bool
    v_threshold: float
    v_reset: float | None


class _Slope(NamedTuple):
    detach_reset: bool
    base: int
    alpha: float
    rule: int
    p: float
    scale: float
    half_width: float


def _slope_of(surrogate: MaskedSurrogate, detach_reset: bool) -> _Slope:
    rule = surrogate.mask
    return _Slope(
        detach_reset,
        FUSED_BASES.index(type(surrogate.base)),
        float(surrogate.base.alpha),
        _RULES.index(type(rule)),
        rule.p if isinstance(rule, BernoulliMask) else 0.0,
        rule.scale,
        rule.half_width if isinstance(rule, WindowMask) else 0.0,
    )


def _coefficients(base: int, alpha: float) -> tuple[float, float, float]:
    return (
        (alpha, alpha, 0.0),
        (alpha / 2, math.pi * (alpha / 2), 0.0),
        (alpha, -(alpha**2), 1 / alpha),
        (alpha / 2, -alpha, 0.0),
        (2 * alpha, 1 / alpha, 0.0),
        (alpha, 0.0, 0.0),
        (alpha / math.sqrt(math.pi), alpha, 0.0),
    )[base]


def _numbers(charge: _Charge, q: float | None, slope: _Slope | None) -> list[float]:
    leak = q if q is not None else charge.tau if charge.tau is not None else 1.0
    hard = charge.v_reset is not None
    reset = charge.v_reset if charge.v_reset is not None else 0.0
    numbers = [leak, reset, charge.v_threshold, reset]
    if slope is None:
        return numbers
    share = q if q is not None else 1 / charge.tau if charge.tau is not None else None
    gain = share if share is not None and charge.decay_input else 1.0
    at = 0.0 if slope.detach_reset else reset if hard else -charge.v_threshold
    return [
        *numbers,
        float(hard),
        at,
        float(hard and not slope.detach_reset),
        gain,
        1.0 - (share or 0.0),
        float(charge.decay_input),
        *_coefficients(slope.base, slope.alpha),
        slope.scale,
        slope.half_width,
    ]


def _kind(charge: _Charge, q: float | None) -> int:
    if q is None and charge.tau is None:
        return 0
    return (1 if q is None else 3) + (0 if charge.decay_input else 1)


# Autograd.


class _FusedNeuron(torch.autograd.Function):
    @staticmethod
    def forward(
        x_seq: Tensor,
        v: Tensor,
        q: Tensor | None,
        seed: Tensor | None,
        charge: _Charge,
        slope: _Slope,
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


# Operators of torch, so that compiled graphs and batched gradients can hold them.

_library = torch.library.Library("sj_ext", "FRAGMENT")
_library.define(
    "fused_neuron(Tensor x_seq, Tensor v, Tensor? q, float? tau, bool decay_input, "
    "float v_threshold, float? v_reset, bool store_v_seq) -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "fused_neuron_backward(Tensor? grad_s, Tensor? grad_v, Tensor? grad_v_seq, "
    "Tensor x_seq, Tensor v, Tensor? q, Tensor? seed, float? tau, bool decay_input, "
    "float v_threshold, float? v_reset, bool detach_reset, int base, float alpha, "
    "int rule, float p, float scale, float half_width) -> (Tensor, Tensor, Tensor)"
)


def _state_dtype(x_seq: Tensor) -> torch.dtype:
    return torch.float64 if x_seq.dtype == torch.float64 else torch.float32


def _is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    expected = 1
    for step, size in sorted(zip(stride, shape, strict=True)):
        if size == 1:
            continue
        if step != expected:
            return False
        expected *= size
    return True


def _sequence_strides(shape: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """Lay results out: steps as the input's where that leaves no gap."""
    steps, inner = tuple(shape[1:]), tuple(stride[1:])
    if not _is_dense(steps, inner):
        inner = torch.empty(steps, device="meta").stride()
    return (max(math.prod(steps), 1), *inner)


def _empty_results(
    x_seq: Tensor, store_v_seq: bool
) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    dtype = _state_dtype(x_seq)
    strides = _sequence_strides(x_seq.shape, x_seq.stride())
    return (
        x_seq.new_empty_strided(x_seq.shape, strides),
        x_seq.new_empty_strided(x_seq.shape[1:], strides[1:], dtype=dtype),
        x_seq.new_empty_strided(x_seq.shape, strides, dtype=dtype)
        if store_v_seq
        else x_seq.new_empty(0, dtype=dtype),
        strides,
    )


def _fused_neuron_fake(
    x_seq: Tensor,
    v: Tensor,
    q: Tensor | None,
    tau: float | None,
    decay_input: bool,
    v_threshold: float,
    v_reset: float | None,
    store_v_seq: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_results(x_seq, store_v_seq)[:3]


def _fused_neuron(
    x_seq: Tensor,
    v: Tensor,
    q: Tensor | None,
    tau: float | None,
    decay_input: bool,
    v_threshold: float,
    v_reset: float | None,
    store_v_seq: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    charge = _Charge(tau, decay_input, v_threshold, v_reset)
    spikes, v_last, v_seq, strides = _empty_results(x_seq, store_v_seq)
    state = v_last.dtype
    written = spikes if spikes.dtype == state else torch.empty_like(spikes, dtype=state)
    for result in (written, v_seq):
        _ask_for_huge_pages(result)
    q_value = None if q is None else q.item()
    x, x_row = _flat(x_seq, strides, state)
    T, neurons = x_seq.shape[0], v_last.numel()
    block = _block(T, state)
    numbers = np.array(_numbers(charge, q_value, None), dtype=x.dtype)
    out = tuple(_storage(tensor) for tensor in (written, v_last, v_seq))
    v0 = _storage(_laid_out(v, strides[1:], state))
    kernel, kind = _kernels().forward, _kind(charge, q_value)

    def run(start: int, stop: int) -> None:
        kernel(
            start,
            stop,
            block,
            T,
            kind,
            v_reset is not None,
            store_v_seq,
            numbers,
            x,
            x_row,
            neurons,
            v0,
            out,
        )

    _run_in_parallel(run, neurons, T, block)
    if written is not spikes:
        spikes.copy_(written)
    return spikes, v_last, v_seq


def _fused_neuron_backward_fake(
    grad_s: Tensor | None,
    grad_v: Tensor | None,
    grad_v_seq: Tensor | None,
    x_seq: Tensor,
    v: Tensor,
    q: Tensor | None,
    seed: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_x, grad_v0, _, _ = _empty_results(x_seq, False)
    return grad_x, grad_v0.to(v.dtype), (x_seq if q is None else q).new_empty(())


def _fused_neuron_backward(
    grad_s: Tensor | None,
    grad_v: Tensor | None,
    grad_v_seq: Tensor | None,
    x_seq: Tensor,
    v: Tensor,
    q: Tensor | None,
    seed: Tensor | None,
    tau: float | None,
    decay_input: bool,
    v_threshold: float,
    v_reset: float | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    charge = _Charge(tau, decay_input, v_threshold, v_reset)
    slope = _Slope(*rest)
    grad_x, grad_v0, _, strides = _empty_results(x_seq, False)
    state = grad_v0.dtype
    written = grad_x if grad_x.dtype == state else torch.empty_like(grad_x, dtype=state)
    _ask_for_huge_pages(written)
    q_value = None if q is None else q.item()
    x, x_row = _flat(x_seq, strides, state)
    T, neurons = x_seq.shape[0], grad_v0.numel()
    block = _block(T, state)
    numbers = np.array(_numbers(charge, q_value, slope), dtype=x.dtype)
    absent = np.empty(0, dtype=x.dtype)
    s_seq, s_row = (absent, 0) if grad_s is None else _flat(grad_s, strides, state)
    grads = (
        s_seq,
        absent if grad_v is None else _storage(_laid_out(grad_v, strides[1:], state)),
        absent
        if grad_v_seq is None
        else _storage(_laid_out(grad_v_seq, strides, state)),
    )
    flags = tuple(grad is not None for grad in (grad_s, grad_v, grad_v_seq))
    leaks = np.zeros(-(-neurons // block), dtype=np.float64)
    out = (_storage(written), _storage(grad_v0), leaks)
    v0 = _storage(_laid_out(v, strides[1:], state))
    kernel, kind = _kernels().backward, _kind(charge, q_value)
    seed_bits = np.uint64(0 if seed is None else seed.item() % 2**64)
    dropped = np.uint32(_dropped(slope.p))
    bits_like = np.empty(0, dtype=np.int32 if x.dtype == np.float32 else np.int64)

    def run(start: int, stop: int) -> None:
        kernel(
            start,
            stop,
            block,
            T,
            kind,
            v_reset is not None,
            slope.base,
            slope.rule,
            (*flags, q is not None),
            seed_bits,
            dropped,
            numbers,
            x,
            x_row,
            neurons,
            v0,
            grads,
            s_row,
            out,
            bits_like,
        )

    _run_in_parallel(run, neurons, T, block)
    if written is not grad_x:
        grad_x.copy_(written)
    grad_q = (x_seq if q is None else q).new_full((), leaks.sum())
    return grad_x, grad_v0.to(v.dtype), grad_q


def _fused_neuron_backward_vmap(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[int, int, int]]:
    results = []
    for i in range(info.batch_size):
        one = [
            argument if dim is None else argument.select(dim, i)
            for argument, dim in zip(arguments, in_dims, strict=True)
        ]
        results.append(torch.ops.sj_ext.fused_neuron_backward(*one))
    grad_x, grad_v, grad_q = (
        torch.stack(parts) for parts in zip(*results, strict=True)
    )
    return (grad_x, grad_v, grad_q), (0, 0, 0)


_library.impl("fused_neuron", _fused_neuron, "CPU")
_library.impl("fused_neuron_backward", _fused_neuron_backward, "CPU")
torch.library.register_fake("sj_ext::fused_neuron", _fused_neuron_fake, lib=_library)
torch.library.register_fake(
    "sj_ext::fused_neuron_backward", _fused_neuron_backward_fake, lib=_library
)
torch.library.register_vmap(
    "sj_ext::fused_neuron_backward", _fused_neuron_backward_vmap, lib=_library
)


# Memory and threads.

_CACHED_BYTES = 2**18
_LEAST_WORK = 2**15
_CHUNKS_PER_THREAD = 4


@cache
def _kernels() -> ModuleType:
    # Imported at the first use: numba takes a second to load.
    from sj_ext.neuron.backends import _numba_kernels

    return _numba_kernels


def _block(T: int, dtype: torch.dtype) -> int:
    block = _CACHED_BYTES // (T * dtype.itemsize)
    return min(max(block // 64 * 64, 256), 4096)


def _laid_out(tensor: Tensor, strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach()
    if tensor.dtype == dtype and tensor.stride() == tuple(strides):
        return tensor
    result = tensor.new_empty_strided(tensor.shape, tuple(strides), dtype=dtype)
    return result.copy_(tensor)


def _storage(tensor: Tensor) -> NDArray[Any]:
    flat: NDArray[Any] = tensor.detach().as_strided((tensor.numel(),), (1,)).numpy()
    return flat


def _flat(
    sequence: Tensor, strides: tuple[int, ...], dtype: torch.dtype
) -> tuple[NDArray[Any], int]:
    """Give the memory of a sequence and the distance between its steps."""
    # Steps may lie apart or, as in an expanded gradient, on one another.
    sequence = sequence.detach()
    steps_fit = all(
        have == want or size == 1
        for have, want, size in zip(
            sequence.stride()[1:], strides[1:], sequence.shape[1:], strict=True
        )
    )
    if sequence.dtype != dtype or not steps_fit:
        sequence = _laid_out(sequence, strides, dtype)
    T, row = sequence.shape[0], sequence.stride(0)
    neurons = sequence[0].numel()
    size = (T - 1) * row + neurons if neurons else 0
    return sequence.as_strided((size,), (1,)).numpy(), row


def _run_in_parallel(
    run: Callable[[int, int], None], neurons: int, T: int, block: int
) -> None:
    threads = min(torch.get_num_threads(), max(neurons * T // _LEAST_WORK, 1))
    if neurons == 0:
        return
    if threads == 1:
        run(0, neurons)
        return
    chunk = -(-neurons // (threads * _CHUNKS_PER_THREAD))
    chunk = -(-chunk // block) * block
    waiting = deque(range(0, neurons, chunk))

    def work() -> None:
        while True:
            try:
                start = waiting.popleft()
            except IndexError:
                return
            run(start, min(start + chunk, neurons))

    # The calling thread works too, as torch's own does.
    others = [_pool().submit(work) for _ in range(min(threads, len(waiting)) - 1)]
    work()
    for other in others:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="sj_ext")


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork.
    os.register_at_fork(after_in_child=_pool.cache_clear)


_HUGE = 2**21


def _ask_for_huge_pages(tensor: Tensor) -> None:
    # Fresh memory of this size costs more to map, page by page, than to fill.
    size = tensor.numel() * tensor.element_size()
    if size < 2 * _HUGE or (madvise := _madvise()) is None:
        return
    start = -(-tensor.data_ptr() // _HUGE) * _HUGE
    stop = (tensor.data_ptr() + size) // _HUGE * _HUGE
    madvise(start, stop - start, 14)


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    function = getattr(ctypes.CDLL(None), "madvise", None)
    if function is not None:
        function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        function.restype = ctypes.c_int
    return function
