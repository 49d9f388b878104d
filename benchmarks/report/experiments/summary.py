"""Rows of the table of results, brought together: what a page or a table then shows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.experiments.rows import TUNING, Row
from benchmarks.report.experiments.metrics import ordered, unit
from benchmarks.report.experiments.outline import Outline, outline_of
from benchmarks.statistics.arms import METRICS, by_pair, paired_values
from benchmarks.statistics.holm import holm
from benchmarks.statistics.items import Epoch, TestedRun, differences, read_run
from benchmarks.statistics.paired import PairedDifference, paired_difference


@dataclass(frozen=True)
class Estimate:
    """A metric of an arm, over its runs.

    Attributes:
        mean: Over splits and seeds.
        deviation: Over the runs; None of one.
        interval: 95% interval of the mean, by the t distribution; None of one run.
        seeds: Different ones.
        splits: How many.
        runs: How many.
    """

    mean: float
    deviation: float | None
    interval: tuple[float, float] | None
    seeds: tuple[int, ...]
    splits: int
    runs: int


@dataclass(frozen=True)
class Reported:
    """A figure of somebody else.

    Attributes:
        metric: Which metric it is said to be of.
        value: The figure.
        deviation: Over seeds, where one is reported.
        source: Where from, and how sure that is.
    """

    metric: str
    value: float
    deviation: float | None
    source: str


@dataclass(frozen=True)
class Comparison:
    """An arm against its reference.

    Attributes:
        reference: Label of the reference.
        metric: What they are compared by.
        difference: Arm less reference; of shares in points.
        of_items: Whether single test recordings were compared.
        adjusted: p value after Holm, of all arms of the experiment; None where too few
            runs make a pair.
    """

    reference: str
    metric: str
    difference: PairedDifference
    of_items: bool
    adjusted: float | None = None


@dataclass(frozen=True)
class ArmSummary:
    """An arm.

    Attributes:
        label: What tables call it.
        figures: By metric.
        reported: What others report of it.
        comparison: None of the reference itself, and where nothing pairs.
        settings: What tuning chose for its runs; several where splits were tuned
            apart, none without tuning.
        tuning: Validation accuracy of each candidate that was tried, in percent.
    """

    label: str
    figures: Mapping[str, Estimate]
    reported: tuple[Reported, ...]
    comparison: Comparison | None = None
    settings: tuple[str, ...] = ()
    tuning: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ExperimentSummary:
    """An experiment at one size.

    Attributes:
        name: Of the experiment.
        size: `"demo"` or `"full"`.
        outline: Title, order of arms, references.
        metrics: Those that some arm has, in the order of tables.
        arms: In the order of the experiment's file.
        rows: All rows, for the provenance.
    """

    name: str
    size: str
    outline: Outline
    metrics: tuple[str, ...]
    arms: tuple[ArmSummary, ...]
    rows: tuple[Row, ...]

    @property
    def label(self) -> str:
        """Name and size, as part of an identifier."""
        return f"{self.name}-{self.size}"

    @property
    def primary(self) -> str:
        """The metric that arms are compared by."""
        return self.outline.primary

    @property
    def drawn(self) -> str:
        """The metric that plots are of: the primary one, if there are rows of it."""
        return self.primary if self.primary in self.metrics else self.metrics[0]

    def drawn_beside(self, arm: ArmSummary, metric: str) -> list[Reported]:
        """Pick reported figures that belong on one axis with measured ones.

        Args:
            arm: Of the experiment.
            metric: What the axis is of.

        Returns:
            Those of the metric; none at demo size, whose data and networks are others.
        """
        if self.size == "demo":
            return []
        return [figure for figure in arm.reported if figure.metric == metric]


def summarized(
    rows: Sequence[Row], folders: Mapping[str, Path] | None = None
) -> list[ExperimentSummary]:
    """Bring rows together by experiment and size.

    Args:
        rows: Of the table of results.
        folders: Of runs by digest: arms whose runs are all there are compared
            recording by recording.

    Returns:
        Experiments in alphabetical order, demo before full.
    """
    keys = sorted({(row.experiment, row.size) for row in rows})
    return [
        _experiment(
            name,
            size,
            [row for row in rows if (row.experiment, row.size) == (name, size)],
            folders or {},
        )
        for name, size in keys
    ]


def _experiment(
    name: str, size: str, rows: Sequence[Row], folders: Mapping[str, Path]
) -> ExperimentSummary:
    tried = [row for row in rows if row.metric == TUNING]
    studied = [row for row in rows if row.metric != TUNING]
    # Of a study that has not come beyond its tuning, the tuning is shown.
    labels = dict.fromkeys(row.arm for row in studied or tried)
    outline = outline_of(name, size, list(labels))
    by_arm = {
        label: [row for row in studied if row.arm == label] for label in outline.arms
    }
    arms = [
        _arm(label, found, [row for row in tried if row.arm == label])
        for label, found in by_arm.items()
    ]
    comparisons = {
        label: _compared(by_arm, label, reference, outline.primary, folders)
        for label, reference in outline.references.items()
    }
    return ExperimentSummary(
        name,
        size,
        outline,
        tuple(ordered((row.metric for row in studied), outline.primary)),
        tuple(
            replace(arm, comparison=comparison)
            for arm, comparison in zip(arms, _adjusted(arms, comparisons), strict=True)
        ),
        tuple(rows),
    )


def _arm(label: str, rows: Sequence[Row], tried: Sequence[Row]) -> ArmSummary:
    metrics = ordered(row.metric for row in rows)
    reported = {
        (row.reported, row.reported_deviation, row.reported_source): Reported(
            row.metric, row.reported, row.reported_deviation, row.reported_source
        )
        for row in rows
        if row.reported is not None
    }
    figures = {
        metric: estimate([row for row in rows if row.metric == metric])
        for metric in metrics
    }
    return ArmSummary(
        label,
        figures,
        tuple(reported.values()),
        settings=tuple(dict.fromkeys(row.settings for row in rows if row.settings)),
        tuning={row.settings: row.measured for row in tried},
    )


def estimate(rows: Sequence[Row]) -> Estimate:
    """Average rows of one metric of one arm.

    Args:
        rows: Of single runs, or one for several seeds.

    Returns:
        The mean with its interval.
    """
    seeds = tuple(sorted({seed for row in rows for seed in row.seeds}))
    splits = len({row.split_checksum for row in rows})
    values = np.array([row.measured for row in rows])
    runs = sum(len(row.seeds) for row in rows)
    if len(rows) == 1:
        (row,) = rows
        interval = None
        if row.deviation is not None and runs > 1:
            half = stats.t.ppf(0.975, runs - 1) * row.deviation / math.sqrt(runs)
            ends = row.measured - half, row.measured + half
            interval = _possible(ends, row.metric)
        return Estimate(row.measured, row.deviation, interval, seeds, splits, runs)
    singles = by_pair(rows)
    if len(singles) < len(rows):
        # Means over seeds of several splits: nothing says how they hang together.
        return Estimate(float(values.mean()), None, None, seeds, splits, runs)
    found = paired_difference(_by_split(singles))
    interval = _possible(found.interval, rows[0].metric)
    return Estimate(
        found.estimate, float(values.std(ddof=1)), interval, seeds, splits, runs
    )


def _possible(interval: tuple[float, float], metric: str) -> tuple[float, float]:
    """Cut what no share can be off an interval."""
    low, high = interval
    return (max(0.0, low), min(100.0, high)) if unit(metric) == "%" else interval


def _by_split(values: Mapping[tuple[str, int], float]) -> list[np.ndarray]:
    zeros = dict.fromkeys(values, 0.0)
    return paired_values(values, zeros)


def _compared(
    by_arm: Mapping[str, Sequence[Row]],
    label: str,
    reference: str,
    metric: str,
    folders: Mapping[str, Path],
) -> Comparison | None:
    """Compare an arm with another by a metric.

    Args:
        by_arm: Rows of each arm.
        label: Of the arm.
        reference: Label of the other.
        metric: What they are compared by.
        folders: Of runs by digest.

    Returns:
        The comparison, item by item where the answers are stored; None where nothing
        pairs. Rows that stand for several seeds do not: what each gave is not known.
    """
    sides = [
        [row for row in by_arm.get(name, ()) if row.metric == metric]
        for name in (label, reference)
    ]
    paired = by_pair(sides[0]).keys() & by_pair(sides[1]).keys()
    epoch = _EPOCHS.get(metric)
    if paired and epoch is not None:
        runs = [_runs(rows, folders, epoch) for rows in sides]
        if all(runs):
            groups = [100 * values for values in differences(*runs)]
            found = paired_difference(groups)
            return Comparison(reference, metric, found, of_items=True)
    groups = paired_values(by_pair(sides[0]), by_pair(sides[1]))
    if sum(map(len, groups)) < 2:
        return None
    return Comparison(reference, metric, paired_difference(groups), of_items=False)


_EPOCHS: Mapping[str, Epoch] = {metric: epoch for epoch, metric in METRICS.items()}
"""After which epoch a run's stored answers give a metric item by item."""


def _runs(
    rows: Sequence[Row], folders: Mapping[str, Path], epoch: Epoch
) -> list[TestedRun]:
    """Read the runs of an arm, all of them or none."""
    if not all(row.digest in folders for row in rows):
        return []
    return [read_run(folders[row.digest], epoch) for row in rows]


def _adjusted(
    arms: Sequence[ArmSummary], comparisons: Mapping[str, Comparison | None]
) -> list[Comparison | None]:
    found = [comparisons.get(arm.label) for arm in arms]
    tested = [
        number
        for number, one in enumerate(found)
        if one is not None and one.difference.testable
    ]
    p_values = [found[number].difference.p_value for number in tested]
    for number, adjusted in zip(tested, holm(p_values), strict=True):
        found[number] = replace(found[number], adjusted=adjusted)
    return found
