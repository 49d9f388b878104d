"""From Gram matrices to HSIC of all pairs of layers and steps, in one product.

A centred Gram matrix is a vector, and HSIC an inner product: the rows of all layers
are stacked, and one matrix product gives all pairs.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sj_ext.cka.functional import ROUNDING, Estimator
from sj_ext.cka.gram import above_diagonal, mirror, symmetric_product
from sj_ext.cka.loops import kernels

_COLUMNS = 8192


class Products(NamedTuple):
    """HSIC, or covariances, between two sides and of each with itself.

    Attributes:
        cross: [..., Rx, Ry].
        self_x: [..., Rx].
        self_y: [..., Ry].
    """

    cross: Tensor
    self_x: Tensor
    self_y: Tensor

    def times(self, factor: float) -> "Products":
        """Multiply all three by a number."""
        return Products(*(part * factor for part in self))


def hsic_row(gram: Tensor, estimator: Estimator, rounding: float = ROUNDING) -> Tensor:
    """Centre a Gram matrix, and keep of it what is above its diagonal.

    Args:
        gram: Float32 or float64 [n, n], of features under any shift; it may be
            overwritten.
        estimator: "unbiased" or "biased", which needs the diagonal too.
        rounding: Relative error of the entries off the diagonal.

    Returns:
        Float64 [n(n-1)/2] or [n(n+1)/2]: twice the inner product of two rows is that
        of the two centred matrices. Exactly zero where rounding alone is left, as of
        the unbiased one where a single sample differs from all others.
    """
    n = len(gram)
    if estimator == "unbiased" and gram.device.type == "cpu":
        row = gram.new_empty(n * (n - 1) // 2, dtype=torch.float64)
        kernels().unbiased_row(gram.numpy(), rounding, row.numpy())
        return row
    gram = gram.double()
    if estimator == "unbiased":
        gram.fill_diagonal_(0)
        before = torch.linalg.vector_norm(gram)
        m = gram.sum(1).div_(n - 2)
        m -= m.sum() / (2 * (n - 1))
    else:
        m = gram.mean(1)
        m -= m.mean() / 2
    gram.sub_(m[:, None]).sub_(m)
    if estimator == "unbiased":
        row = torch.take(gram, above_diagonal(gram))
        left = torch.linalg.vector_norm(row)
        return row.mul_(left > rounding * before)
    gram.diagonal().mul_(0.5**0.5)
    return torch.take(gram, above_diagonal(gram, inclusive=True))


def products(
    rows_x: list[Tensor],
    rows_y: list[Tensor] | None,
    blocks_x: Sequence[int],
    blocks_y: Sequence[int] | None,
) -> tuple[Products, Products]:
    """Multiply all rows with all rows.

    Args:
        rows_x: Rx vectors [P] of float64.
        rows_y: Ry vectors likewise; None multiplies `rows_x` with themselves, for half
            the work.
        blocks_x: Numbers of rows that belong to one layer each; they sum to Rx.
        blocks_y: Likewise of the other side.

    Returns:
        The inner products of the rows, and those of the sums of each layer's rows, on
        the CPU.
    """
    if rows_y is None or blocks_y is None:
        cross = rows_x[0].new_zeros(len(rows_x), len(rows_x))
        for x in _stacked(rows_x):
            symmetric_product(x, cross)
        return with_itself(mirror(cross).cpu(), blocks_x)
    cross = rows_x[0].new_zeros(len(rows_x), len(rows_y))
    own_x, own_y = (
        [rows[0].new_zeros(size, size) for size in blocks]
        for rows, blocks in ((rows_x, blocks_x), (rows_y, blocks_y))
    )
    for x, y in zip(_stacked(rows_x), _stacked(rows_y), strict=True):
        y = y.to(x.device)
        cross.addmm_(x, y.T)
        for own, side, blocks in ((own_x, x, blocks_x), (own_y, y, blocks_y)):
            for total, part in zip(own, side.split(list(blocks)), strict=True):
                total.addmm_(part, part.T)
    return with_others(
        cross.cpu(), [one.cpu() for one in own_x], [one.cpu() for one in own_y]
    )


def with_itself(cross: Tensor, blocks: Sequence[int]) -> tuple[Products, Products]:
    """Read the self-products of one side off the diagonal, so that their ratio is 1.

    Args:
        cross: Products of the rows of one side, [R, R].
        blocks: Numbers of rows that belong to one layer each; they sum to R.

    Returns:
        The products of the rows, and those of the layers.
    """
    layers = block_sums(cross, blocks, blocks)
    return (
        Products(cross, cross.diagonal(), cross.diagonal()),
        Products(layers, layers.diagonal(), layers.diagonal()),
    )


def with_others(
    cross: Tensor, own_x: Sequence[Tensor], own_y: Sequence[Tensor]
) -> tuple[Products, Products]:
    """Collect the products of two sides, by rows and by layers.

    Args:
        cross: Products of the rows of both sides, [Rx, Ry].
        own_x: Of each layer x, the products of its rows among themselves, [T, T].
        own_y: Likewise y.

    Returns:
        The products of the rows, and those of the layers.
    """
    rows_x, rows_y = (
        torch.cat([block.diagonal() for block in own]) for own in (own_x, own_y)
    )
    layers_x, layers_y = (
        torch.stack([block.sum() for block in own]) for own in (own_x, own_y)
    )
    sizes = [len(block) for block in own_x], [len(block) for block in own_y]
    return (
        Products(cross, rows_x, rows_y),
        Products(block_sums(cross, *sizes), layers_x, layers_y),
    )


def block_sums(
    matrix: Tensor, sizes_x: Sequence[int], sizes_y: Sequence[int]
) -> Tensor:
    """Sum the blocks of a matrix, those of the steps of two layers for instance.

    Args:
        matrix: [Rx, Ry].
        sizes_x: Numbers of rows of the blocks; they sum to Rx.
        sizes_y: Numbers of columns; they sum to Ry.

    Returns:
        [len(sizes_x), len(sizes_y)].
    """
    for axis, sizes in enumerate((sizes_x, sizes_y)):
        blocks = matrix.split(list(sizes), dim=axis)
        matrix = torch.stack([block.sum(axis) for block in blocks], dim=axis)
    return matrix


def _stacked(rows: list[Tensor]) -> Iterator[Tensor]:
    """Lay rows under each other, some columns at a time, in memory that is used again.

    Args:
        rows: R vectors [P].

    Yields:
        Matrices [R, P'] whose columns are all of the rows, in order.
    """
    parts = [row.split(_COLUMNS) for row in rows]
    stacked = rows[0].new_empty(len(rows), min(_COLUMNS, len(rows[0])))
    for columns in zip(*parts, strict=True):
        yield torch.stack(columns, out=stacked[:, : len(columns[0])])
