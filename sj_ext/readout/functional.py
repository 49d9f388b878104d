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


def mean_over_prefixes(logits: Tensor, weight: Tensor | None = None) -> Tensor:
    """Aggregate over every prefix: sum_{s<=t}(w_s o_s) / sum_{s<=t}(w_s).

    Args:
        logits: `[T, N, K]`.
        weight: `[T]`; None weighs all steps alike.

    Returns:
        `[T, N, K]`, in the dtype of `logits`; half precision is summed in float32.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if weight is None:
        weight = torch.ones(len(logits))
    weight = weight.to(logits.device, dtype)[:, None, None]
    return ((weight * logits).cumsum(0) / weight.cumsum(0)).to(logits.dtype)


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
    # Rounded to half precision, sums of many steps would tie.
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return correct_per_step(logits.to(dtype).cumsum(0), target)


def check_logits(logits: Tensor, T: int) -> None:
    """Refuse logits that do not have the time axis first, or more steps than T.

    Args:
        logits: What came.
        T: The largest number of steps.

    Raises:
        ValueError: If `logits` is not `[t, N, K]` with t from 1 to T.
    """
    if logits.ndim != 3 or not 1 <= logits.shape[0] <= T:
        raise ValueError(
            f"Expected `logits` of shape [t, N, K] with t from 1 to T={T}, got "
            f"{list(logits.shape)}."
        )


def is_soft(target: Tensor, logits: Tensor) -> bool:
    """Tell whether targets are probabilities, as mixup and CutMix make them.

    Args:
        target: `[N]` or `[N, K]`.
        logits: `[T, N, K]`.

    Returns:
        Whether `target` is `[N, K]` and of a floating-point type.
    """
    return target.shape == logits.shape[1:] and target.is_floating_point()


def check_soft_target(target: Tensor) -> None:
    """Refuse probabilities that are none.

    They are looked at on the CPU only: elsewhere it would wait for the device.

    Args:
        target: `[N, K]`.

    Raises:
        ValueError: If a number is negative or not finite, or a row does not sum to 1.
    """
    if target.device.type != "cpu" or not target.numel():
        return
    total = target.double().sum(1)
    if not bool((target >= 0).all()) or not bool(((total - 1).abs() < 1e-2).all()):
        raise ValueError(
            "Expected soft `target` [N, K] to hold probabilities that sum to 1, got "
            f"{float(target.min())} as the least and sums from {float(total.min())} "
            f"to {float(total.max())}."
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
    check_indices(target, samples)
    if target.device.type == "cpu" and samples:
        lowest, highest = int(target.min()), int(target.max())
        if lowest < 0 or highest >= classes:
            raise ValueError(
                f"Expected `target` in [0, {classes}), got labels from {lowest} to "
                f"{highest}."
            )


def check_indices(target: Tensor, samples: int) -> None:
    """Refuse targets that cannot be class indices, whatever the classes are.

    Args:
        target: What came.
        samples: N.

    Raises:
        ValueError: If `target` is not `[N]`, or not of an integer type.
    """
    if target.shape != (samples,):
        raise ValueError(
            f"Expected `target` of shape [N={samples}], got {list(target.shape)}."
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(
            f"Expected `target` to hold class indices, got dtype {target.dtype}."
        )


def check_hard_or_soft(logits: Tensor, target: Tensor) -> None:
    """Refuse targets that are no class, or no probabilities, of each sample.

    Args:
        logits: `[T, N, K]`.
        target: What came.

    Raises:
        ValueError: As in `check_target` and `check_soft_target`.
    """
    if is_soft(target, logits):
        check_soft_target(target)
    else:
        check_target(target, logits)
