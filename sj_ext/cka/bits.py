"""Gram matrices of spikes as counts of common bits: exact, and several times faster.

A sample's spikes become a bit each. The product of two samples is then the number of
bits that are set in both, which processors count 64 at a time.
"""

import torch
from torch import Tensor

from sj_ext.cka.loops import kernels
from sj_ext.threads import in_chunks

# Of features, so that handing a part to a thread is worth it.
_LEAST_WORK = 2**19
_CHUNKS_PER_THREAD = 8
_EXACT_IN_FLOAT32 = 2**24


def spike_gram(parts: Tensor) -> Tensor | None:
    """Count, for all pairs of samples, the features that spike in both.

    Args:
        parts: Float32 features [S, n, D] on the CPU.

    Returns:
        [n, n], float32 or, where that is not exact, float64; None if some value is
        neither 0 nor 1.
    """
    steps, n, width = parts.shape
    # Two words of 32 bits are counted at once.
    words = 2 * -(-width // 64)
    bits = torch.zeros(n, steps * words, dtype=torch.int32).numpy().view("uint32")
    threads = max(1, min(torch.get_num_threads(), parts.numel() // _LEAST_WORK))
    values = parts.contiguous().numpy().view("uint32")
    # Threads append only: none can take back what another has found.
    without_spikes: list[int] = []

    def pack(start: int, stop: int) -> None:
        if not without_spikes and not kernels().pack_spikes(values, start, stop, bits):
            without_spikes.append(start)

    in_chunks(pack, n, -(-n // threads), threads)
    if without_spikes:
        return None
    small = steps * width < _EXACT_IN_FLOAT32
    gram = torch.empty(n, n, dtype=torch.float32 if small else torch.float64)
    out, counted = gram.numpy(), bits.view("uint64")
    in_chunks(
        lambda start, stop: kernels().spike_gram(counted, start, stop, out),
        n,
        -(-n // (_CHUNKS_PER_THREAD * threads)),
        threads,
    )
    return gram
