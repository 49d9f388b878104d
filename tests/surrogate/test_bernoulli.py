"""Draws are independent, kept at the rate asked for, and shared where asked."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, memopt, neuron

from sj_ext.surrogate import BernoulliMask, MaskedSurrogate


def mask(p, *shape, **kwargs):
    rule = BernoulliMask(p, **kwargs)
    return rule.multiplier(torch.empty(shape)).double()


def gradient(net, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(net(x).sum(), x)[0]


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.8, 0.99])
def test_the_keep_rate_is_one_minus_p(p):
    n = 400_000
    kept = mask(p, n).mean().item()
    assert abs(kept - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n)


def test_draws_are_independent_across_calls_samples_and_neighbours():
    n = 400_000
    first, second = (mask(0.5, 2, n // 2) - 0.5 for _ in range(2))
    bound = 5 * 0.25 / math.sqrt(n / 2)
    assert (first * second).mean().abs() < bound
    assert (first[0] * first[1]).mean().abs() < bound
    assert (first[:, 1:] * first[:, :-1]).mean().abs() < bound


class Recorded(BernoulliMask):
    """Remembers what it drew."""

    def __init__(self):
        super().__init__(0.5)
        self.drawn = []

    def multiplier(self, x, sequence=False):
        self.drawn.append(super().multiplier(x, sequence))
        return self.drawn[-1]


def test_draws_are_independent_across_layers_steps_passes_and_seeds():
    n = 50_000
    rules = [Recorded(), Recorded()]
    nodes = [
        neuron.IFNode(surrogate_function=MaskedSurrogate("ATan", rule), step_mode="m")
        for rule in rules
    ]
    net = torch.nn.Sequential(*nodes)
    for seed in (1, 2):
        torch.manual_seed(seed)
        for _ in range(2):
            net(torch.zeros(2, n))
            functional.reset_net(net)
    drawn = [mask.double() - 0.5 for rule in rules for mask in rule.drawn]
    assert len(drawn) == 2 * 2 * 2 * 2
    bound = 5 * 0.25 / math.sqrt(n)
    for i, first in enumerate(drawn):
        for second in drawn[:i]:
            assert (first * second).mean().abs() < bound


def test_the_number_kept_is_binomial():
    rows, n, p = 2000, 500, 0.3
    counts = mask(p, rows, n).sum(1)
    z = (counts - n * (1 - p)) / math.sqrt(n * p * (1 - p))
    chi_square = z.square().sum().item()
    assert abs(chi_square - rows) < 5 * math.sqrt(2 * rows)


def test_nothing_is_dropped_at_p_0():
    assert mask(0.0, 1000).all()


def test_almost_everything_is_dropped_near_p_1():
    assert not mask(1 - 1e-9, 1000).any()


@given(
    sequence=st.booleans(),
    shared=st.lists(st.sampled_from(["time", "batch", "space"]), max_size=4),
    shape=st.tuples(*[st.integers(2, 4)] * 4),
)
def test_one_draw_serves_all_along_the_shared_axes_and_no_other(
    sequence, shared, shape
):
    rule = BernoulliMask(0.5, shared=shared)
    full = (5, *shape) if sequence else shape
    found = rule.multiplier(torch.empty(full), sequence)
    n = int(sequence)
    alone = {0} if sequence and "time" in shared else set()
    alone |= {n} if "batch" in shared else set()
    alone |= {n + 2, n + 3} if "space" in shared else set()
    expected = [1 if axis in alone else size for axis, size in enumerate(full)]
    assert list(found.shape) == expected


def test_shared_draws_have_the_rate_too():
    found = mask(0.3, 8, 60_000, 2, 2, shared=["batch", "space"])
    assert found.shape == (1, 60_000, 1, 1)
    assert abs(found.mean() - 0.7) < 5 * math.sqrt(0.21 / 60_000)


@pytest.mark.parametrize(("shape", "sequence"), [((4, 5), False), ((3, 4, 5), True)])
def test_sharing_along_space_needs_space(shape, sequence):
    rule = BernoulliMask(0.5, shared=["space"])
    with pytest.raises(ValueError, match=r"Expected \[.*axes of space.*got shape"):
        rule.multiplier(torch.empty(shape), sequence)


def test_a_backward_pass_uses_the_shared_draw_everywhere():
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5, shared=["batch", "space"]))
    zero = gradient(masked, torch.randn(6, 40, 3, 3)) == 0
    assert torch.equal(zero, zero[:1, :, :1, :1].expand_as(zero))
    assert 5 < zero[0, :, 0, 0].sum() < 35


def time_shared(step_mode="s"):
    return neuron.IFNode(
        v_threshold=1.0,
        surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.5, shared=["time"])),
        detach_reset=True,
        step_mode=step_mode,
    )


def slopes(node, x_seq):
    """Whether the derivative at each step is zero, whatever the step mode."""
    zeros = []
    for x in x_seq:
        x = x.clone().requires_grad_()
        zeros.append(
            torch.autograd.grad(node.surrogate_function(x - 1).sum(), x)[0] == 0
        )
    return torch.stack(zeros)


def test_a_draw_shared_over_time_lasts_a_sequence_and_no_longer():
    node = time_shared()
    first = slopes(node, torch.randn(4, 3, 200))
    assert torch.equal(first, first[:1].expand_as(first))
    assert torch.equal(slopes(node, torch.randn(1, 3, 200))[0], first[0])
    functional.reset_net(torch.nn.Sequential(node))
    second = slopes(node, torch.randn(4, 3, 200))
    assert not torch.equal(first, second)
    node.surrogate_function.new_sequence()
    assert not torch.equal(slopes(node, torch.randn(4, 3, 200)), second)


def test_a_batch_of_another_shape_is_never_masked_with_the_last_ones_draw():
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5, shared=["time", "batch"]))
    first = masked.multiplier(torch.empty(4, 300))
    assert masked.multiplier(torch.empty(4, 300)) is first
    second = masked.multiplier(torch.empty(5, 300))
    assert second.shape == first.shape
    assert not torch.equal(first, second)


def test_a_whole_sequence_shares_its_draw_and_keeps_nothing():
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5, shared=["time"]))
    first = masked.multiplier(torch.empty(4, 3, 200), sequence=True)
    assert first.shape == (1, 3, 200)
    assert not torch.equal(
        first, masked.multiplier(torch.empty(4, 3, 200), sequence=True)
    )


def test_the_hosts_multi_step_neuron_shares_a_draw_over_time():
    node = time_shared("m")
    x_seq = 0.01 * torch.rand(5, 2, 300)
    zero = gradient(node, x_seq) == 0
    assert torch.equal(zero, zero[:1].expand_as(zero))
    assert 0.4 < zero.double().mean() < 0.6


def test_the_hosts_checkpointing_sees_the_shared_draw_twice():
    def run(checkpointed):
        torch.manual_seed(3)
        block = torch.nn.Sequential(
            layer.Linear(20, 20, step_mode="m"),
            time_shared("m"),
            layer.Dropout(0.5, step_mode="m"),
        )
        wrapped = memopt.checkpoint_module(block) if checkpointed else block
        return gradient(wrapped, torch.rand(4, 3, 20))

    if not hasattr(memopt, "checkpoint_module"):
        pytest.skip("this host checkpoints no module")
    assert torch.equal(run(False), run(True))


def test_what_is_shared_over_time_is_in_no_state_dict():
    node = time_shared()
    node(torch.rand(2, 3))
    assert node.state_dict() == {}


def test_only_a_new_surrogate_begins_to_share_over_time():
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5))
    masked.mask = BernoulliMask(0.3, shared=["batch"])
    assert masked.mask.p == 0.3
    with pytest.raises(ValueError, match="make a new MaskedSurrogate"):
        masked.mask = BernoulliMask(0.5, shared=["time"])


def test_the_rule_shows_its_arguments():
    shown = repr(BernoulliMask(0.3, shared=["batch", "time"]))
    assert shown == "BernoulliMask(p=0.3, rescale=False, shared=['time', 'batch'])"


def test_rules_with_equal_arguments_are_equal():
    assert BernoulliMask(0.3) == BernoulliMask(0.3)
    assert hash(BernoulliMask(0.3)) == hash(BernoulliMask(0.3))
    assert BernoulliMask(0.3) != BernoulliMask(0.3, rescale=True)
    assert BernoulliMask(0.3) != BernoulliMask(0.3, shared=["time"])


def test_rescale_must_be_a_bool():
    with pytest.raises(TypeError, match="Expected `rescale` to be a bool, got 2"):
        BernoulliMask(0.5, rescale=2)


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        ("time", "Expected `shared` to be a list of names, got 'time'"),
        (["depth"], "Expected `shared` to name axes among time, batch, space"),
    ],
)
def test_axes_that_cannot_be_shared_are_refused(shared, message):
    with pytest.raises((TypeError, ValueError), match=message):
        BernoulliMask(0.5, shared=shared)


def test_a_probability_that_is_set_later_is_checked_too():
    rule = BernoulliMask(0.5)
    with pytest.raises(ValueError, match=r"Expected `p` in \[0, 1\), got 1.0"):
        rule.p = 1.0
    assert rule.p == 0.5
