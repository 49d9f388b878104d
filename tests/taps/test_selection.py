"""Layers are named by names, globs, types, predicates and lists of these."""

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from sj_ext.taps import taps
from tests.taps.models import multi_step_net

X = torch.rand(4, 2, 2, 4, 4)


def _names(layers, net=None):
    net = net or multi_step_net()
    with taps(net, layers) as record:
        net(X)
    return list(record.output)


def test_every_leaf_layer_is_recorded_by_default_neurons_included():
    assert _names(None) == ["0", "1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("5", ["5"]),
        ("[56]", ["5", "6"]),
        (neuron.BaseNode, ["2", "6"]),
        ((nn.Conv2d, nn.Linear), ["0", "5"]),
        (lambda name, module: name > "4", ["5", "6"]),
        (["6", nn.Conv2d, lambda name, _: name == "3"], ["0", "3", "6"]),
    ],
)
def test_layers_are_chosen(layers, expected):
    assert _names(layers) == expected


def test_names_come_in_the_order_of_execution():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.last(self.first(x))

    net = Backwards()
    with taps(net) as record:
        net(torch.rand(2, 3))
    assert list(record.output) == ["first", "last"]


def test_a_block_is_recorded_beside_its_layers():
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Linear(3, 2))
    with taps(net, ["0", "0.*"]) as record:
        net(torch.rand(2, 3))
    assert list(record.output) == ["0.0", "0.1", "0"]


def test_a_layer_that_takes_no_part_is_listed():
    net = nn.Sequential(nn.Linear(3, 3))
    net.spare = nn.Linear(3, 3)
    net.forward = lambda x: net[0](x)
    with taps(net) as record:
        net(torch.rand(2, 3))
    assert record.not_executed == ["spare"]


def test_a_name_that_matches_nothing_is_told_with_those_near():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer1, self.head = nn.Linear(3, 3), nn.Linear(3, 3)

    with (
        pytest.raises(ValueError, match=r"got 'layer_1'.* Near are: layer1"),
        taps(Net(), ["head", "layer_1"]),
    ):
        pass


@pytest.mark.parametrize("layers", [nn.LSTM, lambda *_: False, []])
def test_a_choice_of_nothing_is_refused(layers):
    with (
        pytest.raises(ValueError, match="Expected `layers` to"),
        taps(nn.Linear(3, 3), layers),
    ):
        pass


def test_something_else_as_layers_is_refused():
    with (
        pytest.raises(TypeError, match="Expected `layers` to be names"),
        taps(nn.Linear(3, 3), 5),
    ):
        pass


@pytest.mark.parametrize("record", ["output", (), ("outputs",)])
def test_other_kinds_of_record_are_refused(record):
    with (
        pytest.raises(ValueError, match="Expected `record` to hold"),
        taps(nn.Linear(3, 3), record=record),
    ):
        pass


def test_data_parallel_is_seen_through():
    net = nn.DataParallel(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
    with taps(net) as record:
        net(torch.rand(2, 3))
    assert list(record.output) == ["0", "1"]


@pytest.mark.parametrize("whole", [True, False])
def test_compiled_layers_are_refused(whole):
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    if whole:
        net = torch.compile(net)
    else:
        net[1].compile()
    with pytest.raises(TypeError, match=r"torch\.compile has compiled"), taps(net):
        pass
    if not whole:
        with taps(net, "0") as record:
            record.clear()


def test_calling_a_part_alone_is_refused():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with taps(net), pytest.raises(RuntimeError, match="its part '0'"):
        net[0](torch.rand(2, 3))


def test_a_layer_by_itself_has_the_name_of_its_class():
    node = neuron.IFNode(step_mode="m")
    for layers in (None, "IFNode", "*"):
        assert _names(layers, node) == ["IFNode"]
    whole = multi_step_net()
    assert _names(nn.Sequential, whole) == ["Sequential"]
    assert "Sequential" not in _names("*", whole)
