"""Pictures of CKA results; each function draws one and touches no global state."""

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from sj_ext.cka.result import (
    MINIMUM_BATCHES,
    CKAResult,
    ComparedLayers,
    Measure,
    TimeDynamics,
)

_NAMES: dict[Measure, str] = {"cka": "CKA", "rsa": "RSA"}
_FONT = 7.0
"""Size of layer names, in points."""
_LONGEST = 26
"""Characters of a layer name; longer ones lose their middle."""
_MARGIN = 0.02
"""Room between an interval and the frame."""
_ROUNDING = 1e-6
"""A value this little beyond an end of the colours is not beyond it."""


def heat_map(
    result: CKAResult,
    ax: Axes | None = None,
    *,
    measure: Measure = "cka",
    limits: tuple[float, float] | None = None,
    title: str | None = None,
) -> Axes:
    """Draw all pairs of layers, as `CKAResult.plot` describes.

    Args:
        result: Of which.
        ax: Where; None makes a figure.
        measure: "cka" or "rsa".
        limits: Ends of the colours, or None.
        title: None names the measure.

    Returns:
        The axes.

    Raises:
        ValueError: If the measure is unknown, or was not measured.
    """
    matrix = {"cka": result.cka, "rsa": result.rsa}.get(measure)
    if matrix is None:
        raise ValueError(
            "Expected `measure` to be 'cka', or 'rsa' of a result measured with "
            f"rsa=True, got {measure!r}."
        )
    if ax is None:
        # The first network is on the vertical axis, like the rows of the matrix.
        ax = _square(
            (len(result.layers_y), len(result.layers_x)),
            _inches(result.layers_x),
            _inches(result.layers_y),
        )
    _matrix(ax, matrix, _NAMES[measure], limits)
    _name_ticks(ax, "y", result.layers_x)
    _name_ticks(ax, "x", result.layers_y)
    ax.set_ylabel(_side(result.x))
    ax.set_xlabel(_side(result.y))
    ax.set_title(_title(result, measure) if title is None else title, fontsize="medium")
    return ax


def time_map(
    result: CKAResult,
    layer_x: str,
    layer_y: str | None = None,
    ax: Axes | None = None,
    measure: Measure = "cka",
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Draw all pairs of steps of two layers, as `CKAResult.plot_time` describes.

    Args:
        result: Of which.
        layer_x: Name of a layer of the first network.
        layer_y: Of the second; None takes the same name.
        ax: Where; None makes a figure.
        measure: "cka" or "rsa".
        limits: Ends of the colours, or None.

    Returns:
        The axes.
    """
    layer_y = layer_x if layer_y is None else layer_y
    matrix = result.steps(layer_x, layer_y, measure)
    if ax is None:
        ax = _square((matrix.shape[1], matrix.shape[0]))
    _matrix(ax, matrix, _NAMES[measure], limits)
    for axis, T in ((ax.yaxis, matrix.shape[0]), (ax.xaxis, matrix.shape[1])):
        every = math.ceil(T / 20)
        axis.set_ticks(range(0, T, every), [str(t + 1) for t in range(0, T, every)])
    if result.itself:
        ax.set(xlabel="time step", ylabel="time step")
    else:
        ax.set(
            xlabel=f"time step of {result.y.label}",
            ylabel=f"time step of {result.x.label}",
        )
    pair = layer_x if layer_x == layer_y else f"{layer_x} and {layer_y}"
    ax.set_title(f"{_NAMES[measure]} between time steps\n{pair}", fontsize="medium")
    return ax


def diagonal(
    result: CKAResult,
    ax: Axes | None = None,
    label: str | None = None,
    level: float = 0.95,
) -> Axes:
    """Draw matching layers against depth, as `CKAResult.plot_diagonal` describes.

    Args:
        result: Of which.
        ax: Where; None makes a figure.
        label: Of the curve; None names the networks.
        level: Of the intervals.

    Returns:
        The axes.
    """
    pairs = result.matching()
    rows, columns = [i for i, _ in pairs], [j for _, j in pairs]
    names = [result.layers_x[i] for i in rows]
    label = f"{result.x.label} and {result.y.label}" if label is None else label
    values = _numbers(result.cka[rows, columns])
    ax = _curve(ax, names, values, label, "CKA")
    if result.sums is not None and len(result.sums.xy) >= MINIMUM_BATCHES:
        low, high = (
            _numbers(end[rows, columns]) for end in result.interval(level=level)
        )
        colour = ax.lines[-1].get_color()
        ax.fill_between(
            range(len(names)), low, high, color=colour, alpha=0.25, linewidth=0
        )
        bottom, top = ax.get_ylim()
        ends = np.concatenate([low, high])
        ends = ends[np.isfinite(ends)]
        if ends.size:
            ax.set_ylim(
                min(bottom, float(ends.min()) - _MARGIN),
                max(top, float(ends.max()) + _MARGIN),
            )
    ax.set_title("CKA of matching layers", fontsize="medium")
    return ax


def time_dynamics(
    dynamics: TimeDynamics, ax: Axes | None = None, label: str | None = None
) -> Axes:
    """Draw the change over time against depth, as `TimeDynamics.plot` describes.

    Args:
        dynamics: Of which network.
        ax: Where; None makes a figure.
        label: Of the curve; None takes that of the network.

    Returns:
        The axes.
    """
    label = dynamics.label if label is None else label
    ax = _curve(
        ax,
        dynamics.layers,
        _numbers(dynamics.change),
        label,
        "mean of 1 - CKA(t, t')",
    )
    ax.set_title("Change of each layer over time", fontsize="medium")
    return ax


def _curve(
    ax: Axes | None,
    names: Sequence[str],
    values: NDArray[np.float64],
    label: str,
    ylabel: str,
) -> Axes:
    if ax is None:
        width = min(max(3.2 + 0.14 * len(names), 5.0), 11.0)
        height = 3.2 + _inches(names)
        ax = Figure(figsize=(width, height), layout="constrained").subplots()
    ax.plot(range(len(values)), values, marker=".", linewidth=1.2, label=label)
    longest = max(len(np.atleast_1d(line.get_xdata())) for line in ax.lines)
    ax.set_xlim(-0.5, longest - 0.5)
    if len(names) == longest:
        _name_ticks(ax, "x", names)
    ax.set_ylabel(ylabel)
    ax.set_xlabel("layer, in order of execution")
    ax.grid(axis="y", alpha=0.3)
    low, high = ax.get_ylim()
    ax.set_ylim(min(0.0, low), max(1.0, high) if ylabel == "CKA" else high)
    ax.legend(fontsize="small", loc="best")
    return ax


def _matrix(
    ax: Axes, matrix: Tensor, name: str, limits: tuple[float, float] | None
) -> None:
    values = _numbers(matrix)
    low, high = _limits(values) if limits is None else limits
    image = ax.imshow(
        values,
        origin="lower",
        interpolation="nearest",
        cmap=colormaps["viridis"],
        vmin=low,
        vmax=high,
    )
    found = values[np.isfinite(values)]
    beyond = (
        bool((found < low - _ROUNDING).any()),
        bool((found > high + _ROUNDING).any()),
    )
    extend = {
        (False, False): "neither",
        (True, False): "min",
        (False, True): "max",
        (True, True): "both",
    }[beyond]
    label = f"{name}, colours from {low:g} to {high:g}"
    if np.isnan(values).any():
        # What the image leaves out shows the hatched ground below it.
        ax.patch.set(facecolor="0.9", hatch="////", edgecolor="0.6", linewidth=0)
        label += "\nhatched: undefined (constant layer)"
    figure = cast(Figure, ax.get_figure())
    bar = figure.colorbar(image, ax=ax, extend=extend, shrink=0.85, pad=0.02)
    bar.set_label(label, fontsize="small")
    bar.ax.tick_params(labelsize="small")


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """From 0, or the next twentieth below the least value, to 1."""
    found = values[np.isfinite(values)]
    least = float(found.min()) if found.size else 0.0
    low = 0.0 if least > -_ROUNDING else math.floor(least * 20) / 20
    return low, 1.0


def _square(cells: tuple[int, int], left: float = 0.3, bottom: float = 0.3) -> Axes:
    """Axes of a new figure: columns and rows, and inches for the names beside them."""
    width, height = (min(max(0.22 * count, 2.6), 7.5) for count in cells)
    figure = Figure(
        figsize=(width + left + 1.5, height + bottom + 0.7), layout="constrained"
    )
    return figure.subplots()


def _inches(names: Sequence[str]) -> float:
    """Length of the longest name as it is written."""
    return max(len(_shortened(name)) for name in names) * _FONT * 0.6 / 72


def _name_ticks(ax: Axes, which: str, names: Sequence[str]) -> None:
    """Write as many of the names along an axis as can be read."""
    box = ax.get_window_extent()
    figure = cast(Figure, ax.get_figure())
    inches = (box.width if which == "x" else box.height) / figure.dpi
    most = max(int(inches * 72 / (_FONT * 1.3)), 2)
    places = range(0, len(names), math.ceil(len(names) / most))
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_ticks(
        places,
        [_shortened(names[place]) for place in places],
        fontsize=_FONT,
        rotation=90 if which == "x" else 0,
    )
    if len(places) < len(names):
        axis.set_ticks(range(len(names)), minor=True)


def _shortened(name: str) -> str:
    if len(name) <= _LONGEST:
        return name
    half = (_LONGEST - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _title(result: CKAResult, measure: Measure) -> str:
    if result.itself:
        return f"{_NAMES[measure]} between the layers of {result.x.label}"
    return f"{_NAMES[measure]} of {result.x.label} and {result.y.label}"


def _side(layers: ComparedLayers) -> str:
    what = "" if layers.record == "output" else f", {layers.record.replace('_', '-')}"
    return f"{layers.label}{what}"


def _numbers(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu().numpy(), dtype=np.float64)
