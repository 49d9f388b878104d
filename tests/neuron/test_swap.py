"""A built network is masked in one line, in place, and unmasked again."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based.model import (
    parametric_lif_net,
    sew_resnet,
    spiking_vgg,
)

from sj_ext.neuron import MaskedLIFNode, mask_neurons, unmask_neurons
from sj_ext.surrogate import BernoulliMask, MaskedSurrogate


def small(make=neuron.LIFNode):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        layer.Linear(6, 8),
        make(surrogate_function=surrogate.ATan()),
        layer.Linear(8, 3),
    )
    functional.set_step_mode(net, "m")
    return net


HOST_MODELS = {
    "sew_resnet": lambda: sew_resnet.sew_resnet18(
        cnf="ADD", spiking_neuron=neuron.IFNode, num_classes=10
    ),
    "spiking_vgg": lambda: spiking_vgg.spiking_vgg11_bn(
        spiking_neuron=neuron.LIFNode, num_classes=10
    ),
    "parametric_lif_net": lambda: parametric_lif_net.CIFAR10DVSNet(
        channels=8, spiking_neuron=neuron.ParametricLIFNode
    ),
}


@pytest.mark.parametrize("name", HOST_MODELS)
def test_every_neuron_of_a_host_model_is_masked_and_comes_back(name):
    net = HOST_MODELS[name]()
    nodes = {n: m for n, m in net.named_modules() if isinstance(m, neuron.BaseNode)}
    classes = {n: type(m) for n, m in nodes.items()}
    keys = list(net.state_dict())
    report = mask_neurons(net, BernoulliMask(0.5))
    assert set(report.swapped) == set(nodes)
    assert not report.left
    assert list(net.state_dict()) == keys
    rules = [m.surrogate_function.mask for m in nodes.values()]
    assert len({id(rule) for rule in rules}) == len(nodes), "each has a rule of its own"
    assert set(unmask_neurons(net).swapped) == set(nodes)
    assert {n: type(m) for n, m in nodes.items()} == classes
    assert not any(isinstance(m, MaskedSurrogate) for m in net.modules())


def test_neurons_stay_the_same_objects_with_states_parameters_and_hooks():
    net = small(neuron.ParametricLIFNode)
    node, parameters = net[1], list(net.parameters())
    calls = []
    node.register_forward_hook(lambda *_: calls.append(1))
    net(torch.randn(2, 3, 6))
    state = node.v
    mask_neurons(net, BernoulliMask(0.5))
    assert net[1] is node
    assert node.v is state
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))
    net(torch.randn(2, 3, 6))
    assert len(calls) == 2


def test_a_checkpoint_moves_both_ways():
    plain, masked = small(), small()
    mask_neurons(masked, BernoulliMask(0.5))
    masked.load_state_dict(plain.state_dict())
    plain.load_state_dict(masked.state_dict())
    x = 3 * torch.randn(4, 5, 6)
    assert torch.equal(plain(x), masked(x))


def test_the_base_is_kept_unless_another_is_named():
    kept, named = small(), small()
    mask_neurons(kept, BernoulliMask(0.5))
    mask_neurons(named, {"name": "bernoulli", "p": 0.3}, "Erf", {"alpha": 3.0})
    assert isinstance(kept[1].surrogate_function.base, surrogate.ATan)
    assert named[1].surrogate_function.base.alpha == 3.0
    assert named[1].surrogate_function.mask == BernoulliMask(0.3)


def test_modes_are_kept():
    net = small().eval()
    mask_neurons(net, BernoulliMask(0.5))
    assert not any(module.training for module in net.modules())


def test_what_cannot_be_masked_is_told_with_its_reason():
    net = torch.nn.Sequential(
        neuron.LIFNode(),
        neuron.KLIFNode(),
        neuron.LIFNode(surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.1))),
        MaskedLIFNode(surrogate_function=MaskedSurrogate("ATan", BernoulliMask(0.1))),
    )
    report = mask_neurons(net, BernoulliMask(0.5))
    assert report.swapped == ("0",)
    assert report.left == {
        "1": "there is no masked KLIFNode",
        "2": "its surrogate is masked already",
        "3": "it is masked already",
    }


def test_a_network_without_neurons_is_refused():
    with pytest.raises(ValueError, match="Expected `net` to have neurons"):
        mask_neurons(torch.nn.Linear(2, 2), BernoulliMask(0.5))


def test_an_unmasked_network_is_as_if_never_masked():
    net, never = small(), small()
    mask_neurons(net, BernoulliMask(0.5))
    unmask_neurons(net)
    x = 3 * torch.randn(4, 5, 6)
    assert torch.equal(net(x), never(x))
    assert repr(net) == repr(never)
    assert set(vars(net[1])) == set(vars(never[1]))
