"""Curves over the layers of a network: similarity and change over time."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sj_ext.cka import CKAResult
from sj_ext.cka.result import MINIMUM_BATCHES

Role = Literal["main", "ceiling", "floor"]


@dataclass(frozen=True)
class Curve:
    """A figure of every layer.

    Attributes:
        label: What is compared.
        role: The comparison itself, the most that it could show, or the least.
        layers: Names, in network order.
        values: `[L]`; NaN where undefined.
        low: Lower end of the 95% interval over batches of samples, `[L]`, or None.
        high: Upper end.
    """

    label: str
    role: Role
    layers: tuple[str, ...]
    values: NDArray[np.float64]
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None

    @property
    def mean(self) -> float:
        """Mean over the layers where it is defined; NaN where it is nowhere."""
        defined = self.values[np.isfinite(self.values)]
        return float(defined.mean()) if defined.size else math.nan


_SIMILARITY: Mapping[str, tuple[str, Role]] = {
    "snn-ann": ("SNN and ANN", "main"),
    "snn-snn": ("two SNNs", "ceiling"),
    "ann-ann": ("two ANNs", "ceiling"),
    "untrained": ("untrained SNN and ANN", "floor"),
    "permuted": ("SNN and ANN, permuted samples", "floor"),
}
_ATTACKED: Mapping[str, tuple[str, Role]] = {
    "attacked": ("clean and attacked", "main"),
    "noisy": ("the same changes elsewhere", "ceiling"),
    "permuted": ("clean, permuted samples", "floor"),
}
_CHANGE: Mapping[str, tuple[str, Role]] = {
    "time-snn-a": ("SNN", "main"),
    "time-snn-b": ("SNN, another seed", "ceiling"),
    "time-ann-a": ("ANN", "main"),
    "time-ann-b": ("ANN, another seed", "ceiling"),
    "time-untrained-snn": ("untrained SNN", "floor"),
    "time-untrained-ann": ("untrained ANN", "floor"),
}


def similarity_curves(results: Mapping[str, CKAResult], resamples: int) -> list[Curve]:
    """Take CKA of matching layers, with intervals where there are batches enough.

    Args:
        results: By the keys of `COMPARISONS`.
        resamples: Of the bootstrap.

    Returns:
        SNN against ANN, two ceilings, two floors.
    """
    return [
        _diagonal(results[name], label, role, resamples)
        for name, (label, role) in _SIMILARITY.items()
    ]


def time_curves(results: Mapping[str, CKAResult]) -> list[Curve]:
    """Take the change of every layer over time: mean of 1 - CKA between steps.

    It is 0 where all steps say the same, and about 1 where they have as much to do
    with each other as permuted samples.

    Args:
        results: By the keys of `COMPARISONS`.

    Returns:
        Both kinds of network, both seeds, and before training.
    """
    found = []
    for name, (label, role) in _CHANGE.items():
        dynamics = results[name].time_dynamics()
        values = dynamics.change.numpy()
        found.append(Curve(label, role, dynamics.layers, values))
    return found


def attacked_curves(results: Mapping[str, CKAResult], resamples: int) -> list[Curve]:
    """Take CKA of every layer on clean inputs and itself on others.

    Args:
        results: Of one network, by the keys of `benchmarks.studies.cka.attacked`.
        resamples: Of the bootstrap.

    Returns:
        Attacked inputs, a ceiling and a floor.
    """
    return [
        _diagonal(results[name], label, role, resamples)
        for name, (label, role) in _ATTACKED.items()
    ]


def to_csv(curves: Iterable[tuple[str, Curve]], quantity: str) -> str:
    """Write curves as rows.

    Args:
        curves: With the label of the arm that each is of.
        quantity: Heading of the values.

    Returns:
        A table: arm, curve, role, place, layer, the quantity, low, high; places count
        from 1, and ends are empty where there is no interval.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["arm", "curve", "role", "place", "layer", quantity, "low", "high"])
    for arm, curve in curves:
        empty = [""] * len(curve.layers)
        columns: Sequence[Sequence[object]] = (
            curve.layers,
            curve.values.tolist(),
            empty if curve.low is None else curve.low.tolist(),
            empty if curve.high is None else curve.high.tolist(),
        )
        for place, row in enumerate(zip(*columns, strict=True), start=1):
            writer.writerow([arm, curve.label, curve.role, place, *row])
    return text.getvalue()


def _diagonal(result: CKAResult, label: str, role: Role, resamples: int) -> Curve:
    rows, columns = torch.tensor(result.matching()).T
    layers = tuple(result.layers_x[i] for i in rows)
    values = result.cka[rows, columns].numpy()
    if result.batches < MINIMUM_BATCHES:
        return Curve(label, role, layers, values)
    ends = result.interval(resamples=resamples)
    low, high = (end[rows, columns].numpy() for end in ends)
    return Curve(label, role, layers, values, low, high)
