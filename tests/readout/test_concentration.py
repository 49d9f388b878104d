"""The concentration loss moves the information centroid to both sides."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from sj_ext.fisher import TemporalFisher
from sj_ext.readout import RateReadout, TemporalConcentrationLoss

T, K, FEATURES = 6, 4, 24


def spikes(samples, generator):
    """Inputs that fire at rates that their class decides, alike in all steps."""
    of_class = torch.rand(K, FEATURES, generator=torch.Generator().manual_seed(7))
    target = torch.randint(K, (samples,), generator=generator)
    rate = 0.15 + 0.35 * of_class[target]
    x = torch.rand(T, samples, FEATURES, generator=generator) < rate
    return x.float(), target


def trained(strength, direction="early", seed=0):
    """Train a network of one hidden layer; return it with samples of a test set."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    lif = neuron.LIFNode(
        v_threshold=0.5, detach_reset=False, surrogate_function=surrogate.ATan()
    )
    net = nn.Sequential(layer.Linear(FEATURES, 32), lif, layer.Linear(32, K))
    functional.set_step_mode(net, "m")
    loss = TemporalConcentrationLoss(strength, direction)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    x, target = spikes(256, generator)
    for _ in range(10):
        for index in torch.randperm(len(target), generator=generator).split(32):
            found = loss(net(x[:, index]), target[index], RateReadout(T))
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
            functional.reset_net(net)
    return net.eval(), spikes(128, generator)


def measured(net, batch):
    return TemporalFisher(net).measure([batch], progress=False)


@pytest.fixture(scope="module")
def networks():
    return {
        "early": trained(8.0, "early"),
        "none": trained(0.0),
        "late": trained(8.0, "late"),
    }


def test_the_centroid_moves_early_and_late(networks):
    found = {name: measured(*trained) for name, trained in networks.items()}
    centroids = {name: result.information_centroid for name, result in found.items()}
    assert centroids["early"] < centroids["none"] - 0.05
    assert centroids["late"] > centroids["none"] + 0.05
    accuracies = {name: result.prefix_accuracy[-1] for name, result in found.items()}
    assert accuracies["early"] > accuracies["none"] - 0.05
    assert accuracies["late"] > accuracies["none"] - 0.15


def test_an_order_of_steps_that_does_not_matter_is_not_what_moved_it(networks):
    """Here all steps are alike: what moves the centroid is confidence, not order."""
    for net, (x, target) in networks.values():
        order = torch.rand(x.shape[:2]).argsort(0)
        shuffled = x[order, torch.arange(x.shape[1])]
        ordered = measured(net, (x, target))
        null = measured(net, (shuffled, target))
        error = ordered.centroid_standard_error + null.centroid_standard_error
        difference = ordered.information_centroid - null.information_centroid
        assert abs(difference) < 3 * error
