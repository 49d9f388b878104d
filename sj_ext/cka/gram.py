"""Gram matrices of features: exact for spikes, centred float32 for real values.

Centred first, a float32 product loses nothing to a large mean; integers are multiplied
as integers. What follows the Gram is float64, whatever the features were.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from sj_ext.cka.bits import spike_gram
from sj_ext.cka.loops import kernels

_LARGEST_INTEGER = 127
# The processor's second-level cache holds so many float32 columns of some 100 samples.
_COLUMNS = 4096
_CHECKED_AT_ONCE = 2**18
_PROBED = 16
_INDICES_KEPT = 1024
# Errors of single entries, of random signs, that no sum over all entries shows.
_NEGLIGIBLE = 5e-6


def flatten_samples(features: Tensor) -> Tensor:
    """Bring a layer's features to [T, n, D], without a copy where the layout allows.

    The order of the D columns is that of memory: no Gram matrix depends on it.

    Args:
        features: Of shape [T, n, ...].

    Returns:
        The features [T, n, D], with D = 1 where no axis followed.
    """
    if features.dim() > 3 and not features.is_contiguous():
        order = sorted(range(2, features.dim()), key=features.stride, reverse=True)
        features = features.permute(0, 1, *order)
    return features.reshape(*features.shape[:2], -1)


def gram(parts: Tensor) -> Tensor:
    """Compute the Gram matrix of all parts side by side, up to a shift of the features.

    Every part is shifted by a vector of its own, which CKA does not see: by about its
    mean where the values are real, by nothing where they are integers.

    Args:
        parts: Features [S, n, D]; [n, S D] in the form of [S, n, D] saves the copy.

    Returns:
        [n, n], of the type that it was computed in, float32 or float64: sum_s X_s X_s'.
        Exact for integers from -127 to 127. Exactly zero where all samples are the
        same.

    Raises:
        ValueError: If a value is NaN or infinite, or its square too large for float64.
    """
    found = _integer_gram(parts)
    if found is None and parts.dtype in (torch.float32, torch.float16, torch.bfloat16):
        found = _float32_gram(parts)
    if found is None:
        found = _float64_gram(parts)
        if not torch.isfinite(found.sum()):
            raise ValueError(
                "Expected the features to be finite, got NaN, infinity or values "
                f"whose squares are: {_describe(parts)}."
            )
    return found


def symmetric_product(a: Tensor, out: Tensor) -> None:
    """Add a a' to the upper blocks of `out`; `mirror` fills the rest at the end.

    Args:
        a: Matrix [n, D].
        out: Matrix [n, n] of the same type.
    """
    step = _block(a)
    for i in range(0, len(a), step):
        out[i : i + step, i:].addmm_(a[i : i + step], a[i:].T)


def mirror(out: Tensor) -> Tensor:
    """Copy what `symmetric_product` filled above the diagonal below it.

    Args:
        out: Matrix [n, n], changed in place.

    Returns:
        The same matrix, now equal to its transpose to the bit.
    """
    above = out.triu(1)
    return out.triu_().add_(above.T)


def above_diagonal(square: Tensor, inclusive: bool = False) -> Tensor:
    """Find the entries above the diagonal, for `torch.take`.

    Args:
        square: Matrix [n, n].
        inclusive: Whether the diagonal belongs to them.

    Returns:
        Int64 [n(n-1)/2], or [n(n+1)/2], row by row.
    """
    n = len(square)
    find = _kept_indices if n <= _INDICES_KEPT else _indices
    return find(n, inclusive, square.device)


def _indices(n: int, inclusive: bool, device: torch.device) -> Tensor:
    rows, columns = torch.triu_indices(
        n, n, offset=0 if inclusive else 1, device=device
    )
    return rows.mul_(n).add_(columns)


# Every layer of every batch asks for the same ones.
_kept_indices = lru_cache(maxsize=2)(_indices)


def small_integers(x: Tensor) -> Tensor | None:
    """Convert features to int8 if that loses nothing.

    Args:
        x: Of any real type and shape.

    Returns:
        An int8 tensor shaped like `x`, or None if some value is no integer or lies
        outside -127 to 127.
    """
    if x.dtype == torch.bool:
        return x.view(torch.int8)
    if x.dtype == torch.int8:
        return None if bool((x == -128).any()) else x
    if x.dtype == torch.uint8:
        return None if bool((x > 127).any()) else x.view(torch.int8)
    shape = x.shape
    x = x.reshape(-1)
    if not _equal(x[:256].to(torch.int8).to(_wide(x)), x[:256]):
        return None
    integers = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    buffer = x.new_empty(min(len(x), _CHECKED_AT_ONCE), dtype=_wide(x))
    for part, converted in zip(
        x.split(_CHECKED_AT_ONCE), integers.split(_CHECKED_AT_ONCE), strict=True
    ):
        back = buffer[: len(part)].copy_(converted.copy_(part))
        if not _equal(back, part):
            return None
    return integers.view(shape)


def integer_product(a: Tensor, b: Tensor, largest: int) -> Tensor:
    """Multiply small integers without an error: a b'.

    Args:
        a: Int8 matrix [n, D].
        b: Int8 matrix [m, D].
        largest: Of the absolute values in both.

    Returns:
        [n, m], of type int32, float32 or float64.
    """
    width = a.shape[1]
    if _bytes_multiply(a, b, largest):
        return torch._int_mm(a, b.T)
    if largest**2 * width >= 2**24 and a.numel() and b.numel():
        # The bound may be far from what these hold.
        largest = max(int(part.abs().max()) for part in (a, b))
        if _bytes_multiply(a, b, largest):
            return torch._int_mm(a, b.T)
    dtype = torch.float32 if largest**2 * width < 2**24 else torch.float64
    return a.to(dtype) @ b.to(dtype).T


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep TF32, bfloat16 and autocast out of the matrix products of the block."""
    with ExitStack() as restored:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                restored.enter_context(torch.autocast(device, enabled=False))
        backends: Any = torch.backends
        if hasattr(backends.cuda.matmul, "fp32_precision"):
            for matmul in (backends.cuda.matmul, backends.mkldnn.matmul):
                before = matmul.fp32_precision
                if before not in ("ieee", "none"):
                    matmul.fp32_precision = "ieee"
                    restored.callback(setattr, matmul, "fp32_precision", before)
        elif (precision := torch.get_float32_matmul_precision()) != "highest":
            torch.set_float32_matmul_precision("highest")
            restored.callback(torch.set_float32_matmul_precision, precision)
        yield


def _integer_gram(parts: Tensor) -> Tensor | None:
    total = None
    if parts.device.type == "cpu" and parts.dtype == torch.float32:
        total = spike_gram(parts)
    if total is None:
        total = _sum_of_integer_products(parts)
    if total is None:
        return None
    low, high = torch.aminmax(total)
    if low != high:
        return total
    # Not zeros, perhaps, only too small for the check to see.
    return None if high == 0 and bool(parts.any()) else total.zero_()


def _sum_of_integer_products(parts: Tensor) -> Tensor | None:
    total = torch.zeros(
        parts.shape[1], parts.shape[1], dtype=torch.float64, device=parts.device
    )
    for part in parts:
        integers = small_integers(part)
        if integers is None:
            return None
        total += integer_product(integers, integers, _LARGEST_INTEGER)
    return total


def _float32_gram(parts: Tensor) -> Tensor | None:
    """Centre only where the mean matters, and give up where float32 does not do."""
    n = parts.shape[1]
    few = parts[:, :: max(1, n // _PROBED)]
    if _mean_matters(_float32_products(few, centre=False)):
        found = None
    else:
        found = _float32_products(parts, centre=False)
    if found is None or _mean_matters(found):
        found = _float32_products(parts, centre=True)
        if _mean_matters(found):
            # Constant, all but constant, not finite, or out of the range of float32.
            return None
    return found


def _float32_products(parts: Tensor, centre: bool) -> Tensor:
    n = parts.shape[1]
    total = torch.zeros(n, n, device=parts.device)
    for part in parts:
        for columns in part.split(_COLUMNS, dim=1):
            columns = columns.float()
            symmetric_product(columns - columns.mean(0) if centre else columns, total)
    return mirror(total)


def _mean_matters(gram: Tensor) -> bool:
    # A common mean adds the same to all entries off the diagonal. What it costs in
    # rounding is compared with the deviations there, which are all that CKA sees.
    pairs = len(gram) * (len(gram) - 1)
    if gram.device.type == "cpu":
        total, squares = kernels().off_diagonal_moments(gram.numpy())
        mean = total / max(pairs, 1)
        # What cancels here is far above the deviation that is asked for below.
        deviation = max(squares / max(pairs, 1) - mean**2, 0.0) ** 0.5
    else:
        off = gram.double()
        mean = float(off.fill_diagonal_(0).sum()) / pairs
        deviation = float(off.sub_(mean).fill_diagonal_(0).norm()) / pairs**0.5
    rounding = torch.finfo(torch.float32).eps * abs(mean)
    in_range = 1e-30 < deviation < 1e30 and pairs > 2
    return not (in_range and rounding < _NEGLIGIBLE * deviation)


def _float64_gram(parts: Tensor) -> Tensor:
    n = parts.shape[1]
    total = torch.zeros(n, n, dtype=torch.float64, device=parts.device)
    for part in parts:
        for columns in part.split(_COLUMNS, dim=1):
            centred = columns.double()
            # Through the first sample, so that constant features become exact zeros.
            centred = centred - centred[:1]
            symmetric_product(centred - centred.mean(0), total)
    return mirror(total)


def _block(a: Tensor) -> int:
    """Rows a block: half the products are saved, but for the blocks on the diagonal."""
    n = len(a)
    blocks = min(8, n // 64) if a.device.type == "cpu" else 1
    return -(-n // max(1, blocks))


def _wide(x: Tensor) -> torch.dtype:
    small = x.dtype in (torch.float32, torch.float16, torch.bfloat16)
    return torch.float32 if small else torch.float64


def _equal(back: Tensor, x: Tensor) -> bool:
    # Twice as fast on the CPU as torch.equal. Differences below 1e-22 pass: next to
    # integers they are nothing, and all of that size make the Gram zero, which is
    # looked at again.
    difference = back.sub_(x)
    return not bool(difference.dot(difference) != 0)


def _bytes_multiply(a: Tensor, b: Tensor, largest: int) -> bool:
    """Whether torch's product of bytes takes these, exactly."""
    width = a.shape[1]
    if a.device.type == "cuda":
        shaped = len(a) > 16 and len(b) % 8 == 0 and width % 8 == 0
        return shaped and largest**2 * width < 2**31
    return (
        a.device.type == "cpu"
        and width >= 16
        # oneDNN shifts signed bytes by 128 on the way.
        and (128 + largest) * largest * width < 2**31
        and _bytes_multiply_exactly()
    )


@cache
def _bytes_multiply_exactly() -> bool:
    # Bytes are fast on processors of this kind only. A trial tells the rest: without
    # VNNI pairs of products are added in an int16, which these would saturate.
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    a = (torch.arange(37 * 131) % 255 - 127).view(37, 131)
    a[0] = _LARGEST_INTEGER
    a[1] = -_LARGEST_INTEGER
    bytes_ = a.to(torch.int8)
    try:
        found = torch._int_mm(bytes_, bytes_.T)
    except RuntimeError:
        return False
    return torch.equal(found.long(), a @ a.T)


def _describe(parts: Tensor) -> str:
    bad = int((~torch.isfinite(parts)).sum())
    return f"{bad} of {parts.numel()} values are NaN or infinite"
