"""Means resampled as they came about: splits, in them training seeds, and test items.

The seeds of a split are all tested on its items, so the two are crossed: resampled
items are the same for all resampled seeds (Owen, The pigeonhole bootstrap, Annals of
Applied Statistics 1, 2007). Splits are above both.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Groups = Sequence[NDArray[np.float64]]
"""Values of each split, `[seeds, items]`: a row a run, a column a test item."""

_ELEMENTS_AT_ONCE = 2**22


def resampled_means(
    groups: Groups, resamples: int = 10_000, seed: int = 0
) -> NDArray[np.float64]:
    """Draw the mean again and again, at every level with replacement.

    One unit fewer is drawn than a level has: with n - 1 of n the variance of a drawn
    mean is s^2 / n with the unbiased s, where n of n would make it too small by
    (n - 1) / n, a third at three seeds (Rao and Wu, JASA 83, 1988). A level of one unit
    keeps it, so that its variation is in no figure.

    Args:
        groups: One array a split, `[seeds, items]`; the mean gives every split, and in
            it every run, the same weight.
        resamples: How many means, B.
        seed: Of the draws.

    Returns:
        `[B]`, float64.

    Raises:
        ValueError: If there are no values, or `resamples` is not positive.
    """
    groups = checked(groups)
    if resamples < 1:
        raise ValueError(f"Expected `resamples` of at least 1, got {resamples}.")
    generator = np.random.default_rng(seed)
    chosen = _draw(generator, resamples, len(groups))
    total = np.zeros(resamples)
    for place in range(chosen.shape[1]):
        for split, values in enumerate(groups):
            rows = np.flatnonzero(chosen[:, place] == split)
            for part in _parts(rows, values.shape[1]):
                total[part] += _means_within(values, len(part), generator)
    return total / chosen.shape[1]


def checked(groups: Groups) -> list[NDArray[np.float64]]:
    """Make every split `[seeds, items]` in float64.

    Args:
        groups: One array a split.

    Returns:
        The same values.

    Raises:
        ValueError: If there is no split, one is no matrix or empty, or a value is not
            finite.
    """
    arrays = [np.asarray(values, dtype=np.float64) for values in groups]
    if not arrays:
        raise ValueError("Expected `groups` of at least one split, got none.")
    for values in arrays:
        if values.ndim != 2 or not values.size:
            raise ValueError(
                "Expected every split of `groups` to be [seeds, items] with a value "
                f"in it, got the shape {list(values.shape)}."
            )
        if not np.isfinite(values).all():
            raise ValueError("Expected finite `groups`, got NaN or infinity.")
    return arrays


def _means_within(
    values: NDArray[np.float64], count: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Draw seeds and items of one split, `count` times."""
    seeds, items = values.shape
    drawn = _draw(generator, count, seeds)
    times = (drawn[:, :, None] == np.arange(seeds)).mean(axis=1)
    by_item = times @ values
    return np.take_along_axis(by_item, _draw(generator, count, items), 1).mean(axis=1)


def _draw(generator: np.random.Generator, count: int, units: int) -> NDArray[np.int64]:
    return generator.integers(units, size=(count, max(1, units - 1)))


def _parts(rows: NDArray[np.int64], width: int) -> Iterator[NDArray[np.int64]]:
    """Divide the resamples so that the drawn items of a part fit into memory."""
    size = max(1, _ELEMENTS_AT_ONCE // width)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
