"""HSIC and CKA of two feature matrices against the formulas, written out."""

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

from sj_ext.cka import hsic, linear_cka

ESTIMATORS = ["unbiased", "biased"]


def naive_hsic(x, y, estimator="unbiased"):
    x, y = x.double().flatten(1), y.double().flatten(1)
    n = len(x)
    one = torch.ones(n, dtype=torch.float64)
    K, L = x @ x.T, y @ y.T
    if estimator == "biased":
        H = torch.eye(n, dtype=torch.float64) - torch.outer(one, one) / n
        return torch.trace(K @ H @ L @ H) / (n - 1) ** 2
    K, L = K - K.diag().diag(), L - L.diag().diag()
    return (
        torch.trace(K @ L)
        + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
        - 2 * (one @ K @ L @ one) / (n - 2)
    ) / (n * (n - 3))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@hypothesis.given(n=st.integers(4, 30), d_x=st.integers(1, 80), d_y=st.integers(1, 80))
def test_hsic_is_the_formula_in_both_forms(estimator, n, d_x, d_y):
    x, y = torch.randn(n, d_x), 2 * torch.randn(n, d_y) + 1
    expected = naive_hsic(x, y, estimator)
    scale = naive_hsic(x, x, "biased") * naive_hsic(y, y, "biased")
    error = (hsic(x, y, estimator) - expected).abs()
    assert error < 1e-10 * scale.sqrt() + 1e-12 * expected.abs()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_primal_equals_dual(estimator):
    x, y = torch.randn(20, 6).double(), torch.randn(20, 6).double()
    wide = [torch.cat([f, torch.zeros(20, 100)], dim=1) for f in (x, y)]
    torch.testing.assert_close(
        hsic(x, y, estimator), hsic(*wide, estimator), rtol=1e-12, atol=0
    )


def test_the_unbiased_estimate_is_right_on_average_where_the_biased_is_not():
    generator = torch.Generator().manual_seed(0)
    unbiased, biased = [], []
    for _ in range(300):
        x, y = torch.randn(2, 8, 30, generator=generator)
        unbiased.append(hsic(x, y))
        biased.append(hsic(x, y, "biased"))
    unbiased, biased = torch.stack(unbiased), torch.stack(biased)
    assert unbiased.mean().abs() < 3 * unbiased.std() / 300**0.5
    assert biased.mean() > 10 * biased.std() / 300**0.5


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("width", [1, 5, 300])
def test_cka_is_blind_to_rotation_scale_and_shift(estimator, width):
    x = torch.randn(12, width, dtype=torch.float64)
    y = torch.randn(12, 7, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64)).Q
    moved = 3 * x @ rotation + 1000
    expected = linear_cka(x, y, estimator)
    for found in (
        linear_cka(moved, y, estimator),
        linear_cka(y, moved, estimator),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    one = torch.ones((), dtype=torch.float64)
    torch.testing.assert_close(linear_cka(x, moved, estimator), one)


def test_axes_after_the_first_are_flattened():
    x, y = torch.randn(6, 2, 3, 4), torch.randn(6)
    assert hsic(x, y) == hsic(x.flatten(1), y[:, None])


@pytest.mark.parametrize("width", [3, 60])
def test_cka_can_be_a_loss(width):
    x = torch.randn(7, width, dtype=torch.float64, requires_grad=True)
    y = torch.randn(7, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: linear_cka(x, y), x)


def test_constant_features_have_no_cka():
    assert linear_cka(torch.full((6, 40), 0.1), torch.randn(6, 3)).isnan()
    assert hsic(torch.full((6, 2), 0.1), torch.randn(6, 3)) == 0


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.ones(3, 2), torch.ones(3, 2), "at least 4 samples"),
        (torch.ones(5, 2), torch.ones(6, 2), "the 5 samples of `x`, got 6"),
    ],
)
def test_samples_must_be_enough_and_the_same(x, y, message):
    with pytest.raises(ValueError, match=message):
        hsic(x, y)


def test_an_unknown_estimator_is_refused():
    with pytest.raises(ValueError, match="Expected `estimator` to be one of"):
        hsic(torch.ones(5, 2), torch.ones(5, 2), "debiased")


@pytest.mark.parametrize("width", [4, 40])
@pytest.mark.parametrize("n", [5, 16, 64])
def test_one_sample_apart_from_all_others_has_no_unbiased_cka(n, width):
    x = torch.rand(width).repeat(n, 1)
    x[3] = torch.rand(width)
    y = torch.randn(n, 30)
    assert linear_cka(x, y).isnan()
    assert linear_cka(y, x).isnan()
    assert linear_cka(x, y, "biased").isfinite()
    x[1] += 0.01
    assert linear_cka(x, y).isfinite()
