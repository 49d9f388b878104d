"""Losses over time: of logits `[T, N, K]`, where cross-entropy takes `[N, K]`.

Pure functions; `sj_ext.readout.loss` holds the modules that configurations name.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sj_ext.readout.functional import (
    check_logits,
    check_soft_target,
    check_target,
    is_soft,
    mean_over_prefixes,
    weighted_mean_over_time,
)
from sj_ext.readout.readout import Readout

DIRECTIONS = {"early": 1.0, "late": -1.0}
"""The sign with which the information centroid enters the loss."""


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


def temporal_concentration_loss(
    x_seq: Tensor,
    target: Tensor,
    strength: float = 1.0,
    direction: Literal["early", "late"] = "early",
    readout: Readout | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy, and a push of the information centroid to early or late steps.

        CE(o_T, y) +- strength * C / T,        C = sum_t(t u_t) / sum_t(u_t)

    with + for early and - for late, o_t the output of the first t steps and u_t what
    stands for the temporal Fisher information I_t of arXiv 2211.14406. The formulation
    is this project's own; that paper's is not known to us. It follows from the
    definition: with p_t = softmax(o_t) and D_t the derivative of o_t in the weights,
    grad log f_t(y) = D_t'(onehot(y) - p_t), so that in the mean over the network's own
    answers y

        I_t = E ||grad log f_t(y)||^2 = E tr(F_t D_t D_t'),   F_t = diag(p_t) - p_t p_t'
        I_t <= E ||D_t||^2 tr F_t,   u_t = E tr F_t = E sum_k p_tk (1 - p_tk)

    with the spectral norm of D_t. F_t is the Fisher information in the logits, and u_t
    how uncertain the prefix is. The exact I_t would take a second derivative of the
    whole network for each t; u_t needs the logits alone, and no labels.

    What it leaves out is D_t, which a network may change instead: it can make early
    prefixes uncertain by being silent, so that they depend on no weight either. And it
    can make them certain by answering the same for all samples, rightly or not. So
    whether I_t follows is to be measured with `TemporalFisher` and its nulls, with the
    accuracy of the prefixes beside it.

    C is a ratio of sums over the batch and no mean over samples: the mean of the losses
    of parts of a batch is not the loss of the batch. Gradients that are averaged over
    processes, or over batches before a step, are those of another loss.

    Args:
        x_seq: Logits, `[T, N, K]`.
        target: `[N]`, class indices, or `[N, K]`, probabilities.
        strength: How much the centroid counts beside the cross-entropy, at least 0.
        direction: Where the centroid is to move.
        readout: Gives the outputs of all prefixes; None is their mean.
        label_smoothing: As in `torch.nn.functional.cross_entropy`.

    Returns:
        A scalar, of the batch as a whole.

    Raises:
        ValueError: If an argument is outside its range, a shape does not fit, or the
            target is no class of each sample.
    """
    check_strength(strength, direction)
    check_logits(x_seq, len(x_seq))
    check_hard_or_soft(x_seq, target)
    prefixes = mean_over_prefixes(x_seq) if readout is None else readout.prefixes(x_seq)
    loss = F.cross_entropy(prefixes[-1], target, label_smoothing=label_smoothing)
    if strength == 0:
        return loss
    centroid = centroid_of_prefixes(prefixes)
    return loss + DIRECTIONS[direction] * strength * centroid / len(x_seq)


def centroid_of_prefixes(prefixes: Tensor) -> Tensor:
    """Give the centroid sum_t(t u_t) / sum_t(u_t) of `prefix_uncertainty`.

    Args:
        prefixes: Outputs of every prefix, `[T, N, K]`.

    Returns:
        A scalar, in time steps from 1 to T; it stays finite where all is certain.
    """
    uncertainty = prefix_uncertainty(prefixes)
    t = torch.arange(1, len(prefixes) + 1).to(uncertainty)
    total = uncertainty.sum().clamp_min(torch.finfo(uncertainty.dtype).tiny)
    return (t * uncertainty).sum() / total


def prefix_uncertainty(prefixes: Tensor) -> Tensor:
    """Give the Fisher information of each prefix in its own logits.

        u_t = mean_n sum_k p_tnk (1 - p_tnk),      p_tn = softmax(o_tn)

    It is E ||onehot(y) - p_t||^2 over y drawn from p_t, at most 1 - 1/K.

    Args:
        prefixes: Outputs of every prefix, `[T, N, K]`.

    Returns:
        `[T]`, in the dtype of `prefixes`, float32 for half precision.
    """
    dtype = torch.promote_types(prefixes.dtype, torch.float32)
    share = prefixes.to(dtype).softmax(-1)
    return (share * (1 - share)).sum(-1).mean(1)


def check_lambda(lambda_: float) -> None:
    """Refuse a share outside [0, 1]."""
    if not 0.0 <= lambda_ <= 1.0:
        raise ValueError(f"Expected `lambda_` in [0, 1], got {lambda_!r}.")


def check_strength(strength: float, direction: str) -> None:
    """Refuse a negative strength, or a direction that is none."""
    if not 0.0 <= strength < math.inf:
        raise ValueError(f"Expected `strength` of at least 0, got {strength!r}.")
    if direction not in DIRECTIONS:
        raise ValueError(
            f"Expected `direction` to be one of {', '.join(DIRECTIONS)}, got "
            f"{direction!r}."
        )


def check_hard_or_soft(x_seq: Tensor, target: Tensor) -> None:
    """Refuse targets that are no class, or no probabilities, of each sample."""
    if is_soft(target, x_seq):
        check_soft_target(target)
    else:
        check_target(target, x_seq)
