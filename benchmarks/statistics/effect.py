"""How large a difference is beside how much runs differ anyway."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats


class Effect(NamedTuple):
    """A standardised difference.

    Attributes:
        size: Mean of the differences in their deviations, corrected for few pairs.
        low: Lower end of its interval.
        high: Upper end.
    """

    size: float
    low: float
    high: float


def standardised(differences: Sequence[float], level: float = 0.95) -> Effect | None:
    """Divide a mean paired difference by its deviation: Hedges' g of pairs.

    The interval holds all sizes for which the measured t would not be extreme, by the
    non-central t distribution (Hedges and Olkin, Statistical Methods for
    Meta-Analysis, 1985, ch. 5).

    Args:
        differences: One a pair of runs.
        level: Of the interval, in (0, 1).

    Returns:
        The effect; None of fewer than three pairs, for which the correction is zero, or
        where all are alike.

    Raises:
        ValueError: If `level` is not in (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"Expected `level` in (0, 1), got {level}.")
    n = len(differences)
    if n < 3:
        return None
    deviation = float(np.std(differences, ddof=1))
    if deviation == 0:
        return None
    df, root = n - 1, math.sqrt(n)
    t = float(np.mean(differences)) / deviation * root
    tail = (1 - level) / 2
    correction = math.exp(
        special.gammaln(df / 2) - special.gammaln((df - 1) / 2) - 0.5 * math.log(df / 2)
    )
    low, high = (_shift(t, df, share) for share in (1 - tail, tail))
    return Effect(*(correction * shift / root for shift in (t, low, high)))


def _shift(t: float, df: int, share: float) -> float:
    """Find the non-centrality that puts `share` of its distribution below t."""

    def excess(shift: float) -> float:
        # Below 0 by symmetry: scipy is exact for t >= 0 only.
        found = stats.nct.cdf(t, df, shift) if t >= 0 else stats.nct.sf(-t, df, -shift)
        return float(np.nan_to_num(found)) - share

    reach = abs(t) + 10
    while excess(-reach) * excess(reach) > 0:
        reach *= 2
    return float(optimize.brentq(excess, -reach, reach))
