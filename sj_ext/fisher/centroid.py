"""The information centroid: at which time step the Fisher information is."""

from collections.abc import Sequence

import torch
from torch import Tensor


def information_centroid(
    information: Tensor, steps: Sequence[int] | None = None
) -> Tensor:
    """Average the time step, weighted by Fisher information.

        IC = sum_t(t I_t) / sum_t(I_t)      (Y. Kim et al., arXiv 2211.14406, Eq. 7)

    I_t is the sensitivity of the output after t steps, not information that arrives
    at t: see `TemporalFisher`.

    Args:
        information: `[..., T']`, not negative.
        steps: The step t of each entry, counted from 1; by default 1 to T'.

    Returns:
        `[...]`, float64, in time steps; NaN where there is no information.

    Raises:
        ValueError: If `steps` has another length than the last axis.
    """
    t = _times(information, steps)
    information = information.double()
    return (information * t).sum(-1) / information.sum(-1)


def centroid_error(
    information: Tensor, covariance: Tensor, steps: Sequence[int] | None = None
) -> Tensor:
    """Propagate the errors of I_t to its centroid (delta method).

    Args:
        information: `[T']`.
        covariance: `[T', T']`, of the estimates of I_t.
        steps: As in `information_centroid`.

    Returns:
        A scalar, float64: the standard error in time steps.
    """
    t = _times(information, steps)
    slope = (t - information_centroid(information, steps)) / information.sum()
    return (slope @ covariance @ slope).clamp_min(0).sqrt()


def _times(information: Tensor, steps: Sequence[int] | None) -> Tensor:
    length = information.shape[-1]
    given = range(1, length + 1) if steps is None else steps
    if len(given) != length:
        raise ValueError(
            f"Expected `steps` of length {length}, the last axis of `information`, "
            f"got {len(given)}."
        )
    return torch.tensor(list(given), dtype=torch.float64, device=information.device)
