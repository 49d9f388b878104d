"""CKA between the layers of two networks as squares that say their values."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib import colormaps
from matplotlib.colors import to_hex

from sj_ext.cka import CKAResult

_COLOURS = colormaps["viridis"]
_MOST = 120
"""Layers of a side."""


@dataclass(frozen=True)
class HeatMap:
    """A heat map.

    Attributes:
        title: Over it.
        x: Names of the columns.
        y: Names of the rows, the last on top.
        x_label: Which network the columns are of.
        y_label: Which network the rows are of.
        values: `[rows][columns]`, NaN where undefined.
        low: Value of the first colour.
        high: Value of the last colour.
        note: How it was measured.
    """

    title: str
    x: tuple[str, ...]
    y: tuple[str, ...]
    x_label: str
    y_label: str
    values: tuple[tuple[float, ...], ...]
    low: float
    high: float
    note: str

    @property
    def squares(self) -> Iterator[dict[str, object]]:
        """Every square: its place from the top left, its colour, what it says."""
        rows = len(self.y)
        for row, values in enumerate(self.values):
            for column, value in enumerate(values):
                yield {
                    "x": column,
                    "y": rows - 1 - row,
                    "colour": self.colour(value),
                    "value": "undefined" if math.isnan(value) else f"{value:.3f}",
                }

    @property
    def names(self) -> str:
        """Names of columns and rows, the top row first, as JSON."""
        return json.dumps({"x": self.x, "y": self.y[::-1]})

    @property
    def bar(self) -> list[str]:
        """Colours of the legend, from low to high."""
        return [to_hex(_COLOURS(step / 20)) for step in range(21)]

    def colour(self, value: float) -> str | None:
        """Give the colour of a value; None where it is undefined."""
        if math.isnan(value):
            return None
        share = (value - self.low) / (self.high - self.low)
        return to_hex(_COLOURS(min(1.0, max(0.0, share))))


def heat_map(result: CKAResult, title: str) -> HeatMap:
    """Arrange a comparison by CKA.

    Args:
        result: Of two networks.
        title: Of the map.

    Returns:
        The map; its colours go from 0, or the least value, to 1. Of networks with more
        layers than a page can hold, every second is in it, or fewer, and the note
        says so.
    """
    every = math.ceil(max(result.cka.shape) / _MOST)
    values = tuple(tuple(row) for row in result.cka[::every, ::every].tolist())
    defined = [value for row in values for value in row if not math.isnan(value)]
    return HeatMap(
        title=title,
        x=result.layers_y[::every],
        y=result.layers_x[::every],
        x_label=result.y.label,
        y_label=result.x.label,
        values=values,
        low=min([0.0, *defined]),
        high=1.0,
        note=(
            f"Linear CKA, {result.estimator} estimator, {result.samples:,} samples in "
            f"{result.batches} batches."
            + (f" One layer of {every} is shown." if every > 1 else "")
        ),
    )


def read_heat_map(path: Path) -> HeatMap:
    """Read a stored comparison.

    Args:
        path: As `CKAResult.save` writes it.

    Returns:
        The map, called by the names of folder and file.
    """
    arm = path.resolve().parent
    return heat_map(CKAResult.load(path), f"{arm.parent.name}, {arm.name}: {path.stem}")


def stored_maps(root: Path) -> list[HeatMap]:
    """Read the comparisons of SNN and ANN that the cka task has left.

    Args:
        root: Folder of all runs; it need not exist.

    Returns:
        The maps, by the names of their folders.
    """
    return [read_heat_map(path) for path in sorted(root.rglob("snn-ann.npz"))]
