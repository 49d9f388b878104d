"""Representational similarity analysis on the Gram matrices that CKA has anyway.

Kriegeskorte et al., Representational similarity analysis, Frontiers in Systems
Neuroscience 2008: two representations are alike if they order the pairs of samples
alike by distance. CKA weighs a pair by the size of its products, so that a few far
samples can decide it; a rank is bounded, so here they cannot.
"""

import torch
from torch import Tensor

from sj_ext.cka.gram import above_diagonal


def squared_distances(gram: Tensor) -> Tensor:
    """Compute |x_i - x_j|^2 of all pairs i < j.

    Args:
        gram: Float64 [n, n], of features under any shift.

    Returns:
        Float64 [n(n-1)/2], row by row.
    """
    norms = gram.diagonal()
    distances = norms[:, None] + norms - 2 * gram
    return torch.take(distances, above_diagonal(gram))


def average_ranks(values: Tensor) -> Tensor:
    """Rank values from 1; those that are equal share the mean of their ranks.

    Args:
        values: Of shape [P].

    Returns:
        Float64 [P].
    """
    counted = _counted(values)
    if counted is None:
        _, inverse, counts = torch.unique(
            values, return_inverse=True, return_counts=True
        )
    else:
        inverse, counts = counted
    counts = counts.double()
    ranks = counts.cumsum(0) - (counts - 1) / 2
    return ranks[inverse]


def rank_row(gram: Tensor) -> Tensor:
    """Turn a Gram matrix into a vector whose products are Spearman covariances.

    Args:
        gram: Float64 [n, n], of features under any shift.

    Returns:
        Float64 [P], P = n(n-1)/2: ranks of the squared distances, of mean 0 and scaled
        to a variance of 1/12 where there are no ties, whatever n is. The covariance of
        two is their inner product over P.
    """
    ranks = average_ranks(squared_distances(gram))
    # P ranks that differ have the variance (P^2 - 1) / 12.
    scale = max(len(ranks) ** 2 - 1, 1) ** 0.5
    # The mean is (P + 1) / 2 with ties and without: all alike become exact zeros.
    return (ranks - (len(ranks) + 1) / 2) / scale


def _counted(values: Tensor) -> tuple[Tensor, Tensor] | None:
    """Count integers of a small range, as distances of spikes are: no sort needed."""
    if values.numel() == 0:
        return None
    low, high = torch.aminmax(values)
    if not 0 <= float(high - low) <= 4 * values.numel():
        return None
    shifted = values - low
    inverse = shifted.long()
    if not torch.equal(inverse.double(), shifted.double()):
        return None
    return inverse, torch.bincount(inverse)
