"""Powers, corrections and effect sizes against hand-made and simulated figures."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics.effect import standardised
from benchmarks.statistics.holm import holm
from benchmarks.statistics.power import (
    power_at,
    smallest_detectable_difference,
)


@pytest.mark.parametrize("n", [3, 5, 20])
def test_the_smallest_detectable_difference_is_detected_in_four_of_five(n):
    generator = np.random.default_rng(n)
    shift = smallest_detectable_difference(1 / math.sqrt(n), n - 1)
    samples = generator.normal(shift, 1, size=(20_000, n))
    rejected = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert rejected.mean() == pytest.approx(0.8, abs=0.012)


def test_with_many_pairs_it_is_the_sum_of_two_normal_quantiles():
    found = smallest_detectable_difference(1.0, math.inf)
    assert found == pytest.approx(1.959964 + 0.841621, abs=1e-4)
    assert smallest_detectable_difference(2.0, 1e5) == pytest.approx(
        2 * found, rel=1e-4
    )


def test_no_difference_is_found_as_often_as_the_level_says():
    assert power_at(0.0, 4) == pytest.approx(0.05)
    assert power_at(50.0, 4) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 2), "standard_error"),
        ((1.0, 0), "degrees_of_freedom"),
        ((1.0, 2, 0.9, 0.8), "alpha"),
    ],
)
def test_impossible_powers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        smallest_detectable_difference(*arguments)


def test_holm_is_as_computed_by_hand():
    # Ordered: 0.005 x 4, 0.01 x 3, then 0.03 x 2; 0.04 x 1 is lifted to that before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([0.5, 1.2])


def test_the_effect_of_four_pairs_is_as_computed_by_hand():
    # Mean 2.5, deviation sqrt(5 / 3), and Gamma(1.5) / (sqrt(1.5) Gamma(1)).
    found = standardised([1.0, 2.0, 3.0, 4.0])
    correction = math.gamma(1.5) / math.sqrt(1.5)
    assert found.size == pytest.approx(2.5 / math.sqrt(5 / 3) * correction)
    assert found.low < found.size < found.high


def test_the_interval_of_an_effect_holds_it_as_often_as_it_says():
    generator = np.random.default_rng(0)
    n, true, trials = 5, 0.8, 160
    correction = math.gamma(2) / (math.sqrt(2) * math.gamma(1.5))
    inside = 0
    for _ in range(trials):
        found = standardised(generator.normal(true, 1, n).tolist())
        inside += found.low <= correction * true <= found.high
    assert inside / trials == pytest.approx(0.95, abs=0.04)


def test_effects_mirror_and_need_pairs_that_differ():
    one, other = standardised([0.5, 1.0, 3.0]), standardised([-0.5, -1.0, -3.0])
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert standardised([1.0, 2.0]) is None
    assert standardised([1.0, 1.0, 1.0]) is None
