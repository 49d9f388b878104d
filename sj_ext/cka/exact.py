"""CKA of a whole set of samples at once, without minibatches.

The Gram matrices are never whole: centring needs their row sums alone, which follow
from the norms of the centred samples, so that tiles of all layers can be centred and
multiplied one after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sj_ext.cka.functional import (
    Estimator,
    check_estimator,
    check_samples,
    rounding_of,
)
from sj_ext.cka.gram import (
    full_precision,
    integer_product,
    mirror,
    small_integers,
    symmetric_product,
)
from sj_ext.cka.pairs import Products, with_itself, with_others
from sj_ext.cka.primal import (
    diagonal_blocks,
    from_squares,
    primal_is_cheaper,
    squares,
)
from sj_ext.cka.similarity import Similarity, names_of_zeros, normalised
from sj_ext.cka.stored import StoredLayer, blocks, stored_layers

Features = Sequence[Any] | Mapping[str, Any]
Advance = Callable[[int], None]

_LARGEST_PRIMAL = 2**26


def exact_cka(
    features_x: Features,
    features_y: Features | None = None,
    *,
    block: int = 1024,
    estimator: Estimator = "unbiased",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    advance: Advance | None = None,
) -> Similarity:
    """Compute CKA between layers over a whole set of samples.

    Takes n^2 sum(D) / 2 multiplications, or n sum(D)^2 / 2 through X'Y where that is
    less and the product fits. Memory holds L block^2 and L n numbers of float64, and
    what the operating system keeps of mapped files.

    Args:
        features_x: For each layer an array [n, ...] that slices along its first axis:
            numpy's, a memory-mapped file, a tensor. By name in a dict, else the names
            are their numbers.
        features_y: Likewise of other layers, of the same samples in the same order;
            None compares `features_x` with themselves.
        block: Samples a tile.
        estimator: "unbiased", HSIC_1, or "biased".
        dtype: Of the products of centred features; torch.float32 is some four times
            faster and right to about 1e-6. Products of integers from -127 to 127 are
            exact in any case, and fast.
        device: Where the products are computed.
        advance: Called with numbers of samples that sum to n, as the work goes on.

    Returns:
        CKA [Lx, Ly] in `concat`, with the names of constant layers.

    Raises:
        ValueError: If fewer than 4 samples come, if their number differs, if values
            are not finite, or an option is not one of those above.
    """
    check_estimator(estimator)
    if block < 1 or dtype not in (torch.float32, torch.float64):
        raise ValueError(
            "Expected `block` to be at least 1 and `dtype` torch.float32 or "
            f"torch.float64, got {block} and {dtype}."
        )
    device = torch.device(device)
    with torch.no_grad(), full_precision():
        x = stored_layers(features_x, "features_x", device)
        n = check_samples(x[0].samples)
        y = None
        if features_y is not None:
            y = stored_layers(features_y, "features_y", device)
            if y[0].samples != n:
                raise ValueError(
                    f"Expected `features_y` to have the {n} samples of `features_x`, "
                    f"got {y[0].samples}."
                )
        tick: Advance = advance if advance is not None else _nothing
        if _is_primal(x, y):
            found = _primal(x, y, block, estimator, tick)
        else:
            found = _tiled(x, y, block, estimator, dtype, tick)
    side_y = x if y is None else y
    return Similarity(
        concat=normalised(*found),
        per_step=None,
        steps_x=[1] * len(x),
        steps_y=[1] * len(side_y),
        constant_x=names_of_zeros([layer.name for layer in x], found.self_x),
        constant_y=names_of_zeros([layer.name for layer in side_y], found.self_y),
    )


def _is_primal(x: list[StoredLayer], y: list[StoredLayer] | None) -> bool:
    side_y = x if y is None else y
    widths = [sum(layer.width for layer in side) for side in (x, side_y)]
    if max(widths) ** 2 > _LARGEST_PRIMAL:
        return False
    return primal_is_cheaper(widths[0], widths[1], len(x) * len(side_y), x[0].samples)


def _primal(
    x: list[StoredLayer],
    y: list[StoredLayer] | None,
    block: int,
    estimator: Estimator,
    advance: Advance,
) -> Products:
    sides = [x] if y is None else [x, y]
    widths = [[layer.width for layer in side] for side in sides]
    norms = [torch.stack([s.squared_norms for s in side]).cpu() for side in sides]
    device = x[0].squared_norms.device
    own = [_zeros(sum(w), sum(w), device) for w in widths]
    cross = _zeros(sum(widths[0]), sum(widths[-1]), device)
    for rows in blocks(x[0].samples, block):
        parts = [torch.cat([s.centred(rows) for s in side], 1) for side in sides]
        for part, product in zip(parts, own, strict=True):
            symmetric_product(part.T, product)
        if y is not None:
            cross.addmm_(parts[0].T, parts[1])
        advance(rows.stop - rows.start)
    hsic = [
        from_squares(squares(mirror(product), w, w), k, None, estimator)
        for product, w, k in zip(own, widths, norms, strict=True)
    ]
    ones = [[1] * len(side) for side in sides]
    if y is None:
        return with_itself(hsic[0], ones[0])[0]
    between = from_squares(
        squares(cross, widths[0], widths[1]), norms[0], norms[1], estimator
    )
    own_blocks = [diagonal_blocks(*pair) for pair in zip(hsic, ones, strict=True)]
    return with_others(between, *own_blocks)[0]


def _tiled(
    x: list[StoredLayer],
    y: list[StoredLayer] | None,
    block: int,
    estimator: Estimator,
    dtype: torch.dtype,
    advance: Advance,
) -> Products:
    n = x[0].samples
    device = x[0].squared_norms.device
    sides = [x] if y is None else [x, y]
    shifts = [[_shift(layer, estimator) for layer in side] for side in sides]
    block = min(block, n)
    buffers = [torch.empty(len(s), block**2, dtype=torch.float64) for s in sides]
    buffers = [buffer.to(device) for buffer in buffers]
    cross = _zeros(len(x), len(sides[-1]), device)
    own = [torch.zeros(len(s), dtype=torch.float64, device=device) for s in sides]
    before = [torch.zeros_like(total) for total in own]
    parts = blocks(n, block)
    for i, rows in enumerate(parts):
        for columns in parts[i:]:
            size = (rows.stop - rows.start) * (columns.stop - columns.start)
            tiles = [buffer[:, :size] for buffer in buffers]
            # A tile off the diagonal stands for its mirror image too.
            weight = 1 if columns is rows else 2
            for side, tile, shift, total in zip(
                sides, tiles, shifts, before, strict=True
            ):
                for k, (layer, out, m) in enumerate(
                    zip(side, tile, shift, strict=True)
                ):
                    total[k] += weight * _centred_tile(
                        layer, rows, columns, m, estimator, dtype, out
                    )
            cross.addmm_(tiles[0], tiles[-1].T, alpha=weight)
            for total, tile in zip(own, tiles, strict=True):
                total += weight * torch.linalg.vecdot(tile, tile)
        advance(rows.stop - rows.start)
    if y is None:
        # From the same sums, so that their ratio is 1.
        own = [cross.diagonal()]
    if estimator == "unbiased":
        limit = rounding_of(dtype) ** 2
        own = [
            total.masked_fill(total <= limit * squares, 0.0)
            for total, squares in zip(own, before, strict=True)
        ]
    return Products(cross.cpu(), own[0].cpu(), own[-1].cpu())


def _shift(layer: StoredLayer, estimator: Estimator) -> Tensor:
    # x_i . x_j - m_i - m_j is centred, x being what is multiplied: with the diagonal,
    # the rows of products of centred features sum to zero.
    if estimator == "biased":
        return layer.mean_products
    n, k = layer.samples, layer.squared_norms
    return layer.mean_products - k / (n - 2) + k.sum() / (2 * (n - 1) * (n - 2))


def _centred_tile(
    layer: StoredLayer,
    rows: slice,
    columns: slice,
    shift: Tensor,
    estimator: Estimator,
    dtype: torch.dtype,
    out: Tensor,
) -> Tensor:
    """Fill `out`; give the sum of squares before it was centred."""
    if not layer.squared_norms.any():
        return out.zero_().sum()
    tile = out.view(rows.stop - rows.start, columns.stop - columns.start)
    tile.zero_()
    for features in layer.column_blocks(len(tile)):
        tile += _product(layer, rows, columns, features, dtype)
    on_diagonal = rows == columns and estimator == "unbiased"
    if on_diagonal:
        tile.fill_diagonal_(0)
    before = torch.linalg.vecdot(out, out)
    tile.sub_(shift[rows][:, None]).sub_(shift[columns])
    if on_diagonal:
        tile.fill_diagonal_(0)
    return before


def _product(
    layer: StoredLayer, rows: slice, columns: slice, features: slice, dtype: torch.dtype
) -> Tensor:
    if layer.largest_integer is not None:
        a = small_integers(layer.rows(rows, features))
        b = a if rows == columns else small_integers(layer.rows(columns, features))
        if a is not None and b is not None:
            return integer_product(a, b, layer.largest_integer)
    a = layer.centred(rows, features).to(dtype)
    if rows == columns:
        product = torch.zeros(len(a), len(a), dtype=dtype, device=a.device)
        symmetric_product(a, product)
        return mirror(product)
    return a @ layer.centred(columns, features).to(dtype).T


def _zeros(rows: int, columns: int, device: torch.device) -> Tensor:
    return torch.zeros(rows, columns, dtype=torch.float64, device=device)


def _nothing(samples: int) -> None:
    pass
