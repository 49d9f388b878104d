"""Control: the scale of a random mask without its noise and without its zeros."""

from typing import Any

import torch
from torch import Tensor

from sj_ext.registry import register
from sj_ext.surrogate.rule import Bounded, MaskRule


@register("mask", "constant")
class ConstantMask(MaskRule):
    """Multiplies every surrogate derivative by the same number.

    With factor 1 - p the mean derivative is that of `BernoulliMask(p)`: what is left
    of an effect of that mask under this one is an effect of scale.

    Args:
        factor: The number, positive.

    Raises:
        ValueError: If `factor` is no positive finite number.
    """

    factor = Bounded("(0, inf)")

    def __init__(self, factor: float = 0.5) -> None:
        self.factor = factor

    @property
    def scale(self) -> float:
        """The factor."""
        return self.factor

    def multiplier(self, x: Tensor, sequence: bool = False) -> Tensor:
        """Keep everything; the factor is the rule's `scale`.

        Args:
            x: A tensor of any shape; only its device matters.
            sequence: Makes no difference.

        Returns:
            A single true, which broadcasts to any shape.
        """
        return torch.ones((), dtype=torch.bool, device=x.device)

    def config(self) -> dict[str, Any]:
        """Give the JSON form.

        Returns:
            `{"name": "constant", "factor": ...}`.
        """
        return {"name": "constant", "factor": self.factor}
