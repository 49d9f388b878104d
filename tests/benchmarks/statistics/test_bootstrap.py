"""The bootstrap draws what its definition says, as wide as the theory says."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics.bootstrap import resampled_means
from benchmarks.statistics.paired import paired_difference
from benchmarks.statistics.sentences import verdict


def looped_mean(groups, generator):
    """One resampled mean, drawn unit by unit."""

    def draw(count):
        return [generator.integers(count) for _ in range(max(1, count - 1))]

    by_split = []
    for split in draw(len(groups)):
        values = groups[split]
        seeds, items = draw(values.shape[0]), draw(values.shape[1])
        cells = [values[j, i] for j in seeds for i in items]
        by_split.append(sum(cells) / len(cells))
    return sum(by_split) / len(by_split)


def crossed(generator, seeds=3, items=40, of_seed=0.0, of_item=0.0, noise=1.0):
    """Values of one split with effects of seeds, of items and of neither."""
    return (
        of_seed * generator.normal(size=(seeds, 1))
        + of_item * generator.normal(size=(1, items))
        + noise * generator.normal(size=(seeds, items))
    )


def test_the_distribution_is_that_of_a_loop_over_units():
    generator = np.random.default_rng(1)
    groups = [
        crossed(generator, seeds, items, of_seed=0.5, of_item=0.7) + shift
        for seeds, items, shift in ((3, 12, 0.0), (2, 9, 0.6), (4, 5, -0.4))
    ]
    fast = resampled_means(groups, 20_000, seed=2)
    slow = [looped_mean(groups, generator) for _ in range(4000)]
    error = np.std(slow) / math.sqrt(len(slow))
    assert fast.mean() == pytest.approx(np.mean(slow), abs=4 * error)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.06)
    for share in (0.05, 0.25, 0.75, 0.95):
        assert (fast < np.quantile(slow, share)).mean() == pytest.approx(
            share, abs=0.02
        )


def test_all_draws_of_few_runs_come_as_often_as_they_should():
    values = np.array([[1.0], [2.0], [6.0]])
    drawn = resampled_means([values], 30_000)
    expected = [np.mean(pair) for pair in itertools.product((1, 2, 6), repeat=2)]
    for mean in set(expected):
        share = expected.count(mean) / len(expected)
        assert (drawn == mean).mean() == pytest.approx(share, abs=0.015)


def test_flat_data_give_the_interval_of_scipy():
    values = np.random.default_rng(3).exponential(size=(1, 200))
    found = paired_difference([values])
    theirs = stats.bootstrap(
        (values[0],), np.mean, n_resamples=10_000, method="percentile", random_state=4
    )
    # One unit fewer is drawn, which makes it wider by half a percent.
    assert found.standard_error == pytest.approx(theirs.standard_error, rel=0.03)
    assert found.interval == pytest.approx(
        tuple(theirs.confidence_interval), abs=0.2 * theirs.standard_error
    )


def test_figures_of_paired_runs_alone_give_the_paired_t_test():
    differences = [0.4, 1.9, 1.1, 0.2]
    found = paired_difference([np.array(differences)[:, None]], 200_000)
    theirs = stats.ttest_1samp(differences, 0.0)
    assert found.degrees_of_freedom == 3
    assert found.p_value == pytest.approx(theirs.pvalue, rel=0.02)
    assert found.interval == pytest.approx(
        tuple(theirs.confidence_interval()), rel=0.02
    )


@pytest.mark.parametrize(
    ("of_seed", "of_item", "noise", "most"),
    [
        pytest.param(0.4, 0.0, 0.3, 0.995, id="seeds vary"),
        pytest.param(0.0, 1.0, 0.3, 0.985, id="items vary"),
        pytest.param(0.2, 1.0, 0.3, 0.995, id="both vary"),
        pytest.param(0.0, 0.0, 1.0, 0.995, id="neither varies"),
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(
    of_seed, of_item, noise, most
):
    generator = np.random.default_rng(5)
    trials = 160
    inside = 0
    for trial in range(trials):
        values = crossed(generator, 3, 50, of_seed, of_item, noise)
        low, high = paired_difference([values], 300, seed=trial).interval
        inside += low <= 0 <= high
    assert 0.93 <= inside / trials <= most


def test_splits_that_vary_widen_the_interval_of_many_seeds():
    generator = np.random.default_rng(6)
    alike = [crossed(generator, 3, 50) for _ in range(4)]
    apart = [
        values + shift for values, shift in zip(alike, (-2, -1, 1, 2), strict=True)
    ]
    narrow, wide = (paired_difference(groups) for groups in (alike, apart))
    expected = stats.sem([values.mean() for values in apart])
    assert wide.standard_error == pytest.approx(expected, rel=0.05)
    assert wide.degrees_of_freedom == pytest.approx(3, abs=0.2)
    assert wide.standard_error > 5 * narrow.standard_error


def test_the_same_seed_draws_the_same():
    values = np.random.default_rng(7).normal(size=(3, 20))
    one, same, other = (resampled_means([values], 50, seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_many_items_are_drawn_in_parts(monkeypatch):
    values = np.random.default_rng(8).normal(size=(2, 30))
    whole = resampled_means([values], 5000)
    monkeypatch.setattr("benchmarks.statistics.bootstrap._ELEMENTS_AT_ONCE", 100)
    parts = resampled_means([values], 5000)
    assert parts.std() == pytest.approx(whole.std(), rel=0.05)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "at least one split"),
        ([np.zeros(3)], r"\[seeds, items\]"),
        ([np.zeros((0, 3))], r"\[0, 3\]"),
        ([np.array([[np.nan, 1.0]])], "finite"),
    ],
)
def test_what_is_no_set_of_runs_is_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        resampled_means(groups)


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="at least two values"):
        paired_difference([np.array([[0.5]])])


def test_equal_arms_differ_by_nothing():
    found = paired_difference([np.zeros((3, 10))])
    assert found.estimate == 0
    assert found.interval == (0, 0)
    assert found.p_value == 1
    assert found.effect is None


def test_where_nothing_varies_nothing_is_claimed():
    found = paired_difference([np.full((3, 10), 0.5)])
    assert found.estimate == 0.5
    assert (found.varies, found.testable, found.significant) == (False, False, False)
    said = " ".join(verdict(found, "one", "other", "points"))
    assert "nothing says how sure" in said
    assert "interval" not in said.partition("One split")[0]
