"""A readout that trusts each time step by how often it was right in training.

Y. Li et al., arXiv 2406.19645: the temporally weighted output (TWO).
"""

from typing import Literal

import torch
import torch.distributed
from torch import Tensor

from sj_ext.processes import is_distributed
from sj_ext.readout.functional import (
    check_logits,
    check_target,
    correct_per_prefix,
    correct_per_step,
    weighted_mean_over_time,
)
from sj_ext.readout.readout import Readout
from sj_ext.registry import register

_COUNTS = {"step": correct_per_step, "prefix": correct_per_prefix}


@register("readout", "temporally_weighted")
class TemporallyWeightedOutput(Readout):
    """Weighted mean over time, the weights following each step's accuracy.

    With a_t the training accuracy of step t over an epoch,

        new_t = a_t / mean_t(a_t)
        w_t  <- momentum * w_t + (1 - momentum) * new_t
        output = mean_t(w_t * o_t)

    used alike in the training loss and in evaluation. The mean of w is 1 at all times.
    Weights move between epochs only, for the first time before epoch `start_epoch`
    (counted from 0), on the accuracies of the epoch before. Should no step have been
    right once, or nothing have been counted, they stay.

        for epoch in range(epochs):
            head.train()
            for x, target in loader:
                logits = net(x)                                      # [T, N, K]
                head.update(logits, target)
                loss = cross_entropy(head(logits), target)
                ...
            validate(net, head.eval())
            head.end_epoch()

    All state is in buffers, the counts of an unfinished epoch too: a resumed run goes
    on exactly. Counts are summed over processes of `torch.distributed` at each update,
    so every process holds the same weights and counts.

    Args:
        T: Number of time steps.
        momentum: Share of the former weights kept at an update, in [0, 1).
        start_epoch: First epoch, counted from 0, that runs with moved weights; at
            least 1. The released code uses 6.
        accuracy_of: Whether a_t is the accuracy of step t alone (`"step"`, as in the
            paper) or of all steps up to t (`"prefix"`).

    Attributes:
        weight: `[T]`, float32, of mean 1.
        correct: `[T]`, int64: samples of this epoch that were classified rightly.
        seen: int64 scalar: samples of this epoch.
        epoch: int64 scalar: epochs that have ended.

    Raises:
        ValueError: If an argument is outside its range.
    """

    weight: Tensor
    correct: Tensor
    seen: Tensor
    epoch: Tensor

    def __init__(
        self,
        T: int,
        momentum: float = 0.7,
        start_epoch: int = 6,
        accuracy_of: Literal["step", "prefix"] = "step",
    ) -> None:
        super().__init__(T)
        if not isinstance(momentum, (int, float)) or not 0.0 <= momentum < 1.0:
            raise ValueError(f"Expected `momentum` in [0, 1), got {momentum!r}.")
        whole = isinstance(start_epoch, int) and not isinstance(start_epoch, bool)
        if not whole or start_epoch < 1:
            raise ValueError(
                "Expected `start_epoch` to be an integer of at least 1, since weights "
                f"follow the accuracies of an epoch before, got {start_epoch!r}."
            )
        if accuracy_of not in _COUNTS:
            raise ValueError(
                f"Expected `accuracy_of` to be one of {', '.join(_COUNTS)}, got "
                f"{accuracy_of!r}."
            )
        self.momentum = float(momentum)
        self.start_epoch = start_epoch
        self.accuracy_of = accuracy_of
        self.register_buffer("weight", torch.ones(T))
        self.register_buffer("correct", torch.zeros(T, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def forward(self, logits: Tensor) -> Tensor:
        """Aggregate over time with the present weights.

        Args:
            logits: `[T, N, K]`, raw outputs of the last layer.

        Returns:
            `[N, K]`, mean_t(w_t o_t).
        """
        check_logits(logits, self.T)
        return weighted_mean_over_time(logits, self.weight)

    @torch.no_grad()
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count the right answers of each step in a training batch.

        In eval mode nothing is counted, as batch norm keeps its statistics there, so
        that validation data cannot leak into the weights.

        Args:
            logits: `[T, N, K]`, as given to `forward`.
            target: `[N]`, class indices.
        """
        check_logits(logits, self.T)
        check_target(target, logits)
        if not self.training:
            return
        correct = _COUNTS[self.accuracy_of](logits, target)
        counts = torch.cat([correct, correct.new_tensor([len(target)])])
        if is_distributed():
            torch.distributed.all_reduce(counts)
        self.correct += counts[:-1].to(self.correct.device)
        self.seen += counts[-1].to(self.seen.device)

    def accuracy(self) -> Tensor:
        """Give the accuracies counted so far in this epoch.

        Returns:
            `[T]`, float64; NaN where nothing has been counted.
        """
        return self.correct.double() / self.seen

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Close the epoch: move the weights if it is time, and count afresh.

        To be called after validation: the epoch's validation still uses the weights
        that it was trained with.
        """
        self.epoch += 1
        if self.epoch >= self.start_epoch and self.correct.any():
            # The number of samples cancels in a_t / mean(a_t).
            share = self.correct.double() / self.correct.double().mean()
            moved = self.momentum * self.weight.double() + (1 - self.momentum) * share
            self.weight.copy_(moved / moved.mean())
        self.correct.zero_()
        self.seen.zero_()

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"T={self.T}, momentum={self.momentum}, start_epoch={self.start_epoch}, "
            f"accuracy_of={self.accuracy_of!r}"
        )
