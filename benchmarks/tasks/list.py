"""`python -m benchmarks list`: the experiments of the papers, and their sizes."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from benchmarks.experiments.description import (
    Experiment,
    Size,
    available,
    read_experiment,
)
from benchmarks.experiments.queue import points, tuning_runs
from benchmarks.runs.progress import Reporter

_COLUMNS = ("name", "paper", "task", "demo", "runs", "table")


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Print a line for each experiment.

    Args:
        arguments: None.
        reporter: Shows them.
    """
    parser = ArgumentParser(
        prog="python -m benchmarks list", description=__doc__, allow_abbrev=False
    )
    parser.parse_args(list(arguments))
    experiments = [read_experiment(name) for name in available()]
    rows = [_COLUMNS, *(_cells(experiment) for experiment in experiments)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (f"{cell:<{n}}" for cell, n in zip(row, widths, strict=True))
        reporter.line("  ".join(padded).rstrip())
    minutes = sum(experiment.demo.minutes for experiment in experiments)
    reporter.line(
        f"{len(experiments)} experiments, {minutes:g} minutes for all demos on two "
        "cores; runs: of the demo / of the full size, with those that tune"
    )


def _cells(experiment: Experiment) -> tuple[str, ...]:
    return (
        experiment.name,
        experiment.paper,
        experiment.task,
        f"{experiment.demo.minutes:g} min",
        f"{_runs(experiment, 'demo')} / {_runs(experiment, 'full')}",
        experiment.table,
    )


def _runs(experiment: Experiment, size: Size) -> int:
    return len(points(experiment, size)) + tuning_runs(experiment, size)
