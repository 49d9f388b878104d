"""Insertion and deletion of single events, counts staying whole numbers."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from sj_ext.attack.base import Attack, Watched, check_count, whole_budget
from sj_ext.attack.functional import project_events
from sj_ext.registry import register

Moves = Literal["both", "insert", "delete"]


@register("attack", "events")
class EventAttack(Attack):
    """Inserts and deletes at most `budget` events of each recording.

    Greedy: in each step the single-event moves that the gradient of the margin says
    are worth most are made, and moves of earlier steps that it no longer favours, or
    that the budget has no room for, are undone. Every iterate is a recording: counts
    are whole numbers from the lower bound to the upper.

    Args:
        steps: How many; the budget is spent evenly over them, a move at least in each.
            Steps left when it is spent exchange moves.
        moves: Whether events are inserted, deleted, or both.
        random_start: Whether it starts with random moves, a step's share of them.

    Raises:
        ValueError: If an argument is outside its range.
    """

    norm = "events"

    def __init__(
        self, steps: int = 20, moves: Moves = "both", random_start: bool = True
    ) -> None:
        check_count("steps", steps)
        if moves not in ("both", "insert", "delete"):
            raise ValueError(
                f"Expected `moves` to be one of both, insert, delete, got {moves!r}."
            )
        self.steps = steps
        self.moves = moves
        self.random_start = random_start

    def run(self, model: Watched, budget: float, generator: torch.Generator) -> None:
        """Spend the budget once.

        Args:
            model: Watched network, of event counts.
            budget: Events inserted or deleted in a recording.
            generator: Of the start.
        """
        count = whole_budget(budget)
        x0 = checked_counts(model.clean)
        share = math.ceil(count / self.steps)
        x = x0
        if self.random_start and count:
            worth = torch.randn(x0.shape, generator=generator).to(x0)
            x = self._moved(x, x0, worth, model.bounds, share, share)
        for number in range(1, self.steps + 1):
            gradient = model.margin_gradient(x)
            room = min(count, (number + self.random_start) * share)
            x = self._moved(x, x0, gradient, model.bounds, share, room)
        with torch.no_grad():
            model(x)

    def _moved(
        self,
        x: Tensor,
        x0: Tensor,
        gradient: Tensor,
        bounds: tuple[float, float],
        moves: int,
        budget: int,
    ) -> Tensor:
        return moved(x, x0, gradient, bounds, moves, budget, self.moves)

    def config(self) -> dict[str, Any]:
        """Give name and arguments."""
        return {"name": "events", **vars(self)}


def moved(
    x: Tensor,
    x0: Tensor,
    worth: Tensor,
    bounds: tuple[float, float],
    moves: int,
    budget: int,
    kind: Moves = "both",
) -> Tensor:
    """Make the single-event moves that are worth most, and keep to the budget.

    Args:
        x: `[N, ...]`, whole numbers.
        x0: What they were before any move.
        worth: What one event more is worth at each place; one less is worth minus that.
        bounds: Smallest and largest count.
        moves: New moves in a recording.
        budget: Events that may differ from `x0`; moves of least worth are undone.
        kind: Which counts may differ from `x0`, and how.

    Returns:
        `[N, ...]`, whole numbers.
    """
    low, high = bounds
    least = x0 if kind == "insert" else torch.full_like(x0, low)
    most = x0 if kind == "delete" else torch.full_like(x0, high)
    direction = worth.sign()
    goes = (x + direction >= least) & (x + direction <= most)
    value = torch.where(goes, worth.abs(), 0.0).flatten(1)
    best = value.topk(min(moves, value.shape[1]), dim=1)
    step = torch.zeros_like(value).scatter(1, best.indices, (best.values > 0).to(value))
    x = x + direction * step.reshape(x.shape)
    return project_events(x, x0, worth * (x - x0).sign(), budget)


def checked_counts(x: Tensor) -> Tensor:
    """Refuse what are no event counts.

    Args:
        x: `[N, ...]`.

    Returns:
        The same.

    Raises:
        ValueError: If a value is no whole number.
    """
    if not bool((x == x.round()).all()):
        raise ValueError(
            "Expected event counts, whole numbers: normalise them by `mean` and `std` "
            "of `attackable`, got fractions."
        )
    return x
