"""Gram matrices: exact for integers, safe for everything else."""

import pytest
import torch

from sj_ext.cka.gram import flatten_samples, full_precision, gram


def centred(matrix):
    matrix = matrix - matrix.mean(0)
    return matrix - matrix.mean(1, keepdim=True)


def expected(parts):
    x = parts.double().transpose(0, 1).flatten(1)
    x = x - x.mean(0)
    return x @ x.T


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.float64, torch.int64, torch.int8]
)
@pytest.mark.parametrize("shape", [(1, 4, 1), (2, 5, 7), (3, 37, 131), (1, 130, 5000)])
@pytest.mark.parametrize("largest", [1, 64, 127])
def test_integers_are_multiplied_exactly(dtype, shape, largest):
    x = torch.randint(-largest, largest + 1, shape).to(dtype)
    x[0, 0], x[0, 1] = largest, -largest
    whole = x.double().transpose(0, 1).flatten(1)
    assert torch.equal(gram(x), whole @ whole.T)


def test_spikes_may_be_bool_or_bytes():
    x = torch.rand(2, 9, 40) < 0.3
    assert torch.equal(gram(x), gram(x.float()))
    assert torch.equal(gram(x.to(torch.uint8)), gram(x.float()))


@pytest.mark.parametrize("value", [0.25, 128.0, -300.0, 256.0, 1e-30])
def test_one_value_that_is_no_small_integer_is_not_lost(value):
    x = torch.zeros(1, 6, 20)
    x[0, 3, 7] = value
    found = gram(x).double()
    assert found[3, 3] > 0
    torch.testing.assert_close(
        centred(found), centred(expected(x)), rtol=1e-6, atol=1e-6 * value**2
    )


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_real_features_survive_a_large_mean_and_any_scale(offset, scale):
    x = (torch.randn(2, 130, 5000, dtype=torch.float64) + offset) * scale
    x = x.float()
    reference = centred(expected(x))
    error = (centred(gram(x).double()) - reference).abs().max() / reference.abs().max()
    assert error < 1e-6


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, 1e-30, 12345.678])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constant_features_give_exact_zeros(value, dtype):
    x = torch.full((2, 50, 70), value, dtype=dtype)
    assert not gram(x).any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(value):
    x = torch.rand(1, 8, 30)
    x[0, 2, 3] = value
    with pytest.raises(ValueError, match="1 of 240 values are NaN or infinite"):
        gram(x)


def test_channels_last_features_are_not_copied():
    x = torch.randn(2, 6, 3, 4, 5, dtype=torch.float64).permute(0, 1, 3, 4, 2)
    flat = flatten_samples(x)
    assert flat.data_ptr() == x.data_ptr()
    torch.testing.assert_close(gram(flat), gram(x.reshape(2, 6, -1)))


def test_lower_precision_settings_do_not_reach_the_products():
    torch.set_float32_matmul_precision("highest")
    x = torch.randn(64, 512)
    expected = x @ x.T
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu"), full_precision():
            assert torch.equal(x @ x.T, expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
