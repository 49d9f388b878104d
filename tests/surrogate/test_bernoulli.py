"""Draws are independent and kept at the rate that was asked for."""

import math

import pytest
import torch

from sj_ext.surrogate import BernoulliMask


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_keep_rate_is_one_minus_p(p):
    n = 400_000
    kept = BernoulliMask(p).keep(torch.empty(n)).double().mean().item()
    assert abs(kept - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n)


def test_draws_are_independent_across_calls_and_neighbours():
    n = 400_000
    rule = BernoulliMask(0.5)
    first, second = (rule.keep(torch.empty(n)).double() - 0.5 for _ in range(2))
    bound = 5 * 0.25 / math.sqrt(n)
    assert (first * second).mean().abs() < bound
    assert (first[1:] * first[:-1]).mean().abs() < bound


def test_nothing_is_dropped_at_p_0():
    assert BernoulliMask(0.0).keep(torch.empty(1000)).all()


def test_the_rule_shows_its_arguments():
    assert repr(BernoulliMask(0.3)) == "BernoulliMask(p=0.3, rescale=False)"


def test_rules_with_equal_arguments_are_equal():
    assert BernoulliMask(0.3) == BernoulliMask(0.3)
    assert hash(BernoulliMask(0.3)) == hash(BernoulliMask(0.3))
    assert BernoulliMask(0.3) != BernoulliMask(0.3, rescale=True)


def test_rescale_must_be_a_bool():
    with pytest.raises(TypeError, match="Expected `rescale` to be a bool, got 2"):
        BernoulliMask(0.5, rescale=2)
