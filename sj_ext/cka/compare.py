"""HSIC of all pairs of layers in one batch, from the summaries of its layers."""

from collections.abc import Sequence

from torch import Tensor

from sj_ext.cka.functional import Estimator, hsic_factor
from sj_ext.cka.pairs import Products, products
from sj_ext.cka.primal import primal_is_cheaper, primal_products
from sj_ext.cka.summary import LayerSummary, gram_rows


def compare_layers(
    x: Sequence[LayerSummary],
    y: Sequence[LayerSummary] | None,
    estimator: Estimator,
) -> dict[str, Products]:
    """Compare all layers of one side with all of the other, and so their steps.

    Args:
        x: Summaries of the layers, of the same samples; their rows are taken out, to
            free them one by one.
        y: Likewise of the other side; None compares `x` with itself.
        estimator: "unbiased" or "biased".

    Returns:
        HSIC of the layers, "concat", and of their rows, "per_step"; where there are
        ranks, their covariances as "rsa" and "rsa_per_step".
    """
    n = x[0].samples
    found = {}
    if x[0].joint_ranks is not None:
        found.update(_rank_covariances(x, y))
    blocks_x, rows_x = _take_rows(x)
    blocks_y, rows_y = (None, None) if y is None else _take_rows(y)
    if _is_primal(rows_x, rows_y, n):
        factor = hsic_factor(n, estimator)
        both = primal_products(rows_x, rows_y, blocks_x, blocks_y, estimator)
    else:
        factor = 2 * hsic_factor(n, estimator)
        rows_x = gram_rows(rows_x, estimator)
        rows_y = None if rows_y is None else gram_rows(rows_y, estimator)
        both = products(rows_x, rows_y, blocks_x, blocks_y)
    for kind, part in zip(("per_step", "concat"), both, strict=True):
        found[kind] = part.times(factor)
    return found


def _rank_covariances(
    x: Sequence[LayerSummary], y: Sequence[LayerSummary] | None
) -> dict[str, Products]:
    n = x[0].samples
    pairs = n * (n - 1) // 2

    def covariances(joint: bool) -> Products:
        side_x, side_y = (
            None if side is None else _ranks(side, joint) for side in (x, y)
        )
        assert side_x is not None
        ones = [[1] * len(side) for side in (side_x, side_y or [])]
        rows, _ = products(side_x, side_y, ones[0], ones[1] if side_y else None)
        return rows.times(1 / pairs)

    return {"rsa": covariances(joint=True), "rsa_per_step": covariances(joint=False)}


def _ranks(side: Sequence[LayerSummary], joint: bool) -> list[Tensor]:
    if joint:
        return [s.joint_ranks for s in side if s.joint_ranks is not None]
    return [row for s in side for row in s.ranks]


def _take_rows(side: Sequence[LayerSummary]) -> tuple[list[int], list[Tensor]]:
    blocks = [len(summary.rows) for summary in side]
    rows = []
    for summary in side:
        rows += summary.rows
        summary.rows = []
    return blocks, rows


def _is_primal(rows_x: list[Tensor], rows_y: list[Tensor] | None, n: int) -> bool:
    y = rows_x if rows_y is None else rows_y
    if any(row.dim() == 1 for row in (*rows_x, *y)):
        return False
    width_x, width_y = (sum(row.shape[1] for row in side) for side in (rows_x, y))
    return primal_is_cheaper(width_x, width_y, len(rows_x) * len(y), n)
