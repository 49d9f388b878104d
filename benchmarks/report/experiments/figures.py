"""Figures of the report for papers: PDF with embedded fonts, at two widths."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.experiments.metrics import (
    named,
    unit,
    unit_of_difference,
    with_unit,
)
from benchmarks.report.experiments.outline import Sweep
from benchmarks.report.experiments.plots import shortened
from benchmarks.report.experiments.summary import ArmSummary, ExperimentSummary
from benchmarks.report.experiments.tables import SECOND_HAND
from sj_ext.files import replace_file

WIDTHS = {"one-column": 3.25, "two-columns": 6.75}
"""In inches."""

_SETTINGS = {
    # TrueType, which stays text and is embedded; matplotlib's default is Type 3, which
    # many journals refuse.
    "pdf.fonttype": 42,
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 4,
}
_MEASURED = "#1f5fa8"
_OURS = {"marker": "o", "color": _MEASURED, "linestyle": "none", "capsize": 2}
_OF_OTHERS = {
    "marker": "D",
    "markerfacecolor": "white",
    "markeredgecolor": "#a04e00",
    "linestyle": "none",
}


def save_figures(folder: Path, experiment: ExperimentSummary) -> list[Path]:
    """Draw an experiment at each of the widths.

    Args:
        folder: Where to.
        experiment: At one size.

    Returns:
        The files; none of a single arm.
    """
    if len(experiment.arms) < 2:
        return []
    files = []
    for name, width in WIDTHS.items():
        path = folder / f"{experiment.label}-{name}.pdf"
        with matplotlib.rc_context(_SETTINGS), replace_file(path) as temporary:
            figure = draw(experiment, width)
            # Without the time in it, the same figures give the same file.
            figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
        files.append(path)
    return files


def draw(experiment: ExperimentSummary, width: float) -> Figure:
    """Draw arms, their paired differences, and sweeps, with their intervals.

    Args:
        experiment: At one size.
        width: In inches; panels stand side by side where there is room.

    Returns:
        The figure.
    """
    metric = experiment.drawn
    arms = [arm for arm in experiment.arms if metric in arm.figures]
    compared = [arm for arm in arms if arm.comparison is not None]
    sweeps = experiment.outline.sweeps
    swept = {label for sweep in sweeps for _, label in sweep.points}
    by_label = {arm.label: arm for arm in arms}
    panels: list[tuple[float, Callable[[Axes], None]]] = []
    if not by_label.keys() <= swept:
        panels.append(
            (0.5 + 0.2 * len(arms), lambda p: _arms(p, experiment, arms, metric))
        )
        if compared:
            height = 0.5 + 0.2 * len(compared)
            panels.append((height, lambda p: _differences(p, compared, metric)))
    for sweep in sweeps:
        panels.append((1.9, lambda p, one=sweep: _sweep(p, experiment, one, metric)))
    heights = [height for height, _ in panels]
    columns = 2 if width > 5 and len(panels) > 1 else 1
    rows = [max(heights[n : n + columns]) for n in range(0, len(panels), columns)]
    figure = Figure(figsize=(width, sum(rows) + 0.3), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=rows)
    for panel in grid.flat[len(panels) :]:
        panel.set_axis_off()
    for panel, (_, put_into) in zip(grid.flat, panels, strict=False):
        put_into(panel)
        panel.grid(alpha=0.3, linewidth=0.5)
    _legend(figure, experiment, metric)
    return figure


def _differences(panel: Axes, arms: Sequence[ArmSummary], metric: str) -> None:
    panel.axvline(0, color="0.4", linestyle="--", linewidth=0.8)
    references = []
    for place, arm in enumerate(arms):
        assert arm.comparison is not None
        found = arm.comparison.difference
        low, high = found.interval
        error = [[found.estimate - low], [high - found.estimate]]
        panel.errorbar([found.estimate], [place], xerr=error, **_OURS)
        references.append(arm.comparison.reference)
    _name_rows(panel, arms)
    of = f" to {_plain(references[0])}" if len(set(references)) == 1 else ""
    panel.set_xlabel(with_unit(f"paired difference{of}", unit_of_difference(metric)))


def _arms(
    panel: Axes,
    experiment: ExperimentSummary,
    arms: Sequence[ArmSummary],
    metric: str,
) -> None:
    for place, arm in enumerate(arms):
        _point(panel, arm, metric, place, across=True)
        for reported in experiment.drawn_beside(arm, metric):
            panel.plot(reported.value, place, **_OF_OTHERS)
    _name_rows(panel, arms)
    panel.set_xlabel(_label(metric))


def _name_rows(panel: Axes, arms: Sequence[ArmSummary]) -> None:
    panel.set_yticks(range(len(arms)), [shortened(_plain(a.label), 24) for a in arms])
    panel.set_ylim(len(arms) - 0.5, -0.5)


def _sweep(
    panel: Axes, experiment: ExperimentSummary, sweep: Sweep, metric: str
) -> None:
    arms = {arm.label: arm for arm in experiment.arms if metric in arm.figures}
    points = [(value, arms[label]) for value, label in sweep.points if label in arms]
    means = [arm.figures[metric].mean for _, arm in points]
    panel.plot([value for value, _ in points], means, color=_MEASURED, linewidth=0.8)
    for value, arm in points:
        _point(panel, arm, metric, value, across=False)
        for reported in experiment.drawn_beside(arm, metric):
            panel.plot(value, reported.value, **_OF_OTHERS)
    panel.set(xlabel=_plain(sweep.axis), ylabel=_label(metric))
    panel.set_title(shortened(_plain(sweep.label), 40), fontsize=8)


def _point(
    panel: Axes, arm: ArmSummary, metric: str, place: float, across: bool
) -> None:
    found = arm.figures[metric]
    error = None
    if found.interval is not None:
        low, high = found.interval
        error = [[found.mean - low], [high - found.mean]]
    if across:
        panel.errorbar([found.mean], [place], xerr=error, **_OURS)
    else:
        panel.errorbar([place], [found.mean], yerr=error, **_OURS)


def _legend(figure: Figure, experiment: ExperimentSummary, metric: str) -> None:
    reported = [
        r for arm in experiment.arms for r in experiment.drawn_beside(arm, metric)
    ]
    if not reported:
        return
    second_hand = any(SECOND_HAND in r.source for r in reported)
    handles = [
        Line2D([], [], marker="o", color=_MEASURED, label="measured", linestyle="none"),
        Line2D(
            [],
            [],
            label=f"reported ({SECOND_HAND})" if second_hand else "reported",
            **_OF_OTHERS,
        ),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)


def _label(metric: str) -> str:
    return with_unit(named(metric), unit(metric))


def _plain(text: str) -> str:
    """Keep matplotlib from reading mathematics where there is none."""
    return text.replace("$", r"\$")
