"""Outputs may be reduced while the network runs, instead of being kept to the end."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from sj_ext.taps import taps

T, N = 3, 5


def spiking():
    net = nn.Sequential(layer.Linear(4, 6), neuron.IFNode(), layer.Linear(6, 2))
    functional.set_step_mode(net, "m")
    return net


@pytest.mark.parametrize(
    ("net", "x"),
    [
        (spiking(), torch.randn(T, N, 4)),
        (nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.randn(N, 4)),
    ],
    ids=["spiking", "without steps"],
)
def test_a_layer_is_reduced_before_the_next_one_runs(net, x):
    with taps(net) as record:
        net(x)
    expected = record.output
    reduced = []

    def keep(name, x_seq):
        reduced.append(name)
        return tuple(x_seq.shape), float(x_seq.sum())

    before_last = []
    net[-1].register_forward_pre_hook(lambda *_: before_last.extend(reduced))
    with taps(net, reduce=keep) as record:
        net(x)
    assert before_last == [str(i) for i in range(len(net) - 1)]
    assert record.output == {
        name: (tuple(one.shape), float(one.sum())) for name, one in expected.items()
    }


def test_what_is_uncertain_is_reduced_at_the_end_to_the_same():
    net = spiking()
    functional.set_step_mode(net, "s")
    x_seq = torch.randn(T, N, 4)
    with taps(net, reduce=lambda name, one: tuple(one.shape)) as record:
        for x in x_seq:
            net(x)
    assert record.output == {"0": (T, N, 6), "1": (T, N, 6), "2": (T, N, 2)}


def test_only_detached_outputs_are_reduced():
    with (
        pytest.raises(ValueError, match="Expected `reduce` with record"),
        taps(spiking(), record=("input",), reduce=lambda name, one: one),
    ):
        pass
