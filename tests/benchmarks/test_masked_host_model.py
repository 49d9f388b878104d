"""A network of the host's model zoo, masked in one line, trains on event digits."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import sew_resnet

from benchmarks import data
from benchmarks.data.batches import batches
from benchmarks.data.splits import read_split
from sj_ext.neuron import mask_neurons
from sj_ext.surrogate import MaskSchedule, calibrate_window

RULES = [
    {"name": "bernoulli", "p": 0.5},
    {"name": "bernoulli", "p": 0.5, "rescale": True},
    {"name": "bernoulli", "p": 0.5, "shared": ["time", "space"]},
    {"name": "window", "half_width": 0.25},
    {"name": "top_k", "density": 0.3},
    {"name": "constant", "factor": 0.5},
    {"name": "noise", "p": 0.5},
]


@pytest.fixture
def loader(small_data):
    frames = data.load("event_digits", small_data.root, 4)
    part = read_split(small_data.split).indices(frames.names)["train"]
    return batches(frames, part, batch_size=12, shuffle=True)


def network():
    net = sew_resnet.sew_resnet18(
        cnf="ADD",
        num_classes=10,
        spiking_neuron=neuron.LIFNode,
        surrogate_function=surrogate.PiecewiseQuadratic(alpha=2.0),
        v_threshold=0.5,
    )
    net.conv1 = layer.Conv2d(2, 64, 7, stride=2, padding=3, bias=False)
    functional.set_step_mode(net, "m")
    return net


def train(net, loader, steps, schedule=None):
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    losses = []
    while len(losses) < steps:
        for batch in loader:
            loss = torch.nn.functional.cross_entropy(
                net(batch.frames).mean(0), batch.target
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
            losses.append(loss.item())
            if schedule is not None:
                schedule.step()
    return losses


@pytest.mark.parametrize("rule", RULES, ids=lambda r: "-".join(map(str, r.values())))
def test_it_learns_with_each_rule_and_each_control(rule, loader):
    net = network()
    report = mask_neurons(net, rule)
    assert len(report.swapped) == 20
    if rule["name"] == "window":
        found = calibrate_window(net, loader, density=0.2, batches=1)
        assert len(found) == 20
    losses = train(net, loader, steps=9)
    assert sum(losses[-3:]) < sum(losses[:3])
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_it_learns_while_a_schedule_raises_p(loader):
    net = network()
    mask_neurons(net, {"name": "bernoulli", "p": 0.1})
    schedule = MaskSchedule(net, "p", "linear", start=0.1, end=0.8, steps=6)
    losses = train(net, loader, steps=9, schedule=schedule)
    assert schedule.value == pytest.approx(0.8)
    assert sum(losses[-3:]) < sum(losses[:3])
