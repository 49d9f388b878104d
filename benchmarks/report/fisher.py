"""Figures of Fisher information through training; each function draws one."""

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sj_ext.fisher import FisherResult

Profiles = Mapping[int, FisherResult]
"""Results by how many epochs the network had been trained for."""

_TITLES = {
    "network": "network",
    "time-shuffled": "null: time-shuffled input",
    "stateless": "null: no state, identical steps",
}
_COLOURS = {"network": "C0", "time-shuffled": "C1", "stateless": "0.45"}
_COLOUR_MAP = colormaps["viridis_r"]


def profiles(measured: Mapping[str, Profiles], title: str) -> Figure:
    """Draw I_t over t for each epoch, and what becomes of its centroid.

    Args:
        measured: By measurement.
        title: Which run.

    Returns:
        Panels: network, time-shuffled (where steps differ), stateless, and the
        centroids of all; error bars are standard errors.
    """
    titles = _titles(measured)
    figure = Figure(figsize=(9.5, 6.6), layout="constrained")
    panels, spare = np.split(figure.subplots(2, 2).flatten(), [len(titles) + 1])
    for panel in spare:
        panel.set_axis_off()
    if "time-shuffled" in titles:
        # One network, one scale; the null without a state has far fewer weights.
        panels[1].sharey(panels[0])
    scale = _scale(measured["network"])
    for panel, (name, heading) in zip(panels, titles.items(), strict=False):
        for epoch, result in measured[name].items():
            panel.errorbar(
                result.steps,
                result.total,
                yerr=result.standard_error.nan_to_num(0.0),
                color=_COLOUR_MAP(scale(epoch)),
                marker=".",
                capsize=2,
                linewidth=1.2,
            )
        panel.set(title=heading, ylabel="Fisher information $I_t$")
        panel.set_ylim(bottom=0)
        _steps_axis(panel, result)
    for name, heading in titles.items():
        _centroid(panels[-1], measured[name], _COLOURS[name], heading)
    panels[-1].set(title="information centroid", ylabel="centroid (time steps)")
    _epochs_axis(panels[-1])
    bottom, top = panels[-1].get_ylim()
    panels[-1].set_ylim(top=top + 0.4 * (top - bottom))
    panels[-1].legend(fontsize="small", loc="upper right")
    _epoch_bar(figure, panels, scale)
    figure.suptitle(title)
    return figure


def centroids(measured: Mapping[str, Profiles], title: str) -> Figure:
    """Draw the information centroid over epochs, in total and for each layer.

    Args:
        measured: By measurement.
        title: Which run.

    Returns:
        Two panels: with the nulls and standard errors; by layer.
    """
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    total, by_layer = figure.subplots(1, 2)
    for name, heading in _titles(measured).items():
        _centroid(total, measured[name], _COLOURS[name], heading)
    total.set(title="all parameters", ylabel="information centroid (time steps)")
    found = measured["network"]
    names = list(next(iter(found.values())).per_layer)
    colours = colormaps["tab10"] if len(names) <= 10 else colormaps["viridis"]
    for number, layer in enumerate(names):
        place = number if len(names) <= 10 else number / len(names)
        by_layer.plot(
            list(found),
            [result.layer_centroid(layer) for result in found.values()],
            marker=".",
            color=colours(place),
            label=layer if len(names) <= 12 else None,
        )
    by_layer.set(title="by layer", ylabel="information centroid (time steps)")
    for panel in (total, by_layer):
        _epochs_axis(panel)
    total.legend(fontsize="small")
    if len(names) <= 12:
        by_layer.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title)
    return figure


def bias(measured: Mapping[str, Profiles], title: str) -> Figure:
    """Draw the released estimate beside the exact one, at a few epochs.

    Args:
        measured: By measurement.
        title: Which run.

    Returns:
        The two estimates in one panel, with standard errors; their ratio in another,
        beside what it would be without bias, and if the mean gradient were zero.
    """
    exact, released = measured["true-labels"], measured["released"]
    epochs = list(exact)
    shown = sorted({epochs[0], epochs[len(epochs) // 2], epochs[-1]})
    figure = Figure(figsize=(11, 4.3), layout="constrained")
    values, ratio = figure.subplots(1, 2)
    for number, epoch in enumerate(shown):
        colour = f"C{number}"
        for result, style in ((exact[epoch], "-"), (released[epoch], "--")):
            values.errorbar(
                result.steps,
                result.total,
                yerr=result.standard_error.nan_to_num(0.0),
                color=colour,
                linestyle=style,
                marker=".",
                capsize=2,
            )
        quotient = released[epoch].total / exact[epoch].total
        ratio.plot(exact[epoch].steps, quotient, color=colour, marker=".")
        values.plot([], [], color=colour, label=_after(epoch))
    values.plot([], [], color="0.3", label="exact")
    values.plot([], [], color="0.3", linestyle="--", label="released")
    values.set(yscale="log", title="empirical Fisher information, true labels")
    values.set_ylabel("$I_t$")
    size = released[epochs[0]].samples / released[epochs[0]].units
    ratio.axhline(1.0, color="0.3", linewidth=1, label="without bias: 1")
    ratio.axhline(
        1 / size,
        color="0.3",
        linewidth=1,
        linestyle=":",
        label=f"1 / batch size: 1/{size:.0f}",
    )
    ratio.set(yscale="log", title="released / exact", ylabel="ratio")
    ratio.legend(fontsize="small", loc="center right")
    figure.legend(
        *values.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(shown) + 2,
        fontsize="small",
    )
    for panel in (values, ratio):
        _steps_axis(panel, exact[epochs[0]])
    figure.suptitle(title)
    return figure


def answers(measured: Profiles, title: str) -> Figure:
    """Draw loss, accuracy and confidence of the prefixes for each epoch.

    Args:
        measured: Of the network.
        title: Which run.

    Returns:
        Three panels.
    """
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    scale = _scale(measured)
    for panel, name in zip(panels, ("loss", "accuracy", "confidence"), strict=True):
        for epoch, result in measured.items():
            values = getattr(result, f"prefix_{name}")
            colour = _COLOUR_MAP(scale(epoch))
            panel.plot(result.steps, values, color=colour, marker=".")
        panel.set(title=f"{name} of the prefix")
        panel.set_ylim(bottom=0)
        _steps_axis(panel, result)
    _epoch_bar(figure, panels, scale)
    figure.suptitle(title)
    return figure


def layers(measured: Profiles, title: str) -> Figure:
    """Draw I_t of each layer before and after training.

    Args:
        measured: Of the network.
        title: Which run.

    Returns:
        Two panels with one logarithmic axis.
    """
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    epochs = list(measured)
    for panel, epoch in zip(panels, (epochs[0], epochs[-1]), strict=True):
        result = measured[epoch]
        many = len(result.per_layer) > 10
        for number, (layer, values) in enumerate(result.per_layer.items()):
            colour = (
                colormaps["viridis"](number / len(result.per_layer))
                if many
                else f"C{number}"
            )
            panel.plot(
                result.steps,
                # A layer without information has no place on a logarithmic axis.
                values.where(values > 0, np.nan),
                marker=".",
                color=colour,
                label=layer,
            )
        panel.set(yscale="log", title=_after(epoch))
        _steps_axis(panel, result)
    panels[0].set_ylabel("$I_t$ of the layer")
    if len(measured[epochs[0]].per_layer) <= 12:
        panels[1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title)
    return figure


def sweep(runs: Mapping[str, Mapping[str, Profiles]]) -> Figure:
    """Draw the information centroids of several runs over epochs.

    Args:
        runs: Measurements by the label of the run.

    Returns:
        A panel for each run with its nulls, as shares of its T.
    """
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for panel, (label, measured) in zip(panels, runs.items(), strict=False):
        for name, heading in _titles(measured).items():
            _centroid(panel, measured[name], _COLOURS[name], heading, relative=True)
        panel.set(title=label)
        _epochs_axis(panel)
        panel.set_ylabel("information centroid / T")
    fullest = max(panels[: len(runs)], key=lambda panel: len(panel.containers))
    fullest.legend(fontsize="x-small")
    for panel in panels[len(runs) :]:
        panel.set_axis_off()
    return figure


def _titles(measured: Mapping[str, Profiles]) -> dict[str, str]:
    """Name what was measured: images that stand still have nothing to shuffle."""
    return {name: title for name, title in _TITLES.items() if name in measured}


def _after(epoch: int) -> str:
    return f"after {epoch} epochs" if epoch else "before training"


def _centroid(
    panel: Axes, found: Profiles, colour: str, label: str, relative: bool = False
) -> None:
    results = list(found.values())
    T = results[0].steps[-1] if relative else 1
    panel.errorbar(
        list(found),
        [result.information_centroid / T for result in results],
        yerr=[np.nan_to_num(r.centroid_standard_error) / T for r in results],
        color=colour,
        marker="o",
        markersize=4,
        capsize=3,
        label=label,
    )


def _epochs_axis(panel: Axes) -> None:
    panel.set_xlabel("epochs of training")
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(alpha=0.3)


def _steps_axis(panel: Axes, result: FisherResult) -> None:
    panel.set_xlabel("time steps in the output, t")
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.set_xlim(result.steps[0] - 0.4, result.steps[-1] + 0.4)
    panel.grid(alpha=0.3)


def _scale(found: Profiles) -> Normalize:
    # The colour map's palest fifth is too pale for lines.
    last = max(1, *found)
    return Normalize(-0.25 * last, last)


def _epoch_bar(figure: Figure, panels: np.ndarray, scale: Normalize) -> None:
    mappable = ScalarMappable(scale, _COLOUR_MAP)
    bar = figure.colorbar(mappable, ax=panels, label="epochs of training")
    bar.ax.set_ylim(0, scale.vmax)
    bar.ax.yaxis.get_major_locator().set_params(integer=True)
