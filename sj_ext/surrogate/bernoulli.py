"""Independent random masks: the rule of masked surrogate gradients.

Y. Li et al., arXiv 2406.19645: ds/dx = max(0, a - a^2 |x|) * m, m ~ Bernoulli(1-p).
"""

from typing import Any

from torch import Tensor

from sj_ext.registry import register
from sj_ext.surrogate.functional import bernoulli_keep
from sj_ext.surrogate.rule import MaskRule


@register("mask", "bernoulli")
class BernoulliMask(MaskRule):
    """Drops each surrogate derivative with probability `p`, independently.

    Every sample, neuron, layer, time step and forward pass has a draw of its own,
    from torch's generator on the device: `torch.manual_seed` reproduces a run.

    Args:
        p: Probability of being dropped, in [0, 1). The paper's default is 0.5.
        rescale: Divide what is kept by 1 - p, so that the mean of the derivative is
            that of the base. The paper does not: there it shrinks by 1 - p at each
            layer that a gradient passes.

    Raises:
        ValueError: If `p` is no number in [0, 1).
    """

    def __init__(self, p: float = 0.5, rescale: bool = False) -> None:
        is_number = isinstance(p, (int, float)) and not isinstance(p, bool)
        if not is_number or not 0.0 <= p < 1.0:
            raise ValueError(f"Expected `p` in [0, 1), got {p!r}.")
        if not isinstance(rescale, bool):
            raise TypeError(f"Expected `rescale` to be a bool, got {rescale!r}.")
        self.p = float(p)
        self.rescale = rescale

    @property
    def scale(self) -> float:
        """1 / (1 - p) with `rescale`, else 1."""
        return 1.0 / (1.0 - self.p) if self.rescale else 1.0

    def keep(self, x: Tensor) -> Tensor:
        """Draw a mask for `x`.

        Args:
            x: A tensor of any shape; only its shape, device and layout matter.

        Returns:
            A bool tensor of the shape of `x`, true with probability 1 - p.
        """
        return bernoulli_keep(x, self.p)

    def config(self) -> dict[str, Any]:
        """Give the JSON form.

        Returns:
            `{"name": "bernoulli", "p": ..., "rescale": ...}`.
        """
        return {"name": "bernoulli", "p": self.p, "rescale": self.rescale}
