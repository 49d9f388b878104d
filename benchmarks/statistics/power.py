"""What a comparison can see at all: the smallest difference that it would detect."""

import math

import numpy as np
from scipy import optimize, stats

ALPHA = 0.05
"""Two-sided level of every test and interval."""
POWER = 0.8
"""Chance of detection that the smallest detectable difference has."""


def smallest_detectable_difference(
    standard_error: float,
    degrees_of_freedom: float,
    alpha: float = ALPHA,
    power: float = POWER,
) -> float:
    """Find the true difference that a two-sided t test finds with the given power.

    The power is that of the non-central t distribution, so it holds for three seeds,
    where the sum of two normal quantiles does not.

    Args:
        standard_error: Of the measured difference, not negative.
        degrees_of_freedom: Of the standard error, positive.
        alpha: Level of the test, in (0, 1).
        power: Chance of detection, in (alpha, 1).

    Returns:
        In units of the standard error's; 0 where that is 0.

    Raises:
        ValueError: If an argument is out of range.
    """
    if not 0 <= standard_error < math.inf:
        raise ValueError(
            f"Expected `standard_error` of at least 0, got {standard_error}."
        )
    if not degrees_of_freedom > 0:
        raise ValueError(
            f"Expected `degrees_of_freedom` above 0, got {degrees_of_freedom}."
        )
    if not 0 < alpha < power < 1:
        raise ValueError(
            f"Expected 0 < `alpha` < `power` < 1, got {alpha} and {power}."
        )
    critical = float(stats.t.ppf(1 - alpha / 2, degrees_of_freedom))

    def missing(shift: float) -> float:
        return power_at(shift, degrees_of_freedom, alpha) - power

    # At the upper end the test all but never misses: the mean alone is far above.
    shift = optimize.brentq(missing, 0.0, 4 * critical + 10)
    return standard_error * float(shift)


def power_at(shift: float, degrees_of_freedom: float, alpha: float = ALPHA) -> float:
    """Give the chance that a two-sided t test rejects.

    Args:
        shift: True difference in standard errors.
        degrees_of_freedom: Of the test.
        alpha: Its level.

    Returns:
        Of the non-central t distribution, both tails.
    """
    critical = stats.t.ppf(1 - alpha / 2, degrees_of_freedom)
    if math.isinf(degrees_of_freedom):
        above, below = (
            stats.norm.sf(critical - shift),
            stats.norm.cdf(-critical - shift),
        )
    else:
        above = stats.nct.sf(critical, degrees_of_freedom, shift)
        below = stats.nct.cdf(-critical, degrees_of_freedom, shift)
    # scipy gives NaN for a far tail that is zero.
    return float(np.nan_to_num(above) + np.nan_to_num(below))
