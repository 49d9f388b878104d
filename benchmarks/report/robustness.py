"""Figures of the robustness study; each function draws one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Summary = Mapping[str, Any]
"""As `benchmarks.studies.robustness.summary.summarized` gives it."""

_UNITS = {"linf": "Linf", "l2": "L2", "l0": "values", "events": "events"}
_ALTERNATIVES = {
    "accuracy": "worst case, dense surrogates",
    "black_box": "random search",
    "transfer": "transferred from reference",
    "masked_gradients": "through its own masks",
}


def against_budget(summary: Summary) -> Figure:
    """Draw robust accuracy against the budget, a panel for each attack.

    Args:
        summary: Of the study.

    Returns:
        Means over seeds with their standard deviations, a line for each arm.
    """
    names = list(summary["main"])
    figure, panels = _panels(len(names))
    for panel, name in zip(panels, names, strict=True):
        budgets = [0, *summary["budgets"][name]]
        for number, (arm, found) in enumerate(summary["arms"].items()):
            attack = found["attacks"][name]
            left = np.column_stack([attack["clean"], attack["accuracy"]])
            # Shifted a little, so that bars of different arms can be told apart.
            places = np.arange(len(budgets)) + 0.06 * (number - 2)
            panel.errorbar(
                places,
                left.mean(0),
                left.std(0, ddof=1),
                label=arm,
                marker="o",
                markersize=4,
                capsize=2,
                color=f"C{number}",
            )
        panel.set_xticks(range(len(budgets)), [f"{b:g}" for b in budgets])
        unit = _UNITS.get(name, "as configured")
        panel.set(title=name, xlabel=f"budget ({unit})", ylim=(0, 1.02))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy, worst case of each sample")
    panels[0].legend(fontsize="small", loc="lower left")
    return figure


def over_steps(summary: Summary) -> Figure:
    """Draw accuracy over the steps at the main budget: a row for each attack.

    Args:
        summary: Of the study.

    Returns:
        Worst case so far thick, iterates of single runs thin, a panel for each arm.
    """
    arms, names = summary["arms"], list(summary["main"])
    figure = Figure(
        figsize=(2.6 * len(arms) + 1, 2.7 * len(names)), layout="constrained"
    )
    panels = figure.subplots(len(names), len(arms), sharey="row", squeeze=False)
    for row, name in zip(panels, names, strict=True):
        main = summary["main"][name]
        for panel, (arm, found) in zip(row, arms.items(), strict=True):
            attack = found["attacks"][name]
            for number, raw in enumerate(attack["raw_curve"][main]):
                panel.plot(
                    raw,
                    color=f"C{number}",
                    linewidth=0.8,
                    label=summary["probes"][number],
                )
            curve = np.array(attack["curve"])[:, main].mean(0)
            panel.plot(curve, color="k", linewidth=2, label="worst case so far")
            panel.set_title(
                f"{arm}, {name} {summary['budgets'][name][main]:g}", fontsize="small"
            )
            panel.set(xlabel="steps", ylim=(0, 1.02))
            panel.grid(alpha=0.3)
        row[0].set_ylabel("accuracy")
    panels[0, 0].legend(fontsize=6)
    return figure


def checks(summary: Summary) -> Figure:
    """Draw what other attacks leave beside the worst case, at the main budget.

    Args:
        summary: Of the study.

    Returns:
        Bars for each arm, a panel for each attack; points are seeds.
    """
    names = list(summary["main"])
    figure, panels = _panels(len(names))
    for panel, name in zip(panels, names, strict=True):
        main = summary["main"][name]
        for number, (key, label) in enumerate(_ALTERNATIVES.items()):
            for place, found in enumerate(summary["arms"].values()):
                if (values := found["attacks"][name].get(key)) is None:
                    continue
                left = [value[main] for value in values]
                x = place + 0.2 * (number - 1.5)
                panel.bar(x, np.mean(left), 0.18, color=f"C{number}", alpha=0.6)
                panel.plot([x] * len(left), left, ".", color="k", markersize=4)
            panel.bar(0, 0, color=f"C{number}", alpha=0.6, label=label)
        _name_arms(panel, list(summary["arms"]))
        panel.set_title(f"{name}, budget {summary['budgets'][name][main]:g}")
        panel.set_ylim(0, 1.02)
    panels[0].set_ylabel("accuracy left")
    panels[0].legend(fontsize="x-small")
    return figure


def by_surrogate(summary: Summary) -> Figure:
    """Draw what each surrogate alone leaves at the main budget.

    Args:
        summary: Of the study.

    Returns:
        Bars for each arm, a panel for each attack; points are seeds.
    """
    names = list(summary["main"])
    figure, panels = _panels(len(names))
    for panel, name in zip(panels, names, strict=True):
        main = summary["main"][name]
        width = 0.8 / len(summary["probes"])
        for place, found in enumerate(summary["arms"].values()):
            left = np.array(found["attacks"][name]["by_probe"])[:, main]
            for number, label in enumerate(summary["probes"]):
                x = place + width * (number - (len(summary["probes"]) - 1) / 2)
                panel.bar(
                    x,
                    left[:, number].mean(),
                    width,
                    color=f"C{number}",
                    alpha=0.7,
                    label=None if place else label,
                )
            worst = np.mean([v[main] for v in found["attacks"][name]["accuracy"]])
            panel.plot(
                [place - 0.42, place + 0.42],
                [worst] * 2,
                "k-",
                label=None if place else "worst of all",
            )
        _name_arms(panel, list(summary["arms"]))
        panel.set_title(f"{name}, budget {summary['budgets'][name][main]:g}")
    panels[0].set_ylabel("accuracy left")
    panels[0].legend(fontsize="x-small")
    return figure


def corruptions(summary: Summary, noise: list[float], blur: list[float]) -> Figure:
    """Draw accuracy under noise and blur, on all steps and, of recordings, on halves.

    Args:
        summary: Of the study.
        noise: Its standard deviations.
        blur: Its widths.

    Returns:
        A panel for each strength, bars for each arm.
    """
    strengths = [("noise", n, s) for n, s in enumerate(noise)]
    strengths += [("blur", n, s) for n, s in enumerate(blur)]
    figure, panels = _panels(len(strengths))
    arms = summary["arms"]
    measured = next(iter(arms.values()))["corruptions"]
    for panel, (kind, index, strength) in zip(panels, strengths, strict=True):
        # Images that stand still have no halves.
        times = [
            when
            for when in ("all steps", "first half", "second half")
            if f"{kind}, {when}" in measured
        ]
        for number, when in enumerate(times):
            left = np.array(
                [
                    [
                        values[index]
                        for values in found["corruptions"][f"{kind}, {when}"]
                    ]
                    for found in arms.values()
                ]
            )
            x = np.arange(len(left)) + 0.27 * (number - (len(times) - 1) / 2)
            panel.bar(
                x,
                left.mean(1),
                0.25,
                yerr=left.std(1, ddof=1),
                label=when,
                color=f"C{number}",
                alpha=0.7,
            )
        _name_arms(panel, list(arms))
        panel.set(title=f"{kind} {strength:g}", ylim=(0, 1.02))
    panels[0].set_ylabel("accuracy")
    panels[0].legend(fontsize="x-small", loc="lower left")
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.6 * count + 0.6, 3.8), layout="constrained")
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    return figure, list(panels)


def _name_arms(panel: Axes, arms: list[str]) -> None:
    panel.set_xticks(
        range(len(arms)), [arm.replace(" ", "\n") for arm in arms], fontsize=7
    )
    panel.grid(alpha=0.3, axis="y")
