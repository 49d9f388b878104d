"""In each sample and step, the fixed share of derivatives nearest to spiking."""

from typing import Any

from torch import Tensor

from sj_ext.registry import register
from sj_ext.surrogate.functional import smallest_keep
from sj_ext.surrogate.rule import Bounded, MaskRule


@register("mask", "top_k")
class TopKMask(MaskRule):
    """Keeps, per sample and step, the share `density` with the smallest |x|.

    For a base whose derivative falls with |x|, as all of the host's common ones do,
    these are the largest derivatives. Of n elements round(density * n) are kept,
    exactly (halves to even, so possibly none of very few); among equal |x| those that
    come first in index order.

    Args:
        density: Share that is kept, in (0, 1].

    Raises:
        ValueError: If `density` is no number in (0, 1].
    """

    density = Bounded("(0, 1]")

    def __init__(self, density: float = 0.5) -> None:
        self.density = density

    def multiplier(self, x: Tensor, sequence: bool = False) -> Tensor:
        """Choose the smallest |x| of each sample and step.

        Args:
            x: `[N, ...]`, or `[T, N, ...]`.
            sequence: Whether `x` is a whole sequence.

        Returns:
            A bool tensor of the shape and layout of `x`.

        Raises:
            ValueError: If `x` has no axis besides those of time and samples.
        """
        rows = 2 if sequence else 1
        if x.ndim <= rows:
            expected = "[T, N, ...]" if sequence else "[N, ...]"
            raise ValueError(
                f"Expected {expected} with several neurons a sample, got shape "
                f"{list(x.shape)}."
            )
        return smallest_keep(x, self.density, rows)

    def config(self) -> dict[str, Any]:
        """Give the JSON form.

        Returns:
            `{"name": "top_k", "density": ...}`.
        """
        return {"name": "top_k", "density": self.density}
