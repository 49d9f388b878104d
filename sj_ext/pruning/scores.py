"""How much each weight matters: scores of which the lowest are pruned.

A score is a callable of (model, loader, steps) that returns a tensor for each layer,
by the layer's name and of its weight's shape; one's own may return others besides.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sj_ext.fisher import fisher_diagonal
from sj_ext.pruning.weights import layer_weights
from sj_ext.readout import Readout
from sj_ext.registry import register
from sj_ext.taps.selection import unwrap

Score = Callable[[nn.Module, Iterable[Any] | None, int], Mapping[str, Tensor]]


@register("pruning_score", "magnitude")
class MagnitudeScore:
    """|w|, without any data."""

    def __call__(
        self, model: nn.Module, loader: Iterable[Any] | None, steps: int
    ) -> dict[str, Tensor]:
        """Score all weights; `loader` and `steps` are not used."""
        return {
            name: weight.detach().double().abs()
            for name, weight in layer_weights(model)
        }


@register("pruning_score", "fisher")
class FisherScore:
    """F w^2 / 2: by how much the loss grows, to second order, without the weight.

    F is the diagonal of the Fisher information matrix of the output after T' steps
    (`fisher_diagonal`), which near a minimum is that of the Hessian (Theis et al.,
    arXiv 1801.05787).

    Args:
        labels: `"model"` for the true Fisher information, `"empirical"` for that of
            the targets.
        readout: Whose weights over time count; None is the mean.
        seed: Of drawn labels.
        **options: Further arguments of `fisher_diagonal`, such as `batch_first`.
    """

    def __init__(
        self,
        labels: Literal["model", "empirical"] = "model",
        readout: Readout | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self._options = {
            "labels": labels,
            "readout": readout,
            "seed": seed,
            "progress": False,
            **options,
        }

    def __call__(
        self, model: nn.Module, loader: Iterable[Any] | None, steps: int
    ) -> dict[str, Tensor]:
        """Score all weights from the output after `steps` steps."""
        if loader is None:
            raise ValueError(
                "Expected `loader` to give the samples that Fisher information is "
                "measured on, got None."
            )
        diagonal = fisher_diagonal(model, loader, steps, **self._options)
        by_parameter = {id(p): n for n, p in unwrap(model).named_parameters()}
        found = {}
        for name, weight in layer_weights(model):
            information = diagonal.get(by_parameter[id(weight)])
            if information is not None:
                found[name] = information * weight.detach().double().square() / 2
        return found


@register("pruning_score", "fisher_magnitude")
class FisherMagnitudeScore(FisherScore):
    """|w| F w^2 / 2: the product of both scores.

    Takes the arguments of `FisherScore`.
    """

    def __call__(
        self, model: nn.Module, loader: Iterable[Any] | None, steps: int
    ) -> dict[str, Tensor]:
        """Score all weights from the output after `steps` steps."""
        magnitude = MagnitudeScore()(model, None, steps)
        found = super().__call__(model, loader, steps)
        return {name: score * magnitude[name] for name, score in found.items()}


@register("pruning_score", "random")
class RandomScore:
    """A random order of all weights, the same in every round.

    The weights that remain are at all times a random subset of their number.

    Args:
        seed: Of the order.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(
        self, model: nn.Module, loader: Iterable[Any] | None, steps: int
    ) -> dict[str, Tensor]:
        """Score all weights; `loader` and `steps` are not used."""
        generator = torch.Generator().manual_seed(self.seed)
        return {
            name: torch.rand(weight.shape, generator=generator, dtype=torch.float64)
            for name, weight in layer_weights(model)
        }
