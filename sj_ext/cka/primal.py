"""The primal form, for layers much narrower than there are samples: through X'Y.

|X'Y|^2 = tr(XX'YY'), so that no Gram matrix of n by n is needed. All in float64.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from sj_ext.cka.functional import Estimator, unbiased_primal
from sj_ext.cka.gram import mirror, symmetric_product
from sj_ext.cka.pairs import Products, block_sums, with_itself, with_others

_ROUNDING = 1e-13


def is_narrow(parts: Tensor) -> bool:
    """Tell whether keeping the features takes less than keeping their Gram matrix.

    Args:
        parts: Features [S, n, D].

    Returns:
        Whether they are at most n / 2 wide.
    """
    return 2 * parts.shape[0] * parts.shape[2] <= parts.shape[1]


def primal_is_cheaper(width_x: int, width_y: int, rows: int, n: int) -> bool:
    """Compare the multiplications of both forms.

    Args:
        width_x: Number of columns of one side, all layers together.
        width_y: Likewise of the other.
        rows: Number of pairs of layers or steps.
        n: Number of samples.

    Returns:
        Whether X'Y takes fewer of them than the Gram matrices and their products.
    """
    return width_x * width_y * n < n * n * (width_x + width_y + rows) / 2


def centred_columns(parts: Tensor) -> Tensor:
    """Centre features in float64, all parts side by side.

    Args:
        parts: Features [S, n, D].

    Returns:
        Float64 [n, S D]; a constant column is exactly zero.

    Raises:
        ValueError: If a value is NaN or infinite.
    """
    x = parts.double().transpose(0, 1).flatten(1)
    # Through the first sample, so that constant columns become exact zeros.
    x = x - x[:1]
    x = x - x.mean(0)
    if not torch.isfinite(x.square().sum()):
        raise ValueError(
            "Expected the features to be finite, got NaN, infinity or values whose "
            "squares are."
        )
    return x


def primal_products(
    columns_x: Sequence[Tensor],
    columns_y: Sequence[Tensor] | None,
    blocks_x: Sequence[int],
    blocks_y: Sequence[int] | None,
    estimator: Estimator,
) -> tuple[Products, Products]:
    """Compute the inner products of all centred Gram matrices without these.

    Args:
        columns_x: Rx matrices of centred features, float64 [n, D], D of each its own.
        columns_y: Ry likewise; None multiplies `columns_x` with themselves.
        blocks_x: Numbers of matrices that belong to one layer each; they sum to Rx.
        blocks_y: Likewise of the other side.
        estimator: "unbiased" or "biased".

    Returns:
        What `sj_ext.cka.pairs.products` gives of the rows of the Gram matrices, twice
        as large. Where a self-product is zero but for rounding it is exactly zero.
    """
    x, sizes_x = torch.cat(list(columns_x), 1), [c.shape[1] for c in columns_x]
    own_x = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype, device=x.device)
    symmetric_product(x.T, own_x)
    k = squared_norms(columns_x)
    hsic_x = from_squares(squares(mirror(own_x), sizes_x, sizes_x), k, None, estimator)
    if columns_y is None or blocks_y is None:
        return with_itself(hsic_x, blocks_x)
    y, sizes_y = torch.cat(list(columns_y), 1), [c.shape[1] for c in columns_y]
    y = y.to(x.device)
    own_y = torch.zeros(y.shape[1], y.shape[1], dtype=y.dtype, device=y.device)
    symmetric_product(y.T, own_y)
    l = squared_norms(columns_y)  # noqa: E741
    hsic_y = from_squares(squares(mirror(own_y), sizes_y, sizes_y), l, None, estimator)
    cross = from_squares(squares(x.T @ y, sizes_x, sizes_y), k, l, estimator)
    return with_others(
        cross, diagonal_blocks(hsic_x, blocks_x), diagonal_blocks(hsic_y, blocks_y)
    )


def squares(product: Tensor, sizes_x: Sequence[int], sizes_y: Sequence[int]) -> Tensor:
    """Sum the squares of each block of X'Y.

    Args:
        product: [Dx, Dy], overwritten.
        sizes_x: Widths of the Rx layers; they sum to Dx.
        sizes_y: Widths of the Ry layers; they sum to Dy.

    Returns:
        Squared Frobenius norms [Rx, Ry], on the CPU.
    """
    return block_sums(product.square_(), sizes_x, sizes_y).cpu()


def squared_norms(columns: Sequence[Tensor]) -> Tensor:
    """Compute the squared norm of each centred sample in each layer.

    Args:
        columns: R matrices [n, D].

    Returns:
        [R, n], on the CPU.
    """
    return torch.stack([c.square().sum(1) for c in columns]).cpu()


def from_squares(
    squares: Tensor,
    k: Tensor,
    l: Tensor | None,  # noqa: E741
    estimator: Estimator,
) -> Tensor:
    """Turn squared Frobenius norms of X'Y into HSIC before its factor.

    Args:
        squares: The norms, [Rx, Ry].
        k: Squared norms of the centred samples, [Rx, n].
        l: Likewise of the other side, [Ry, n]; None if it is the same.
        estimator: "unbiased" or "biased", which they are already.

    Returns:
        HSIC times n(n-3), or times (n-1)^2.
    """
    if estimator == "biased":
        return squares
    found = unbiased_primal(squares, k, k if l is None else l)
    if l is None:
        own = found.diagonal()
        own.masked_fill_(own <= _ROUNDING * squares.diagonal(), 0.0)
    return found


def diagonal_blocks(matrix: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Cut the square blocks on the diagonal out of a matrix.

    Args:
        matrix: [R, R].
        sizes: Of the blocks; they sum to R.

    Returns:
        Views of it.
    """
    rows = matrix.split(list(sizes))
    ends = itertools.accumulate(sizes)
    return [
        block[:, end - size : end]
        for block, size, end in zip(rows, sizes, ends, strict=True)
    ]
