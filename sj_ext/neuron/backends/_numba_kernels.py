"""Compiled loops of the fused CPU neurons: one pass forward, one pass backward.

Both walk a range of neurons in blocks whose state stays in the core's own caches, all
time steps of a block before the next. Backward charges a block again from its input,
so that forward has nothing to write but its results, and draws the mask in place.
"""

import numpy as np

from sj_ext.compiled import compiled

# Products and sums are never fused where spikes depend on them.


@compiled()
def _charge(kind, x, v, h, leak, rest):  # type: ignore[no-untyped-def]
    if kind == 0:
        for i in range(h.size):
            h[i] = v[i] + x[i]
    elif kind == 1:
        for i in range(h.size):
            h[i] = v[i] + (x[i] - (v[i] - rest)) / leak
    elif kind == 2:
        for i in range(h.size):
            h[i] = v[i] - (v[i] - rest) / leak + x[i]
    elif kind == 3:
        for i in range(h.size):
            h[i] = v[i] + (x[i] - (v[i] - rest)) * leak
    else:
        for i in range(h.size):
            h[i] = v[i] - (v[i] - rest) * leak + x[i]


@compiled()
def _fire(h, v, spikes, hard, threshold, reset):  # type: ignore[no-untyped-def]
    zero, one = h.dtype.type(0), h.dtype.type(1)
    if hard:
        for i in range(h.size):
            s = one if h[i] - threshold >= zero else zero
            spikes[i] = s
            v[i] = s * reset + (one - s) * h[i]
    else:
        for i in range(h.size):
            s = one if h[i] - threshold >= zero else zero
            spikes[i] = s
            v[i] = h[i] - s * threshold


@compiled()
def forward(  # type: ignore[no-untyped-def]
    start, stop, block, T, kind, hard, store, numbers, x, x_row, row, v0, out
):
    """Run neurons `start` to `stop`; `out` is (spikes, v_last, v_seq)."""
    spikes, v_last, v_seq = out
    leak, rest, threshold, reset = numbers[0], numbers[1], numbers[2], numbers[3]
    charged = np.empty(block, x.dtype)
    for first in range(start, stop, block):
        last = min(first + block, stop)
        h = charged[: last - first]
        v = v_last[first:last]
        v[:] = v0[first:last]
        for t in range(T):
            _charge(kind, x[t * x_row + first : t * x_row + last], v, h, leak, rest)
            s = spikes[t * row + first : t * row + last]
            _fire(h, v, s, hard, threshold, reset)
            if store:
                v_seq[t * row + first : t * row + last] = v


@compiled(fastmath={"contract"})
def _exp(x, power, bits):  # type: ignore[no-untyped-def]
    # math.exp is not vectorised. `bits` is the memory of `power` as integers: adding
    # 1.5 * 2**mantissa leaves the rounded exponent in the lowest ones.
    real = x.dtype.type
    log2e = real(1.4426950408889634)
    if bits.itemsize == 4:
        magic, least = real(12582912.0), real(1.7e-38)
        high, low = real(0.693359375), real(-2.12194440e-4)
        for i in range(x.size):
            power[i] = max(x[i], real(-87.0)) * log2e + magic
        for i in range(x.size):
            k = power[i] - magic
            r = (max(x[i], real(-87.0)) - k * high) - k * low
            e = real(1 / 5040)
            e = e * r + real(1 / 720)
            e = e * r + real(1 / 120)
            e = e * r + real(1 / 24)
            e = e * r + real(1 / 6)
            e = e * r + real(0.5)
            e = e * r + real(1)
            x[i] = e * r + real(1)
        for i in range(x.size):
            bits[i] = (bits[i] << 23) + 1065353216
    else:
        magic, least = real(6755399441055744.0), real(3.4e-308)
        high, low = real(6.93147180369123816490e-01), real(1.90821492927058770002e-10)
        for i in range(x.size):
            power[i] = max(x[i], real(-708.0)) * log2e + magic
        for i in range(x.size):
            k = power[i] - magic
            r = (max(x[i], real(-708.0)) - k * high) - k * low
            e = real(1 / 6227020800)
            e = e * r + real(1 / 479001600)
            e = e * r + real(1 / 39916800)
            e = e * r + real(1 / 3628800)
            e = e * r + real(1 / 362880)
            e = e * r + real(1 / 40320)
            e = e * r + real(1 / 5040)
            e = e * r + real(1 / 720)
            e = e * r + real(1 / 120)
            e = e * r + real(1 / 24)
            e = e * r + real(1 / 6)
            e = e * r + real(0.5)
            e = e * r + real(1)
            x[i] = e * r + real(1)
        for i in range(x.size):
            bits[i] = (bits[i] << 52) + 4607182418800017408
    # What was cut off above underflows: zero, not the least number.
    for i in range(x.size):
        e = x[i] * power[i]
        x[i] = real(0) if e <= least else e


@compiled()
def _derivative(  # type: ignore[no-untyped-def]
    base, a, b, c, h, threshold, d, power, bits
):
    zero, one = h.dtype.type(0), h.dtype.type(1)
    if base == 0:
        for i in range(h.size):
            d[i] = -abs((h[i] - threshold) * b)
        _exp(d, power, bits)
        for i in range(h.size):
            d[i] = a * d[i] / ((one + d[i]) * (one + d[i]))
    elif base == 1:
        for i in range(h.size):
            z = b * (h[i] - threshold)
            d[i] = a / (one + z * z)
    elif base == 2:
        for i in range(h.size):
            z = abs(h[i] - threshold)
            d[i] = zero if z > c else b * z + a
    elif base == 3:
        for i in range(h.size):
            d[i] = b * abs(h[i] - threshold)
        _exp(d, power, bits)
        for i in range(h.size):
            d[i] *= a
    elif base == 4:
        for i in range(h.size):
            z = b + abs(h[i] - threshold)
            d[i] = one / (a * (z * z))
    elif base == 5:
        for i in range(h.size):
            z = abs(h[i] - threshold) + one
            d[i] = a / (z * z)
    else:
        for i in range(h.size):
            z = (h[i] - threshold) * b
            d[i] = -(z * z)
        _exp(d, power, bits)
        for i in range(h.size):
            d[i] *= a


@compiled()
def _keep_drawn(d, scale, key, first, dropped):  # type: ignore[no-untyped-def]
    zero = d.dtype.type(0)
    low, high = np.uint32(key), np.uint32(key >> np.uint64(32))
    offset = np.uint32(first)
    for i in range(d.size):
        z = np.uint32(np.uint32(i) + offset)
        z = np.uint32(z ^ low)
        z = np.uint32(z * np.uint32(0x21F0AAAD))
        z = np.uint32(z ^ (z >> np.uint32(15)))
        z = np.uint32(z + high)
        z = np.uint32(z * np.uint32(0x735A2D97))
        z = np.uint32(z ^ (z >> np.uint32(15)))
        z = np.uint32(z * np.uint32(0x846CA68B))
        z = np.uint32(z ^ (z >> np.uint32(16)))
        d[i] = d[i] * scale if z >= dropped else zero


@compiled()
def _keep_window(d, h, threshold, half_width):  # type: ignore[no-untyped-def]
    zero = d.dtype.type(0)
    for i in range(d.size):
        d[i] = d[i] if abs(h[i] - threshold) < half_width else zero


@compiled()
def _mix(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled()
def _pull(  # type: ignore[no-untyped-def]
    grad_s, carry, carries, h, d, grad_x, threshold, hard, at, slope, gain, kept
):
    # d(v after reset)/dh = 1 - hard * s + (at - slope * h) * ds/dx covers both resets,
    # detached or not. `d` leaves with dL/dh. No product with an h that may be infinite
    # is taken where its other factor is zero by definition.
    zero, one = h.dtype.type(0), h.dtype.type(1)
    if not carries:
        for i in range(h.size):
            g = grad_s[i] * d[i]
            d[i] = g
            grad_x[i] = g * gain
            carry[i] = g * kept
    elif slope == zero:
        for i in range(h.size):
            s = hard if h[i] - threshold >= zero else zero
            g = grad_s[i] * d[i] + carry[i] * ((one - s) + at * d[i])
            d[i] = g
            grad_x[i] = g * gain
            carry[i] = g * kept
    else:
        for i in range(h.size):
            s = hard if h[i] - threshold >= zero else zero
            jump = (at - slope * h[i]) * d[i] if d[i] != zero else zero
            g = grad_s[i] * d[i] + carry[i] * ((one - s) + jump)
            d[i] = g
            grad_x[i] = g * gain
            carry[i] = g * kept


@compiled()
def backward(  # type: ignore[no-untyped-def]
    start,
    stop,
    block,
    T,
    kind,
    hard,
    base,
    rule,
    flags,
    seed,
    dropped,
    numbers,
    x,
    x_row,
    row,
    v0,
    grads,
    grad_row,
    out,
    bits_like,
):
    """Run neurons `start` to `stop` back.

    `grads` is (of spikes, of v_last, of v_seq), `out` (of x, of v0, of the leak by
    block), `flags` tells which of `grads` there are and whether the leak's is wanted.
    """
    grad_s, grad_v, grad_v_seq = grads
    grad_x, grad_v0, grad_leak = out
    has_s, has_v, has_v_seq, wants_leak = flags
    leak, rest, threshold, reset = numbers[0], numbers[1], numbers[2], numbers[3]
    hard_one, at, slope = numbers[4], numbers[5], numbers[6]
    gain, kept, input_share = numbers[7], numbers[8], numbers[9]
    a, b, c, scale, half_width = (
        numbers[10],
        numbers[11],
        numbers[12],
        numbers[13],
        numbers[14],
    )
    charged = np.empty((T, block), x.dtype)
    before = np.empty((T if wants_leak else 1, block), x.dtype)
    potential = np.empty(block, x.dtype)
    derivative = np.empty(block, x.dtype)
    power = np.empty(block, x.dtype)
    bits = power.view(bits_like.dtype)
    sums = np.empty(block, x.dtype)
    nothing = np.zeros(block, x.dtype)
    stream = _mix(seed)
    for first in range(start, stop, block):
        last = min(first + block, stop)
        n = last - first
        v = potential[:n]
        v[:] = v0[first:last]
        d = derivative[:n]
        for t in range(T):
            if wants_leak:
                before[t, :n] = v
            h = charged[t, :n]
            _charge(kind, x[t * x_row + first : t * x_row + last], v, h, leak, rest)
            if t + 1 < T:
                _fire(h, v, d, hard, threshold, reset)
        carry = grad_v0[first:last]
        if has_v:
            carry[:] = grad_v[first:last]
        else:
            carry[:] = 0
        carries = has_v
        g = nothing[:n]
        total = sums[:n]
        total[:] = 0
        for t in range(T - 1, -1, -1):
            h = charged[t, :n]
            _derivative(base, a, b, c, h, threshold, d, power[:n], bits[:n])
            if rule == 0:
                word = (np.uint64(first) >> np.uint64(32) << np.uint64(32)) | np.uint64(
                    t
                )
                key = _mix(stream + word * np.uint64(0x9E3779B97F4A7C15))
                _keep_drawn(d, scale, key, first, dropped)
            elif rule == 1:
                _keep_window(d, h, threshold, half_width)
            else:
                d *= scale
            if has_v_seq:
                later = grad_v_seq[t * row + first : t * row + last]
                for i in range(n):
                    carry[i] += later[i]
                carries = True
            if has_s:
                g = grad_s[t * grad_row + first : t * grad_row + last]
            gx = grad_x[t * row + first : t * row + last]
            _pull(
                g,
                carry,
                carries,
                h,
                d,
                gx,
                threshold,
                hard_one,
                at,
                slope,
                gain,
                kept,
            )
            carries = True
            if wants_leak:
                xt = x[t * x_row + first : t * x_row + last]
                vt = before[t, :n]
                for i in range(n):
                    total[i] += d[i] * (input_share * xt[i] - (vt[i] - rest))
        if wants_leak:
            s = 0.0
            for i in range(n):
                s += total[i]
            grad_leak[first // block] = s
