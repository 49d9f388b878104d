"""Backpropagation near the threshold only, as in sparse spiking gradient descent.

N. Perez-Nieves and D. Goodman, NeurIPS 2021: |x| below 0.2 is kept.
"""

from typing import Any

from torch import Tensor

from sj_ext.registry import register
from sj_ext.surrogate.rule import Bounded, MaskRule


@register("mask", "window")
class WindowMask(MaskRule):
    """Keeps the surrogate derivatives where |x| < half_width.

    The share that this keeps depends on the layer: `calibrate_window` chooses the
    width for a density.

    Args:
        half_width: Largest distance from the threshold, exclusive, in units of the
            potential.

    Raises:
        ValueError: If `half_width` is no positive finite number.
    """

    half_width = Bounded("(0, inf)")

    def __init__(self, half_width: float = 0.2) -> None:
        self.half_width = half_width

    def multiplier(self, x: Tensor, sequence: bool = False) -> Tensor:
        """Compare with the width.

        Args:
            x: Potential minus threshold, of any shape.
            sequence: Makes no difference.

        Returns:
            A bool tensor of the shape of `x`.
        """
        return x.detach().abs() < self.half_width

    def config(self) -> dict[str, Any]:
        """Give the JSON form.

        Returns:
            `{"name": "window", "half_width": ...}`.
        """
        return {"name": "window", "half_width": self.half_width}
