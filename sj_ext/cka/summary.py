"""What is kept of a layer's features of one batch, so that these can be freed."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sj_ext.cka.functional import Estimator, check_samples, rounding_of
from sj_ext.cka.gram import flatten_samples, full_precision, gram
from sj_ext.cka.pairs import hsic_row
from sj_ext.cka.primal import centred_columns, is_narrow
from sj_ext.cka.rsa import rank_row

Time = Literal["concat", "per_step", "mean"]


@dataclass
class LayerSummary:
    """All that `HsicSums.update` needs of one layer's features of one batch.

    Attributes:
        samples: Number of samples n.
        steps: Number of time steps T.
        rows: For each step, or once, the centred Gram matrix as a float64 vector, or,
            of features much narrower than n, these in float64 [n, D], centred.
        ranks: For each step, or once, the centred ranks of the pairwise distances;
            empty unless asked for.
        joint_ranks: Likewise of all steps together; None unless asked for.
    """

    samples: int
    steps: int
    rows: list[Tensor]
    ranks: list[Tensor]
    joint_ranks: Tensor | None


def summarise(
    features: Tensor, time: Time, estimator: Estimator, rsa: bool
) -> LayerSummary:
    """Reduce a layer's features to their Gram matrices, centred.

    Args:
        features: Of shape [T, n, ...].
        time: As of `HsicSums`.
        estimator: "unbiased" or "biased".
        rsa: Whether ranks of distances are wanted.

    Returns:
        The summary.

    Raises:
        ValueError: If the shape is another one, if fewer than 4 samples come, or
            values that are not finite.
    """
    if features.dim() < 2 or features.is_complex() or features.shape[0] == 0:
        raise ValueError(
            "Expected the features to be real, [T, n, ...], got shape "
            f"{list(features.shape)} of {features.dtype}."
        )
    if features.device.type == "mps":
        # It has no float64.
        features = features.cpu()
    steps, samples = features.shape[:2]
    check_samples(samples)
    x = flatten_samples(features)
    if time == "mean" and steps > 1:
        # CKA does not see the factor, and sums of spikes stay integers.
        x = _sum_over_time(x)
    found = LayerSummary(samples, steps, [], [], None)
    joint = None
    for part in x.split(1) if time == "per_step" else (x,):
        if is_narrow(part) and not rsa:
            found.rows.append(centred_columns(part))
            continue
        matrix = gram(part)
        if rsa:
            matrix = matrix.double()
            found.ranks.append(rank_row(matrix))
            if time == "per_step":
                joint = matrix.clone() if joint is None else joint.add_(matrix)
        found.rows.append(hsic_row(matrix, estimator, rounding_of(part.dtype)))
    if rsa:
        found.joint_ranks = found.ranks[0] if joint is None else rank_row(joint)
    return found


def summarised(
    features: Tensor, time: Time, estimator: Estimator, rsa: bool
) -> LayerSummary:
    """Do what `summarise` does, from outside: without gradients or reduced precision.

    Args:
        features: As of `summarise`.
        time: Likewise.
        estimator: Likewise.
        rsa: Likewise.

    Returns:
        The summary.
    """
    with torch.no_grad(), full_precision():
        return summarise(features, time, estimator, rsa)


def gram_rows(rows: list[Tensor], estimator: Estimator) -> list[Tensor]:
    """Turn what is left of the features of narrow layers into rows of Gram matrices.

    Args:
        rows: The rows of summaries, of either kind.
        estimator: "unbiased" or "biased".

    Returns:
        Rows of one kind.
    """
    return [hsic_row(row @ row.T, estimator) if row.dim() == 2 else row for row in rows]


def _sum_over_time(x: Tensor) -> Tensor:
    if x.dtype in (torch.float16, torch.bfloat16):
        return x.sum(0, keepdim=True, dtype=torch.float32)
    # torch sums integers in int64.
    return x.sum(0, keepdim=True)
