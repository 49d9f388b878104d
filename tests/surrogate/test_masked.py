"""A masked surrogate spikes like its base and masks the derivative in training."""

import copy
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch.utils.checkpoint import checkpoint

import sj_ext
from sj_ext.registry import UnknownNameError
from sj_ext.surrogate import (
    BernoulliMask,
    ConstantMask,
    MaskedSurrogate,
    MaskRule,
    NoiseMask,
    TopKMask,
    WindowMask,
)

BASES = [
    "ATan",
    "Erf",
    "PiecewiseExp",
    "PiecewiseQuadratic",
    "Sigmoid",
    "SoftSign",
    "SuperSpike",
    "Rect",
    "S2NN",
    "QPseudoSpike",
    "LeakyKReLU",
    "PiecewiseLeakyReLU",
    "FakeNumericalGradient",
]


class FixedMask(MaskRule):
    """Keeps what it is told to, step by step."""

    def __init__(self, keep, scale=1.0):
        self._keep, self._scale, self._step = keep, scale, 0

    @property
    def scale(self):
        return self._scale

    def multiplier(self, x, sequence=False):
        keep = self._keep[self._step % len(self._keep)]
        self._step += 1
        return keep

    def config(self):
        return {"name": "fixed"}


RULES = [
    BernoulliMask(0.3),
    BernoulliMask(0.3, rescale=True, shared=("batch", "time")),
    WindowMask(0.7),
    TopKMask(0.4),
    ConstantMask(0.25),
    NoiseMask(0.3),
    NoiseMask(mean=2.0, variance=0.5),
]


def derivative(function, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


@pytest.mark.parametrize("base", BASES)
def test_forward_is_the_bases_and_backward_its_derivative_times_the_mask(base):
    x = torch.randn(4, 5, dtype=torch.float64)
    keep = torch.rand(4, 5) < 0.5
    plain = sj_ext.create("surrogate", base)
    masked = MaskedSurrogate(base, FixedMask([keep], scale=3.0))
    assert torch.equal(masked(x), plain(x))
    expected = derivative(plain, x) * keep * 3.0
    torch.testing.assert_close(derivative(masked, x), expected, rtol=1e-12, atol=0)


def test_the_papers_triangle_has_peak_2_support_a_half_and_area_1():
    triangle = surrogate.PiecewiseQuadratic(alpha=2.0)
    x = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    slope = derivative(MaskedSurrogate(triangle, BernoulliMask(0.0)), x)
    torch.testing.assert_close(slope, (2 - 4 * x.abs()).clamp_min(0))
    assert slope.max() == 2.0
    assert (slope[x.abs() < 0.5] > 0).all()
    assert (slope[x.abs() >= 0.5] == 0).all()
    torch.testing.assert_close(torch.trapezoid(slope, x), torch.tensor(1.0).double())


def test_the_mask_acts_only_while_training():
    x = torch.randn(1000)
    masked = MaskedSurrogate("Sigmoid", BernoulliMask(0.5))
    plain = derivative(surrogate.Sigmoid(), x)
    assert 0.4 < (derivative(masked, x) == 0).float().mean() < 0.6
    masked.eval()
    torch.testing.assert_close(derivative(masked, x), plain)


def test_the_smooth_primitive_is_not_masked():
    x = torch.randn(100)
    masked = MaskedSurrogate("Sigmoid", BernoulliMask(0.9))
    masked.set_spiking_mode(False)
    smooth = surrogate.Sigmoid(spiking=False)
    torch.testing.assert_close(masked(x), smooth(x))
    torch.testing.assert_close(derivative(masked, x), derivative(smooth, x))


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9])
def test_rescaling_keeps_the_mean_of_the_derivative(p):
    x = torch.zeros(200_000, dtype=torch.float64)
    masked = MaskedSurrogate("ATan", BernoulliMask(p, rescale=True))
    slope = derivative(masked, x)
    error = slope.std() / len(x) ** 0.5 + 1e-12
    assert (slope.mean() - 1.0).abs() < 5 * error
    plain = MaskedSurrogate("ATan", BernoulliMask(p))
    assert derivative(plain, x).max() == 1.0


def reference(x_seq, keep, slope, node):
    """The equations of a leaky neuron with a masked derivative, step by step."""
    v, spikes = torch.zeros_like(x_seq[0]), []
    for x, m in zip(x_seq, keep, strict=True):
        h = v + (x - v) / node.tau if node.decay_input else v - v / node.tau + x
        u = h - node.v_threshold
        smooth = slope(u.detach()) * m * (u - u.detach())
        spike = (u >= 0).to(u) + smooth
        gate = spike.detach() if node.detach_reset else spike
        v = h - gate * node.v_threshold if node.v_reset is None else (1 - gate) * h
        spikes.append(spike)
    return torch.stack(spikes)


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("v_reset", [0.0, None])
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 7)),
    decay_input=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_in_a_neuron_spikes_and_gradients_are_those_of_the_equations(
    step_mode, detach_reset, v_reset, shape, decay_input, seed
):
    torch.manual_seed(seed)
    keep = torch.rand(shape) < 0.5
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(shape, dtype=torch.float64)
    node = neuron.LIFNode(
        tau=2.0,
        decay_input=decay_input,
        v_threshold=0.5,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate_function=MaskedSurrogate(
            "PiecewiseQuadratic", FixedMask(keep), {"alpha": 2.0}
        ),
        step_mode=step_mode,
    )
    spikes = node(x) if step_mode == "m" else torch.stack([node(step) for step in x])
    expected = reference(x, keep, lambda u: (2 - 4 * u.abs()).clamp_min(0), node)
    assert torch.equal(spikes, expected.detach())
    torch.testing.assert_close(
        torch.autograd.grad(spikes, x, cotangent)[0],
        torch.autograd.grad(expected, x, cotangent)[0],
        rtol=1e-10,
        atol=1e-10,
    )


@pytest.mark.parametrize(
    "make",
    [
        neuron.IFNode,
        neuron.LIFNode,
        neuron.ParametricLIFNode,
        neuron.QIFNode,
        neuron.EIFNode,
        neuron.IzhikevichNode,
    ],
)
def test_every_host_neuron_takes_it_and_loses_gradient_to_the_mask(make):
    x = torch.rand(6, 4, 50)

    def gradient(p):
        node = make(
            surrogate_function=MaskedSurrogate("ATan", BernoulliMask(p)), step_mode="m"
        )
        inputs = x.clone().requires_grad_()
        return torch.autograd.grad(node(inputs).sum(), inputs)[0]

    assert (gradient(0.0) != 0).float().mean() > 0.9
    assert (gradient(0.9)[-1] == 0).float().mean() > 0.5


def test_torch_manual_seed_alone_reproduces_the_masks():
    x = torch.zeros(1000)
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5))
    torch.manual_seed(7)
    first = derivative(masked, x)
    assert not torch.equal(first, derivative(masked, x))
    torch.manual_seed(7)
    assert torch.equal(first, derivative(masked, x))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_gives_the_gradient_of_the_plain_pass(use_reentrant):
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5))
    # Dropout behind the mask: its draws must not shift between the two passes.
    block = torch.nn.Sequential(masked, torch.nn.Dropout(0.5), torch.nn.Linear(50, 50))
    x = torch.randn(8, 50)

    def run(forward):
        torch.manual_seed(3)
        leaf = x.clone().requires_grad_()
        out = masked(forward(leaf) - 0.1)
        out.sum().backward()
        return out, leaf.grad

    def checkpointed(leaf):
        return checkpoint(block, leaf, use_reentrant=use_reentrant)

    for plain, again in zip(run(block), run(checkpointed), strict=True):
        assert torch.equal(plain, again)


def test_batched_cotangents_go_through():
    masked = MaskedSurrogate("Sigmoid", BernoulliMask(0.5))
    x = torch.randn(6, requires_grad=True)
    out = masked(x)
    jacobian = torch.autograd.grad(out, x, torch.eye(6), is_grads_batched=True)[0]
    once = torch.autograd.grad(masked(x).sum(), x)[0]
    assert jacobian.shape == (6, 6)
    assert torch.equal(jacobian, torch.diag(jacobian.diagonal()))
    assert once.shape == (6,)


def test_channels_last_layout_is_kept():
    x = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5))
    assert masked.mask.multiplier(x).is_contiguous(memory_format=torch.channels_last)
    assert masked(x).is_contiguous(memory_format=torch.channels_last)


def test_the_json_form_rebuilds_it():
    masked = MaskedSurrogate(
        base="ATan", base_kwargs={"alpha": 3.0}, mask={"name": "bernoulli", "p": 0.25}
    )
    config = json.loads(json.dumps(masked.config()))
    rebuilt = MaskedSurrogate(**config)
    assert rebuilt.config() == masked.config()
    assert type(rebuilt.base) is surrogate.ATan
    assert rebuilt.base.alpha == 3.0
    assert rebuilt.mask == BernoulliMask(0.25)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_json_form_of_every_rule_rebuilds_it(rule):
    masked = MaskedSurrogate("ATan", rule)
    config = json.loads(json.dumps(masked.config()))
    rebuilt = MaskedSurrogate(**config)
    assert rebuilt.mask == rule
    assert type(rebuilt.mask) is type(rule)
    assert rebuilt.config() == masked.config()


def test_every_registered_rule_is_in_the_table_above():
    names = {rule.config()["name"] for rule in RULES}
    assert names == set(sj_ext.available("mask"))
    assert {type(rule).__module__ for rule in RULES} == {"sj_ext.surrogate"}


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_under_every_rule_the_derivative_is_the_bases_times_multiplier_and_scale(rule):
    x = torch.randn(4, 30, dtype=torch.float64)
    masked = MaskedSurrogate("ATan", rule)
    torch.manual_seed(1)
    found = derivative(masked, x)
    masked.new_sequence()
    torch.manual_seed(1)
    multiplier = masked.multiplier(x)
    assert (multiplier.dtype == torch.bool) == rule.binary
    expected = derivative(masked.base, x) * multiplier * rule.scale
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert not torch.equal(found, derivative(masked.base, x))


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("shape", [(4, 30), (2, 6, 3, 3)])
def test_a_whole_sequence_is_treated_step_by_step(rule, shape):
    x_seq = torch.randn(5, *shape)
    masked = MaskedSurrogate("ATan", rule)
    whole = masked.multiplier(x_seq, sequence=True).broadcast_to(x_seq.shape)
    assert whole.shape == x_seq.shape
    if isinstance(rule, WindowMask | TopKMask | ConstantMask):
        steps = [masked.multiplier(x).broadcast_to(shape) for x in x_seq]
        assert torch.equal(whole, torch.stack(steps))


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_every_rule_compiles_into_one_graph_and_gives_the_same_gradient(rule):
    masked = MaskedSurrogate("ATan", rule)
    compiled = torch.compile(masked, backend="eager", fullgraph=True)
    x = torch.randn(4, 30)
    torch.manual_seed(2)
    plain = derivative(masked, x)
    masked.new_sequence()
    torch.manual_seed(2)
    assert torch.equal(derivative(compiled, x), plain)
    masked.eval()
    torch.testing.assert_close(derivative(compiled, x), derivative(masked.base, x))
    torch.compiler.reset()


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_network_learns_under_every_rule(rule):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        layer.Linear(8, 60),
        neuron.LIFNode(surrogate_function=MaskedSurrogate("ATan", copy.copy(rule))),
        layer.Linear(60, 2),
    )
    functional.set_step_mode(net, "m")
    x = torch.randn(64, 8)
    target = (x[:, 0] > 0).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        logits = net(3 * x.expand(4, -1, -1)).mean(0)
        loss = torch.nn.functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert net[0].weight.grad.abs().sum() > 0


def test_the_mask_must_stay_a_rule():
    masked = MaskedSurrogate("ATan", BernoulliMask())
    masked.mask = WindowMask(0.1)
    assert masked.config()["mask"] == {"name": "window", "half_width": 0.1}
    with pytest.raises(TypeError, match=r"Expected `mask` to be a mask rule, got 0.5"):
        masked.mask = 0.5


def test_it_is_a_surrogate_of_the_host_and_of_no_concrete_class():
    assert MaskedSurrogate.__bases__ == (surrogate.SurrogateFunctionBase,)


def test_an_instance_as_base_has_the_same_json_form():
    by_instance = MaskedSurrogate(surrogate.ATan(alpha=3.0), BernoulliMask(0.25))
    by_name = MaskedSurrogate("ATan", {"name": "bernoulli", "p": 0.25}, {"alpha": 3.0})
    assert by_instance.config() == by_name.config()


def test_a_base_that_forgets_its_arguments_is_named_when_saved():
    masked = MaskedSurrogate(surrogate.MultiLevelSpikeCount(4), BernoulliMask(0.5))
    with pytest.raises(ValueError, match="MultiLevelSpikeCount cannot be read back"):
        masked.config()
    by_name = MaskedSurrogate(
        "MultiLevelSpikeCount", BernoulliMask(0.5), {"max_spike_count": 4}
    )
    assert MaskedSurrogate(**by_name.config()).base.max_spike_count == 4


def test_it_adds_nothing_to_the_state_dict_and_survives_deepcopy():
    net = torch.nn.Sequential(
        layer.Linear(3, 3),
        neuron.ParametricLIFNode(
            surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.5))
        ),
    )
    plain = torch.nn.Sequential(layer.Linear(3, 3), neuron.ParametricLIFNode())
    assert net.state_dict().keys() == plain.state_dict().keys()
    net(torch.ones(2, 3))
    functional.reset_net(net)
    twin = copy.deepcopy(net)
    assert twin[1].surrogate_function.mask == BernoulliMask(0.5)
    assert twin[1].surrogate_function is not net[1].surrogate_function


@pytest.mark.parametrize("p", [1.0, -0.1, 1.5, float("nan"), "half", True])
def test_a_probability_outside_its_range_is_refused(p):
    with pytest.raises(ValueError, match=r"Expected `p` in \[0, 1\), got"):
        BernoulliMask(p)


def test_an_unknown_base_is_answered_with_those_that_exist():
    with pytest.raises(UnknownNameError, match=r"got 'Atan'. Did you mean 'ATan'.*Erf"):
        MaskedSurrogate("Atan", BernoulliMask(0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base": 3, "mask": BernoulliMask()}, "Expected `base` to be a surrogate"),
        ({"base": "ATan", "mask": 0.5}, "Expected `mask` to be a mask rule"),
        (
            {"base": "ATan", "mask": {"p": 0.5}},
            'Expected `mask` to have the key "name"',
        ),
        ({"base": "ATan", "mask": {"name": "bernouli"}}, "Did you mean 'bernoulli'"),
        (
            {
                "base": surrogate.ATan(),
                "mask": BernoulliMask(),
                "base_kwargs": {"alpha": 1.0},
            },
            "Expected no `base_kwargs`",
        ),
        (
            {
                "base": MaskedSurrogate("ATan", BernoulliMask()),
                "mask": BernoulliMask(),
            },
            "Expected `base` to be unmasked",
        ),
        (
            {"base": "MaskedSurrogate", "mask": BernoulliMask()},
            "Expected `base` to be unmasked",
        ),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises((TypeError, ValueError, KeyError), match=message):
        MaskedSurrogate(**arguments)


def test_the_cupy_backend_is_refused_with_the_one_to_use():
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5))
    with pytest.raises(NotImplementedError, match=r"node.backend = 'torch'"):
        masked.cuda_codes("y", "x", "float")
