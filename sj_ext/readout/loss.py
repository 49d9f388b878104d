"""The losses that a configuration names: of logits, target and readout."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sj_ext.readout.concentration import (
    check_concentration,
    temporal_concentration_loss,
)
from sj_ext.readout.functional import check_hard_or_soft, check_logits
from sj_ext.readout.losses import check_lambda, temporal_efficient_training_loss
from sj_ext.readout.readout import Readout
from sj_ext.registry import register


class ReadoutLoss(nn.Module):
    """A scalar from the logits of all steps, the target and the readout.

    Args:
        label_smoothing: As in `torch.nn.functional.cross_entropy`.

    Raises:
        ValueError: If `label_smoothing` is not in [0, 1].
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(
                f"Expected `label_smoothing` in [0, 1], got {label_smoothing!r}."
            )
        self.label_smoothing = float(label_smoothing)

    @property
    def needs_parameters(self) -> bool:
        """Whether `forward` also takes `parameters` and `evaluated`.

        These are what the network learns, and logits of the same samples from a pass
        inside `sj_ext.surrogate.dense(net)`.
        """
        return False

    @abstractmethod
    def forward(self, logits: Tensor, target: Tensor, readout: Readout) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: `[t, N, K]`.
            target: `[N]`, class indices, or `[N, K]`, probabilities.
            readout: What answers are read out with.

        Returns:
            A scalar: the mean over samples, where a loss does not say otherwise.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Show the smoothing."""
        return f"label_smoothing={self.label_smoothing}"


@register("loss", "cross_entropy")
class CrossEntropyLoss(ReadoutLoss):
    """Cross-entropy of what is read out: with a weighted readout, of its mean.

    Args:
        label_smoothing: As in `torch.nn.functional.cross_entropy`.
    """

    def forward(self, logits: Tensor, target: Tensor, readout: Readout) -> Tensor:
        """Compute the cross-entropy of `readout(logits)`.

        Args:
            logits: `[t, N, K]`.
            target: `[N]`, class indices, or `[N, K]`, probabilities.
            readout: What answers are read out with.

        Returns:
            A scalar: the mean over samples.

        Raises:
            ValueError: If a shape does not fit, or the target is no class, and no
                probabilities, of each sample.
        """
        check_logits(logits, len(logits))
        check_hard_or_soft(logits, target)
        smoothing = self.label_smoothing
        return F.cross_entropy(readout(logits), target, label_smoothing=smoothing)


@register("loss", "temporal_efficient_training")
class TemporalEfficientTrainingLoss(ReadoutLoss):
    """`temporal_efficient_training_loss` as a module; it does not use the readout.

    Args:
        lambda_: Share of the term that holds the logits near `phi`, in [0, 1].
        phi: The level of logits.
        label_smoothing: As in `torch.nn.functional.cross_entropy`.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(
        self, lambda_: float = 0.05, phi: float = 1.0, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(label_smoothing)
        check_lambda(lambda_)
        self.lambda_ = float(lambda_)
        self.phi = float(phi)

    def forward(self, logits: Tensor, target: Tensor, readout: Readout) -> Tensor:
        """Compute the loss of each step by itself.

        Args:
            logits: `[t, N, K]`.
            target: `[N]`, class indices, or `[N, K]`, probabilities.
            readout: Not used.

        Returns:
            A scalar: the mean over samples.
        """
        return temporal_efficient_training_loss(
            logits, target, self.lambda_, self.phi, self.label_smoothing
        )

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"lambda_={self.lambda_}, phi={self.phi}, {super().extra_repr()}"


@register("loss", "temporal_concentration")
class TemporalConcentrationLoss(ReadoutLoss):
    """`temporal_concentration_loss` as a module, on the prefixes of the readout.

    It is a loss of the batch as a whole, not a mean over samples: see there. Whether
    the network can be differentiated twice is made sure of in the first batch.

    Args:
        strength: How much the centroid counts beside the cross-entropy, at least 0.
        direction: Where the centroid is to move, `"early"` or `"late"`.
        labels: Whose labels the information is of, `"model"` or `"empirical"`.
        pairs: How many pairs of prefixes a batch takes; None is all of them.
        label_smoothing: As in `torch.nn.functional.cross_entropy`.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(
        self,
        strength: float = 1.0,
        direction: Literal["early", "late"] = "early",
        labels: Literal["model", "empirical"] = "model",
        pairs: int | None = 2,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(label_smoothing)
        check_concentration(strength, direction, labels, pairs)
        self.strength = float(strength)
        self.direction = direction
        self.labels = labels
        self.pairs = pairs
        self._checked = False

    @property
    def needs_parameters(self) -> bool:
        """Whether there is a push, which differentiates the network."""
        return self.strength > 0

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        readout: Readout,
        parameters: Iterable[Tensor] = (),
        evaluated: Tensor | None = None,
    ) -> Tensor:
        """Compute cross-entropy and centroid of what the prefixes answer.

        Args:
            logits: `[t, N, K]`.
            target: `[N]`, class indices, or `[N, K]`, probabilities.
            readout: What answers are read out with.
            parameters: What the information is of, such as `net.parameters()`.
            evaluated: Logits that it is taken from, `[t, N, K]`; None is `logits`.

        Returns:
            A scalar, of the batch as a whole.
        """
        loss = temporal_concentration_loss(
            logits,
            target,
            parameters,
            self.strength,
            self.direction,
            readout=readout,
            evaluated=evaluated,
            labels=self.labels,
            pairs=self.pairs,
            label_smoothing=self.label_smoothing,
            check=not self._checked,
        )
        self._checked = True
        return loss

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"strength={self.strength}, direction={self.direction!r}, "
            f"labels={self.labels!r}, pairs={self.pairs}, {super().extra_repr()}"
        )
