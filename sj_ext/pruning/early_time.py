"""How few time steps the rounds of a search may run at: rules that choose T'.

Kim et al. (arXiv 2211.14406) find that information concentrates in early steps; that
rounds of pruning can therefore run there is this project's use of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sj_ext.fisher import TemporalFisher, prefix
from sj_ext.fisher.measurement import Measurement, input_and_target
from sj_ext.fisher.passes import Layout
from sj_ext.processes import states_of_all
from sj_ext.readout import Readout
from sj_ext.registry import register


@dataclass(frozen=True)
class TimeChoice:
    """How many steps a rule chose, and what it looked at.

    Attributes:
        steps: T'.
        evidence: By name, one number for each prefix of 1 to T steps.
    """

    steps: int
    evidence: dict[str, list[float]] = field(default_factory=dict)


class TimeRule(ABC):
    """Chooses T' for a network that was trained at full T.

    A network trained at T' says nothing of later steps, so that a rule is asked at
    the rewind point, before rounds run shorter.
    """

    @abstractmethod
    def choose(
        self,
        model: nn.Module,
        loader: Iterable[Any],
        T: int,
        readout: Readout | None = None,
    ) -> TimeChoice:
        """Measure the network and choose.

        Args:
            model: Returns logits of every step; is left as it was found.
            loader: Batches of (x, target), x with all T steps.
            T: The number of steps.
            readout: Whose weights over time count; None is the mean.

        Returns:
            T' in 1 to T.
        """


@register("early_time", "fisher")
class EarlyTimeRule(TimeRule):
    """The smallest t that holds a share of the information and answers nearly as well.

        sum_{s <= t} I_s >= share * sum_s I_s   and   L_t <= L_T + max_prefix_loss_gap

    with the temporal Fisher information I_t and the cross-entropy L_t of the output
    after t steps. The second condition is no ornament: the share alone picks few steps
    wherever a network has been trained, time or no time (`TemporalFisher` says why).

    Args:
        share: In (0, 1]; 1 is all T steps.
        max_prefix_loss_gap: In nats, at least 0; infinity leaves the condition out.
        estimator: Of `TemporalFisher`; the default is unbiased and costs ordinary
            backward passes.
        labels: As for `TemporalFisher`.
        seed: As for `TemporalFisher`.
        **options: Further arguments of `TemporalFisher`, such as `batch_first`.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        share: float = 0.9,
        max_prefix_loss_gap: float = 0.1,
        estimator: Literal[
            "per_sample", "sampled_label", "random_sign", "batch_mean"
        ] = "sampled_label",
        labels: Literal["model", "empirical"] = "model",
        seed: int = 0,
        **options: Any,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"Expected `share` in (0, 1], got {share!r}.")
        if not max_prefix_loss_gap >= 0:
            raise ValueError(
                "Expected `max_prefix_loss_gap` of at least 0 nats, got "
                f"{max_prefix_loss_gap!r}."
            )
        self.share = float(share)
        self.max_prefix_loss_gap = float(max_prefix_loss_gap)
        self._options: dict[str, Any] = {
            "estimator": estimator,
            "labels": labels,
            "seed": seed,
            **options,
        }

    def choose(
        self,
        model: nn.Module,
        loader: Iterable[Any],
        T: int,
        readout: Readout | None = None,
    ) -> TimeChoice:
        """Measure I_t and L_t of all prefixes, and choose.

        Args:
            model: The network.
            loader: Batches of (x, target).
            T: The number of steps.
            readout: Whose weights over time count.

        Returns:
            T', with the shares of information and the losses.

        Raises:
            ValueError: If the batches have no targets.
        """
        fisher = TemporalFisher(model, readout=readout, **self._options)
        found = fisher.measure(loader, progress=False)
        information, loss = found.total.clamp_min(0), found.prefix_loss
        if bool(loss.isnan().any()):
            raise ValueError(
                "Expected batches of (x, target): the loss of the prefixes needs the "
                "targets, got none or a loss that is NaN."
            )
        held = information.cumsum(0) / information.sum()
        enough = held >= self.share
        near = loss <= loss[-1] + self.max_prefix_loss_gap
        fits = (enough & near).nonzero().flatten()
        # Without information there is nothing to hold a share of: all steps.
        steps = T if self.share == 1 or not len(fits) else int(fits[0]) + 1
        return TimeChoice(
            steps,
            {
                "information": found.total.tolist(),
                "share": held.tolist(),
                "loss": loss.tolist(),
                "accuracy": found.prefix_accuracy.tolist(),
            },
        )


@register("early_time", "kl")
class KLTimeRule(TimeRule):
    """The smallest t whose answers are close to the full ones, in mean over samples.

        mean_n KL(softmax(o_T) || softmax(o_t)) <= threshold

    After Kim et al., arXiv 2207.01382 (early-time tickets), who compare outputs in the
    same way; the threshold is one's own to set. Costs forward passes alone.

    Args:
        threshold: In nats, at least 0.
        inputs: Takes a batch apart into input and target (or None).
        output: Picks the logits out of what the network returns.
        batch_first: Whether input and logits are `[N, T, ...]`.

    Raises:
        ValueError: If `threshold` is negative.
    """

    def __init__(
        self,
        threshold: float = 0.1,
        inputs: Callable[[Any], tuple[Tensor, Tensor | None]] = input_and_target,
        output: Callable[[Any], Tensor] | None = None,
        batch_first: bool = False,
    ) -> None:
        if not threshold >= 0:
            raise ValueError(
                f"Expected `threshold` of at least 0 nats, got {threshold!r}."
            )
        self.threshold = float(threshold)
        self._inputs = inputs
        self._layout = Layout(batch_first, output)

    def choose(
        self,
        model: nn.Module,
        loader: Iterable[Any],
        T: int,
        readout: Readout | None = None,
    ) -> TimeChoice:
        """Compare the answers of all prefixes with the last, and choose.

        Args:
            model: The network.
            loader: Batches whose input comes first.
            T: The number of steps.
            readout: Whose weights over time count.

        Returns:
            T', with the divergences.

        Raises:
            ValueError: If there is no batch.
        """
        measurement = Measurement(model, self._layout, readout, None, "whole")
        measurement.T, measurement.execution = T, "whole"
        share = prefix.shares(T, range(1, T + 1), readout)
        divergence = torch.zeros(T, dtype=torch.float64)
        samples = 0
        for batch in loader:
            x = measurement.on_device(self._inputs(batch)[0])
            with measurement.ready(), torch.no_grad():
                logits = measurement.forward(x, T, by_sample=False).joined()
            answers = prefix.prefix_logits(logits, share).log_softmax(-1)
            full = answers[-1:].expand_as(answers)
            each = F.kl_div(answers, full, reduction="none", log_target=True)
            divergence += each.sum((1, 2)).cpu()
            samples += answers.shape[1]
        divergence, samples = _of_all_processes(divergence, samples)
        if not samples:
            raise ValueError("Expected `loader` to hold at least one batch, got none.")
        divergence /= samples
        # The last is zero but for rounding.
        fits = (divergence <= self.threshold).nonzero().flatten()
        steps = int(fits[0]) + 1 if len(fits) else T
        return TimeChoice(steps, {"divergence": divergence.tolist()})


def _of_all_processes(divergence: Tensor, samples: int) -> tuple[Tensor, int]:
    """Add up over processes, which else would choose different T'."""
    states = states_of_all(lambda: {"divergence": divergence, "samples": samples})
    if states is None:
        return divergence, samples
    return (
        torch.stack([state["divergence"] for state in states]).sum(0),
        sum(state["samples"] for state in states),
    )


@register("early_time", "constant")
class ConstantTimeRule(TimeRule):
    """A number of steps chosen without looking.

    Args:
        steps: T', at least 1.

    Raises:
        ValueError: If it is no positive integer.
    """

    def __init__(self, steps: int) -> None:
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise ValueError(
                f"Expected `steps` to be a positive integer, got {steps!r}."
            )
        self.steps = steps

    def choose(
        self,
        model: nn.Module,
        loader: Iterable[Any],
        T: int,
        readout: Readout | None = None,
    ) -> TimeChoice:
        """Give the constant.

        Args:
            model: Not looked at.
            loader: Not looked at.
            T: The number of steps.
            readout: Not looked at.

        Returns:
            The steps.

        Raises:
            ValueError: If there are fewer than that.
        """
        if self.steps > T:
            raise ValueError(f"Expected `steps` of at most T={T}, got {self.steps}.")
        return TimeChoice(self.steps)
