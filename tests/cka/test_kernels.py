"""The compiled passes against what torch makes of the same."""

import numpy as np
import pytest
import torch

from sj_ext.cka import _numba_kernels as kernels
from sj_ext.cka.functional import u_centred
from sj_ext.cka.gram import above_diagonal
from sj_ext.cka.pairs import hsic_row


@pytest.mark.parametrize("n", [4, 5, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_compiled_row_is_the_centred_matrix_above_its_diagonal(n, dtype):
    x = torch.randn(n, 33, dtype=torch.float64) + 5
    matrix = (x @ x.T).to(dtype)
    matrix = (matrix + matrix.T) / 2
    centred = u_centred(matrix.double())
    torch.testing.assert_close(
        hsic_row(matrix, "unbiased"),
        torch.take(centred, above_diagonal(centred)),
        rtol=1e-10,
        atol=1e-10,
    )


def test_a_row_is_zero_where_a_single_sample_differs():
    matrix = torch.zeros(8, 8, dtype=torch.float64)
    matrix[3, :] = matrix[:, 3] = 0.1
    matrix[3, 3] = 7.0
    assert not hsic_row(matrix, "unbiased").any()


def test_moments_leave_the_diagonal_out():
    x = torch.randn(37, 37, dtype=torch.float64)
    off = x - torch.diag(x.diagonal())
    total, squares = kernels.off_diagonal_moments(x.numpy())
    assert total == pytest.approx(float(off.sum()))
    assert squares == pytest.approx(float(off.square().sum()))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_weighted_sum_repeats_its_weights_with_factors(dtype):
    x = np.random.default_rng(0).normal(size=23).astype(dtype)
    x[5] = np.nan
    weights = np.linspace(1.0, 2.0, 10)
    expected = sum(
        (1.0 + (place // 10 * 0.6) % 1.0) * weights[place % 10] * value
        for place, value in enumerate(np.nan_to_num(x.astype(np.float64), nan=0.5))
    )
    assert kernels.weighted_sum(x, weights, 0.6) == pytest.approx(expected)
