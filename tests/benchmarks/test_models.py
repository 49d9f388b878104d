"""Networks have the sizes of the papers and keep the time axis."""

import itertools

import pytest
import torch
from spikingjelly.activation_based import functional, neuron

from benchmarks.models import VGG, neuron_factory
from benchmarks.runs.config import NeuronConfig, SurrogateConfig


def make(channels, size=(48, 48), **surrogate):
    factory = neuron_factory(NeuronConfig(), SurrogateConfig(**surrogate))
    return VGG(2, 10, size, factory, channels)


def test_vggsnn_ends_in_a_layer_of_4608_inputs():
    A = "A"
    channels = [64, 128, A, 256, 256, A, 512, 512, A, 512, 512, A]
    net = make(channels)
    assert net.classifier[1].in_features == 4608
    convolutions = sum(
        p.numel() for name, p in net.features.named_parameters() if p.ndim == 4
    )
    widths = [2, 64, 128, 256, 256, 512, 512, 512, 512]
    expected = sum(9 * a * b for a, b in itertools.pairwise(widths))
    assert convolutions == expected


def test_logits_have_a_time_axis_and_samples_do_not_mix():
    net = make([4, "A", 8, "A"], size=(8, 8)).eval()
    x = torch.rand(5, 3, 2, 8, 8)
    together = net(x)
    functional.reset_net(net)
    alone = net(x[:, 1:2])
    assert together.shape == (5, 3, 10)
    torch.testing.assert_close(together[:, 1:2], alone)


def test_each_layer_has_the_hosts_own_surrogate_for_itself():
    net = make([4, 4], (4, 4))
    found = [
        module.surrogate_function
        for module in net.modules()
        if isinstance(module, neuron.LIFNode)
    ]
    assert len({id(function) for function in found}) == 2
    for function in found:
        assert type(function).__module__ == "spikingjelly.activation_based.surrogate"
        assert function.alpha == 2.0


@pytest.mark.parametrize("channels", [[4, "M"], [0], [4.0], [True]])
def test_a_wrong_entry_of_channels_is_named(channels):
    with pytest.raises(ValueError, match="Expected `channels` to hold positive"):
        make(channels)
