"""Tables of the report as cells: what is shown, and what a column is sorted by."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.experiments.row_metrics import ACCURACY
from benchmarks.report.experiments.metrics import (
    OPTIMISTIC,
    in_words,
    main_ones,
    named,
    unit,
    unit_of_difference,
    with_unit,
)
from benchmarks.report.experiments.summary import (
    ArmSummary,
    Comparison,
    Estimate,
    ExperimentSummary,
    Reported,
)
from benchmarks.statistics.paired import FEWEST_PAIRS
from benchmarks.statistics.sentences import UNTESTED, UNVARIED, cautions

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
    """Lay out what an experiment asks about, with what was reported beside it.

    Args:
        experiment: At one size; its primary metric and its accuracies are laid out, all
            figures where it has no accuracies.

    Returns:
        The columns; those that would be empty are left out.
    """
    arms = experiment.arms
    shown = main_ones(experiment.metrics, experiment.primary)
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
    return columns + _comparisons(experiment) + _tuning(arms)


def other_table(experiment: ExperimentSummary) -> list[Column]:
    """Lay out the figures that the main table leaves out.

    Args:
        experiment: At one size.

    Returns:
        The columns; none where the main table has all.
    """
    shown = main_ones(experiment.metrics, experiment.primary)
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
    names = [with_unit(named(metric), unit(metric)) for metric in metrics]
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
        if not alike:
            heading = with_unit(heading, unit(metric))
        kind = "optimistic" if metric == OPTIMISTIC else "measured"
        cells = tuple(_estimate(arm.figures.get(metric)) for arm in experiment.arms)
        columns.append(Column(heading, group, kind, cells))
    runs = tuple(map(_runs, experiment.arms))
    return [*columns, Column("runs", group, "measured", runs)]


def _comparisons(experiment: ExperimentSummary) -> list[Column]:
    arms = experiment.arms
    compared = [arm.comparison for arm in arms if arm.comparison is not None]
    if not compared:
        return []
    metric = experiment.primary
    references = {one.reference for one in compared}
    several = len(references) > 1
    against = "compared" if several else f"against {references.pop()}"
    group = f"{in_words(metric)}, {against}"
    effect_of = {one.difference.effect_of for one in compared}
    of = f" of {effect_of.pop()}" if len(effect_of) == 1 else ""
    return [
        Column(
            with_unit("difference", unit_of_difference(metric)),
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
            f"effect, deviations{of}",
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
        if figure.metric != ACCURACY:
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
    found, metric = arm.comparison.difference, arm.comparison.metric
    low, high = (signed_size(end, metric) for end in found.interval)
    note = f"{low} to {high}" if found.varies else "the same in all runs"
    if name_reference:
        note += f", less {arm.comparison.reference}"
    return Cell(signed_size(found.estimate, metric), note, found.estimate)


def _detectable(arm: ArmSummary) -> Cell:
    if arm.comparison is None or not arm.comparison.difference.varies:
        return Cell()
    found = arm.comparison.difference.smallest_detectable
    return Cell(size_of(found, arm.comparison.metric), "", found)


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


def size_of(value: float, metric: str) -> str:
    """Write how large a difference of a metric is: points with two decimals."""
    in_points = unit_of_difference(metric) == "points"
    return f"{abs(value):.2f}" if in_points else number(abs(value))


def signed_size(value: float, metric: str) -> str:
    """Write a difference of a metric with its sign."""
    return ("-" if value < 0 else "+") + size_of(value, metric)


def said_difference(comparison: Comparison) -> str:
    """Write what a comparison has measured, with its unit."""
    estimate = signed_size(comparison.difference.estimate, comparison.metric)
    return f"{estimate} {unit_of_difference(comparison.metric)}".strip()


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
    words = in_words(experiment.primary)
    differences = [arm.comparison.difference for arm in compared if arm.comparison]
    tested = [
        arm
        for arm in compared
        if arm.comparison is not None and arm.comparison.adjusted is not None
    ]
    if not tested:
        few = any(one.runs < FEWEST_PAIRS for one in differences)
        return [UNTESTED if few else UNVARIED, *cautions(differences)]
    shown = [arm for arm in tested if (arm.comparison.adjusted or 0) < 0.05]
    of = f"{len(tested)} compared arm{'s' * (len(tested) > 1)}"
    if shown:
        names = "; ".join(
            f"{arm.label} ({said_difference(arm.comparison)})"
            for arm in shown
            if arm.comparison
        )
        verb = "differs from its" if len(shown) == 1 else "differ from their"
        found = (
            f"{len(shown)} of {of} {verb} reference in {words} after Holm's "
            f"correction: {names}."
        )
    else:
        found = (
            f"None of {of} differs from its reference in {words} after Holm's "
            "correction. Differences below the smallest detectable one would go unseen."
        )
    return [found, *cautions(differences)]
