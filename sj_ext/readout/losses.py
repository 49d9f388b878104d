"""Losses over time: of logits `[T, N, K]`, where cross-entropy takes `[N, K]`.

Pure functions of the logits alone; `sj_ext.readout.loss` holds the modules that
configurations name.
"""

from torch import Tensor
from torch.nn import functional as F

from sj_ext.readout.functional import (
    check_hard_or_soft,
    check_logits,
    weighted_mean_over_time,
)


def temporally_weighted_cross_entropy(
    x_seq: Tensor, target: Tensor, weight: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of the mean over time that is weighted by `weight`.

    What `TemporallyWeightedOutput` is trained with (arXiv 2406.19645).

    Args:
        x_seq: Logits, `[t, N, K]`.
        target: `[N]`, class indices, or `[N, K]`, probabilities.
        weight: `[T]`, T at least t; the first t are scaled to a mean of 1.
        label_smoothing: As in `torch.nn.functional.cross_entropy`.

    Returns:
        A scalar: the mean over samples.

    Raises:
        ValueError: If a shape does not fit, or the target is no class of each sample.
    """
    check_logits(x_seq, len(weight))
    check_hard_or_soft(x_seq, target)
    output = weighted_mean_over_time(x_seq, weight[: len(x_seq)])
    return F.cross_entropy(output, target, label_smoothing=label_smoothing)


def temporal_efficient_training_loss(
    x_seq: Tensor,
    target: Tensor,
    lambda_: float = 0.05,
    phi: float = 1.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Train each time step by itself, its logits held near one level.

        (1 - lambda) mean_t CE(o_t, y) + lambda mean_t MSE(o_t, phi)

    S. Deng et al., "Temporal Efficient Training of Spiking Neural Network via Gradient
    Re-weighting", ICLR 2022, arXiv 2202.11946. With lambda = 0 it is what the host has
    as `functional.temporal_efficient_training_cross_entropy`.

    Args:
        x_seq: Logits, `[T, N, K]`.
        target: `[N]`, class indices, or `[N, K]`, probabilities.
        lambda_: Share of the second term, in [0, 1].
        phi: The level; the paper's is the firing threshold.
        label_smoothing: As in `torch.nn.functional.cross_entropy`.

    Returns:
        A scalar: the mean over samples.

    Raises:
        ValueError: If `lambda_` is outside its range, a shape does not fit, or the
            target is no class of each sample.
    """
    check_lambda(lambda_)
    check_logits(x_seq, len(x_seq))
    check_hard_or_soft(x_seq, target)
    of_steps = target.repeat(len(x_seq), *[1] * (target.ndim - 1))
    loss = F.cross_entropy(
        x_seq.flatten(0, 1), of_steps, label_smoothing=label_smoothing
    )
    if lambda_ == 0:
        return loss
    level = (x_seq - phi).square().mean()
    return (1 - lambda_) * loss + lambda_ * level


def check_lambda(lambda_: float) -> None:
    """Refuse a share outside [0, 1]."""
    if not 0.0 <= lambda_ <= 1.0:
        raise ValueError(f"Expected `lambda_` in [0, 1], got {lambda_!r}.")
