"""Schedules move a rule's argument, and resume where they were."""

import itertools
import json
import math

import pytest
import torch
from spikingjelly.activation_based import neuron

from sj_ext.registry import UnknownNameError
from sj_ext.surrogate import (
    BernoulliMask,
    ConstantMask,
    MaskedSurrogate,
    MaskSchedule,
    NoiseMask,
    TopKMask,
    WindowMask,
)


def test_the_papers_annealing_of_p_starts_after_epoch_5():
    epochs, n = 20, 10
    rule = BernoulliMask(0.3)
    schedule = MaskSchedule(
        rule, "p", start=0.5, end=0.99, begin=5 * n, steps=(epochs - 5) * n
    )
    values = [rule.p]
    for _ in range(epochs * n):
        schedule.step()
        values.append(rule.p)
    assert values[: 5 * n + 1] == [0.5] * (5 * n + 1)
    assert values[-1] == 0.99
    assert values[5 * n + 75] == pytest.approx(0.745)
    assert all(a <= b for a, b in itertools.pairwise(values))


@pytest.mark.parametrize(
    ("shape", "half_way", "quarter"),
    [("linear", 0.5, 0.35), ("cosine", 0.5, 0.2 + 0.3 * (1 - math.sqrt(0.5)))],
)
def test_shapes_have_their_values_on_the_way(shape, half_way, quarter):
    rule = TopKMask(0.9)
    schedule = MaskSchedule(rule, "density", shape, start=0.2, end=0.8, steps=40)
    for _ in range(10):
        schedule.step()
    assert rule.density == schedule.value == pytest.approx(quarter)
    for _ in range(10):
        schedule.step()
    assert rule.density == pytest.approx(half_way)
    for _ in range(100):
        schedule.step()
    assert rule.density == 0.8


def test_a_constant_stays():
    rule = WindowMask(0.2)
    schedule = MaskSchedule(rule, "half_width", "constant", start=0.4)
    assert [schedule.step() for _ in range(3)] == [0.4] * 3
    assert rule.half_width == 0.4


def test_without_a_way_it_jumps():
    rule = BernoulliMask()
    schedule = MaskSchedule(rule, "p", start=0.0, end=0.5, steps=0, begin=2)
    assert [rule.p] + [schedule.step() for _ in range(3)] == [0.0, 0.0, 0.5, 0.5]


def test_all_rules_of_a_network_that_have_the_argument_follow():
    rules = [BernoulliMask(0.5), NoiseMask(0.5), WindowMask(0.2)]
    net = torch.nn.Sequential(
        *(
            neuron.LIFNode(surrogate_function=MaskedSurrogate("ATan", rule))
            for rule in rules
        )
    )
    schedule = MaskSchedule(net, "p", start=0.1, end=0.4, steps=3)
    schedule.step()
    assert rules[0].p == rules[1].p == pytest.approx(0.2)
    assert rules[2] == WindowMask(0.2)


def test_a_rule_that_a_surrogate_is_given_later_follows():
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5))
    schedule = MaskSchedule(masked, "p", start=0.1, end=0.4, steps=3)
    masked.mask = BernoulliMask(0.0, rescale=True)
    schedule.step()
    assert masked.mask.p == pytest.approx(0.2)
    masked.mask = WindowMask(0.2)
    schedule.step()
    assert masked.mask == WindowMask(0.2)


def test_it_resumes_exactly():
    arguments = {"shape": "cosine", "start": 0.1, "end": 0.9, "steps": 37}
    rule = BernoulliMask()
    schedule = MaskSchedule(rule, "p", **arguments)
    for _ in range(11):
        schedule.step()
    state = json.loads(json.dumps(schedule.state_dict()))
    resumed_rule = BernoulliMask()
    resumed = MaskSchedule(resumed_rule, "p", **arguments)
    resumed.load_state_dict(state)
    assert resumed_rule.p == rule.p
    assert [resumed.step() for _ in range(40)] == [schedule.step() for _ in range(40)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"shape": "linear", "start": 0.5, "end": 0.9, "steps": 10, "begin": 3},
        {"shape": "constant", "start": 0.5},
    ],
)
def test_the_json_form_rebuilds_it(arguments):
    schedule = MaskSchedule(BernoulliMask(), "p", **arguments)
    config = json.loads(json.dumps(schedule.config()))
    assert MaskSchedule(BernoulliMask(), **config).config() == schedule.config()


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        (BernoulliMask(), {"start": 0.5, "end": 1.0}, r"`p` in \[0, 1\), got 1.0"),
        (ConstantMask(), {"start": 0.5, "end": 0.9}, "rules with the number 'p'"),
        (torch.nn.Linear(2, 2), {"start": 0.5, "end": 0.9}, "got no rule"),
        (BernoulliMask(), {"start": 0.5}, "Expected `end` with every shape"),
        (BernoulliMask(), {"start": 0.5, "end": 0.9, "steps": -1}, "Expected `steps`"),
        (BernoulliMask(), {"start": 0.5, "end": 0.9, "begin": 1.5}, "Expected `begin`"),
        ([0.5], {"start": 0.5, "end": 0.9}, "Expected `target` to be a network"),
    ],
)
def test_wrong_arguments_are_explained(target, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        MaskSchedule(target, "p", **arguments)


def test_a_schedule_that_is_refused_leaves_the_rule_alone():
    rule = BernoulliMask(0.3)
    with pytest.raises(ValueError, match="got 2"):
        MaskSchedule(rule, "p", start=0.5, end=2)
    assert rule.p == 0.3


def test_an_unknown_shape_is_answered_with_those_that_exist():
    with pytest.raises(UnknownNameError, match="constant, cosine, linear"):
        MaskSchedule(BernoulliMask(), "p", "quadratic", start=0.1, end=0.2)
