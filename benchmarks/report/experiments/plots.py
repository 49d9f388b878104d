"""Plots of the report as places in a drawing; the template makes lines of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report.experiments.metrics import (
    OPTIMISTIC,
    in_words,
    named,
    unit,
    unit_of_difference,
    with_unit,
)
from benchmarks.report.experiments.outline import Sweep
from benchmarks.report.experiments.summary import (
    ArmSummary,
    Comparison,
    ExperimentSummary,
    Reported,
)
from benchmarks.report.experiments.tables import (
    number,
    said_difference,
    signed_size,
)

WIDTH = 460
_LEFT, _RIGHT = 12, 448
_ROW = 40


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: its place and what stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A figure with its interval.

    Attributes:
        x: Across.
        y: Down.
        low: Place of the interval's lower end; None without one.
        high: Place of its upper end.
        tip: What is said when it is pointed at.
        kind: `"measured"`, `"optimistic"` or `"reported"`.
        label: Of its row; empty for curves.
    """

    x: float
    y: float
    low: float | None
    high: float | None
    tip: str
    kind: str
    label: str = ""


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        kind: `"arms"` or `"sweep"`.
        title: Over it.
        about: What a reader who does not see it should know.
        height: Of the drawing; the width is `WIDTH`.
        x: Ticks across.
        y: Ticks down; none of arms.
        x_label: Of the axis across.
        y_label: Of the axis down.
        marks: What is drawn.
        line: Place of the reference; None without.
        reference: Its label.
    """

    kind: str
    title: str
    about: str
    height: int
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    x_label: str
    y_label: str
    marks: tuple[Mark, ...]
    line: float | None = None
    reference: str = ""

    @property
    def path(self) -> str:
        """The measured points of a sweep as a polyline."""
        return " ".join(
            f"{mark.x:.1f},{mark.y:.1f}"
            for mark in self.marks
            if mark.kind == "measured"
        )


@dataclass(frozen=True)
class _Point:
    """A figure before it has a place."""

    value: float
    interval: tuple[float, float] | None
    tip: str
    kind: str

    @property
    def values(self) -> tuple[float, ...]:
        return (self.value, *(self.interval or ()))


def plots_of(experiment: ExperimentSummary) -> list[Plot]:
    """Draw the arms of an experiment, their differences, and its sweeps as curves.

    Args:
        experiment: At one size.

    Returns:
        Plots; none of a single arm.
    """
    if len(experiment.arms) < 2:
        return []
    metric = experiment.drawn
    points = {
        arm.label: _points(arm, metric, experiment.drawn_beside(arm, metric))
        for arm in experiment.arms
        if metric in arm.figures
    }
    sweeps = [
        _sweep(sweep, points, metric)
        for sweep in experiment.outline.sweeps
        if any(label in points for _, label in sweep.points)
    ]
    swept = {label for sweep in experiment.outline.sweeps for _, label in sweep.points}
    if points.keys() <= swept:
        return sweeps
    references = sorted(set(experiment.outline.references.values()))
    line, name = None, ""
    if len(references) == 1 and references[0] in points:
        name = references[0]
        line = points[name][0].value
    plots = [_rows(f"Arms: {named(metric)}", points, _axis_label(metric), line, name)]
    differences = {
        arm.label: [_difference(arm.label, arm.comparison)]
        for arm in experiment.arms
        if arm.comparison is not None
    }
    if differences:
        name = "no difference"
        title = f"Paired differences: {named(metric)}"
        x_label = unit_of_difference(metric) or in_words(metric)
        plots.append(_rows(title, differences, x_label, 0.0, name))
    return plots + sweeps


def _points(arm: ArmSummary, metric: str, beside: Sequence[Reported]) -> list[_Point]:
    found = arm.figures[metric]
    tip = f"{arm.label}: {number(found.mean)}{_of(metric)}"
    if found.interval is not None:
        low, high = found.interval
        tip += f", 95% interval {number(low)} to {number(high)}"
    kind = "optimistic" if metric == OPTIMISTIC else "measured"
    return [
        _Point(found.mean, found.interval, tip, kind),
        *(
            _Point(
                reported.value,
                None,
                f"{arm.label}: {reported.value:g} {reported.source or 'reported'}",
                "reported",
            )
            for reported in beside
        ),
    ]


def _difference(label: str, comparison: Comparison) -> _Point:
    found = comparison.difference
    low, high = (signed_size(end, comparison.metric) for end in found.interval)
    tip = (
        f"{label} less {comparison.reference}: {said_difference(comparison)}, 95% "
        f"interval {low} to {high}"
    )
    return _Point(found.estimate, found.interval, tip, "measured")


def _rows(
    title: str,
    points: Mapping[str, Sequence[_Point]],
    x_label: str,
    line: float | None,
    reference: str,
) -> Plot:
    values = [value for row in points.values() for one in row for value in one.values]
    low, high, ticks = axis([*values, *([] if line is None else [line])])

    def place(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_RIGHT - _LEFT)

    marks = []
    for number_of_row, (label, row) in enumerate(points.items()):
        y = 26.0 + number_of_row * _ROW
        for number_in_row, one in enumerate(row):
            ends = [place(end) for end in one.interval or ()] or [None, None]
            shown = "" if number_in_row else shortened(label)
            marks.append(Mark(place(one.value), y, *ends, one.tip, one.kind, shown))
    return Plot(
        "arms",
        title,
        "; ".join(mark.tip for mark in marks),
        _ROW * len(points) + 46,
        tuple(Tick(place(tick), _tick(tick)) for tick in ticks),
        (),
        x_label,
        "",
        tuple(marks),
        None if line is None else place(line),
        reference,
    )


def _sweep(sweep: Sweep, points: Mapping[str, Sequence[_Point]], metric: str) -> Plot:
    drawn = [(at, one) for at, label in sweep.points for one in points.get(label, ())]
    height, left, top, bottom = 280, 52, 14, 236
    low, high, ticks = axis([value for _, one in drawn for value in one.values])
    start, end, across = axis([at for at, _ in drawn])

    def down(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    def along(at: float) -> float:
        return left + (at - start) / (end - start) * (_RIGHT - left)

    marks = []
    for at, one in drawn:
        ends = [down(end) for end in one.interval or ()] or [None, None]
        marks.append(Mark(along(at), down(one.value), *ends, one.tip, one.kind))
    return Plot(
        "sweep",
        f"{sweep.label}: {named(metric)}",
        "; ".join(mark.tip for mark in marks),
        height,
        tuple(Tick(along(tick), _tick(tick)) for tick in across),
        tuple(Tick(down(tick), _tick(tick)) for tick in ticks),
        sweep.axis,
        _axis_label(metric),
        tuple(marks),
    )


def shortened(label: str, longest: int = 60) -> str:
    """Cut the middle out of a label that a plot has no room for."""
    if len(label) <= longest:
        return label
    half = (longest - 3) // 2
    return f"{label[:half]}...{label[-half:]}"


def _of(metric: str) -> str:
    of = unit(metric)
    return of if of == "%" else f" {of}" if of else ""


def _axis_label(metric: str) -> str:
    return with_unit(named(metric), unit(metric))


def axis(values: Sequence[float], least: int = 4) -> tuple[float, float, list[float]]:
    """Lay an axis around values, with ticks at round numbers.

    Args:
        values: At least one.
        least: How many ticks there are at least.

    Returns:
        Both ends, and the ticks between them.
    """
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(low) or 1.0
    low, high = low - room, high + room
    power = 10.0 ** math.floor(math.log10(high - low))
    for step in (power * share for share in (1, 0.5, 0.25, 0.2, 0.1)):
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first + 1 >= least:
            break
    return low, high, [round(n * step, 12) for n in range(first, last + 1)]


def _tick(value: float) -> str:
    return f"{value:g}"
