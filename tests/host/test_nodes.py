"""What the host's nodes keep to themselves is read and set without side effects."""

import copy

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate

from sj_ext import host

X = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.5
NODES = [
    neuron.IFNode,
    neuron.LIFNode,
    neuron.ParametricLIFNode,
    neuron.QIFNode,
    neuron.EIFNode,
    neuron.IzhikevichNode,
]


def _after_a_pass(make, **kwargs):
    node = make(step_mode="m", **kwargs)
    node(X)
    return node


def _same(one, other):
    assert list(one) == list(other)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


@pytest.mark.parametrize("make", NODES)
def test_memories_are_those_that_the_host_names(make):
    node = _after_a_pass(make)
    found = host.memories(node)
    assert "v" in found
    assert list(found.items()) == list(node.named_memories())
    assert all(value is getattr(node, name) for name, value in found.items())


def test_what_is_done_to_the_dictionary_is_not_done_to_the_node():
    node = _after_a_pass(neuron.LIFNode)
    v = node.v
    found = host.memories(node)
    found["v"] = 0.0
    found["other"] = 1.0
    assert node.v is v
    assert list(host.memories(node)) == ["v"]


def test_a_layer_without_memories_has_none():
    assert host.memories(layer.Linear(3, 3)) == {}
    assert host.memories(torch.nn.Linear(3, 3)) == {}


def test_memories_are_set_in_the_nodes_order():
    node = _after_a_pass(neuron.IzhikevichNode)
    values = [torch.full((2, 3), float(i)) for i in range(2)]
    host.set_memories(node, values)
    assert [node.v is values[0], node.w is values[1]] == [True, True]
    functional.reset_net(node)
    assert (node.v, node.w) == (0.0, 0.0)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_as_many_values_as_memories_are_asked_for(count):
    node = neuron.IzhikevichNode()
    with pytest.raises(ValueError, match="argument"):
        host.set_memories(node, [0.0] * count)


def test_a_step_mode_is_the_one_that_was_set():
    node = neuron.IFNode(step_mode="m")
    host.set_step_mode(node, "s")
    assert node.step_mode == "s"
    assert node(X[0]).shape == X[0].shape
    host.set_step_mode(node, "m")
    assert node.step_mode == "m"


def test_a_step_mode_that_the_hosts_setter_refuses_is_set():
    class Sequences(neuron.IFNode):
        def supported_step_mode(self):
            return ("m",)

    node = Sequences(step_mode="m")
    with pytest.raises(ValueError, match="step_mode"):
        node.step_mode = "s"
    host.set_step_mode(node, "s")
    assert node.step_mode == "s"


def test_stored_potentials_stay_where_storing_ends():
    node = _after_a_pass(neuron.LIFNode, store_v_seq=True)
    stored = node.v_seq
    assert stored.shape == X.shape
    host.set_store_v_seq(node, False)
    assert not node.store_v_seq
    assert node.v_seq is stored
    host.set_store_v_seq(node, True)
    node(X)
    assert node.v_seq is not stored


@pytest.mark.parametrize("make", NODES)
def test_a_twin_answers_as_its_node_and_leaves_it_as_it_is(make):
    node = _after_a_pass(make)
    before = {k: v.clone() for k, v in host.memories(node).items()}
    objects = host.memories(node)
    twin = host.twin(node, node.surrogate_function)
    assert type(twin) is make
    spikes = twin(X)
    after = host.memories(node)
    assert all(after[name] is objects[name] for name in objects)
    _same(after, before)
    assert torch.equal(spikes, node(X))
    _same(host.memories(twin), host.memories(node))


def test_a_twin_sends_gradients_to_the_parameters_of_its_node():
    node = neuron.ParametricLIFNode(step_mode="m")
    twin = host.twin(node, node.surrogate_function)
    assert twin.w is node.w
    twin(X).sum().backward()
    alone = copy.deepcopy(node)
    alone.w.grad = None
    alone(X).sum().backward()
    assert node.w.grad.abs() > 0
    assert torch.equal(node.w.grad, alone.w.grad)


def test_a_twin_asks_the_surrogate_that_it_was_given():
    node = neuron.LIFNode(surrogate_function=surrogate.Sigmoid())
    own = node.surrogate_function
    other = surrogate.ATan()
    twin = host.twin(node, other)
    assert twin.surrogate_function is other
    assert node.surrogate_function is own


def test_a_twin_starts_from_the_states_that_it_was_given():
    node = _after_a_pass(neuron.IzhikevichNode)
    states = {"v": torch.full((2, 3), 0.25), "w": torch.zeros(2, 3)}
    kept = dict(states)
    twin = host.twin(node, node.surrogate_function, states=states)
    assert list(host.memories(twin)) == ["v", "w"]
    assert twin.v is states["v"]
    twin(X)
    assert states["v"] is kept["v"]
    assert states["w"] is kept["w"]
    fresh = neuron.IzhikevichNode(step_mode="m")
    host.set_memories(fresh, kept.values())
    fresh(X)
    _same(host.memories(twin), host.memories(fresh))


def test_a_twin_can_be_of_the_class_that_its_node_derives_from():
    class Loud(neuron.LIFNode):
        def single_step_functional_forward(self, *args, **kwargs):
            raise AssertionError("the twin runs the subclass")

        def multi_step_forward(self, *args, **kwargs):
            raise AssertionError("the twin runs the subclass")

    node = Loud(tau=3.0, step_mode="m")
    node.forward = "hides the method"
    twin = host.twin(
        node, node.surrogate_function, kind=neuron.LIFNode, without=("forward",)
    )
    assert type(twin) is neuron.LIFNode
    assert torch.equal(twin(X), neuron.LIFNode(tau=3.0, step_mode="m")(X))
    assert node.forward == "hides the method"
