"""Controls have the moments of the mask that they stand against, and no zeros."""

import math

import pytest
import torch

from sj_ext.surrogate import BernoulliMask, ConstantMask, MaskedSurrogate, NoiseMask


def slope(masked, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(masked(x).sum(), x)[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_constant_scales_every_derivative(dtype):
    x = torch.randn(5, 30).to(dtype)
    masked = MaskedSurrogate("Sigmoid", ConstantMask(0.25))
    whole = slope(masked.base, x)
    found = slope(masked, x)
    assert found.dtype == dtype
    torch.testing.assert_close(found, 0.25 * whole)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_noise_has_the_first_two_moments_of_the_mask(p):
    n = 1_000_000
    noise = NoiseMask(p).multiplier(torch.empty(n, dtype=torch.float64))
    mean, variance = 1 - p, p * (1 - p)
    assert abs(noise.mean() - mean) < 5 * math.sqrt(variance / n)
    centred = (noise - mean).square()
    assert abs(centred.mean() - variance) < 5 * centred.std() / math.sqrt(n)


def test_noise_takes_any_mean_and_variance():
    noise = NoiseMask(mean=3.0, variance=0.5).multiplier(torch.empty(400_000))
    assert noise.mean().item() == pytest.approx(3.0, abs=5 * math.sqrt(0.5 / 4e5))
    assert noise.var().item() == pytest.approx(0.5, rel=0.02)


def test_noise_is_independent_across_calls_and_neighbours():
    n = 400_000
    rule = NoiseMask(0.5)
    first, second = (rule.multiplier(torch.empty(n)).double() - 0.5 for _ in range(2))
    bound = 5 * 0.25 / math.sqrt(n)
    assert (first * second).mean().abs() < bound
    assert (first[1:] * first[:-1]).mean().abs() < bound


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("p", [0.5, 0.99])
def test_noise_is_never_zero(dtype, p):
    noise = NoiseMask(p).multiplier(torch.empty(200_000, dtype=dtype))
    assert (noise > 0).all()
    assert torch.isfinite(noise).all()


def test_without_variance_the_noise_is_a_constant():
    x = torch.randn(4, 10)
    masked = MaskedSurrogate("ATan", NoiseMask(mean=0.5, variance=0.0))
    torch.testing.assert_close(slope(masked, x), 0.5 * slope(masked.base, x))
    assert torch.equal(
        slope(MaskedSurrogate("ATan", NoiseMask(0.0)), x), slope(masked.base, x)
    )


def test_noise_multiplies_the_derivative_and_follows_the_seed():
    x = torch.zeros(3, 100)
    masked = MaskedSurrogate("ATan", NoiseMask(0.5))
    torch.manual_seed(4)
    first = slope(masked, x)
    torch.manual_seed(4)
    noise = masked.mask.multiplier(x)
    torch.testing.assert_close(first, slope(masked.base, x) * noise)


def test_noise_keeps_the_layout():
    x = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    noise = NoiseMask(0.5).multiplier(x)
    assert noise.is_contiguous(memory_format=torch.channels_last)


def test_only_masks_of_zeros_and_ones_call_themselves_binary():
    assert BernoulliMask().binary
    assert ConstantMask().binary
    assert not NoiseMask().binary


def test_noise_follows_p_until_a_moment_is_set():
    rule = NoiseMask(0.5)
    rule.p = 0.2
    assert (rule.mean, rule.variance) == (0.8, pytest.approx(0.16))
    rule.variance = 0.04
    assert rule.p is None
    assert rule.config() == {"name": "noise", "mean": 0.8, "variance": 0.04}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p": 1.0}, r"Expected `p` in \[0, 1\)"),
        ({"mean": 0.5}, "Expected either `p` or `mean` and `variance`"),
        ({"p": 0.5, "mean": 1.0, "variance": 1.0}, "Expected either `p` or"),
        ({"mean": 0.0, "variance": 1.0}, r"Expected `mean` in \(0, inf\), got 0.0"),
        ({"mean": 1.0, "variance": -1.0}, r"Expected `variance` in \[0, inf\)"),
    ],
)
def test_wrong_moments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoiseMask(**arguments)


def test_a_factor_must_be_positive():
    with pytest.raises(ValueError, match=r"Expected `factor` in \(0, inf\), got 0"):
        ConstantMask(0)
