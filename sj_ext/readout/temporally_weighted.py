"""A readout that trusts each time step by how often it was right.

Y. Li et al., arXiv 2406.19645: the temporally weighted output (TWO).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed
from torch import Tensor

from sj_ext.processes import is_distributed
from sj_ext.readout.functional import (
    check_logits,
    check_soft_target,
    check_target,
    correct_per_prefix,
    correct_per_step,
    is_soft,
    mean_over_prefixes,
    weighted_mean_over_time,
)
from sj_ext.readout.readout import Readout
from sj_ext.registry import register

_COUNTS = {"step": correct_per_step, "prefix": correct_per_prefix}
_LEAST_WEIGHT = 1e-12
"""A step that is never right keeps this much, so that a prefix of such steps, whose
weights are divided by their sum, has an output."""

_CHOICES = {
    "accuracy_of": tuple(_COUNTS),
    "accuracy_from": ("train", "heldout"),
    "soft_targets": ("argmax", "skip"),
}


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

    Logits of the first t < T steps are read out with the weights of these steps, scaled
    to a mean of 1 over them. Counted, they are samples of these steps alone: a_t is the
    accuracy over the samples that step t has seen. A step that has seen none in an
    epoch keeps its weight, and the others share what they had together.

    As every step nears 100%, w nears 1 and the readout the plain mean: see `deviation`.
    `with head.unweighted():` reads out as if all weights were 1.

    All state is in buffers, the counts of an unfinished epoch too: a resumed run goes
    on exactly. Counts are summed over processes of `torch.distributed` at each update,
    so every process holds the same weights and counts; all must call `update` alike.

    Args:
        T: Number of time steps.
        momentum: Share of the former weights kept at an update, in [0, 1).
        start_epoch: First epoch, counted from 0, that runs with moved weights; at
            least 1. The released code uses 6.
        accuracy_of: Whether a_t is the accuracy of step t alone (`"step"`, as in the
            paper) or of all steps up to t (`"prefix"`).
        accuracy_from: Which batches `update` counts: those that come while the head
            is in training mode (`"train"`, as in the paper), or those that come in
            evaluation mode (`"heldout"`), of a split that is not trained on. The other
            ones it checks and leaves out. Weights that follow the split that an epoch
            is selected on make its accuracy there a little too good.
        soft_targets: What to do with targets that are probabilities, as of mixup and
            CutMix: count the most probable class as the right one (`"argmax"`; of
            equals the first), or leave such batches out (`"skip"`).

    Attributes:
        weight: `[T]`, float32, of mean 1.
        correct: `[T]`, int64: samples of this epoch that were classified rightly.
        seen: `[T]`, int64: samples of this epoch. State dicts of old, where it is one
            number for all steps, are read as well.
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
        accuracy_from: Literal["train", "heldout"] = "train",
        soft_targets: Literal["argmax", "skip"] = "argmax",
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
        chosen = (accuracy_of, accuracy_from, soft_targets)
        for (argument, known), value in zip(_CHOICES.items(), chosen, strict=True):
            if value not in known:
                raise ValueError(
                    f"Expected `{argument}` to be one of {', '.join(known)}, got "
                    f"{value!r}."
                )
        self.momentum = float(momentum)
        self.start_epoch = start_epoch
        self.accuracy_of = accuracy_of
        self.accuracy_from = accuracy_from
        self.soft_targets = soft_targets
        self._weighted = True
        self.register_buffer("weight", torch.ones(T))
        self.register_buffer("correct", torch.zeros(T, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(T, dtype=torch.int64))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def forward(self, logits: Tensor) -> Tensor:
        """Aggregate over time with the present weights.

        Args:
            logits: `[t, N, K]`, raw outputs of the last layer in the first t steps.

        Returns:
            `[N, K]`, mean_t(w_t o_t), the mean of w over these steps being 1.
        """
        check_logits(logits, self.T)
        if not self._weighted:
            return logits.mean(0)
        return weighted_mean_over_time(logits, self.weight[: len(logits)])

    def prefixes(self, logits: Tensor) -> Tensor:
        """Aggregate over every prefix with the present weights.

        Args:
            logits: `[t, N, K]`.

        Returns:
            `[t, N, K]`; entry s is `forward(logits[: s + 1])`.
        """
        check_logits(logits, self.T)
        weight = self.weight[: len(logits)] if self._weighted else None
        return mean_over_prefixes(logits, weight)

    def shares(self, t: int) -> Tensor:
        """Give the weights of the first t steps, scaled to a sum of 1.

        Args:
            t: From 1 to T.

        Returns:
            `[t]`, float64.
        """
        weight = self.weight[:t].detach().double().cpu()
        if not self._weighted:
            weight = torch.ones_like(weight)
        return weight / weight.sum()

    @contextmanager
    def unweighted(self) -> Iterator[None]:
        """Read out as if all weights were 1; they come back afterwards, unchanged."""
        former, self._weighted = self._weighted, False
        try:
            yield
        finally:
            self._weighted = former

    @property
    def deviation(self) -> float:
        """max_t |w_t - 1|: 0 where the readout is the plain mean over time."""
        return float((self.weight - 1).abs().max())

    @torch.no_grad()
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count the right answers of each step in a batch.

        Only in the mode that `accuracy_from` names: with `"train"`, validation data
        cannot leak into the weights, as batch norm keeps its statistics there.

        Args:
            logits: `[t, N, K]`, as given to `forward`.
            target: `[N]`, class indices, or `[N, K]`, probabilities.
        """
        check_logits(logits, self.T)
        soft = is_soft(target, logits)
        if soft:
            check_soft_target(target)
            target = target.argmax(1)
        else:
            check_target(target, logits)
        if self.training != (self.accuracy_from == "train"):
            return
        counts = torch.zeros(2, self.T, dtype=torch.int64, device=logits.device)
        # What is left out is reduced all the same: other processes wait for it.
        if not (soft and self.soft_targets == "skip"):
            counts[0, : len(logits)] = _COUNTS[self.accuracy_of](logits, target)
            counts[1, : len(logits)] = len(target)
        if is_distributed():
            torch.distributed.all_reduce(counts)
        counts = counts.to(self.correct.device)
        self.correct += counts[0]
        self.seen += counts[1]

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
            weight = self.weight.double()
            counted = self.seen > 0
            accuracy = self.accuracy()[counted]
            new = weight.clone()
            new[counted] = accuracy / accuracy.mean() * weight[counted].mean()
            moved = self.momentum * weight + (1 - self.momentum) * new
            self.weight.copy_((moved / moved.mean()).clamp_min(_LEAST_WEIGHT))
        self.correct.zero_()
        self.seen.zero_()

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        seen = state_dict.get(f"{prefix}seen")
        if isinstance(seen, Tensor) and seen.ndim == 0:
            state_dict = {**state_dict, f"{prefix}seen": seen.repeat(self.T)}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"T={self.T}, momentum={self.momentum}, start_epoch={self.start_epoch}, "
            f"accuracy_of={self.accuracy_of!r}, accuracy_from={self.accuracy_from!r}, "
            f"soft_targets={self.soft_targets!r}"
        )
