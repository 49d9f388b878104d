"""On a CUDA device rules, controls and measurements do what they do on the CPU."""

import math

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron

from sj_ext.surrogate import (
    BernoulliMask,
    ConstantMask,
    MaskedSurrogate,
    NoiseMask,
    TopKMask,
    WindowMask,
    calibrate_window,
    gradient_density,
)

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("rule", [WindowMask(0.4), TopKMask(0.3), ConstantMask(0.5)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_rules_without_a_draw_choose_the_same(rule, dtype):
    x = torch.randint(-20, 21, (4, 8, 6, 6)).to(dtype) / 16
    x = x.to(memory_format=torch.channels_last)
    found = rule.multiplier(x.cuda())
    assert found.is_cuda
    assert torch.equal(found.cpu(), rule.multiplier(x))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_draws_have_their_rate_layout_and_seed(p):
    x = torch.empty(64, 100, 8, 8, device="cuda")
    x = x.to(memory_format=torch.channels_last)
    rule = BernoulliMask(p)
    torch.manual_seed(3)
    first = rule.multiplier(x)
    error = math.sqrt(p * (1 - p) / x.numel())
    assert abs(first.double().mean().item() - (1 - p)) < 5 * error
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(first, rule.multiplier(x))
    torch.manual_seed(3)
    assert torch.equal(first, rule.multiplier(x))


def test_noise_has_its_moments_and_no_zero():
    noise = NoiseMask(0.5).multiplier(torch.empty(1_000_000, device="cuda").half())
    assert (noise > 0).all()
    assert noise.mean().item() == pytest.approx(0.5, abs=5 * 0.5e-3)
    assert noise.var().item() == pytest.approx(0.25, rel=0.05)


def network(rule):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        layer.Linear(6, 400),
        neuron.LIFNode(surrogate_function=MaskedSurrogate("ATan", rule)),
    ).cuda()
    functional.set_step_mode(net, "m")
    return net


def test_measuring_changes_neither_results_nor_random_numbers():
    x_seq = torch.randn(5, 30, 6, device="cuda")

    def run(measure):
        net = network(BernoulliMask(0.5))
        torch.manual_seed(9)
        if measure:
            with gradient_density(net) as measured:
                out = net(x_seq)
            assert measured.total.density == pytest.approx(0.5, abs=0.02)
        else:
            out = net(x_seq)
        gradient = torch.autograd.grad(out.sum(), net[0].weight)[0]
        return out, gradient, torch.rand(3, device="cuda")

    for plain, measured in zip(run(False), run(True), strict=True):
        torch.testing.assert_close(plain, measured, rtol=1e-5, atol=1e-5)


def test_measuring_does_not_wait_for_the_device():
    net = network(BernoulliMask(0.5))
    x_seq = torch.randn(5, 30, 6, device="cuda")
    net(x_seq)
    with gradient_density(net):
        torch.cuda.set_sync_debug_mode("error")
        try:
            net(x_seq).sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_windows_are_calibrated_on_the_device():
    net = network(WindowMask())
    state = torch.cuda.get_rng_state()
    found = calibrate_window(net, [torch.randn(5, 30, 6)], 0.3)["1"]
    assert found.density == pytest.approx(0.3, abs=0.01)
    assert torch.equal(state, torch.cuda.get_rng_state())
