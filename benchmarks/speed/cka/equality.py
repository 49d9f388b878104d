"""How far each candidate is from the formula in float64, before any is timed."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.speed.cka.candidates import (
    OURS,
    PER_STEP,
    matrix,
    names,
    reference,
)
from benchmarks.speed.cka.features import Features

_OURS_AT_MOST = 1e-5
_SAME_AT_MOST = 1e-2


@dataclass(frozen=True)
class Accuracy:
    """How right a matrix is.

    Attributes:
        error: Largest difference to float64, of the entries that are not NaN.
        nan: Number of entries that are NaN.
        impossible: Number of entries outside [-1, 1], where CKA lies.
        entries: Number of all.
    """

    error: float
    nan: int
    impossible: int
    entries: int


def accuracy(found: Tensor, expected: Tensor) -> Accuracy:
    """Compare a matrix with the right one.

    Args:
        found: [L, L].
        expected: Float64 [L, L], without NaN.

    Returns:
        How right it is.
    """
    found = found.to(expected)
    nan = found.isnan()
    error = (found - expected).abs()[~nan]
    return Accuracy(
        error=float(error.max()) if len(error) else math.inf,
        nan=int(nan.sum()),
        impossible=int((found.abs() > 1 + 1e-4).sum()),
        entries=found.numel(),
    )


def check_equality(features: Features) -> dict[str, Accuracy]:
    """Refuse to time candidates that do not compute the same thing.

    Args:
        features: What they compare. On features with an offset the others may fail, as
            they are known to; on all others they must agree.

    Returns:
        How right each candidate is.

    Raises:
        AssertionError: If ours is off by more than 1e-5 or has a NaN, or another one
            computes something else.
    """
    setting = features.setting
    expected = reference(features.concatenated)
    found = {name: accuracy(matrix(name, features), expected) for name in names()}
    for name, one in found.items():
        ours = name in (OURS, PER_STEP)
        limit = _OURS_AT_MOST if ours else _SAME_AT_MOST
        if setting.kind == "offset" and not ours:
            continue
        if one.nan or not one.error <= limit:
            raise AssertionError(
                f"{name}, {setting.title}: expected CKA within {limit} of float64, "
                f"got {one.error:.1e} and {one.nan} NaN"
            )
    return found


def check_network(found: dict[str, Tensor]) -> float:
    """Refuse matrices of a network that are not the same.

    Args:
        found: CKA [L, L] by candidate.

    Returns:
        The largest difference to ours.

    Raises:
        AssertionError: If it is more than 1e-2.
    """
    ours = found[OURS].double()
    largest = 0.0
    for name, values in found.items():
        # The peer clamps to [0, 1] and gives a constant layer 0.
        both = values.double().clamp(0, 1), ours.clamp(0, 1)
        difference = (both[0] - both[1]).abs()[~ours.isnan()]
        error = float(torch.as_tensor(0.0) if name == OURS else difference.max())
        if not error <= _SAME_AT_MOST:
            raise AssertionError(
                f"{name}: expected the CKA of the network's layers within "
                f"{_SAME_AT_MOST} of ours, got a difference of {error:.1e}"
            )
        largest = max(largest, error)
    return largest
