"""Compiled loops over features and Gram matrices on the CPU, each one pass.

Their plain twins stand in `gram.py` and `pairs.py`, and serve other devices.
"""

import numpy as np
from numba import types
from numba.extending import intrinsic

from sj_ext.compiled import compiled

# Sums may be taken in any order: that makes them faster and no less exact.
_SUMS = {"fastmath": {"reassoc", "contract", "nsz"}}


_ONE = np.uint32(0x3F800000)
"""The bits of a float32 1."""


@compiled()
def pack_spikes(x, start, stop, out):  # type: ignore[no-untyped-def]
    """Write spikes as bits into the zeros of `out`, until some value is no spike.

    Args:
        x: Float32 as uint32 [S, n, D].
        start: First of the samples that are written.
        stop: Where they end.
        out: Uint32 [n, S W] with 32 W >= D: bit i of word s W + w is feature i W + w of
            part s.

    Returns:
        Whether every value is 0 or 1.
    """
    steps, _, width = x.shape
    words = out.shape[1] // steps
    for r in range(start, stop):
        others = np.uint32(0)
        for s in range(steps):
            row, target = x[s, r], out[r, s * words : (s + 1) * words]
            for i in range(32):
                part = row[min(i * words, width) : min((i + 1) * words, width)]
                for w in range(part.size):
                    v = part[w]
                    others |= min(v, v ^ _ONE)
                    bit = (v >> np.uint32(23)) & np.uint32(1)
                    target[w] |= bit << np.uint32(i)
        if others:
            return False
    return True


@intrinsic
def _ones(typing, x):  # type: ignore[no-untyped-def]
    """Count the bits of a word that are set."""

    def build(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), build


@compiled()
def spike_gram(bits, start, stop, out):  # type: ignore[no-untyped-def]
    """Count the features in which both of two samples spike.

    Args:
        bits: Uint64 [n, W].
        start: First sample whose pairs with itself and those after it are counted.
        stop: Where its samples end.
        out: [n, n], filled on both sides of the diagonal.
    """
    n = len(bits)
    for i in range(start, stop):
        mine = bits[i]
        for j in range(i, n):
            others = bits[j]
            both = np.uint64(0)
            for w in range(mine.size):
                both += _ones(mine[w] & others[w])  # type: ignore[call-arg]
            out[i, j] = both
            out[j, i] = both


@compiled(**_SUMS)
def off_diagonal_moments(gram):  # type: ignore[no-untyped-def]
    """Give sum and sum of squares of what is off the diagonal of a square matrix."""
    total, squares = 0.0, 0.0
    for i in range(len(gram)):
        row = gram[i]
        s, q = 0.0, 0.0
        for j in range(row.size):
            v = np.float64(row[j])
            s += v
            q += v * v
        own = np.float64(row[i])
        total += s - own
        squares += q - own * own
    return total, squares


@compiled(**_SUMS)
def unbiased_row(gram, rounding, out):  # type: ignore[no-untyped-def]
    """U-centre a Gram matrix into `out`, what is above its diagonal; see `hsic_row`."""
    n = len(gram)
    m = np.empty(n)
    total, before = 0.0, 0.0
    for i in range(n):
        row = gram[i]
        s, q = 0.0, 0.0
        for j in range(i):
            v = np.float64(row[j])
            s += v
            q += v * v
        for j in range(i + 1, n):
            v = np.float64(row[j])
            s += v
            q += v * v
        m[i] = s / (n - 2)
        total += m[i]
        before += q
    shift = total / (2 * (n - 1))
    for i in range(n):
        m[i] -= shift
    left = 0.0
    place = 0
    for i in range(n):
        row, target, own = gram[i, i + 1 :], out[place : place + n - i - 1], m[i]
        others = m[i + 1 :]
        q = 0.0
        for j in range(target.size):
            v = np.float64(row[j]) - own - others[j]
            target[j] = v
            q += v * v
        left += q
        place += target.size
    if not np.sqrt(left) > rounding * np.sqrt(before):
        out[:] = 0.0


@compiled(fastmath={"reassoc", "contract"})
def weighted_sum(x, weights, shift):  # type: ignore[no-untyped-def]
    """Sum x, NaN as 0.5, by weights that repeat with a factor for each repetition."""
    total = 0.0
    for number in range(-(-x.size // weights.size)):
        part = x[number * weights.size : (number + 1) * weights.size]
        s = 0.0
        for i in range(part.size):
            v = np.float64(part[i])
            s += (v if v == v else 0.5) * weights[i]
        total += (1.0 + (number * shift) % 1.0) * s
    return total
