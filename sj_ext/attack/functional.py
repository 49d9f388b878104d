"""Pure tensor functions of attacks: margins, distances and exact projections."""

import torch
from torch import Tensor

from sj_ext.readout.functional import check_target


def margin(logits: Tensor, target: Tensor) -> Tensor:
    """Compute by how much the right class is ahead of the best wrong one.

    Args:
        logits: `[N, K]`.
        target: `[N]`, class indices of any integer type.

    Returns:
        `[N]`; negative where the answer is wrong.

    Raises:
        ValueError: If `target` holds no class of each sample.
    """
    check_target(target, logits.unsqueeze(0))
    target = target.long()
    right = logits.gather(1, target[:, None])
    wrong = logits.scatter(1, target[:, None], -torch.inf)
    return right.squeeze(1) - wrong.amax(1)


def distance(x: Tensor, x0: Tensor, norm: str) -> Tensor:
    """Measure how far inputs were changed, sample by sample.

    Args:
        x: `[N, ...]`.
        x0: What it was before.
        norm: `"linf"`, the largest change; `"l2"`, the root of the sum of squares;
            `"l0"`, the number of values that changed; `"events"`, the sum of absolute
            changes, which for integer counts is events inserted and deleted.

    Returns:
        `[N]`, float64.
    """
    change = (x.double() - x0.double()).flatten(1)
    if norm == "linf":
        return change.abs().amax(1)
    if norm == "l2":
        return change.norm(dim=1)
    if norm == "l0":
        return (change != 0).sum(1).double()
    return change.abs().sum(1)


def project_l0(
    x: Tensor, x0: Tensor, budget: int, bounds: tuple[float, float]
) -> Tensor:
    """Find the nearest inputs within bounds that differ in at most `budget` values.

    Keeping value i, clipped to c_i, instead of x0_i lowers the squared distance by
    (x_i - x0_i)^2 - (x_i - c_i)^2: the projection keeps the values of which that is
    largest.

    Args:
        x: `[N, ...]`.
        x0: Within bounds; what may be changed.
        budget: How many values of a sample may differ.
        bounds: Smallest and largest value.

    Returns:
        `[N, ...]`.
    """
    clipped = x.clamp(*bounds)
    saved = ((x - x0).square() - (x - clipped).square()).flatten(1)
    kept = torch.zeros_like(saved, dtype=torch.bool)
    most = min(budget, saved.shape[1])
    kept.scatter_(1, saved.topk(most, dim=1).indices, True)
    return torch.where(kept.reshape(x.shape), clipped, x0)


def project_events(x: Tensor, x0: Tensor, gain: Tensor, budget: int) -> Tensor:
    """Undo insertions and deletions until at most `budget` are left, the best of them.

    With d = x - x0 it maximises sum_i gain_i k_i over integers 0 <= k_i <= |d_i| with
    sum_i k_i <= budget, and returns x0 + sign(d) k. Units are alike within a value, so
    taking values in order of their gain is optimal.

    Args:
        x: `[N, ...]`, integer counts.
        x0: What they were before.
        gain: What a unit of change of each value is worth: of negative worth it is
            undone, of none only for want of room.
        budget: Events that may be inserted or deleted in a sample.

    Returns:
        `[N, ...]`, integer counts.
    """
    change = (x - x0).flatten(1)
    worth = gain.flatten(1)
    cost = torch.where(worth >= 0, change.abs(), 0)
    order = worth.argsort(dim=1, descending=True)
    cost = cost.gather(1, order)
    before = cost.cumsum(1) - cost
    kept = torch.minimum(cost, (budget - before).clamp_min(0))
    kept = torch.zeros_like(kept).scatter(1, order, kept)
    return x0 + (change.sign() * kept).reshape(x.shape)
