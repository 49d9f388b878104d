"""The fused neuron of the CPU as a pair of torch operators over numba kernels.

Lays tensors out for the kernels without copying where it can, packs a neuron's numbers
for them, and shares the work among threads.
"""

import ctypes
import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sj_ext.threads import in_chunks

# What a kernel needs to know.


class Charge(NamedTuple):
    """How a neuron charges, fires and resets; no tau for IF, none here for PLIF."""

    tau: float | None
    decay_input: bool
    v_threshold: float
    v_reset: float | None


class Slope(NamedTuple):
    """Its surrogate derivative; base and rule are indices into the fused ones."""

    detach_reset: bool
    base: int
    alpha: float
    rule: int
    p: float
    scale: float
    half_width: float


def drop_threshold(p: float) -> int:
    """Say below which 32-bit hash an element is dropped."""
    return min(round(p * 2**32), 2**32 - 1)


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


def _numbers(charge: Charge, q: float | None, slope: Slope | None) -> list[float]:
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


def _kind(charge: Charge, q: float | None) -> int:
    if q is None and charge.tau is None:
        return 0
    return (1 if q is None else 3) + (0 if charge.decay_input else 1)


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


def state_dtype(x_seq: Tensor) -> torch.dtype:
    """Give the type of the potentials, never below single precision."""
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


def sequence_strides(shape: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """Give the strides of results: those of the input where that leaves no gap."""
    steps, inner = tuple(shape[1:]), tuple(stride[1:])
    if not _is_dense(steps, inner):
        inner = torch.empty(steps, device="meta").stride()
    return (max(math.prod(steps), 1), *inner)


def _empty_results(
    x_seq: Tensor, store_v_seq: bool
) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    dtype = state_dtype(x_seq)
    strides = sequence_strides(x_seq.shape, x_seq.stride())
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
    charge = Charge(tau, decay_input, v_threshold, v_reset)
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
    charge = Charge(tau, decay_input, v_threshold, v_reset)
    slope = Slope(*rest)
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
    dropped = np.uint32(drop_threshold(slope.p))
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
    chunk = -(-neurons // (threads * _CHUNKS_PER_THREAD))
    in_chunks(run, neurons, -(-chunk // block) * block, threads)


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
