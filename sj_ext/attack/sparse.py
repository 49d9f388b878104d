"""Changes of a few values: projected gradient descent with an L0 budget."""

import math
from typing import Any

import torch

from sj_ext.attack.base import Attack, Watched, check_count, whole_budget
from sj_ext.attack.functional import project_l0
from sj_ext.registry import register


@register("attack", "sparse")
class SparsePGD(Attack):
    """Changes at most `budget` values of an input, by any amount within bounds.

    A step along the gradient, of unit L1 length times the range of values, then the
    nearest point with so few changes (Croce and Hein, arXiv 1909.05040).

    Args:
        steps: How many.
        step_size: Total change of a step in multiples of the range between bounds;
            None is the budget over 10, at least 1.
        random_start: Whether it starts from random values at random places.

    Raises:
        ValueError: If an argument is outside its range.
    """

    norm = "l0"

    def __init__(
        self,
        steps: int = 40,
        step_size: float | None = None,
        random_start: bool = True,
    ) -> None:
        check_count("steps", steps)
        if step_size is not None and not step_size > 0:
            raise ValueError(f"Expected `step_size` to be positive, got {step_size}.")
        self.steps = steps
        self.step_size = step_size
        self.random_start = random_start

    def run(self, model: Watched, budget: float, generator: torch.Generator) -> None:
        """Descend from one start.

        Args:
            model: Watched network.
            budget: How many values of a sample may change.
            generator: Of the start.

        Raises:
            ValueError: If the budget is no whole number, or bounds are infinite.
        """
        count = whole_budget(budget)
        x0 = model.clean
        low, high = model.bounds
        if not math.isfinite(high - low):
            raise ValueError(
                "Expected finite `bounds` where values may change by any amount, got "
                f"{model.bounds}."
            )
        length = self.step_size or max(1.0, count / 10)
        x = x0
        if self.random_start:
            drawn = torch.rand(x0.shape, generator=generator, dtype=x0.dtype).to(x0)
            # Places are drawn first: nearest points would prefer the largest changes.
            places = torch.rand(x0.shape, generator=generator, dtype=x0.dtype).to(x0)
            chosen = project_l0(places, torch.zeros_like(x0), count, (0.0, 1.0)) > 0
            x = torch.where(chosen, low + (high - low) * drawn, x0)
        for _ in range(self.steps):
            gradient = model.margin_gradient(x)
            size = gradient.abs().flatten(1).sum(1).clamp_min(1e-12)
            size = size.reshape(-1, *([1] * (x.ndim - 1)))
            step = length * (high - low) * gradient / size
            x = project_l0(x + step, x0, count, model.bounds)
        with torch.no_grad():
            model(x)

    def config(self) -> dict[str, Any]:
        """Give name and arguments."""
        return {"name": "sparse", **vars(self)}
