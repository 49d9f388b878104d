"""Several arms against one reference: p values that take their number into account."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values so that one wrong rejection among all is as rare as the level.

    The smallest is multiplied by their number m, the next by m - 1 and so on, none
    becoming smaller than one before it (Holm, Scandinavian Journal of Statistics 6,
    1979).

    Args:
        p_values: Each in [0, 1], in any order.

    Returns:
        The adjusted ones in the same order.

    Raises:
        ValueError: If one is outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"Expected `p_values` in [0, 1], got {list(p_values)}.")
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted.tolist()
