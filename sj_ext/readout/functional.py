"""Pure tensor functions behind the readouts."""

import torch
from torch import Tensor


def weighted_mean_over_time(logits: Tensor, weight: Tensor) -> Tensor:
    """Aggregate logits over time: sum_t(w_t o_t) / sum_t(w_t).

    Args:
        logits: `[T, N, K]`.
        weight: `[T]`; of mean 1 the result is mean_t(w_t o_t).

    Returns:
        `[N, K]`, in the dtype of `logits`; half precision is summed in float32, where
        rounded weights would no longer have mean 1.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    share = weight.to(logits.device, dtype)
    share = share / share.sum()
    return torch.einsum("t,tnk->nk", share, logits.to(dtype)).to(logits.dtype)


def correct_per_step(logits: Tensor, target: Tensor) -> Tensor:
    """Count the samples that each step alone classifies rightly.

    Args:
        logits: `[T, N, K]`.
        target: `[N]`, class indices.

    Returns:
        `[T]`, int64.
    """
    return (logits.argmax(-1) == target).sum(1)


def correct_per_prefix(logits: Tensor, target: Tensor) -> Tensor:
    """Count the samples that the sum of all steps so far classifies rightly.

    Args:
        logits: `[T, N, K]`.
        target: `[N]`, class indices.

    Returns:
        `[T]`, int64; entry t is that of steps 0 to t.
    """
    return correct_per_step(logits.cumsum(0), target)


def check_logits(logits: Tensor, T: int) -> None:
    """Refuse logits that do not have the time axis first.

    Args:
        logits: What came.
        T: The number of steps expected.

    Raises:
        ValueError: If `logits` is not `[T, N, K]`.
    """
    if logits.ndim != 3 or logits.shape[0] != T:
        raise ValueError(
            f"Expected `logits` of shape [T={T}, N, K], got {list(logits.shape)}."
        )


def check_target(target: Tensor, logits: Tensor) -> None:
    """Refuse targets that are no class indices of the batch.

    The range is checked on the CPU only: elsewhere it would wait for the device.

    Args:
        target: What came.
        logits: `[T, N, K]`.

    Raises:
        ValueError: If `target` is not `[N]`, not of an integer type, or holds a label
            outside [0, K).
    """
    _, samples, classes = logits.shape
    if target.shape != (samples,):
        raise ValueError(
            f"Expected `target` of shape [N={samples}], got {list(target.shape)}."
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(
            f"Expected `target` to hold class indices, got dtype {target.dtype}."
        )
    if target.device.type == "cpu" and samples:
        lowest, highest = int(target.min()), int(target.max())
        if lowest < 0 or highest >= classes:
            raise ValueError(
                f"Expected `target` in [0, {classes}), got labels from {lowest} to "
                f"{highest}."
            )
