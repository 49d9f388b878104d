"""The queue of an experiment: every arm, cell, seed and split; what is done is skipped.

Killed at any moment, it goes on where it stopped: runs resume by themselves, and rows
of the table are made from the folders of complete runs, so that they come out the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.experiments.description import Cell, Experiment, Size
from benchmarks.experiments.kinds import Measured, Origin, Wanted, kind_of
from benchmarks.experiments.rows import OWN_RESULTS, TUNING, Row, add_rows, read_rows
from benchmarks.experiments.work import Job, done
from benchmarks.runs.command_line import ConfigError, read_as
from benchmarks.runs.labels import said
from benchmarks.runs.progress import Reporter

__all__ = ["Options", "Point", "jobs", "points", "run_experiment", "tuning_runs"]

_PROG = "python -m benchmarks run"


@dataclass(frozen=True)
class Options:
    """How a queue runs.

    Attributes:
        size: `"demo"` or `"full"`.
        seeds: In place of the experiment's; None for those.
        shard: This machine's part, counted from 1, and of how many.
        runs: Folder of all runs.
        results: The table that rows are added to.
        workers: Processes at a time, each with one thread.
        processes: Of torchrun, which share the work.
    """

    size: Size = "full"
    seeds: tuple[int, ...] | None = None
    shard: tuple[int, int] = (1, 1)
    runs: Path = Path("runs/experiments")
    results: Path = OWN_RESULTS
    workers: int = 2
    processes: int = 1


@dataclass(frozen=True)
class Point:
    """Something to run: a cell of the experiment, with seeds and a split.

    Attributes:
        cell: Arm and settings.
        seeds: One, or all where the task takes them at once.
        split: Name of a split file; None is the one of the configuration.
    """

    cell: Cell
    seeds: tuple[int, ...]
    split: str | None

    @property
    def label(self) -> str:
        """What progress calls it."""
        word = "seed" if len(self.seeds) == 1 else "seeds"
        seeds = " ".join(map(str, self.seeds))
        return ", ".join(
            [self.cell.label, f"{word} {seeds}", *([self.split] if self.split else [])]
        )


def points(
    experiment: Experiment, size: Size, seeds: Sequence[int] | None = None
) -> list[Point]:
    """List all that an experiment runs, seed after seed, so that any part is balanced.

    Args:
        experiment: Which.
        size: `"demo"` or `"full"`.
        seeds: In place of the experiment's.

    Returns:
        Training seeds crossed with splits, each with every arm and cell.
    """
    chosen = tuple(seeds or experiment.seeds_of(size))
    at_once = kind_of(experiment.task).all_seeds_at_once
    groups = [chosen] if at_once else [(seed,) for seed in chosen]
    return [
        Point(cell, group, split)
        for group in groups
        for split in experiment.splits_of(size)
        for cell in experiment.cells(size)
    ]


def tuning_runs(experiment: Experiment, size: Size) -> int:
    """Count the runs that choose settings before the study."""
    return sum(
        len(experiment.candidates_of(cell.arm, size)) for cell in experiment.cells(size)
    )


def run_experiment(
    experiment: Experiment, options: Options, reporter: Reporter
) -> list[Row]:
    """Run an experiment, or go on with it, and put its rows into the table.

    Args:
        experiment: Which.
        options: How.
        reporter: Shows progress.

    Returns:
        The rows of this machine's part, those of the tuning first.

    Raises:
        ConfigError: If the shard is none, or seeds are of the tuning.
    """
    number, of = options.shard
    if not 1 <= number <= of:
        raise ConfigError(f"Expected `shard` from 1/{of} to {of}/{of}, got {number}.")
    if options.results.exists():
        read_rows(options.results)  # a damaged table is refused before hours of work
    found = points(experiment, options.size, options.seeds)
    tuned = any(experiment.candidates_of(p.cell.arm, options.size) for p in found)
    if tuned and any(experiment.tuning.seed in point.seeds for point in found):
        raise ConfigError(
            f"Expected `seeds` without that of the tuning, {experiment.tuning.seed}."
        )
    found = found[number - 1 :: of]
    chosen, rows = _tuned(experiment, options, found, reporter)
    add_rows(options.results, rows)
    study = [
        _job(experiment, options, point, chosen.get(point.cell.label, {}))
        for point in found
    ]
    for job in done(f"{experiment.name}: runs", study, options.workers, reporter):
        new = list(_rows(experiment, options.size, job))
        rows += new
        add_rows(options.results, new)
    return rows


def jobs(experiment: Experiment, options: Options) -> list[Job]:
    """List all that an experiment runs, configured, before any tuning.

    Args:
        experiment: Which.
        options: How.

    Returns:
        A job for each point.
    """
    found = points(experiment, options.size, options.seeds)
    return [_job(experiment, options, point, {}) for point in found]


def _job(
    experiment: Experiment,
    options: Options,
    point: Point,
    more: Mapping[str, Any],
) -> Job:
    kind = kind_of(experiment.task)
    own = kind.settings(
        Wanted(experiment.name, point.seeds, point.split, options.runs, options.workers)
    )
    words = experiment.words(options.size, {**point.cell.settings, **more, **own})
    try:
        config = read_as(kind.config, words, _PROG)
    except ConfigError as error:
        raise ConfigError(f"{experiment.name}, {point.label}: {error}") from None
    devices = max(one.device.devices for one in kind.trainings(config))
    if devices > 1 and options.processes > 1:
        raise ConfigError(
            f"{experiment.name}, {point.label}: Expected `device.devices` to be 1, as "
            f"torchrun's processes train networks of their own, got {devices}: start "
            "`run` without torchrun."
        )
    if devices > 1 and experiment.task != "train":
        raise ConfigError(
            f"{experiment.name}, {point.label}: Expected `train.device.devices` of the "
            f"task {experiment.task} to be 1, got {devices}."
        )
    return Job(
        experiment.task,
        point.cell.label,
        point.label,
        config,
        options.runs / ".claims",
        _said(more),
    )


def _tuned(
    experiment: Experiment,
    options: Options,
    found: Sequence[Point],
    reporter: Reporter,
) -> tuple[dict[str, Mapping[str, Any]], list[Row]]:
    """Try the candidates of each cell, take those that validate best, and tell all."""
    split = experiment.splits_of(options.size)[0]
    cells = {point.cell.label: point.cell for point in found}
    tried: dict[str, list[tuple[Mapping[str, Any], Job]]] = {}
    for label, cell in cells.items():
        point = Point(cell, (experiment.tuning.seed,), split)
        for settings in experiment.candidates_of(cell.arm, options.size):
            job = _job(experiment, options, point, settings)
            tried.setdefault(label, []).append(
                (settings, replace(job, label=f"{job.label}, {_said(settings)}"))
            )
    if not tried:
        return {}, []
    trials = [job for candidates in tried.values() for _, job in candidates]
    for _ in done(f"{experiment.name}: tuning", trials, options.workers, reporter):
        pass
    chosen: dict[str, Mapping[str, Any]] = {}
    rows = []
    for label, candidates in tried.items():
        found_rows = [_tuning_row(experiment, options.size, j) for _, j in candidates]
        rows += found_rows
        accuracy = [row.measured for row in found_rows]
        # The first of equals.
        best = accuracy.index(max(accuracy))
        chosen[label] = candidates[best][0]
        outcomes = ", ".join(
            f"{_said(settings)} {value:.2f}%"
            for (settings, _), value in zip(candidates, accuracy, strict=True)
        )
        reporter.line(
            f"{experiment.name}: {label} takes {_said(chosen[label])} "
            f"(validation accuracy: {outcomes})"
        )
    return chosen, rows


def _tuning_row(experiment: Experiment, size: Size, job: Job) -> Row:
    for origin, measured in job.kind.results(job.config):
        if measured.metric == "validation_accuracy":
            validated = replace(measured, metric=TUNING)
            return _row(experiment, size, job.arm, origin, validated, job.settings)
    raise ConfigError(
        f"Expected a split with a validation part to tune on, got {job.config.split}."
    )


def _said(settings: Mapping[str, Any]) -> str:
    return ", ".join(said(key, value) for key, value in settings.items())


def _rows(experiment: Experiment, size: Size, job: Job) -> Iterator[Row]:
    single = len(experiment.cells(size)) == 1
    for origin, measured in job.kind.results(job.config):
        inner = measured.arm
        arm = inner if inner and single else ", ".join(filter(None, [job.arm, inner]))
        yield _row(experiment, size, arm, origin, measured, job.settings)


def _row(
    experiment: Experiment,
    size: Size,
    arm: str,
    origin: Origin,
    measured: Measured,
    settings: str,
) -> Row:
    # What a demo measures, on other data with another network, has no such figure.
    found = experiment.reported_for(arm, measured.metric)
    reported = found if size == "full" else None
    environment = origin.environment
    on_gpu = not origin.device.startswith("cpu")
    return Row(
        experiment=experiment.name,
        size=size,
        arm=arm,
        metric=measured.metric,
        reported=None if reported is None else reported.value,
        reported_deviation=None if reported is None else reported.deviation,
        reported_source="" if reported is None else reported.said,
        measured=measured.value,
        deviation=measured.deviation,
        seed=" ".join(map(str, measured.seeds)),
        split=origin.split,
        epochs=origin.epochs,
        data=origin.data,
        data_checksum=origin.data_checksum,
        split_checksum=origin.split_checksum,
        commit=environment["commit"] or "unknown",
        clean=origin.clean,
        spikingjelly=environment["host"],
        torch=environment["packages"]["torch"],
        python=environment["python"],
        device=origin.device,
        processor=environment["gpu"] if on_gpu else environment["cpu"],
        threads=environment["threads"],
        date=origin.ended,
        digest=origin.digest,
        settings=settings,
    )
