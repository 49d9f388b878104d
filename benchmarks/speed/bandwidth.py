"""The floor that memory sets: bytes that must move over bytes that can, a second."""

import torch

from benchmarks.speed.timing import interleaved

_LAYER_TENSORS = 5


def layer_bytes(elements: int, element_size: int = 4) -> int:
    """Count what an ideal fused layer moves, forward and backward.

    Forward it reads the input and writes the spikes. Backward it reads the gradient of
    the spikes and the input again (charging anew is cheaper than to write and read the
    potentials) and writes the gradient of the input. That is five tensors; the mask
    comes from a counter and the states are one step of T, so neither counts.

    Args:
        elements: Of the input `[T, N, ...]`.
        element_size: Bytes of each.

    Returns:
        Bytes read and written.
    """
    return _LAYER_TENSORS * elements * element_size


def copy_bandwidth(
    device: torch.device, repetitions: int = 7, size: int | None = None
) -> float:
    """Measure how fast a device copies a tensor that no cache holds.

    Args:
        device: Which device.
        repetitions: Timed copies, of which the median counts.
        size: Bytes of the tensor; by default 256 MiB, on a CUDA device 2 GiB.

    Returns:
        Bytes read and written in a second.
    """
    if size is None:
        size = 2**31 if device.type == "cuda" else 2**28
    source = torch.ones(size // 4, device=device)
    target = torch.zeros_like(source)
    copy = {"copy": lambda: target.copy_(source)}
    return 2 * size / interleaved(copy, repetitions, device)["copy"].seconds
