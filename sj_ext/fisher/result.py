"""What a measurement of temporal Fisher information found."""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from sj_ext.fisher.centroid import information_centroid

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class FisherResult:
    """The Fisher information of the output of every prefix, with errors.

    All tensors are float64 on the CPU; T' is the number of prefixes.

    Attributes:
        steps: The prefixes t, by their lengths.
        total: `[T']`, I_t of all parameters that require a gradient.
        per_layer: `[T']` for each layer, by name, in the network's order; they sum
            to `total`.
        per_parameter: `[T']` for each parameter, by name.
        standard_error: `[T']`, of `total`; NaN where there was one unit only.
        layer_standard_error: `[T']` for each layer.
        information_centroid: sum_t(t I_t) / sum_t(I_t), in time steps.
        centroid_standard_error: Of the centroid (delta method).
        prefix_loss: `[T']`, mean cross-entropy; NaN without targets.
        prefix_accuracy: `[T']`, in [0, 1]; NaN without targets.
        prefix_confidence: `[T']`, mean largest probability.
        samples: How many samples were measured.
        units: How many independent values the errors rest on: the samples for
            `"per_sample"`, else the batches.
        estimator: As given to `TemporalFisher`.
        labels: As given to `TemporalFisher`.
        probe: The surrogate that all neurons had, None for their own.
        execution: How the network was called: `"whole"`, `"steps"` or `"single"`.
        looped: Parameters that no rule covers: exact, but measured one sample at a
            time.
        frozen: Parameters that require no gradient; they are in no sum.
    """

    steps: tuple[int, ...]
    total: Tensor
    per_layer: dict[str, Tensor]
    per_parameter: dict[str, Tensor]
    standard_error: Tensor
    layer_standard_error: dict[str, Tensor]
    information_centroid: float
    centroid_standard_error: float
    prefix_loss: Tensor
    prefix_accuracy: Tensor
    prefix_confidence: Tensor
    samples: int
    units: int
    estimator: str
    labels: str
    probe: str | None = None
    execution: str = "whole"
    looped: tuple[str, ...] = field(default=())
    frozen: tuple[str, ...] = field(default=())

    def layer_centroid(self, layer: str) -> float:
        """Give the information centroid of one layer.

        Args:
            layer: Its name.

        Returns:
            In time steps.

        Raises:
            KeyError: If there is none of that name.
        """
        if layer not in self.per_layer:
            raise KeyError(
                f"Expected `layer` to be one of {', '.join(self.per_layer)}, got "
                f"{layer!r}."
            )
        return float(information_centroid(self.per_layer[layer], self.steps))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table: a row for each layer and prefix, and rows named "total".

        Columns are layer, step, information, standard_error and, in the rows of the
        total, loss, accuracy and confidence.

        Args:
            path: A former file there is replaced when the new one is complete.
        """
        from sj_ext.fisher import storage

        storage.write_csv(self, path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a file of arrays, without pickle.

        Args:
            path: A former file there is replaced when the new one is complete.
        """
        from sj_ext.fisher import storage

        storage.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "FisherResult":
        """Read what `save` wrote.

        Args:
            path: Of the file.

        Returns:
            The result.
        """
        from sj_ext.fisher import storage

        return storage.load(path)

    def plot(self, ax: "Axes | None" = None, label: str | None = None) -> "Axes":
        """Draw I_t with its standard errors over t, the centroid as a dashed line.

        Args:
            ax: Where to; by default on a figure of its own.
            label: Of the curve; by default the estimator and the labels.

        Returns:
            The axes.
        """
        from sj_ext.fisher import plots

        return plots.draw(self, ax, label)
