"""Axes folded as `[N*T, ...]` are not read as `[T*N, ...]`."""

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from sj_ext.taps import TimeAxisError, taps

T, N = 4, 6


class Folding(nn.Module):
    """Takes `[N, T, ...]` and folds it, by samples or by steps."""

    def __init__(self, by_sample, contiguous):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.lif = neuron.LIFNode(v_threshold=0.3, step_mode="m")
        self.last = nn.Conv2d(3, 2, 3)
        self.by_sample, self.contiguous = by_sample, contiguous

    def forward(self, x):
        if not self.by_sample:
            x = x.transpose(0, 1)
        first = x.shape[:2]
        x = self.conv(x.flatten(0, 1)).unflatten(0, first)
        if self.by_sample:
            x = x.transpose(0, 1)
        x = self.lif(x.contiguous() if self.contiguous else x)
        if self.by_sample:
            x = x.transpose(0, 1)
        return self.last(x.flatten(0, 1)).unflatten(0, first)


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("layers", [None, "last"])
def test_a_network_that_folds_samples_first_is_refused(layers, contiguous):
    net = Folding(True, contiguous)
    x = torch.rand(N, T, 2, 4, 4)
    message = r"steps one after the other, got \[N\*T=24, ...\].* at 'conv'"
    with (
        torch.no_grad(),
        taps(net, layers, batch_first=True),
        pytest.raises(TimeAxisError, match=message),
    ):
        net(x)


@pytest.mark.parametrize("contiguous", [True, False])
def test_a_network_that_folds_steps_first_is_unfolded(contiguous):
    net = Folding(False, contiguous)
    x = torch.rand(N, T, 2, 4, 4)
    expected = torch.stack([net.conv(step) for step in x.transpose(0, 1)])
    with taps(net, ["conv", "last"], batch_first=True) as record:
        net(x)
    torch.testing.assert_close(record.output["conv"], expected)
    assert record.output["last"].shape[:2] == (T, N)


def test_samples_first_shows_between_layers_where_the_input_tells_nothing():
    class Scaled(Folding):
        def forward(self, x):
            return super().forward(2 * x)

    net = Scaled(True, contiguous=True)
    with (
        taps(net, batch_first=True),
        pytest.raises(TimeAxisError, match="at 'lif'"),
    ):
        net(torch.rand(N, T, 2, 4, 4))


class Repeating(nn.Module):
    """Takes `[N, ...]`, and repeats every sample or the whole batch T times."""

    def __init__(self, by_sample):
        super().__init__()
        self.by_sample = by_sample
        self.conv = nn.Conv2d(2, 3, 3)
        self.lif = neuron.LIFNode(v_threshold=0.3, step_mode="m")

    def forward(self, x):
        if self.by_sample:
            x = self.conv(x.repeat_interleave(T, 0)).unflatten(0, (N, T))
            return self.lif(x.transpose(0, 1)).mean(0)
        return self.lif(self.conv(x.repeat(T, 1, 1, 1)).unflatten(0, (T, N))).mean(0)


def test_a_repeated_image_tells_the_order_too():
    x = torch.rand(N, 2, 4, 4)
    net = Repeating(False)
    with taps(net) as record:
        net(x)
    torch.testing.assert_close(
        record.output["conv"], net.conv(x).expand(T, -1, -1, -1, -1)
    )
    net = Repeating(True)
    with taps(net), pytest.raises(TimeAxisError, match="sample after sample"):
        net(x)
