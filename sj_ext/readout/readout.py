"""What turns the logits of all time steps into one set, and the plainest way."""

from abc import abstractmethod

from torch import Tensor, nn

from sj_ext.readout.functional import check_logits
from sj_ext.registry import register


class Readout(nn.Module):
    """Aggregates per-step logits `[T, N, K]` to `[N, K]`.

    A training loop treats all readouts alike: `forward` for each batch, `update`
    after it, `end_epoch` after the epoch's validation. The last two do nothing in a
    readout that does not adapt.

    Args:
        T: Number of time steps.

    Raises:
        ValueError: If `T` is no positive integer.
    """

    def __init__(self, T: int) -> None:
        super().__init__()
        if not isinstance(T, int) or isinstance(T, bool) or T < 1:
            raise ValueError(f"Expected `T` to be a positive integer, got {T!r}.")
        self.T = T

    @abstractmethod
    def forward(self, logits: Tensor) -> Tensor:
        """Aggregate over time.

        Args:
            logits: `[T, N, K]`, the outputs of a layer that does not spike.

        Returns:
            `[N, K]`.
        """
        raise NotImplementedError

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Take note of a training batch.

        Args:
            logits: `[T, N, K]`.
            target: `[N]`, class indices.
        """

    def end_epoch(self) -> None:
        """Adapt to the epoch that ends, after its validation."""

    def extra_repr(self) -> str:
        """Show the number of steps."""
        return f"T={self.T}"


@register("readout", "rate")
class RateReadout(Readout):
    """The mean over time: every step counts alike.

    Args:
        T: Number of time steps.
    """

    def forward(self, logits: Tensor) -> Tensor:
        """Average over time.

        Args:
            logits: `[T, N, K]`.

        Returns:
            `[N, K]`.
        """
        check_logits(logits, self.T)
        return logits.mean(0)
