"""Figures of the pruning study; each function draws one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.studies.pruning.arms import ARMS, CLAIM, DENSE, MAGNITUDE
from benchmarks.studies.pruning.summary import LEDGERS

Rows = Sequence[Mapping[str, Any]]
"""As `benchmarks.studies.pruning.summary.summarized` gives them."""

_AXES = {
    "sample_steps": "dense sample-steps",
    "seconds": "seconds",
    "operations": "theoretical operations",
}
_MARKERS = "osD^v<>PX*hd"


def accuracy_against_cost(rows: Rows) -> Figure:
    """Draw accuracy against each account, a column for each sparsity.

    Args:
        rows: Of a summary.

    Returns:
        A row of panels for each account; the dense network is a dashed line.
    """
    sparsities = _sparsities(rows)
    dense = [row for row in rows if row["arm"] == DENSE]
    figure = Figure(figsize=(3.2 * len(sparsities) + 2.4, 7.6), layout="constrained")
    panels = figure.subplots(
        len(LEDGERS), len(sparsities), sharex="row", sharey="col", squeeze=False
    )
    for line, key in enumerate(LEDGERS):
        for column, sparsity in enumerate(sparsities):
            panel = panels[line, column]
            for row in _at(rows, sparsity):
                found = row["test_accuracy"]["selected"]
                panel.errorbar(
                    row["cost"][key],
                    100 * found["mean"],
                    100 * (found["deviation"] or 0.0),
                    label=row["arm"],
                    **_style(row["arm"]),
                )
            for row in dense:
                level = 100 * row["test_accuracy"]["selected"]["mean"]
                panel.axhline(level, color="0.6", linestyle="--", linewidth=0.8)
            panel.set(xlabel=_AXES[key])
            panel.grid(alpha=0.3)
            if line == 0:
                panel.set_title(f"{sparsity:.0%} pruned", fontsize="medium")
        # The axis of a line is that of all its panels.
        dearest = max(row["cost"][key] for row in rows)
        panels[line, 0].set_xlim(0, 1.08 * dearest)
    for panel in panels[:, 0]:
        panel.set_ylabel("test accuracy, %")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    return figure


def layers(rows: Rows) -> Figure:
    """Draw the share of each layer's weights that remains, a panel for each sparsity.

    Args:
        rows: Of a summary.

    Returns:
        Bars grouped by layer, in the order of the network.
    """
    sparsities = _sparsities(rows)
    figure = Figure(figsize=(8.6, 2.3 * len(sparsities) + 0.6), layout="constrained")
    panels = figure.subplots(len(sparsities), 1, sharex=True, squeeze=False)[:, 0]
    for panel, sparsity in zip(panels, sparsities, strict=True):
        found = _at(rows, sparsity)
        names = list(found[0]["remaining"])
        width = 0.85 / len(found)
        for number, row in enumerate(found):
            offset = (number - (len(found) - 1) / 2) * width
            heights = [100 * row["remaining"][name] for name in names]
            panel.bar(
                np.arange(len(names)) + offset,
                heights,
                width,
                label=row["arm"],
                color=_style(row["arm"])["color"],
            )
        panel.set_xticks(range(len(names)), names)
        panel.set_ylabel("remaining, %")
        panel.set_title(f"{sparsity:.0%} pruned", fontsize="medium")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside right upper",
        fontsize="small",
    )
    return figure


def rules(results: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw what the rules saw and chose, a line for each search.

    Args:
        results: As searches give them.

    Returns:
        Three panels; empty where no search had the rule.
    """
    shown = {
        "share": "share of information",
        "loss": "loss of the prefix, nats",
        "divergence": "divergence, nats",
    }
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = figure.subplots(1, len(shown))
    for panel, (key, label) in zip(panels, shown.items(), strict=True):
        for result in results:
            values = result["evidence"].get(key)
            if values is None:
                continue
            steps = np.arange(1, len(values) + 1)
            panel.plot(steps, values, color="C0", alpha=0.4, linewidth=0.8)
            chosen = result["time_steps"]
            panel.plot(chosen, values[chosen - 1], "o", color="C3", ms=4)
        panel.set(xlabel="time steps in the output, t", ylabel=label)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    return figure


def _sparsities(rows: Rows) -> list[float]:
    return sorted({row["sparsity"] for row in rows if row["arm"] != DENSE})


def _at(rows: Rows, sparsity: float) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["sparsity"] == sparsity and row["arm"] != DENSE]


def _style(arm: str) -> dict[str, Any]:
    number = list(ARMS).index(arm)
    compared = arm in (MAGNITUDE, CLAIM)
    return {
        "color": colormaps["tab20"](number),
        "marker": _MARKERS[number],
        "markersize": 8 if compared else 5,
        "elinewidth": 0.8,
        "linestyle": "none",
        "zorder": 3 if compared else 2,
    }
