"""`gradient_density` counts what the backward pass will use, and disturbs nothing."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate

from sj_ext.surrogate import (
    BernoulliMask,
    ConstantMask,
    GradientDensity,
    LayerDensity,
    MaskedSurrogate,
    NoiseMask,
    gradient_density,
)


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


@pytest.mark.parametrize(
    ("rule", "magnitude", "density"),
    [
        (BernoulliMask(0.3), 0.7, 0.7),
        (BernoulliMask(0.3, rescale=True), 1.0, 0.7),
        (ConstantMask(0.7), 0.7, 1.0),
        (NoiseMask(0.3), 0.7, 1.0),
    ],
)
def test_magnitude_and_density_tell_masks_and_controls_apart(rule, magnitude, density):
    net = network(MaskedSurrogate("ATan", rule))
    with gradient_density(net) as measured:
        net(torch.randn(10, 100, 6))
    assert measured.total.magnitude == pytest.approx(magnitude, abs=0.02)
    assert measured.total.density == pytest.approx(density, abs=0.02)


def test_the_sums_are_those_of_the_definition():
    torch.manual_seed(5)
    masked = MaskedSurrogate("ATan", BernoulliMask(0.5, rescale=True))
    net = torch.nn.Sequential(neuron.IFNode(surrogate_function=masked))
    x = torch.rand(100, dtype=torch.float64, requires_grad=True)
    with gradient_density(net) as measured:
        (gradient,) = torch.autograd.grad(net(x).sum(), x)
    (whole,) = torch.autograd.grad(masked.base(x - 1).sum(), x)
    total = measured.total
    assert total.kept == pytest.approx(gradient.abs().sum().item())
    assert total.whole == pytest.approx(whole.abs().sum().item())


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_every_step_has_its_own_sums_pass_after_pass(step_mode):
    torch.manual_seed(0)
    x_seq = torch.rand(4, 3, 50)
    node = neuron.IFNode(
        surrogate_function=surrogate.PiecewiseQuadratic(alpha=2.0), step_mode=step_mode
    )
    net = torch.nn.Sequential(node)
    with gradient_density(net) as measured:
        for _ in range(2):
            if step_mode == "m":
                spikes = net(x_seq)
            else:
                spikes = torch.stack([net(x) for x in x_seq])
            functional.reset_net(net)
    steps = measured.steps["0"]
    assert [step.elements for step in steps] == [300] * 4
    assert [step.spikes for step in steps] == (2 * spikes.sum((1, 2))).tolist()
    near = 2 * ((x_seq[0] - 1).abs() < 0.5).sum().item()
    assert steps[0].nonzero == near
    assert measured.layers["0"] == sum(steps, LayerDensity())
    assert "reset" not in vars(node)
    functional.reset_net(net)
    assert node.v == 0.0


def test_a_neuron_that_takes_the_whole_sequence_at_once_is_split_into_steps():
    node = neuron.PSN(T=4, surrogate_function=surrogate.ATan())
    x_seq = torch.randn(4, 3, 50)
    with gradient_density(torch.nn.Sequential(node)) as measured:
        spikes = node(x_seq)
    steps = measured.steps["0"]
    assert [step.elements for step in steps] == [150] * 4
    assert [step.spikes for step in steps] == spikes.sum((1, 2)).tolist()


def test_weight_gradients_are_counted_after_backward():
    net = network(surrogate.PiecewiseQuadratic(alpha=2.0))
    x = torch.randn(5, 3, 6)
    x[..., :2] = 0
    with gradient_density(net) as measured:
        out = net(x)
    with pytest.raises(ValueError, match="Expected `net` to have gradients"):
        measured.update_weights(net)
    out.sum().backward()
    measured.update_weights(net)
    expected = int((net[0].weight.grad != 0).sum())
    assert 0 < expected <= 40 * 4
    assert measured.weights["0.weight"].nonzero == expected
    assert measured.weights["0.weight"].density == expected / 240
    assert measured.weight_total.elements == 240 + 40


def test_a_measurement_per_batch_merges_into_that_of_all_batches():
    net = network(MaskedSurrogate("ATan", BernoulliMask(0.5)))
    batches = [torch.randn(5, 3, 6), torch.randn(7, 2, 6)]
    merged = GradientDensity()
    torch.manual_seed(1)
    with gradient_density(net) as whole:
        for x in batches:
            net(x).sum().backward()
            whole.update_weights(net)
            functional.reset_net(net)
            net.zero_grad()
    torch.manual_seed(1)
    for x in batches:
        with gradient_density(net) as part:
            net(x).sum().backward()
            part.update_weights(net)
            functional.reset_net(net)
            net.zero_grad()
        merged.merge(part)
    assert merged.steps == whole.steps
    assert merged.weights == whole.weights
    assert len(whole.steps["1"]) == 7
    loaded = GradientDensity()
    loaded.load_state_dict(whole.state_dict())
    assert loaded.steps == whole.steps
    whole.reset()
    assert whole.total == LayerDensity()
    assert whole.layers.keys() == {"1"}


PROCESS = """
from sj_ext.surrogate import GradientDensity
measured = GradientDensity(["a"])
for t in range(rank + 1):
    ones = torch.ones(4)
    measured.update("a", t, ones, ones * rank, ones * 2)
if rank:
    measured.update("b", 0, torch.ones(3), torch.ones(3), torch.ones(3))
measured.all_reduce()
a = measured.steps["a"]
assert [s.elements for s in a] == [8, 4], a
assert [s.nonzero for s in a] == [4, 4], a
assert [s.whole for s in a] == [16.0, 8.0], a
assert measured.layers["b"].elements == 3
"""


def test_two_processes_add_up_their_sums(in_two_processes):
    in_two_processes(PROCESS)


def test_in_one_process_there_is_nothing_to_add():
    measured = GradientDensity()
    measured.update("a", 0, torch.ones(2), torch.ones(2), torch.ones(2))
    measured.all_reduce()
    assert measured.total.elements == 2


def test_a_network_without_spiking_neurons_is_refused():
    with (
        pytest.raises(ValueError, match="Expected `net` to have neurons"),
        gradient_density(torch.nn.Linear(2, 2)),
    ):
        pass
