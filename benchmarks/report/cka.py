"""Figures of spiking networks beside their ANN twins; each function draws one."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.studies.cka.curves import Curve
from sj_ext.cka import CKAResult

_STYLES = {"main": "-", "ceiling": "--", "floor": ":"}
# A colour for what is compared; seeds and untrained networks keep it.
_COLOURS = {
    "SNN and ANN": "C0",
    "two SNNs": "C1",
    "two ANNs": "C2",
    "untrained SNN and ANN": "C3",
    "SNN and ANN, permuted samples": "0.4",
    "clean and attacked": "C0",
    "the same changes elsewhere": "C1",
    "clean, permuted samples": "0.4",
    "SNN": "C1",
    "SNN, another seed": "C1",
    "ANN": "C2",
    "ANN, another seed": "C2",
    "untrained SNN": "C1",
    "untrained ANN": "C2",
}
_MARKERS = {"neuron": "o", "conv": "^", "bn": "s", "pool": "x", "block": "D"}
_FONT = 7


def against(result: CKAResult, curves: Sequence[Curve], title: str) -> Figure:
    """Draw all pairs of layers of two networks, and the matching ones as curves.

    Args:
        result: SNN against ANN.
        curves: Its diagonal with ceilings and floors.
        title: Which networks.

    Returns:
        A heat map, and below it curves with 95% intervals.
    """
    figure = Figure(figsize=(9.5, 11.5), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(1.75, 1))
    result.plot(above)
    _similarity(below, curves)
    below.set_title("CKA of matching layers")
    _legend(figure, curves)
    figure.suptitle(f"SNN against ANN, layer by layer ({title})")
    return figure


def side_by_side(
    curves: Mapping[str, Sequence[Curve]], title: str, markers: bool = True
) -> Figure:
    """Draw the matching layers of several pairs of networks, one panel a pair.

    Args:
        curves: By the label of the pair.
        title: Of the figure.
        markers: Whether to mark what kind of layer each point is.

    Returns:
        Panels below one another, with the same vertical axis.
    """
    figure, panels = _panels(len(curves), 3.1)
    for panel, (label, group) in zip(panels, curves.items(), strict=True):
        _similarity(panel, group, markers)
        panel.set_title(label)
    _legend(figure, next(iter(curves.values())), markers)
    figure.suptitle(title)
    return figure


def time_against_depth(curves: Mapping[str, Sequence[Curve]], title: str) -> Figure:
    """Draw how much every layer changes over time, one panel a pair of networks.

    Args:
        curves: By the label of the pair.
        title: Of the figure.

    Returns:
        Panels below one another, with the same vertical axis.
    """
    figure, panels = _panels(len(curves), 3.1)
    for panel, (label, group) in zip(panels, curves.items(), strict=True):
        for curve in group:
            _draw(panel, curve)
        panel.axhline(1.0, color="0.4", linestyle=":", linewidth=1.0)
        _layer_axis(panel, group[0].layers)
        panel.set(ylabel="mean of 1 - CKA(t, t')", title=label)
        panel.set_ylim(bottom=0)
    group = next(iter(curves.values()))
    permuted = Line2D(
        [], [], color="0.4", linestyle=":", label="permuted samples (expected)"
    )
    _legend(figure, group, markers=False, roles=False, more=[permuted])
    figure.suptitle(title)
    return figure


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9.5, height * count + 1.2), layout="constrained")
    panels = figure.subplots(count, 1, sharey=True, squeeze=False)
    return figure, list(panels[:, 0])


def _similarity(panel: Axes, curves: Sequence[Curve], markers: bool = True) -> None:
    for curve in curves:
        _draw(panel, curve)
    if markers:
        main = next(curve for curve in curves if curve.role == "main")
        _mark(panel, main)
    _layer_axis(panel, curves[0].layers)
    panel.set_ylabel("CKA")
    panel.set_ylim(top=1.02)


def _draw(panel: Axes, curve: Curve) -> None:
    places = np.arange(len(curve.values))
    colour = _COLOURS[curve.label]
    main = curve.role == "main"
    panel.plot(
        places,
        curve.values,
        color=colour,
        linestyle=_STYLES[curve.role],
        linewidth=1.6 if main else 1.1,
        zorder=3 if main else 2,
    )
    if curve.low is not None and curve.high is not None:
        panel.fill_between(
            places, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0
        )


def _mark(panel: Axes, curve: Curve) -> None:
    kinds = [_kind(name) for name in curve.layers]
    for kind, marker in _MARKERS.items():
        places = [place for place, found in enumerate(kinds) if found == kind]
        panel.plot(
            places,
            curve.values[places],
            linestyle="none",
            marker=marker,
            markersize=4,
            color=_COLOURS[curve.label],
            zorder=4,
        )


def _kind(name: str) -> str:
    last = name.rpartition(".")[2].rstrip("0123456789")
    return last if last in _MARKERS else "block"


def _layer_axis(panel: Axes, layers: Sequence[str]) -> None:
    """Name the end of each block; layers within it are ticks without a name."""
    places = [p for p, name in enumerate(layers) if _kind(name) == "block"]
    if not places:
        places = list(range(0, len(layers), max(1, len(layers) // 12)))
    # Deep networks have more blocks than there is room for names.
    shown = places[:: max(1, len(places) // 18)]
    panel.set_xticks(shown, [layers[p] for p in shown], fontsize=_FONT, rotation=35)
    for label in panel.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    panel.set_xticks(range(len(layers)), minor=True)
    panel.set_xlim(-0.5, len(layers) - 0.5)
    panel.grid(alpha=0.35, which="major")
    stages = [layers[p].partition(".")[0] for p in places]
    for before, after, place in zip(stages, stages[1:], places, strict=False):
        if before != after:
            panel.axvline(place + 0.5, color="0.3", linewidth=0.8)


def _legend(
    figure: Figure,
    curves: Sequence[Curve],
    markers: bool = True,
    roles: bool = True,
    more: Sequence[Line2D] = (),
) -> None:
    lines = [
        Line2D(
            [],
            [],
            color=_COLOURS[curve.label],
            linestyle=_STYLES[curve.role],
            linewidth=1.6 if curve.role == "main" else 1.1,
            label=_with_role(curve) if roles else curve.label,
        )
        for curve in curves
    ]
    lines += more
    if markers:
        found = {_kind(name) for name in curves[0].layers}
        lines += [
            Line2D([], [], linestyle="none", marker=m, color="C0", label=kind)
            for kind, m in _MARKERS.items()
            if kind in found
        ]
    figure.legend(
        handles=lines, loc="outside lower center", ncols=3, fontsize=_FONT + 1
    )


def _with_role(curve: Curve) -> str:
    return curve.label if curve.role == "main" else f"{curve.role}: {curve.label}"
