"""What turns the logits of all time steps into one set, and the plainest way."""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from sj_ext.readout.functional import check_logits, mean_over_prefixes
from sj_ext.registry import register


class Readout(nn.Module):
    """Aggregates per-step logits `[t, N, K]`, t at most T, to `[N, K]`.

    A training loop treats all readouts alike: `forward` for each batch, `update`
    after it, `end_epoch` after the epoch's validation. The last two do nothing in a
    readout that does not adapt.

    Args:
        T: Number of time steps that it is built for. Logits of the first t <= T of
            them are read out as well.

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
            logits: `[t, N, K]`, the outputs of a layer that does not spike, of the
                first t steps.

        Returns:
            `[N, K]`.
        """
        raise NotImplementedError

    def prefixes(self, logits: Tensor) -> Tensor:
        """Aggregate over every prefix: what would be read out had time ended there.

        Args:
            logits: `[t, N, K]`.

        Returns:
            `[t, N, K]`; entry s is `forward(logits[: s + 1])`.
        """
        check_logits(logits, self.T)
        return torch.stack([self(logits[: s + 1]) for s in range(len(logits))])

    def shares(self, t: int) -> Tensor:
        """Give the share of each of the first t steps in what is read out of them.

        Args:
            t: From 1 to T.

        Returns:
            `[t]`, float64, of sum 1: the output is sum_s(share_s o_s).

        Raises:
            TypeError: If the output is no weighted mean over time.
        """
        raise TypeError(
            "Expected `readout` to be a weighted mean over time, got "
            f"{type(self).__name__}, whose output has no weights."
        )

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Take note of a batch.

        Args:
            logits: `[t, N, K]`.
            target: `[N]`, class indices, or `[N, K]`, probabilities.
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
            logits: `[t, N, K]`.

        Returns:
            `[N, K]`.
        """
        check_logits(logits, self.T)
        return logits.mean(0)

    def prefixes(self, logits: Tensor) -> Tensor:
        """Average over every prefix.

        Args:
            logits: `[t, N, K]`.

        Returns:
            `[t, N, K]`; entry s is `forward(logits[: s + 1])`.
        """
        check_logits(logits, self.T)
        return mean_over_prefixes(logits)

    def shares(self, t: int) -> Tensor:
        """Give each of the first t steps the same share.

        Args:
            t: From 1 to T.

        Returns:
            `[t]`, float64.
        """
        return torch.full((t,), 1 / t, dtype=torch.float64)


@register("readout", "last")
class LastStepReadout(Readout):
    """The last step alone: for an output layer that integrates by itself.

    Args:
        T: Number of time steps. Of t < T steps it is step t.
    """

    def forward(self, logits: Tensor) -> Tensor:
        """Pick the last step.

        Args:
            logits: `[t, N, K]`.

        Returns:
            `[N, K]`.
        """
        check_logits(logits, self.T)
        return logits[-1]

    def prefixes(self, logits: Tensor) -> Tensor:
        """Pick the last step of every prefix: the logits as they are.

        Args:
            logits: `[t, N, K]`.

        Returns:
            `[t, N, K]`.
        """
        check_logits(logits, self.T)
        return logits

    def shares(self, t: int) -> Tensor:
        """Give all to step t.

        Args:
            t: From 1 to T.

        Returns:
            `[t]`, float64.
        """
        share = torch.zeros(t, dtype=torch.float64)
        share[-1] = 1
        return share


@register("readout", "max")
class MaxMembraneReadout(Readout):
    """The largest value over time of each class: of an output layer's membrane.

    It is no weighted mean, so analyses that take prefixes apart into steps, such as
    `sj_ext.fisher`, refuse it. The derivative goes to the step that held the maximum,
    in equal parts where several did.

    Args:
        T: Number of time steps.
    """

    def forward(self, logits: Tensor) -> Tensor:
        """Take the maximum over time.

        Args:
            logits: `[t, N, K]`.

        Returns:
            `[N, K]`.
        """
        check_logits(logits, self.T)
        return logits.amax(0)
