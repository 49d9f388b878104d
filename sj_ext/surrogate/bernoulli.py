"""Random masks: the rule of masked surrogate gradients.

Y. Li et al., arXiv 2406.19645: ds/dx = max(0, a - a^2 |x|) * m, m ~ Bernoulli(1-p).
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from sj_ext.registry import register
from sj_ext.surrogate.functional import bernoulli_keep
from sj_ext.surrogate.rule import Bounded, MaskRule

_AXES = ("time", "batch", "space")


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
        shared: Axes along which one draw serves all: `"time"` (the steps of a
            sequence), `"batch"` (axis N) and `"space"`: in `[N, C, H, W]` all that
            follows the channels, each of which has its own draw. A surrogate that is
            called step by step keeps a draw shared over time until
            `functional.reset_net`, as the neuron keeps its potential; then each
            layer needs a `MaskedSurrogate` of its own.

    Raises:
        ValueError: If `p` is no number in [0, 1), or `shared` names another axis.
        TypeError: If `rescale` is no bool or `shared` no list of names.
    """

    p = Bounded("[0, 1)")

    def __init__(
        self, p: float = 0.5, rescale: bool = False, shared: Iterable[str] = ()
    ) -> None:
        self.p = p
        if not isinstance(rescale, bool):
            raise TypeError(f"Expected `rescale` to be a bool, got {rescale!r}.")
        self.rescale = rescale
        self._shared = _axes(shared)

    @property
    def shared(self) -> tuple[str, ...]:
        """The axes along which one draw serves all; fixed when the rule is made."""
        return self._shared

    @property
    def scale(self) -> float:
        """1 / (1 - p) with `rescale`, else 1."""
        return 1.0 / (1.0 - self.p) if self.rescale else 1.0

    @property
    def shared_over_time(self) -> bool:
        """Whether `shared` names the time."""
        return "time" in self._shared

    def multiplier(self, x: Tensor, sequence: bool = False) -> Tensor:
        """Draw a mask for `x`.

        Args:
            x: `[N, ...]`, or `[T, N, ...]`; only shape, device and layout matter.
            sequence: Whether `x` is a whole sequence.

        Returns:
            A bool tensor, true with probability 1 - p: of the shape and layout of
            `x`, with length 1 along every axis that shares its draw.
        """
        if self._shared:
            x = x.new_empty(self._shape(x, sequence))
        return bernoulli_keep(x, self.p)

    def _shape(self, x: Tensor, sequence: bool) -> list[int]:
        shape, n_axis = list(x.shape), int(sequence)
        if sequence and "time" in self._shared:
            shape[0] = 1
        if "batch" in self._shared:
            shape[n_axis : n_axis + 1] = [1]
        if "space" in self._shared:
            if len(shape) < n_axis + 3:
                expected = "[T, N, C, ...]" if sequence else "[N, C, ...]"
                raise ValueError(
                    f"Expected {expected} with axes of space to share a draw along, "
                    f"got shape {list(x.shape)}: take 'space' out of `shared` for "
                    "this layer."
                )
            shape[n_axis + 2 :] = [1] * (len(shape) - n_axis - 2)
        return shape

    def config(self) -> dict[str, Any]:
        """Give the JSON form.

        Returns:
            `{"name": "bernoulli", "p": ..., "rescale": ..., "shared": [...]}`.
        """
        return {
            "name": "bernoulli",
            "p": self.p,
            "rescale": self.rescale,
            "shared": list(self._shared),
        }


def _axes(shared: Iterable[str]) -> tuple[str, ...]:
    if isinstance(shared, str) or not isinstance(shared, Iterable):
        raise TypeError(f"Expected `shared` to be a list of names, got {shared!r}.")
    names = list(shared)
    unknown = [name for name in names if name not in _AXES]
    if unknown:
        raise ValueError(
            f"Expected `shared` to name axes among {', '.join(_AXES)}, got "
            f"{unknown[0]!r}."
        )
    return tuple(name for name in _AXES if name in names)
