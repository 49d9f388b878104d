"""`gradient_density` counts what the backward pass will use, and disturbs nothing."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate

from sj_ext.surrogate import BernoulliMask, MaskedSurrogate, gradient_density


def network(function):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        layer.Linear(6, 40), neuron.LIFNode(surrogate_function=function)
    )
    functional.set_step_mode(net, "m")
    return net


def test_the_share_is_that_of_the_derivatives_counted_by_hand():
    x = torch.randn(200)
    node = neuron.IFNode(surrogate_function=surrogate.PiecewiseQuadratic(alpha=2.0))
    with gradient_density(torch.nn.Sequential(node)) as measured:
        spikes = node(x)
    expected = ((x - 1.0).abs() < 0.5).double().mean().item()
    assert measured.total.density == pytest.approx(expected)
    assert measured.total.firing_rate == pytest.approx(spikes.mean().item())
    assert measured.layers.keys() == {"0"}


def test_masking_halves_the_density_of_a_base_that_never_vanishes():
    net = network(MaskedSurrogate("ATan", BernoulliMask(0.5)))
    with gradient_density(net) as measured:
        net(torch.randn(10, 50, 6))
    assert measured.total.elements == 10 * 50 * 40
    assert measured.total.density == pytest.approx(0.5, abs=0.02)


def test_the_mask_that_is_measured_is_the_one_that_backward_uses():
    torch.manual_seed(5)
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5))
    net = torch.nn.Sequential(neuron.IFNode(surrogate_function=masked))
    x = torch.rand(100, requires_grad=True)
    with gradient_density(net) as measured:
        (gradient,) = torch.autograd.grad(net(x).sum(), x)
    assert measured.total.nonzero == int((gradient != 0).sum())


@pytest.mark.parametrize(
    "function",
    [MaskedSurrogate("ATan", BernoulliMask(0.5)), surrogate.ATan()],
    ids=["masked", "plain"],
)
def test_measuring_changes_neither_results_nor_random_numbers(function):
    x = torch.randn(5, 3, 6)

    def run(measure):
        net = network(function)
        torch.manual_seed(9)
        if measure:
            with gradient_density(net):
                out = net(x)
        else:
            out = net(x)
        gradient = torch.autograd.grad(out.sum(), net[0].weight)[0]
        assert net[1].surrogate_function is function
        return out, gradient, torch.rand(3)

    for plain, measured in zip(run(False), run(True), strict=True):
        torch.testing.assert_close(plain, measured, rtol=1e-6, atol=1e-6)


def test_a_network_without_spiking_neurons_is_refused():
    with (
        pytest.raises(ValueError, match="Expected `net` to have neurons"),
        gradient_density(torch.nn.Linear(2, 2)),
    ):
        pass
