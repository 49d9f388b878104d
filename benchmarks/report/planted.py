"""Figures of the planted study; each function draws one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

Trials = Sequence[Mapping[str, Any]]
"""As `benchmarks.studies.planted.trial.trial` gives them."""

_COLOURS = {"exact": "C0", "exact, true labels": "C1", "released": "C3"}
_WHEN = ("before", "after", "shuffled")


def profiles(trials: Trials) -> Figure:
    """Draw the profiles of all trials, a column for each position.

    Args:
        trials: Of all positions and seeds.

    Returns:
        Information of all estimators above, prefix loss below.
    """
    groups = _grouped(trials)
    figure = Figure(figsize=(2.9 * len(groups) + 0.8, 5.2), layout="constrained")
    panels = figure.subplots(2, len(groups), sharex=True, sharey="row", squeeze=False)
    for column, (title, group) in enumerate(groups.items()):
        above, below = panels[:, column]
        for estimator, colour in _COLOURS.items():
            curves = np.array(
                [t["readings"][estimator]["after"]["information"] for t in group]
            )
            curves /= curves.mean(1, keepdims=True)
            _bundle(above, curves, colour, estimator)
        loss = np.array([t["readings"]["exact"]["after"]["loss"] for t in group])
        _bundle(below, loss, "0.3", "prefix loss")
        for panel in (above, below):
            _shade(panel, group[0]["position"])
            panel.grid(alpha=0.3)
        above.set_title(title, fontsize="medium")
        below.set_xlabel("time steps in the output, t")
        below.set_xticks(range(1, loss.shape[1] + 1))
    panels[0, 0].set_ylabel("$I_t$ / mean over t")
    panels[1, 0].set_ylabel("cross-entropy of the prefix")
    panels[0, 0].set_ylim(bottom=0)
    panels[1, 0].set_ylim(bottom=0)
    panels[0, -1].legend(fontsize="small")
    return figure


def centroids(trials: Trials) -> Figure:
    """Draw the information centroids of all trials, a panel for each estimator.

    Args:
        trials: Of all positions and seeds.

    Returns:
        Points of seeds; a line joins those of one network.
    """
    groups = _grouped(trials)
    figure = Figure(figsize=(12.5, 3.8), layout="constrained")
    panels = figure.subplots(1, len(_COLOURS), sharey=True, squeeze=False)[0]
    for panel, (estimator, colour) in zip(panels, _COLOURS.items(), strict=True):
        places, names = [], []
        for number, (title, group) in enumerate(groups.items()):
            x = number * (len(_WHEN) + 1) + np.arange(len(_WHEN))
            for trial in group:
                reading = trial["readings"][estimator]
                values = [reading[when]["centroid"] for when in _WHEN]
                panel.plot(x, values, "o-", color=colour, alpha=0.35, ms=3, lw=0.7)
            places += x.tolist()
            names += [f"{title}\n{when}" if when == "after" else when for when in _WHEN]
        panel.set_xticks(
            places, [name.split("\n")[-1] for name in names], rotation=90, fontsize=7
        )
        for number, title in enumerate(groups):
            panel.text(
                number * (len(_WHEN) + 1) + 1,
                1.01,
                title.replace("evidence in ", ""),
                transform=panel.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=7,
            )
        panel.set_title(f"{estimator} estimator", pad=18, fontsize="medium")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("information centroid (time steps)")
    return figure


def _grouped(trials: Trials) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        position = trial["position"]
        if isinstance(position, str):
            title = "null: no state"
        else:
            title = f"evidence in {position[0]} to {position[1]}"
        groups.setdefault(title, []).append(trial)
    return groups


def _bundle(panel: Any, curves: np.ndarray, colour: str, label: str) -> None:
    steps = np.arange(1, curves.shape[1] + 1)
    panel.plot(steps, curves.T, color=colour, alpha=0.2, linewidth=0.7)
    panel.plot(
        steps, curves.mean(0), color=colour, linewidth=2, marker=".", label=label
    )


def _shade(panel: Any, position: Any) -> None:
    if not isinstance(position, str):
        first, last = position
        panel.axvspan(first - 0.5, last + 0.5, color="C2", alpha=0.2, linewidth=0)
