"""Search without gradients: what it finds, an attack with good gradients finds too."""

from typing import Any, Literal

import torch
from torch import Tensor

from sj_ext.attack.base import Attack, Watched, check_count, check_norm, whole_budget
from sj_ext.attack.events import checked_counts, moved
from sj_ext.attack.functional import margin, project_events
from sj_ext.registry import register


@register("attack", "random_search")
class RandomSearch(Attack):
    """Proposes random changes and keeps those that lower the margin.

    It asks for logits only. Where it beats a gradient attack of the same budget, the
    gradients are misleading: the defence masks them. For `"linf"` a proposal sets a
    random box of the input, over time and space, to one corner of the ball (after the
    Square attack, Andriushchenko et al., arXiv 1912.00049); for `"events"` it moves
    random events. Boxes and moves grow fewer as the search goes on.

    Args:
        norm: `"linf"` or `"events"`.
        queries: Calls of the network.
        share: Of the input, or of the budget, that the first proposals change.

    Raises:
        ValueError: If an argument is outside its range.
    """

    uses_gradients = False

    def __init__(
        self,
        norm: Literal["linf", "events"] = "linf",
        queries: int = 200,
        share: float = 0.2,
    ) -> None:
        check_norm(norm, ("linf", "events"))
        check_count("queries", queries)
        if not 0 < share <= 1:
            raise ValueError(f"Expected `share` in (0, 1], got {share}.")
        self.norm = norm
        self.queries = queries
        self.share = share

    @torch.no_grad()
    def run(self, model: Watched, budget: float, generator: torch.Generator) -> None:
        """Search from one random start.

        Args:
            model: Watched network.
            budget: Radius of the ball, or number of events.
            generator: Of start and proposals.
        """
        x0 = model.clean
        if self.norm == "events":
            checked_counts(x0)
        x = self._start(x0, budget, model.bounds, generator)
        best = margin(model(x), model.target)
        for query in range(1, self.queries):
            share = self.share * 0.5 ** (6 * query / self.queries)
            new = self._proposed(x, x0, budget, share, model.bounds, generator)
            found = margin(model(new), model.target)
            better = found < best
            best = torch.where(better, found, best)
            x = torch.where(better.reshape(-1, *([1] * (x.ndim - 1))), new, x)

    def _start(
        self,
        x0: Tensor,
        budget: float,
        bounds: tuple[float, float],
        generator: torch.Generator,
    ) -> Tensor:
        if self.norm == "events":
            count = whole_budget(budget)
            worth = torch.randn(x0.shape, generator=generator).to(x0)
            return moved(x0, x0, worth, bounds, count, count)
        return (x0 + budget * _signs(x0, x0.shape, generator)).clamp(*bounds)

    def _proposed(
        self,
        x: Tensor,
        x0: Tensor,
        budget: float,
        share: float,
        bounds: tuple[float, float],
        generator: torch.Generator,
    ) -> Tensor:
        if self.norm == "events":
            count = whole_budget(budget)
            moves = min(count, max(1, round(share * count)))
            # Random ones of the former moves make room for the new ones.
            luck = torch.rand(x.shape, generator=generator).to(x)
            kept = project_events(x, x0, luck, count - moves)
            worth = torch.randn(x.shape, generator=generator).to(x)
            return moved(kept, kept, worth, bounds, moves, moves)
        box = _box(x, share, generator)
        channels = x.shape[-3] if x.ndim >= 4 else 1
        one_each = (len(x), *([1] * max(0, x.ndim - 4)), channels, 1, 1)
        signs = _signs(x, one_each if x.ndim >= 4 else (len(x), 1), generator)
        signs = signs.reshape(one_each if x.ndim >= 4 else (-1, *([1] * (x.ndim - 1))))
        return torch.where(box, x0 + budget * signs, x).clamp(*bounds)

    def config(self) -> dict[str, Any]:
        """Give name and arguments."""
        return {"name": "random_search", **vars(self)}


def _signs(like: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(2, shape, generator=generator).to(like) - 1.0


def _box(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Choose a box in each sample, of `share` of its values, all channels in it."""
    inside = torch.ones_like(x, dtype=torch.bool)
    channel = x.ndim - 3 if x.ndim >= 4 else None
    axes = [axis for axis in range(1, x.ndim) if axis != channel]
    for axis in axes:
        size = x.shape[axis]
        length = min(size, max(1, round(size * share ** (1 / len(axes)))))
        first = torch.randint(size - length + 1, (len(x), 1), generator=generator)
        place = torch.arange(size)
        within = (place >= first) & (place < first + length)
        shape = [len(x) if a == 0 else size if a == axis else 1 for a in range(x.ndim)]
        inside &= within.reshape(shape).to(x.device)
    return inside
