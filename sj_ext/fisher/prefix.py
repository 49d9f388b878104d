"""Outputs of the first t steps: pure functions of logits `[T, N, K]`.

With the shares of a readout in the first t steps, which sum to 1, their output is

    o_t = sum_{s <= t} share_ts logits_s,

the mean where all are alike and step t where it has all, and the network answers
softmax(o_t). A readout that is no weighted mean, such as the maximum, has no shares.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sj_ext.readout import RateReadout, Readout

LABELS = ("model", "empirical")
"""Whose labels the loss of a sample takes: the model's own, or the true ones."""


def shares(T: int, steps: Sequence[int], readout: Readout | None = None) -> Tensor:
    """Give the weight of each step in the output of each prefix.

    Args:
        T: Number of time steps.
        steps: The prefixes, by their lengths.
        readout: Whose weights count; None is the mean.

    Returns:
        `[prefixes, T]`, float64; the rows sum to 1 and end with zeros.

    Raises:
        TypeError: If the readout has no weights over time.
        ValueError: If it is for another T, or the weights of a prefix sum to zero.
    """
    if readout is None:
        readout = RateReadout(T)
    if readout.T != T:
        raise ValueError(f"Expected `readout` for T={T} steps, got T={readout.T}.")
    found = torch.zeros(len(steps), T, dtype=torch.float64)
    for row, t in zip(found, steps, strict=True):
        row[:t] = readout.shares(t)
    if not bool(found.isfinite().all()):
        raise ValueError(
            "Expected a `readout` whose weights have a positive sum over every "
            f"prefix, got the shares {found.tolist()}."
        )
    return found


def prefix_logits(logits: Tensor, share: Tensor) -> Tensor:
    """Read out every prefix.

    Args:
        logits: `[T, N, K]`, of all steps or of the first ones that any prefix needs.
        share: `[prefixes, T]`.

    Returns:
        `[prefixes, N, K]`, float64.
    """
    given = share[:, : len(logits)].to(logits.device)
    return torch.einsum("ps,snk->pnk", given, logits.detach().double())


def choose_labels(
    outputs: Tensor, target: Tensor | None, labels: str, generator: torch.Generator
) -> Tensor:
    """Say which label each prefix of each sample is differentiated for.

    Args:
        outputs: `[prefixes, N, K]`.
        target: `[N]`, class indices, or None where there are none.
        labels: `"model"` or `"empirical"`.
        generator: For labels drawn from the model.

    Returns:
        `[prefixes, N]`, int64.

    Raises:
        ValueError: If `target` is not `[N]` class indices below K, or is needed and
            missing.
    """
    _, N, K = outputs.shape
    if target is not None:
        floating = target.is_floating_point() or target.dtype == torch.bool
        if target.shape != (N,) or floating:
            raise ValueError(
                f"Expected the target to be class indices [N={N}], got "
                f"{list(target.shape)} of {target.dtype}."
            )
        if N and (int(target.min()) < 0 or int(target.max()) >= K):
            raise ValueError(
                f"Expected the target in [0, {K}), got labels from "
                f"{int(target.min())} to {int(target.max())}."
            )
    if labels == "model":
        return draw_labels(outputs, generator)
    if target is None:
        raise ValueError(
            "Expected batches with a target for labels='empirical', got none."
        )
    return target.long().expand(len(outputs), -1)


def draw_labels(outputs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a label for each prefix and sample from that prefix's own distribution.

    Args:
        outputs: `[prefixes, N, K]`.
        generator: On the CPU, so that all devices draw the same.

    Returns:
        `[prefixes, N]`, int64.
    """
    share = outputs.double().cpu().softmax(-1).flatten(0, 1)
    drawn = torch.multinomial(share, 1, generator=generator)
    return drawn.reshape(outputs.shape[:2]).to(outputs.device)


def draw_signs(size: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw +1 and -1 with equal odds, float64, on the CPU."""
    return 2.0 * torch.randint(2, size, generator=generator, dtype=torch.float64) - 1


def residuals(outputs: Tensor, labels: Tensor) -> Tensor:
    """Differentiate the cross-entropy of each prefix's output: softmax - onehot.

    Args:
        outputs: `[prefixes, N, K]`.
        labels: `[prefixes, N]`.

    Returns:
        `[prefixes, N, K]`, in the dtype of `outputs`.
    """
    onehot = F.one_hot(labels, outputs.shape[-1]).to(outputs.dtype)
    return outputs.softmax(-1) - onehot


def cotangent(residual: Tensor, share: Tensor, dtype: torch.dtype) -> Tensor:
    """Spread the residual of one prefix over its steps.

    Args:
        residual: `[N, K]`.
        share: `[T]`, that prefix's row of `shares`.
        dtype: Of the logits.

    Returns:
        `[t, N, K]`, t the last step that has a share.
    """
    t = int(share.nonzero().max()) + 1
    return (share[:t, None, None].to(residual.device) * residual).to(dtype)


class Answers(NamedTuple):
    """Sums over samples of what each prefix answers, all `[prefixes]`, float64.

    Attributes:
        loss: Cross-entropy.
        correct: Right answers.
        confidence: Largest probability.
    """

    loss: Tensor
    correct: Tensor
    confidence: Tensor


def answers(outputs: Tensor, target: Tensor | None) -> Answers:
    """Sum up loss, right answers and confidence of every prefix.

    Args:
        outputs: `[prefixes, N, K]`.
        target: `[N]`; without it loss and right answers are NaN.

    Returns:
        The sums, on the CPU.
    """
    log_share = outputs.double().log_softmax(-1)
    confidence = log_share.amax(-1).exp().sum(1).cpu()
    if target is None:
        unknown = torch.full_like(confidence, float("nan"))
        return Answers(unknown, unknown, confidence)
    right = (outputs.argmax(-1) == target).double().sum(1).cpu()
    picked = target.long().expand(len(outputs), -1).unsqueeze(-1)
    loss = -log_share.gather(-1, picked).squeeze(-1).sum(1).cpu()
    return Answers(loss, right, confidence)
