"""Plots of the report as places in a drawing; the template makes lines of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report.experiments.metrics import OPTIMISTIC, PRIMARY, named, unit
from benchmarks.report.experiments.outline import Sweep
from benchmarks.report.experiments.summary import ArmSummary, ExperimentSummary
from benchmarks.report.experiments.tables import number

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


def plots_of(experiment: ExperimentSummary) -> list[Plot]:
    """Draw the arms of an experiment, and its sweeps as curves.

    Args:
        experiment: At one size.

    Returns:
        Plots; none where no arm has the metric that is drawn.
    """
    if not experiment.metrics:
        return []
    metric = PRIMARY if PRIMARY in experiment.metrics else experiment.metrics[0]
    by_label = {arm.label: arm for arm in experiment.arms}
    found = [_sweep(sweep, by_label, metric) for sweep in experiment.outline.sweeps]
    swept = {label for sweep in experiment.outline.sweeps for _, label in sweep.points}
    others = [arm for arm in experiment.arms if metric in arm.figures]
    if others and not {arm.label for arm in others} <= swept:
        references = set(experiment.outline.references.values())
        reference = by_label[references.pop()] if len(references) == 1 else None
        found.insert(0, _arms(others, metric, reference))
    return [plot for plot in found if plot.marks]


def _arms(
    arms: Sequence[ArmSummary], metric: str, reference: ArmSummary | None
) -> Plot:
    values = _values(arms, metric)
    low, high, ticks = axis(values)
    height = _ROW * len(arms) + 46

    def place(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_RIGHT - _LEFT)

    marks = []
    for row, arm in enumerate(arms):
        y = 26.0 + row * _ROW
        marks.append(_mark(arm, metric, place, y, arm.label))
        marks += [
            Mark(
                place(r.value), y, None, None, _said(arm, r.value, r.source), "reported"
            )
            for r in arm.reported
            if r.metric == metric
        ]
    line = None
    if reference is not None and metric in reference.figures:
        line = place(reference.figures[metric].mean)
    return Plot(
        "arms",
        f"Arms: {named(metric)}",
        "; ".join(mark.tip for mark in marks),
        height,
        tuple(Tick(place(tick), _tick(tick)) for tick in ticks),
        (),
        _axis_label(metric),
        "",
        tuple(marks),
        line,
        "" if reference is None else reference.label,
    )


def _sweep(sweep: Sweep, arms: dict[str, ArmSummary], metric: str) -> Plot:
    drawn = [
        (value, arms[label])
        for value, label in sweep.points
        if metric in arms[label].figures
    ]
    if not drawn:
        return Plot("sweep", sweep.label, "", 0, (), (), "", "", ())
    height, left, top, bottom = 280, 52, 14, 236
    low, high, ticks = axis(_values([arm for _, arm in drawn], metric))
    start, end, across = axis([value for value, _ in drawn])

    def down(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    def along(value: float) -> float:
        return left + (value - start) / (end - start) * (_RIGHT - left)

    marks = []
    for value, arm in drawn:
        found = _mark(arm, metric, down, along(value))
        marks.append(
            Mark(found.y, found.x, found.low, found.high, found.tip, found.kind)
        )
        marks += [
            Mark(
                along(value),
                down(r.value),
                None,
                None,
                _said(arm, r.value, r.source),
                "reported",
            )
            for r in arm.reported
            if r.metric == metric
        ]
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


def _mark(arm: ArmSummary, metric: str, place, other: float, label: str = "") -> Mark:
    found = arm.figures[metric]
    tip = f"{arm.label}: {number(found.mean)}{_of(metric)}"
    ends: list[float | None] = [None, None]
    if found.interval is not None:
        ends = [place(end) for end in found.interval]
        low, high = found.interval
        tip += f", 95% interval {number(low)} to {number(high)}"
    kind = "optimistic" if metric == OPTIMISTIC else "measured"
    return Mark(place(found.mean), other, *ends, tip, kind, shortened(label))


def shortened(label: str, longest: int = 60) -> str:
    """Cut the middle out of a label that a plot has no room for."""
    if len(label) <= longest:
        return label
    half = (longest - 3) // 2
    return f"{label[:half]}...{label[-half:]}"


def _said(arm: ArmSummary, value: float, source: str) -> str:
    return f"{arm.label}: {value:g} {source or 'reported'}"


def _of(metric: str) -> str:
    of = unit(metric)
    return of if of == "%" else f" {of}" if of else ""


def _axis_label(metric: str) -> str:
    return f"{named(metric)}{', ' + unit(metric) if unit(metric) else ''}"


def _values(arms: Sequence[ArmSummary], metric: str) -> list[float]:
    values = []
    for arm in arms:
        found = arm.figures[metric]
        values += [found.mean, *(found.interval or ())]
        values += [r.value for r in arm.reported if r.metric == metric]
    return values


def axis(values: Sequence[float], wanted: int = 5) -> tuple[float, float, list[float]]:
    """Lay an axis around values, with ticks at round numbers.

    Args:
        values: At least one.
        wanted: About how many ticks.

    Returns:
        Both ends, and the ticks between them.
    """
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(low) or 1.0
    low, high = low - room, high + room
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * s for s in (1, 2, 2.5, 5, 10) if power * s >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return low, high, [round(n * step, 12) for n in range(first, last + 1)]


def _tick(value: float) -> str:
    return f"{value:g}"
