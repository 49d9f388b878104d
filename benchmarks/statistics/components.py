"""How much of a variation is a level's own: of splits, in them of seeds and of items.

A level's means vary by themselves, and by what varies in the levels below: means of
seeds hold a share of the noise, means of splits hold all that varies in a split. To
draw at every level without counting that twice, deviations are first scaled to the
level's own variance (reflated: Carpenter, Goldstein and Rasbash, Applied Statistics 52,
2003).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics.bootstrap import Groups


@dataclass(frozen=True)
class Level:
    """Variance of a split's mean that the means of one level give, over all splits.

    Attributes:
        variance: Mean over splits, what varies below included.
        own: The share of it that is the level's, in [0, 1].
        degrees_of_freedom: Of the variance.
    """

    variance: float
    own: float
    degrees_of_freedom: int


@dataclass(frozen=True)
class Components:
    """Where the variation of an experiment's mean is from.

    Attributes:
        splits: Variance of the splits' means; zero of one split.
        seeds: Of their seeds' means.
        items: Of their items' means.
        cells: Of what neither seeds nor items explain.
    """

    splits: Level
    seeds: Level
    items: Level
    cells: Level

    @property
    def degrees_of_freedom(self) -> float:
        """Effective ones of the mean's standard error; infinite where nothing varies.

        Those of the splits where they differ by more than what varies in them
        explains; else those of all levels, weighed by their variances after
        Satterthwaite (Biometrics Bulletin 2, 1946).
        """
        if self.splits.own > 0:
            return self.splits.degrees_of_freedom
        seeds, items, cells = self.seeds, self.items, self.cells
        parts = [one for one in (seeds, items) if one.own > 0]
        parts += [one for one in (self.splits, cells) if one.degrees_of_freedom > 0]
        below = sum(p.variance**2 / p.degrees_of_freedom for p in parts)
        total = self.splits.variance + _within(seeds, items, cells)
        return total**2 / below if below else math.inf


def components(groups: Groups) -> Components:
    """Divide the variation by level: analysis of variance, negative parts set to zero.

    Args:
        groups: One array a split, `[seeds, items]`, float64.

    Returns:
        The variance at each level. A level of one unit has none.
    """
    K = len(groups)
    found = {"seeds": 0.0, "items": 0.0, "cells": 0.0}
    df = {"seeds": 0, "items": 0, "cells": 0}
    for values in groups:
        seeds, items, cells = _effects(values)
        S, N = values.shape
        for level, effects, free in (
            ("seeds", seeds, S - 1),
            ("items", items, N - 1),
            ("cells", cells, (S - 1) * (N - 1)),
        ):
            if free:
                squares = float((effects**2).sum()) / free
                found[level] += squares / effects.size / K
                df[level] += free
    of_cells = Level(found["cells"], 1.0, df["cells"])
    of_seeds, of_items = (
        Level(found[level], _own(found[level], of_cells.variance), df[level])
        for level in ("seeds", "items")
    )
    between = float(np.var([v.mean() for v in groups], ddof=1)) if K > 1 else 0.0
    own = _own(between, _within(of_seeds, of_items, of_cells))
    return Components(Level(between, own, K - 1), of_seeds, of_items, of_cells)


def reflated(groups: Groups) -> list[NDArray[np.float64]]:
    """Scale what varies at each level to the level's own variance.

    Resampling the result, one unit fewer than a level has, gives the mean the variance
    that the analysis of variance estimates: that of the splits' means over K, or, where
    they differ by less than their seeds, items and noise explain, that of these.

    Args:
        groups: One array a split, `[seeds, items]`, float64.

    Returns:
        Arrays of the same shapes and the same mean over splits.
    """
    K = len(groups)
    found = components(groups)
    mean = float(np.mean([values.mean() for values in groups]))
    # Of K splits K - 1 are drawn, and what varies in them is averaged over those only.
    within = math.sqrt((K - 1) / K) if K > 1 else 1.0
    scaled = []
    for values in groups:
        seeds, items, cells = _effects(values)
        inner = (
            math.sqrt(found.seeds.own) * seeds
            + math.sqrt(found.items.own) * items
            + cells
        )
        outer = math.sqrt(found.splits.own) * (values.mean() - mean)
        scaled.append(mean + outer + within * inner)
    return scaled


def _effects(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give deviations `[S, 1]` of seeds, `[1, I]` of items, `[S, I]` of neither."""
    seeds = values.mean(axis=1, keepdims=True) - values.mean()
    items = values.mean(axis=0, keepdims=True) - values.mean()
    return seeds, items, values - values.mean() - seeds - items


def _own(variance: float, below: float) -> float:
    return max(0.0, 1 - below / variance) if variance > 0 else 0.0


def _within(seeds: Level, items: Level, cells: Level) -> float:
    return seeds.own * seeds.variance + items.own * items.variance + cells.variance
