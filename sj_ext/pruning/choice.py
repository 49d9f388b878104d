"""Which weights remain: pure functions of scores, exact to one weight.

Weights are ranked by index, never by a threshold: equal scores are decided by their
place in the network, the earlier one remaining.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Scope = Literal["global", "layer", "balanced"]
SCOPES: tuple[str, ...] = get_args(Scope)


class Bounds(NamedTuple):
    """How many weights of a layer may remain.

    Attributes:
        least: At least so many.
        most: At most so many.
    """

    least: int
    most: int


class Choice(NamedTuple):
    """Which weights remain.

    Attributes:
        masks: By layer, bool, of the shape of its scores.
        guarded: Layers that would have other numbers of weights without the bounds.
    """

    masks: dict[str, Tensor]
    guarded: tuple[str, ...]


def choose(
    scores: Mapping[str, Tensor],
    alive: Mapping[str, Tensor],
    remaining: int,
    scope: Scope = "global",
    bounds: Mapping[str, Bounds] | None = None,
) -> Choice:
    """Keep the `remaining` weights with the highest scores.

    Scopes say what is compared across layers:

        "global"    the scores as they are
        "layer"     the rank within the layer: each gives up the same share
        "balanced"  the score over the sum of those in its layer that are not smaller,
                    as layer-adaptive magnitude pruning has it with squared magnitudes
                    (Lee et al., arXiv 2010.07611): the best weight of a layer has 1,
                    so that none is emptied before the others

    Args:
        scores: By layer, of any shape; larger is kept rather.
        alive: By layer, bool: weights that have not been pruned before. Others are
            never chosen.
        remaining: How many weights to keep, over all layers.
        scope: What is compared across layers.
        bounds: Per layer; by default at least one weight remains in each.

    Returns:
        The masks.

    Raises:
        ValueError: If a score is NaN or infinite where a weight is alive, or the
            bounds leave no way to keep exactly `remaining`.
    """
    if scope not in SCOPES:
        raise ValueError(
            f"Expected `scope` to be one of {', '.join(SCOPES)}, got {scope!r}."
        )
    names = list(scores)
    compared, living = {}, {}
    for name in names:
        mask = alive[name].flatten().cpu()
        values = scores[name].detach().flatten().double().cpu()
        bad = mask & ~values.isfinite()
        if bool(bad.any()):
            raise ValueError(
                f"Expected finite scores, got {int(bad.sum())} NaN or infinite of "
                f"{name!r}."
            )
        living[name] = mask
        compared[name] = _comparable(values, mask, scope)
    limits = {
        name: _within((bounds or {}).get(name, Bounds(1, len(mask))), int(mask.sum()))
        for name, mask in living.items()
    }
    fewest = sum(bound.least for bound in limits.values())
    most = sum(bound.most for bound in limits.values())
    if not fewest <= remaining <= most:
        raise ValueError(
            f"Expected to keep from {fewest} to {most} weights, which is what the "
            f"limits of the layers and what is pruned already allow, got {remaining}."
        )
    kept = _highest(compared, living, limits, remaining)
    free = {name: Bounds(0, int(mask.sum())) for name, mask in living.items()}
    unguarded = _highest(compared, living, free, remaining)
    guarded = tuple(
        name for name in names if int(kept[name].sum()) != int(unguarded[name].sum())
    )
    masks = {
        name: kept[name].reshape(scores[name].shape).to(scores[name].device)
        for name in names
    }
    return Choice(masks, guarded)


def bounds_of(weights: int, minimum: float, maximum: float) -> Bounds:
    """Turn a smallest and a largest sparsity into numbers of weights.

    Args:
        weights: Of the layer.
        minimum: Share of them that must be pruned, in [0, 1].
        maximum: Share that may be; one weight remains even where it is 1.

    Returns:
        How many may remain.
    """
    # A share such as 0.9 of 10 weights must not turn into 0.9999... of them.
    least = math.ceil(round(weights * (1 - maximum), 6))
    most = math.floor(round(weights * (1 - minimum), 6))
    return Bounds(max(1, least), max(1, most))


def _within(bound: Bounds, alive: int) -> Bounds:
    return Bounds(min(bound.least, alive), min(bound.most, alive))


def _comparable(values: Tensor, alive: Tensor, scope: str) -> Tensor:
    if scope == "global":
        return values
    order = _descending(values, alive)
    found = torch.zeros_like(values)
    if scope == "layer":
        count = len(order)
        ranks = torch.arange(count, 0, -1, dtype=torch.float64)
        found[order] = (ranks - 0.5) / max(count, 1)
    else:
        ordered = values[order]
        sums = ordered.cumsum(0)
        found[order] = torch.where(sums > 0, ordered / sums, torch.zeros_like(sums))
    return found


def _descending(values: Tensor, alive: Tensor) -> Tensor:
    places = alive.nonzero().flatten()
    return places[values[places].argsort(descending=True, stable=True)]


def _highest(
    values: Mapping[str, Tensor],
    alive: Mapping[str, Tensor],
    bounds: Mapping[str, Bounds],
    remaining: int,
) -> dict[str, Tensor]:
    """Keep the least of each layer, then the highest of what may compete."""
    kept = {name: torch.zeros_like(mask) for name, mask in alive.items()}
    competing = []
    for name, bound in bounds.items():
        order = _descending(values[name], alive[name])
        kept[name][order[: bound.least]] = True
        # Back in the order of the network, by which equal scores are decided.
        competing.append(order[bound.least : bound.most].sort().values)
    left = remaining - sum(int(mask.sum()) for mask in kept.values())
    pool = torch.cat(
        [values[name][places] for name, places in zip(bounds, competing, strict=True)]
    )
    chosen = torch.zeros(len(pool), dtype=torch.bool)
    chosen[pool.argsort(descending=True, stable=True)[:left]] = True
    start = 0
    for name, places in zip(bounds, competing, strict=True):
        kept[name][places[chosen[start : start + len(places)]]] = True
        start += len(places)
    return kept
