"""Calibrated windows keep the share asked for, and nothing else has changed."""

import copy
import random

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate

from sj_ext.surrogate import (
    BernoulliMask,
    MaskedSurrogate,
    WindowMask,
    calibrate_window,
    gradient_density,
)


def network(masks=None, v_threshold=1.0):
    torch.manual_seed(0)
    first, second = masks or (WindowMask(), WindowMask())
    net = torch.nn.Sequential(
        layer.Linear(6, 40),
        layer.BatchNorm1d(40),
        neuron.LIFNode(
            v_threshold=v_threshold, surrogate_function=MaskedSurrogate("ATan", first)
        ),
        layer.Dropout(0.3),
        layer.Linear(40, 30),
        neuron.LIFNode(
            v_threshold=v_threshold, surrogate_function=MaskedSurrogate("ATan", second)
        ),
    )
    functional.set_step_mode(net, "m")
    return net


def batches(count=3):
    generator = torch.Generator().manual_seed(1)
    return [2 * torch.randn(5, 16, 6, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_each_layer_reaches_the_density_on_the_batches_it_was_calibrated_on(density):
    net, loader = network(), batches()
    net[3].p = 0.0
    found = calibrate_window(net, loader, density)
    assert set(found) == {"2", "5"}
    with gradient_density(net) as measured:
        for x_seq in loader:
            functional.reset_net(net)
            net(x_seq)
    for name, layer_density in measured.layers.items():
        assert (
            found[name].half_width == net[int(name)].surrogate_function.mask.half_width
        )
        assert found[name].density == layer_density.density
        assert found[name].density == pytest.approx(density, abs=0.005)


def test_each_layer_keeps_a_share_of_its_own_density_without_a_mask():
    net, loader = network(), batches()
    net[3].p = 0.0
    triangle = {"base": "PiecewiseQuadratic", "base_kwargs": {"alpha": 2.0}}
    for name in (2, 5):
        net[name].surrogate_function = MaskedSurrogate(mask=WindowMask(), **triangle)

    def densities():
        with gradient_density(net) as measured:
            for x_seq in loader:
                functional.reset_net(net)
                net(x_seq)
        return {name: found.density for name, found in measured.layers.items()}

    for name in (2, 5):
        net[name].surrogate_function.mask_active = False
    base = densities()
    assert abs(base["2"] - base["5"]) > 0.05, "one density would not fit both"
    for name in (2, 5):
        net[name].surrogate_function.mask_active = True
    found = calibrate_window(net, loader, share_of_base=0.5)
    for name, density in densities().items():
        assert density == pytest.approx(0.5 * base[name], abs=0.005)
        assert found[name].density == density


def test_density_and_share_of_base_exclude_each_other():
    with pytest.raises(ValueError, match=r"one of .*, got both"):
        calibrate_window(network(), batches(), 0.3, share_of_base=0.5)
    with pytest.raises(ValueError, match=r"one of .*, got neither"):
        calibrate_window(network(), batches())


def test_where_many_potentials_are_equal_the_nearest_side_is_taken():
    node = neuron.IFNode(
        v_threshold=0.5, surrogate_function=MaskedSurrogate("ATan", WindowMask())
    )
    node.step_mode = "m"
    x_seq = torch.zeros(1, 1, 100)
    x_seq[..., :30] = 0.3
    net = torch.nn.Sequential(node)
    low = calibrate_window(net, [x_seq], 0.5)["0"]
    assert low.density == pytest.approx(0.3)
    assert 0.2 < low.half_width <= 0.5
    high = calibrate_window(net, [x_seq], 0.7)["0"]
    assert high.density == 1.0
    assert 0.5 < high.half_width < 0.5 * 1.002


def test_nothing_but_the_widths_has_changed():
    net = network()
    net.train()
    net[1].eval()
    functional.reset_net(net)
    net(batches()[0])
    states = [node.v for node in (net[2], net[5])]
    values = [v.clone() for v in states]
    modes = [module.training for module in net.modules()]
    kept = copy.deepcopy(net.state_dict())
    surrogates = [net[2].surrogate_function, net[5].surrogate_function]
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    rng = torch.get_rng_state()
    numbers = np.random.get_state()[1].copy(), random.getstate()

    def loader():
        for x_seq in batches():
            yield x_seq + random.random() + np.random.rand()

    calibrate_window(net, loader(), 0.3)
    assert torch.equal(rng, torch.get_rng_state())
    assert (numbers[0] == np.random.get_state()[1]).all()
    assert numbers[1] == random.getstate()
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(v, kept[k]) for k, v in net.state_dict().items())
    assert [net[2].surrogate_function, net[5].surrogate_function] == surrogates
    for node, state, value in zip((net[2], net[5]), states, values, strict=True):
        assert node.v is state
        assert torch.equal(node.v, value)
        assert node.v.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_loader_of_tuples_and_a_number_of_batches_are_taken():
    first, second = network(), network()
    loader = batches()
    one = calibrate_window(first, [(x, 0) for x in loader], 0.3, batches=2)
    assert one == calibrate_window(second, loader[:2], 0.3)


def test_layers_with_other_rules_are_left_alone():
    rule = BernoulliMask(0.5)
    net = network((rule, WindowMask()))
    assert set(calibrate_window(net, batches(), 0.3)) == {"5"}
    assert net[2].surrogate_function.mask is rule


def test_a_rule_that_two_layers_share_is_refused():
    shared = WindowMask()
    with pytest.raises(ValueError, match=r"a WindowMask of its own.*'2' and '5' share"):
        calibrate_window(network((shared, shared)), batches(), 0.3)


def test_a_surrogate_that_two_layers_share_is_refused():
    net = network()
    net[5].surrogate_function = net[2].surrogate_function
    with pytest.raises(ValueError, match="'2' and '5' share"):
        calibrate_window(net, batches(), 0.3)


@pytest.mark.parametrize(
    ("net", "loader", "density", "message"),
    [
        (network, [], 0.3, "Expected `loader` to give at least one batch"),
        (network, batches(), 0.0, r"Expected `density` in \(0, 1\), got 0.0"),
        (
            lambda: neuron.LIFNode(surrogate_function=surrogate.ATan()),
            batches(),
            0.3,
            "with a WindowMask, got LIFNode with none",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_explained(net, loader, density, message):
    with pytest.raises(ValueError, match=message):
        calibrate_window(net(), loader, density)


PROCESS = """
from spikingjelly.activation_based import neuron
from sj_ext.surrogate import MaskedSurrogate, WindowMask, calibrate_window
node = neuron.IFNode(
    step_mode="m", surrogate_function=MaskedSurrogate("ATan", WindowMask())
)
x_seq = 1.0 + torch.full((1, 1, 100), 0.25 if rank else 0.75)
found = calibrate_window(torch.nn.Sequential(node), [x_seq], 0.5)["0"]
assert found.density == 0.5, found
assert 0.25 < found.half_width < 0.2505, found
"""


def test_two_processes_choose_the_width_for_the_batches_of_both(in_two_processes):
    in_two_processes(PROCESS)


def test_a_failing_loader_leaves_the_network_whole():
    net = network()

    def loader():
        yield batches()[0]
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        calibrate_window(net, loader(), 0.3)
    assert isinstance(net[2].surrogate_function, MaskedSurrogate)
    assert net[2].surrogate_function.mask == WindowMask()
