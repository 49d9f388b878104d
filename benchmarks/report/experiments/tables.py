"""Tables of the report as cells: what is shown, and what a column is sorted by."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report.experiments.metrics import (
    OPTIMISTIC,
    PRIMARY,
    main_ones,
    named,
    unit,
)
from benchmarks.report.experiments.summary import (
    ArmSummary,
    Estimate,
    ExperimentSummary,
    Reported,
)
from benchmarks.statistics.sentences import UNTESTED, cautions

SECOND_HAND = "second-hand"
_MOST = 6
"""More figures than these stand below one another rather than side by side."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: Its figure; empty where there is none.
        note: What stands below it, smaller.
        sort: What it is sorted by; None comes last.
    """

    text: str = ""
    note: str = ""
    sort: float | str | None = None


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        heading: Over it.
        group: Over several columns: who has measured, or what is compared.
        kind: `"arm"`, `"reported"`, `"measured"`, `"optimistic"`, `"compared"` or
            `"tuned"`.
        cells: One for each arm.
    """

    heading: str
    group: str
    kind: str
    cells: tuple[Cell, ...]


def main_table(experiment: ExperimentSummary) -> list[Column]:
    """Lay out the accuracies of an experiment, with what was reported beside them.

    Args:
        experiment: At one size; where it has no accuracies, all figures are laid out.

    Returns:
        The columns; those that would be empty are left out.
    """
    arms = experiment.arms
    shown = main_ones(experiment.metrics)
    apart = not any(arm.reported or arm.comparison or arm.tuning for arm in arms)
    if apart and len(shown) > _MOST:
        return _metric_by_metric(experiment, shown)
    columns = [_labels(arms)]
    if any(arm.reported for arm in arms):
        cells = tuple(_reported(arm.reported) for arm in arms)
        # What a demo measures is something else than what the paper has.
        group = "reported" if experiment.size == "full" else "reported, not of a demo"
        columns.append(Column("paper's figure", group, "reported", cells))
    columns += _measured(experiment, shown)
    return columns + _comparisons(arms) + _tuning(arms)


def other_table(experiment: ExperimentSummary) -> list[Column]:
    """Lay out the figures that the main table leaves out.

    Args:
        experiment: At one size.

    Returns:
        The columns; none where the main table has all.
    """
    shown = main_ones(experiment.metrics)
    left = [metric for metric in experiment.metrics if metric not in shown]
    if not left:
        return []
    if len(left) > _MOST:
        return _metric_by_metric(experiment, left)
    return [_labels(experiment.arms), *_measured(experiment, left)]


def _metric_by_metric(
    experiment: ExperimentSummary, metrics: Sequence[str]
) -> list[Column]:
    """Lay out many figures below one another, a column for each arm."""
    names = [f"{named(m)}{', ' + unit(m) if unit(m) else ''}" for m in metrics]
    group = f"measured here, {experiment.size} size"
    return [
        Column("figure", "", "arm", tuple(Cell(name, sort=name) for name in names)),
        *(
            Column(
                arm.label,
                group,
                "measured",
                tuple(_estimate(arm.figures.get(metric)) for metric in metrics),
            )
            for arm in experiment.arms
        ),
    ]


def grouped(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Find the headings over several columns.

    Args:
        columns: Of a table.

    Returns:
        Each heading with the number of its columns, from left to right.
    """
    return [
        (heading, len(list(found)))
        for heading, found in itertools.groupby(columns, lambda column: column.group)
    ]


def _labels(arms: Sequence[ArmSummary]) -> Column:
    return Column("arm", "", "arm", tuple(Cell(a.label, sort=a.label) for a in arms))


def _measured(experiment: ExperimentSummary, metrics: Sequence[str]) -> list[Column]:
    group = f"measured here, {experiment.size} size"
    units = {unit(metric) for metric in metrics}
    alike = len(units) == 1
    if alike and any(units):
        group += f", {units.pop()}"
    columns = []
    for metric in metrics:
        heading = named(metric)
        if not alike and unit(metric):
            heading += f", {unit(metric)}"
        kind = "optimistic" if metric == OPTIMISTIC else "measured"
        cells = tuple(_estimate(arm.figures.get(metric)) for arm in experiment.arms)
        columns.append(Column(heading, group, kind, cells))
    runs = tuple(map(_runs, experiment.arms))
    return [*columns, Column("runs", group, "measured", runs)]


def _comparisons(arms: Sequence[ArmSummary]) -> list[Column]:
    if not any(arm.comparison for arm in arms):
        return []
    references = {arm.comparison.reference for arm in arms if arm.comparison}
    group = f"against {references.pop()}" if len(references) == 1 else "compared"
    several = bool(references)
    return [
        Column(
            "difference, points",
            group,
            "compared",
            tuple(_difference(arm, several) for arm in arms),
        ),
        Column(
            "smallest detectable",
            group,
            "compared",
            tuple(_detectable(arm) for arm in arms),
        ),
        Column(
            "effect, deviations",
            group,
            "compared",
            tuple(_effect(arm) for arm in arms),
        ),
        Column("p (Holm)", group, "compared", tuple(_p_value(arm) for arm in arms)),
    ]


def _tuning(arms: Sequence[ArmSummary]) -> list[Column]:
    if not any(arm.settings or arm.tuning for arm in arms):
        return []
    cells = tuple(map(_tuned, arms))
    return [Column("settings, validation accuracy", "tuning", "tuned", cells)]


def _tuned(arm: ArmSummary) -> Cell:
    tried = "; ".join(f"{which} {number(v)}%" for which, v in arm.tuning.items())
    chosen = "; ".join(arm.settings)
    return Cell(chosen, f"of {tried}" if tried else "", chosen or None)


def _reported(figures: Sequence[Reported]) -> Cell:
    if not figures:
        return Cell()
    texts = []
    for figure in figures:
        text = f"{figure.value:g}"
        if figure.deviation is not None:
            text += f" ± {figure.deviation:g}"
        if figure.metric != PRIMARY:
            text += f" ({named(figure.metric)})"
        texts.append(text)
    sources = dict.fromkeys(figure.source for figure in figures if figure.source)
    return Cell("; ".join(texts), "; ".join(sources), figures[0].value)


def _estimate(found: Estimate | None) -> Cell:
    if found is None:
        return Cell()
    note = "" if found.interval is None else _between(*found.interval)
    return Cell(number(found.mean), note, found.mean)


def _runs(arm: ArmSummary) -> Cell:
    figures = list(arm.figures.values())
    if not figures:
        return Cell()
    most = max(figures, key=lambda figure: figure.runs)
    seeds = f"{len(most.seeds)} seed{'s' * (len(most.seeds) > 1)}"
    note = f"{seeds}, {most.splits} split{'s' * (most.splits > 1)}"
    return Cell(str(most.runs), note, most.runs)


def _difference(arm: ArmSummary, name_reference: bool) -> Cell:
    if arm.comparison is None:
        return Cell()
    found = arm.comparison.difference
    note = f"{found.interval[0]:+.2f} to {found.interval[1]:+.2f}"
    if name_reference:
        note += f", less {arm.comparison.reference}"
    return Cell(f"{found.estimate:+.2f}", note, found.estimate)


def _detectable(arm: ArmSummary) -> Cell:
    if arm.comparison is None:
        return Cell()
    found = arm.comparison.difference
    return Cell(f"{found.smallest_detectable:.2f}", "", found.smallest_detectable)


def _effect(arm: ArmSummary) -> Cell:
    if arm.comparison is None or arm.comparison.difference.effect is None:
        return Cell()
    size, low, high = arm.comparison.difference.effect
    return Cell(f"{size:+.2f}", f"{low:+.2f} to {high:+.2f}", size)


def _p_value(arm: ArmSummary) -> Cell:
    if arm.comparison is None or arm.comparison.adjusted is None:
        return Cell()
    p = arm.comparison.adjusted
    by = "runs, items" if arm.comparison.of_items else "runs"
    return Cell("< 0.001" if p < 0.001 else f"{p:.3f}", f"of {by}", p)


def _between(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}"


def number(value: float) -> str:
    """Write a figure with as many decimals as its size leaves room for."""
    if value and abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.5g}"


def sentences(experiment: ExperimentSummary) -> list[str]:
    """Say what the comparisons of an experiment show.

    Args:
        experiment: At one size.

    Returns:
        Sentences.
    """
    compared = [arm for arm in experiment.arms if arm.comparison is not None]
    if not compared:
        return []
    differences = [arm.comparison.difference for arm in compared if arm.comparison]
    tested = [
        arm
        for arm in compared
        if arm.comparison is not None and arm.comparison.adjusted is not None
    ]
    if not tested:
        return [UNTESTED, *cautions(differences)]
    shown = [arm for arm in tested if (arm.comparison.adjusted or 0) < 0.05]
    of = f"{len(tested)} compared arm{'s' * (len(tested) > 1)}"
    if shown:
        names = "; ".join(
            f"{arm.label} ({arm.comparison.difference.estimate:+.2f} points)"
            for arm in shown
            if arm.comparison
        )
        verb = "differs from its" if len(shown) == 1 else "differ from their"
        found = (
            f"{len(shown)} of {of} {verb} reference after Holm's correction: {names}."
        )
    else:
        found = (
            f"None of {of} differs from its reference after Holm's correction. "
            "Differences below the smallest detectable one would go unseen."
        )
    return [found, *cautions(differences)]
