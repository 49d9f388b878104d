"""Control: the mean and the variance of a random mask without its zeros."""

from typing import Any, ClassVar

from torch import Tensor

from sj_ext.registry import register
from sj_ext.surrogate.functional import positive_noise
from sj_ext.surrogate.rule import MaskRule, bounded


@register("mask", "noise")
class NoiseMask(MaskRule):
    """Multiplies each surrogate derivative by independent positive noise.

    The noise is log-normal, which takes any mean and variance, is dense and never
    zero. Made from `p` it has the first two moments of a Bernoulli(1-p) mask, mean
    1 - p and variance p (1 - p): what is left of an effect of that mask under this
    one is an effect of scale and noise, not of sparsity. The control of a rescaled
    mask is mean 1, variance p / (1 - p).

    Args:
        p: Dropping probability of the mask to match, in [0, 1); 0.5 where nothing is
            given.
        mean: Mean of the noise, positive, in place of `p`.
        variance: Its variance, not negative, with `mean`.

    Raises:
        ValueError: If one is out of range, `p` comes with another, or `mean` and
            `variance` do not come together.
    """

    binary: ClassVar[bool] = False

    def __init__(
        self,
        p: float | None = None,
        mean: float | None = None,
        variance: float | None = None,
    ) -> None:
        if (mean is None) != (variance is None) or (p is not None and mean is not None):
            raise ValueError(
                "Expected either `p` or `mean` and `variance`, got "
                f"p={p!r}, mean={mean!r}, variance={variance!r}."
            )
        self._p: float | None = None
        if mean is None:
            self.p = 0.5 if p is None else p
        else:
            self._mean = bounded("mean", mean, "(0, inf)")
            self._variance = bounded("variance", variance, "[0, inf)")

    @property
    def p(self) -> float | None:
        """Probability of the mask that is matched, None without one; can be set."""
        return self._p

    @p.setter
    def p(self, value: float) -> None:
        p = bounded("p", value, "[0, 1)")
        self._p, self._mean, self._variance = p, 1.0 - p, p * (1.0 - p)

    @property
    def mean(self) -> float:
        """Mean of the noise; set, it keeps the variance and no longer follows p."""
        return self._mean

    @mean.setter
    def mean(self, value: float) -> None:
        self._p, self._mean = None, bounded("mean", value, "(0, inf)")

    @property
    def variance(self) -> float:
        """Variance of the noise; set, it keeps the mean and no longer follows p."""
        return self._variance

    @variance.setter
    def variance(self, value: float) -> None:
        self._p, self._variance = None, bounded("variance", value, "[0, inf)")

    def multiplier(self, x: Tensor, sequence: bool = False) -> Tensor:
        """Draw the noise for `x`.

        Args:
            x: A tensor of any shape; only shape, device, layout and precision matter.
            sequence: Makes no difference: each element has its own draw.

        Returns:
            A tensor of the shape of `x`, in float64 where `x` is and in float32
            elsewhere, so that half precision cannot round it to zero.
        """
        return positive_noise(x, self.mean, self.variance)

    def config(self) -> dict[str, Any]:
        """Give the JSON form.

        Returns:
            `{"name": "noise", "p": ...}`, or mean and variance in place of p.
        """
        if self._p is not None:
            return {"name": "noise", "p": self._p}
        return {"name": "noise", "mean": self.mean, "variance": self.variance}
