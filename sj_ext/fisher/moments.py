"""Sums behind a mean, its standard error and covariance, that merge in any order.

A unit u (a sample, or a batch where only batches are independent) has a value X_u for
each prefix and a weight w_u. The estimate is the ratio R = sum_u X_u / sum_u w_u with

    cov R = m / (m - 1) sum_u (X_u - R w_u)(X_u - R w_u)^T / (sum_u w_u)^2,

m the number of units. Everything is float64 on the CPU.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_SUMS = (
    "parameters",
    "layers",
    "layer_squares",
    "layer_weighted",
    "products",
    "weighted",
    "weight",
    "weight_squares",
    "units",
    "samples",
    "loss",
    "correct",
    "confidence",
)


class Moments:
    """Sums over units, for every parameter, every layer and in total.

    Args:
        layer_of: The layer of each parameter, by the parameter's name.
        prefixes: How many values a unit has.
    """

    def __init__(self, layer_of: Mapping[str, str], prefixes: int) -> None:
        self.parameter_names = list(layer_of)
        self.layer_names = list(dict.fromkeys(layer_of.values()))
        P, L, K = len(self.parameter_names), len(self.layer_names), prefixes
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_SUMS, ())
        shapes |= {"parameters": (P, K), "products": (K, K)}
        shapes |= dict.fromkeys(("layers", "layer_squares", "layer_weighted"), (L, K))
        shapes |= dict.fromkeys(("weighted", "loss", "correct", "confidence"), (K,))
        self._layer = torch.tensor(
            [self.layer_names.index(layer) for layer in layer_of.values()]
        )
        self.sums = {
            name: torch.zeros(shape, dtype=torch.float64)
            for name, shape in shapes.items()
        }

    def add_units(self, values: Tensor, weights: Tensor) -> None:
        """Add units.

        Args:
            values: `[parameters, prefixes, units]`, float64 on the CPU.
            weights: `[units]`.
        """
        _, K, units = values.shape
        layers = torch.zeros(len(self.layer_names), K, units, dtype=torch.float64)
        layers.index_add_(0, self._layer, values)
        total = values.sum(0)
        self._add(
            parameters=values.sum(2),
            layers=layers.sum(2),
            layer_squares=layers.square().sum(2),
            layer_weighted=layers @ weights,
            products=total @ total.T,
            weighted=total @ weights,
            weight=weights.sum(),
            weight_squares=weights.square().sum(),
            units=torch.tensor(float(units)),
        )

    def add_answers(
        self, samples: int, loss: Tensor, correct: Tensor, confidence: Tensor
    ) -> None:
        """Add what the prefixes answered: sums over `samples`, each `[prefixes]`."""
        self._add(
            samples=torch.tensor(float(samples)),
            loss=loss,
            correct=correct,
            confidence=confidence,
        )

    def add_sums(self, sums: Mapping[str, Any]) -> None:
        """Add the sums of another measurement of the same parameters and prefixes."""
        self._add(**sums)

    @property
    def samples(self) -> int:
        """How many samples were seen."""
        return int(self.sums["samples"])

    def mean(self, name: str) -> Tensor:
        """Divide sums of units by the weights: `"parameters"` or `"layers"`."""
        return self.sums[name] / self.sums["weight"]

    def total(self) -> Tensor:
        """Give the estimate for all parameters together, `[prefixes]`."""
        return self.sums["layers"].sum(0) / self.sums["weight"]

    def covariance(self) -> Tensor:
        """Give the covariance of `total()`, `[prefixes, prefixes]`; NaN for one unit.

        Returns:
            A symmetric matrix.
        """
        s, ratio = self.sums, self.total()
        cross = torch.outer(ratio, s["weighted"])
        spread = s["products"] - cross - cross.T
        spread = spread + torch.outer(ratio, ratio) * s["weight_squares"]
        return spread * self._scale()

    def layer_error(self) -> Tensor:
        """Give the standard error of each layer's estimate, `[layers, prefixes]`."""
        s, ratio = self.sums, self.mean("layers")
        spread = s["layer_squares"] - 2 * ratio * s["layer_weighted"]
        spread = spread + ratio.square() * s["weight_squares"]
        return (spread * self._scale()).clamp_min(0).sqrt()

    def per_sample(self, name: str) -> Tensor:
        """Divide sums of answers by the number of samples."""
        return self.sums[name] / self.sums["samples"]

    def _scale(self) -> Tensor:
        m = self.sums["units"]
        one = torch.tensor(float("nan"), dtype=torch.float64)
        factor = m / (m - 1) if m > 1 else one
        return factor / self.sums["weight"].square()

    def _add(self, **sums: Any) -> None:
        for name, value in sums.items():
            self.sums[name] = self.sums[name] + torch.as_tensor(value).double().cpu()


def layers_of(parameters: Sequence[str]) -> dict[str, str]:
    """Name the layer of each parameter: what stands before its last dot."""
    return {name: name.rpartition(".")[0] or name for name in parameters}
