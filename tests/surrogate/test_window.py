"""A window keeps what lies within its width and nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sj_ext.surrogate import MaskedSurrogate, WindowMask


@given(width=st.floats(0.01, 3.0), seed=st.integers(0, 100))
def test_derivatives_are_the_bases_within_the_window_and_zero_outside(width, seed):
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(seed))
    x = x.double().requires_grad_()
    masked = MaskedSurrogate("ATan", WindowMask(width))
    (slope,) = torch.autograd.grad(masked(x).sum(), x)
    (whole,) = torch.autograd.grad(masked.base(x).sum(), x)
    assert torch.equal(slope, torch.where(x.abs() < width, whole, 0.0))


def test_the_edge_is_outside():
    rule = WindowMask(0.5)
    x = torch.tensor([-0.5, -0.4999, 0.0, 0.4999, 0.5])
    assert rule.multiplier(x).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("width", [0.0, -1.0, float("inf"), float("nan"), "wide"])
def test_a_width_out_of_range_is_refused(width):
    with pytest.raises(ValueError, match=r"Expected `half_width` in \(0, inf\), got"):
        WindowMask(width)
