"""How sparse single layers may become, and must."""

from collections.abc import Mapping
from typing import NamedTuple

from sj_ext.pruning.choice import Bounds, bounds_of


class Limits(NamedTuple):
    """How sparse a layer may become, and must.

    Attributes:
        minimum: Share of its weights pruned at the end of the search, in [0, 1];
            earlier rounds ask for it in proportion to the sparsity of the whole.
        maximum: Share that is never exceeded, in [0, 1]. Whatever it is, one weight
            remains.
    """

    minimum: float = 0.0
    maximum: float = 1.0


def limits_of(
    limits: Limits | Mapping[str, Limits] | None, sizes: Mapping[str, int]
) -> dict[str, Limits]:
    """Give every layer its limits.

    Args:
        limits: Of all layers, or by name; None for none.
        sizes: Numbers of weights by layer.

    Returns:
        By layer.

    Raises:
        ValueError: If a name is unknown or a limit outside its range.
    """
    given = limits if isinstance(limits, Mapping) else {}
    unknown = sorted(set(given) - set(sizes))
    if unknown:
        raise ValueError(
            f"Expected `limits` of layers among {', '.join(sizes)}, got "
            f"{', '.join(unknown)}."
        )
    default = limits if isinstance(limits, Limits) else Limits()
    found = {name: given.get(name, default) for name in sizes}
    for name, one in found.items():
        if not 0 <= one.minimum <= one.maximum <= 1:
            raise ValueError(
                "Expected `limits` with 0 <= minimum <= maximum <= 1, got "
                f"{tuple(one)} for {name!r}."
            )
    return found


def bounds_at(
    limits: Mapping[str, Limits], sizes: Mapping[str, int], remaining: int, last: int
) -> dict[str, Bounds]:
    """Turn limits into numbers of weights that may remain after one round.

    Args:
        limits: By layer.
        sizes: Numbers of weights by layer.
        remaining: Over all layers, after this round.
        last: Over all layers, after the last.

    Returns:
        By layer.
    """
    total = sum(sizes.values())
    progress = (total - remaining) / (total - last)
    return {
        name: bounds_of(sizes[name], one.minimum * progress, one.maximum)
        for name, one in limits.items()
    }
