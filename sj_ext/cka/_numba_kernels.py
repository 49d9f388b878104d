"""Compiled loops over features and Gram matrices on the CPU, each one pass.

Their plain twins stand in `gram.py` and `pairs.py`, and serve other devices.
"""

import numpy as np

from sj_ext.compiled import compiled

# Sums may be taken in any order: that makes them faster and no less exact.
_SUMS = {"fastmath": {"reassoc", "contract", "nsz"}}


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
