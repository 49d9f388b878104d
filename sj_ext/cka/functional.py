"""HSIC and linear CKA of two feature matrices, differentiable, in float64.

HSIC_1 is the unbiased estimator of Song et al., Feature Selection via Dependence
Maximization, JMLR 2012, equation 5; CKA is Kornblith et al., arXiv 1905.00414.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

Estimator = Literal["unbiased", "biased"]

ROUNDING = 1e-13
"""Relative error of products in float64, with room."""
_ROUNDING_IN_FLOAT32 = 5e-7


def hsic(x: Tensor, y: Tensor, estimator: Estimator = "unbiased") -> Tensor:
    """Estimate the Hilbert-Schmidt independence criterion of two sets of features.

    The kernels are linear, K = X X' and L = Y Y'. With K~, L~ the kernels without
    their diagonals, the unbiased estimate is

        [tr(K~L~) + 1'K~1 1'L~1 / ((n-1)(n-2)) - 2 1'K~L~1 / (n-2)] / (n(n-3))

    and the biased one tr(KHLH) / (n-1)^2 with H = I - 11'/n (Gretton et al., ALT
    2005). Features narrower than n samples are taken in the primal form, through
    X'Y, which is the same number. Gradients flow through both.

    Args:
        x: Features [n, ...]; what follows the first axis is flattened.
        y: Features [n, ...] of the same samples, of any width.
        estimator: "unbiased" or "biased".

    Returns:
        A float64 scalar on the device of `x`; the unbiased one may be negative.

    Raises:
        ValueError: If fewer than 4 samples come, or not the same number in both.
    """
    check_estimator(estimator)
    x, y = _centred(x, "x"), _centred(y, "y")
    n = check_samples(x.shape[0])
    if y.shape[0] != n:
        raise ValueError(
            f"Expected `y` to have the {n} samples of `x`, got {y.shape[0]}."
        )
    if x.shape[1] * y.shape[1] < n * (x.shape[1] + y.shape[1]):
        return _primal(x, y, estimator)
    centre = u_centred if estimator == "unbiased" else double_centred
    product = (centre(x @ x.T) * centre(y @ y.T)).sum()
    return product * hsic_factor(n, estimator)


def linear_cka(x: Tensor, y: Tensor, estimator: Estimator = "unbiased") -> Tensor:
    """Compare two sets of features: HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)).

    Invariant to orthogonal maps, to scaling and to shifts of either set. Nothing is
    clamped: the unbiased estimate lies in [-1, 1], the biased one in [0, 1].

    Args:
        x: Features [n, ...]; what follows the first axis is flattened.
        y: Features [n, ...] of the same samples, of any width.
        estimator: "unbiased" or "biased".

    Returns:
        A float64 scalar on the device of `x`; NaN where `x` or `y` is constant, or,
        unbiased, where a single sample differs from all others: HSIC_1 is 0 then.

    Raises:
        ValueError: If fewer than 4 samples come, or not the same number in both.
    """
    cross = hsic(x, y, estimator)
    own = _with_itself(x, estimator) * _with_itself(y, estimator)
    return (cross / own.sqrt()).masked_fill(own <= 0, torch.nan)


def u_centred(gram: Tensor) -> Tensor:
    """Centre a Gram matrix so that HSIC_1 is a plain inner product.

    With m = rowsum / (n-2) - sum / (2(n-1)(n-2)) of the matrix without its diagonal,
    the result is K_ij - m_i - m_j off the diagonal and 0 on it. Its rows sum to 0
    (Szekely and Rizzo, Annals of Statistics 2014), and
    HSIC_1(K, L) = sum_ij K_ij L_ij / (n(n-3)): never negative for K = L.

    Args:
        gram: Matrix [n, n], symmetric.

    Returns:
        A new matrix [n, n].
    """
    off = gram - torch.diag(gram.diagonal())
    n = gram.shape[0]
    m = off.sum(1) / (n - 2)
    m = m - m.sum() / (2 * (n - 1))
    centred = off - m[:, None] - m
    return centred - torch.diag(centred.diagonal())


def double_centred(gram: Tensor) -> Tensor:
    """Take the mean out of the rows and columns of a symmetric matrix: HKH.

    Args:
        gram: Matrix [n, n], symmetric.

    Returns:
        A new matrix [n, n].
    """
    m = gram.mean(1) - gram.mean() / 2
    return gram - m[:, None] - m


def hsic_factor(n: int, estimator: Estimator) -> float:
    """Give the number that turns the inner product of centred Grams into HSIC.

    Args:
        n: Number of samples.
        estimator: "unbiased" or "biased".

    Returns:
        1 / (n(n-3)) or 1 / (n-1)^2.
    """
    return 1 / (n * (n - 3)) if estimator == "unbiased" else 1 / (n - 1) ** 2


def unbiased_primal(products: Tensor, k: Tensor, l: Tensor) -> Tensor:  # noqa: E741
    """Turn |X'Y|^2 of centred features into n(n-3) HSIC_1.

    Args:
        products: Squared Frobenius norms of X'Y, [Rx, Ry] for so many sets X and Y.
        k: Squared norms of the centred samples of each X, [Rx, n].
        l: Likewise of each Y, [Ry, n].

    Returns:
        |X'Y|^2 - n/(n-2) k.l + (sum k)(sum l) / ((n-1)(n-2)), [Rx, Ry].
    """
    n = k.shape[-1]
    sums = torch.outer(k.sum(-1), l.sum(-1)) / ((n - 1) * (n - 2))
    return products - n / (n - 2) * (k @ l.T) + sums


def rounding_of(dtype: torch.dtype) -> float:
    """Tell how exact the products of features are.

    Args:
        dtype: Of the features.

    Returns:
        The relative error of products in float32, or in float64 for integers and
        float64.
    """
    single = dtype in (torch.float32, torch.float16, torch.bfloat16)
    return _ROUNDING_IN_FLOAT32 if single else ROUNDING


def check_estimator(estimator: str) -> None:
    """Refuse a name that no estimator has.

    Args:
        estimator: The name.

    Raises:
        ValueError: If it is not one of them.
    """
    if estimator not in get_args(Estimator):
        raise ValueError(
            f"Expected `estimator` to be one of {get_args(Estimator)}, got "
            f"{estimator!r}."
        )


def check_samples(n: int) -> int:
    """Refuse fewer samples than HSIC_1 needs.

    Args:
        n: Number of samples.

    Returns:
        The same number.

    Raises:
        ValueError: If it is less than 4.
    """
    if n < 4:
        raise ValueError(
            f"Expected at least 4 samples (HSIC divides by n(n-3)), got {n}."
        )
    return n


def _centred(x: Tensor, name: str) -> Tensor:
    if x.dim() < 1 or x.is_complex():
        raise ValueError(
            f"Expected `{name}` to be real features [n, ...], got shape "
            f"{list(x.shape)} of {x.dtype}."
        )
    x = x.flatten(1) if x.dim() > 1 else x[:, None]
    x = x.double()
    if x.shape[0] == 0:
        return x
    # Through the first sample, so that constant features become exact zeros.
    x = x - x[:1].detach()
    return x - x.mean(0)


def _with_itself(x: Tensor, estimator: Estimator) -> Tensor:
    """HSIC of a set of features with itself, 0 where rounding alone is left of it."""
    own = hsic(x, x, estimator)
    if estimator == "biased":
        return own
    x = _centred(x.detach(), "x")
    n, width = x.shape
    if width < 2 * n:
        smallest = ROUNDING * (x.T @ x).square().sum()
    else:
        smallest = ROUNDING**2 * (x @ x.T).fill_diagonal_(0).square().sum()
    return own.masked_fill(own <= smallest * hsic_factor(n, estimator), 0.0)


def _primal(x: Tensor, y: Tensor, estimator: Estimator) -> Tensor:
    product = (x.T @ y).square().sum()
    if estimator == "unbiased":
        k, l = x.square().sum(1)[None], y.square().sum(1)[None]  # noqa: E741
        product = unbiased_primal(product[None, None], k, l)[0, 0]
    return product * hsic_factor(x.shape[0], estimator)
