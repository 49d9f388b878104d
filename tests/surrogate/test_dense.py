"""`dense` evaluates with the base's whole derivative and leaves no trace."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron

from sj_ext.surrogate import BernoulliMask, MaskedSurrogate, dense


def network(mask=None, make=neuron.LIFNode):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        layer.Linear(6, 8),
        layer.BatchNorm1d(8),
        make(**({"surrogate_function": mask} if mask else {})),
        layer.Dropout(0.5),
        layer.Linear(8, 3),
    )
    functional.set_step_mode(net, "m")
    return net


def gradients(net, x):
    functional.reset_net(net)
    return torch.autograd.grad(net(x).square().sum(), list(net.parameters()))


@pytest.mark.parametrize("make", [neuron.LIFNode, neuron.IFNode])
def test_gradients_are_those_of_the_unmasked_network_in_evaluation(make):
    x = 5 * torch.randn(5, 7, 6)
    masked = network(MaskedSurrogate("Sigmoid", BernoulliMask(0.9)), make)
    plain = network(make=make)
    with dense(masked), dense(plain):
        for ours, theirs in zip(gradients(masked, x), gradients(plain, x), strict=True):
            torch.testing.assert_close(ours, theirs)
            assert theirs.abs().sum() > 0


def test_everything_is_left_as_it_was_found():
    net = network(MaskedSurrogate("Sigmoid", BernoulliMask(0.9)))
    net.train()
    net[1].eval()
    modes = [module.training for module in net.modules()]
    statistics = {key: value.clone() for key, value in net[1].state_dict().items()}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with dense(net) as inside:
        assert inside is net
        gradients(net, torch.randn(5, 7, 6, generator=torch.Generator()))
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(net[1].state_dict()[k], v) for k, v in statistics.items())
    slope = torch.zeros(1000, requires_grad=True)
    (masked,) = torch.autograd.grad(net[2].surrogate_function(slope).sum(), slope)
    assert (masked == 0).any()


def test_modes_come_back_after_an_error():
    net = network(MaskedSurrogate("Sigmoid", BernoulliMask(0.9)))
    with pytest.raises(ZeroDivisionError), dense(net):
        1 / 0  # noqa: B018
    assert all(module.training for module in net.modules())
    assert net[2].surrogate_function.mask_active


def test_blocks_may_be_nested():
    net = network(MaskedSurrogate("Sigmoid", BernoulliMask(0.9)))
    with dense(net):
        with dense(net):
            pass
        assert not net[2].surrogate_function.mask_active
    assert net[2].surrogate_function.mask_active


def test_two_evaluations_agree():
    net = network(MaskedSurrogate("Sigmoid", BernoulliMask(0.5)))
    x = 5 * torch.randn(5, 7, 6)
    with dense(net):
        first, second = gradients(net, x), gradients(net, x)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_online_learning_neurons_are_refused_by_name():
    net = torch.nn.Sequential(layer.Linear(2, 2), neuron.SLTTLIFNode())
    with pytest.raises(TypeError, match="got SLTTLIFNode at '1'"), dense(net):
        pass
