"""Potentials before and after the reset are the neuron's own, step by step."""

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

from sj_ext import neuron as masked
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate
from sj_ext.taps import taps

NODES = {
    "IF": (neuron.IFNode, masked.MaskedIFNode, {}),
    "LIF": (neuron.LIFNode, masked.MaskedLIFNode, {"tau": 3.0}),
    "LIF-no-decay": (
        neuron.LIFNode,
        masked.MaskedLIFNode,
        {"tau": 3.0, "decay_input": False},
    ),
    "ParametricLIF": (
        neuron.ParametricLIFNode,
        masked.MaskedParametricLIFNode,
        {"init_tau": 3.0},
    ),
    "QIF": (neuron.QIFNode, masked.MaskedQIFNode, {}),
    "EIF": (neuron.EIFNode, masked.MaskedEIFNode, {}),
    "Izhikevich": (
        neuron.IzhikevichNode,
        masked.MaskedIzhikevichNode,
        {"a": 0.1, "b": 0.2},
    ),
}
X = torch.randn(5, 3, 7, generator=torch.Generator().manual_seed(1)) * 1.5 + 0.5


class _Asked(surrogate.SurrogateFunctionBase):
    """Heaviside that keeps h - v_threshold."""

    def __init__(self):
        super().__init__(spiking=False)
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        return (x >= 0).to(x)


def _by_hand(make, kwargs, v_reset):
    """h and v of single steps, read off the neuron itself."""
    asked = _Asked()
    node = make(v_reset=v_reset, surrogate_function=asked, **kwargs)
    v = []
    with torch.no_grad():
        for x in X:
            node(x)
            v.append(node.v.clone())
    return torch.stack(asked.seen) + node.v_threshold, torch.stack(v)


def _name(node):
    return type(node).__name__


def _run(node, mode, training):
    functional.set_step_mode(node, mode)
    node.train(training)
    with taps(node, record=("pre_reset", "post_reset", "output")) as record:
        spikes = node(X) if mode == "m" else torch.stack([node(x) for x in X])
    return record, spikes


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("name", NODES)
def test_potentials_equal_single_steps_by_hand(name, v_reset, mode, training):
    make, _, kwargs = NODES[name]
    h, v = _by_hand(make, kwargs, v_reset)
    node = make(v_reset=v_reset, **kwargs)
    record, spikes = _run(node, mode, training)
    torch.testing.assert_close(record.pre_reset[_name(node)], h)
    torch.testing.assert_close(record.post_reset[_name(node)], v)
    assert torch.equal(record.output[_name(node)], spikes)
    assert torch.equal(spikes, (h - node.v_threshold >= 0).to(h))


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("name", NODES)
def test_masked_neurons_have_the_same_potentials(name, v_reset, mode, backend):
    make, make_masked, kwargs = NODES[name]
    h, v = _by_hand(make, kwargs, v_reset)
    mask = MaskedSurrogate("ATan", BernoulliMask(0.5))
    node = make_masked(
        v_reset=v_reset, surrogate_function=mask, backend=backend, **kwargs
    )
    record, _ = _run(node, mode, training=True)
    torch.testing.assert_close(record.pre_reset[_name(node)], h)
    torch.testing.assert_close(record.post_reset[_name(node)], v)


def test_recording_potentials_changes_neither_spikes_nor_random_numbers():
    mask = MaskedSurrogate("ATan", BernoulliMask(0.5))
    node = masked.MaskedLIFNode(surrogate_function=mask, step_mode="m")
    torch.manual_seed(3)
    x = X.clone().requires_grad_()
    plain = node(x)
    (gradient,) = torch.autograd.grad(plain.sum(), x)
    state, v = torch.get_rng_state(), node.v.clone()
    functional.reset_net(node)
    torch.manual_seed(3)
    with taps(node, record=("pre_reset", "post_reset"), restore=False):
        again = node(x)
        (same,) = torch.autograd.grad(again.sum(), x)
    assert torch.equal(plain, again)
    assert torch.equal(gradient, same)
    assert torch.equal(v, node.v)
    assert torch.equal(state, torch.get_rng_state())


def test_potentials_go_on_from_the_state_that_was_left():
    whole = neuron.LIFNode(step_mode="m")
    with taps(whole, record=("pre_reset",)) as record:
        whole(X)
    expected = record.pre_reset[_name(whole)][2:]
    node = neuron.LIFNode(step_mode="m")
    node(X[:2])
    with taps(node, record=("pre_reset",)) as record:
        node(X[2:])
    assert torch.equal(record.pre_reset[_name(node)], expected)


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("name", ["ILIFNode", "TernaryIFNode", "TernaryLIFNode"])
def test_neurons_with_more_than_one_spike_are_followed(name, mode):
    make = getattr(neuron, name, None)
    if make is None:
        pytest.skip(f"this release has no {name}")
    node = make() if name == "ILIFNode" else make(v_reset=None)
    record, spikes = _run(node, mode, training=True)
    assert spikes.unique().numel() > 2
    expected = record.pre_reset[_name(node)] - spikes * node.v_threshold
    torch.testing.assert_close(record.post_reset[_name(node)], expected)


def test_other_layers_have_no_potentials_but_are_recorded():
    net = nn.Sequential(nn.Linear(7, 4), neuron.IFNode(step_mode="m"))
    with taps(net, record=("output", "post_reset")) as record:
        net(X)
    assert list(record.output) == ["0", "1"]
    assert list(record.post_reset) == ["1"]


def test_a_neuron_without_a_potential_is_refused_by_name():
    net = nn.Sequential(nn.Linear(7, 4), neuron.PSN(T=5))
    with (
        pytest.raises(TypeError, match="PSN at '1'"),
        taps(net, record=("pre_reset",)),
    ):
        pass
    with taps(net, record=("output",)) as record:
        net(X)
    assert record.output["1"].shape == (5, 3, 4)


def test_potentials_without_any_neuron_are_refused():
    with (
        pytest.raises(ValueError, match="neurons of the host"),
        taps(nn.Linear(7, 4), record=("pre_reset",)),
    ):
        pass


class _Doubling(neuron.LIFNode):
    """Doubles its potential after the reset: no single state is h."""

    def single_step_functional_forward(self, inputs, states, **kwargs):
        (spike,), (v,) = super().single_step_functional_forward(inputs, states)
        return (spike,), (2 * v,)


def test_a_neuron_whose_potential_cannot_be_followed_is_told():
    node = _Doubling()
    with (
        pytest.raises(RuntimeError, match="_Doubling"),
        taps(node, record=("pre_reset",)),
    ):
        node(X[0])
