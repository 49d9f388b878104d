"""A network of the host's model zoo, masked in one line, trains on event digits."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import sew_resnet

from benchmarks import data
from benchmarks.data.batches import batches
from benchmarks.data.splits import read_split
from benchmarks.runs.config import read
from benchmarks.runs.progress import Reporter
from benchmarks.tasks.train import train
from sj_ext import register
from sj_ext.neuron import mask_neurons

RULES = [
    {"name": "bernoulli", "p": 0.5},
    {"name": "bernoulli", "p": 0.5, "rescale": True},
    {"name": "bernoulli", "p": 0.5, "shared": ["time", "space"]},
    {"name": "window", "half_width": 0.05},
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


def losses_of(net, loader, steps):
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
    return losses


@pytest.mark.parametrize("rule", RULES, ids=lambda r: "-".join(map(str, r.values())))
def test_it_learns_with_each_rule_and_each_control(rule, loader):
    plain = rule == RULES[0]
    net = network() if plain else four_blocks(2, 10, None, neuron.LIFNode)
    report = mask_neurons(net, rule)
    assert len(report.swapped) == (20 if plain else 12)
    losses = losses_of(net, loader, steps=9)
    assert sum(losses[-3:]) < sum(losses[:3])
    assert all(parameter.grad is not None for parameter in net.parameters())


@register("model", "sew_resnet_of_four_blocks")
def four_blocks(in_channels, classes, size, neuron):
    net = sew_resnet.SEWResNet(
        sew_resnet.BasicBlock,
        [1, 1, 1, 1],
        num_classes=classes,
        cnf="ADD",
        spiking_neuron=neuron,
    )
    net.conv1 = layer.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    functional.set_step_mode(net, "m")
    return net


CONTROLS = {
    "schedule": (
        *("surrogate.mask", '{"name": "top_k", "density": 0.5}'),
        *("surrogate.schedule", '{"attribute": "density", "end": 0.1}'),
    ),
    "calibrated windows": (
        *("surrogate.mask", '{"name": "window"}'),
        *("surrogate.calibrate_window", '{"density": 0.2, "batches": 1}'),
    ),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_a_configuration_trains_it_with_each_control(small_run, control):
    words = small_run(
        *("model.name", "sew_resnet_of_four_blocks", "model.kwargs", "{}"),
        *("optimization.epochs", 2, "optimization.lr", 0.001),
        *CONTROLS[control],
    )
    folder = train(read(words), Reporter.silent())
    first, second = folder.read_metrics()
    assert second["train_loss"] < first["train_loss"]
    if control == "schedule":
        assert first["mask_density"] > second["mask_density"] > 0.1
        assert first["gradient_density"] > second["gradient_density"]
    else:
        assert len(folder.read_result()["windows"]) == 12
