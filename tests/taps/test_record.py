"""Inputs, gradients and copies: recordings equal what autograd and hooks give."""

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn
from torch.utils.checkpoint import checkpoint

from sj_ext.taps import taps
from tests.taps.models import multi_step_net

T, N = 4, 2


def test_output_gradients_are_autograds():
    net = multi_step_net().eval()
    net.train()
    net[4].eval()
    x = torch.rand(T, N, 2, 4, 4) * 3
    kept = {}
    handles = [
        module.register_forward_hook(lambda _, __, out, n=n: kept.update({n: out}))
        for n, module in net.named_children()
    ]
    with taps(net, record=("output", "output_gradient")) as record:
        (net(x) ** 2).sum().backward(retain_graph=True)
        loss = (kept["6"] ** 2).sum()
        expected = torch.autograd.grad(loss, list(kept.values()))
    for handle in handles:
        handle.remove()
    assert list(record.output_gradient) == list(kept)
    for (name, given), gradient in zip(
        record.output_gradient.items(), expected, strict=True
    ):
        assert torch.equal(given, gradient), name


def test_gradients_of_single_steps_stand_one_after_the_other():
    net = multi_step_net().eval()
    for node in (net[2], net[6]):
        node.train()
    x = torch.rand(T, N, 2, 4, 4) * 3
    with taps(net, record=("output_gradient",)) as record:
        net(x)[-1].sum().backward()
        whole = record.output_gradient
        functional.reset_net(net)
        functional.set_step_mode(net, "s")
        for step in x:
            y = net(step)
        y.sum().backward()
        stepwise = record.output_gradient
    assert not stepwise["6"][:-1].any()
    for name, value in whole.items():
        torch.testing.assert_close(stepwise[name], value)


def test_inputs_are_recorded_before_they_are_changed_in_place():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True))
    x = torch.randn(N, 3)
    with torch.no_grad():
        expected = net[0](x)
        with taps(net, record=("output", "input")) as record:
            y = net(x)
    assert torch.equal(record.output["0"], expected[None])
    assert torch.equal(record.input["1"], expected[None])
    assert torch.equal(record.output["1"], y[None])


def test_several_inputs_have_numbers():
    net = nn.Bilinear(3, 4, 5)
    with taps(net, record=("input",)) as record:
        net(torch.rand(N, 3), torch.rand(N, 4))
    assert {k: tuple(v.shape) for k, v in record.input.items()} == {
        "Bilinear.0": (1, N, 3),
        "Bilinear.1": (1, N, 4),
    }
    assert record.output == {}


def test_copies_keep_their_graph_on_request():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with taps(net, detach=False) as record:
        net(torch.rand(N, 3))
    record.output["1"].sum().backward()
    assert net[0].weight.grad is not None
    with taps(net) as record:
        net(torch.rand(N, 3))
    assert not record.output["1"].requires_grad


class _Checkpointed(nn.Module):
    def __init__(self, use_reentrant):
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 3)
        self.lif, self.use_reentrant = neuron.LIFNode(step_mode="m"), use_reentrant

    def forward(self, x):
        x = self.first(x)
        x = checkpoint(self.last, x, use_reentrant=self.use_reentrant)
        return self.lif(x)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_pass_that_a_checkpoint_runs_again_is_recorded_once(use_reentrant):
    net = _Checkpointed(use_reentrant)
    with taps(net, record=("output", "output_gradient")) as record:
        net(torch.rand(T, N, 3)).sum().backward()
    assert list(record.output) == ["first", "last", "lif"]
    assert record.output["last"].shape == (T, N, 3)
    assert "first" in record.output_gradient


def test_an_output_that_picks_no_tensor_is_refused():
    with (
        pytest.raises(TypeError, match="Expected `output` to give a tensor, got int"),
        taps(net := nn.Linear(3, 3), output=lambda _: 3),
    ):
        net(torch.rand(N, 3))
