"""`python -m benchmarks run NAME`: run experiments, or go on with them."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser

from benchmarks.experiments.description import available, read_experiment
from benchmarks.experiments.queue import Options, run_experiment
from benchmarks.experiments.rows import OWN_RESULTS
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.progress import Reporter, duration
from benchmarks.runs.torchrun import stand_alone

_RUNS = Path("runs/experiments")


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Read the command line and run what it names.

    Args:
        arguments: Names of experiments, and options.
        reporter: Shows progress.

    Raises:
        ConfigError: If nothing is named; or at the end, if some of several experiments
            could not be run.
    """
    parser = ArgumentParser(
        prog="python -m benchmarks run",
        description=f"{__doc__} Under torchrun, or started several times on one folder "
        "of runs, processes share the runs; those of torchrun take a GPU each. "
        "`device.devices` in a file trains each network on several; `--shard` spreads "
        "runs over machines.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "names", nargs="*", help="as `list` shows them, or files of one's own"
    )
    parser.add_argument("--all", action="store_true", help="every experiment")
    parser.add_argument("--demo", action="store_true", help="small: minutes, two cores")
    parser.add_argument("--seeds", nargs="+", type=int, help="in place of the file's")
    parser.add_argument("--shard", default="1/1", help="part i of n machines: i/n")
    parser.add_argument("--runs", type=Path, default=_RUNS, help="folder of all runs")
    parser.add_argument(
        "--results",
        type=Path,
        default=OWN_RESULTS,
        help="table of results; what is published is named: "
        "benchmarks/results/experiments.csv",
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="runs at a time, each with one thread; one where there is a GPU or under "
        "torchrun, else two",
    )
    options = parser.parse_args(list(arguments))
    place = stand_alone()
    if place.rank > 0:
        reporter = Reporter.silent()
    names = available() if options.all else options.names
    if not names:
        raise ConfigError("Expected the name of an experiment or `--all`, got neither.")
    settings = Options(
        size="demo" if options.demo else "full",
        seeds=None if options.seeds is None else tuple(options.seeds),
        shard=_shard(options.shard),
        runs=options.runs,
        results=options.results,
        workers=options.workers
        or (1 if place.size > 1 or torch.cuda.is_available() else 2),
        processes=place.size,
    )
    _run_all(names, settings, reporter)


def _run_all(names: Sequence[str], options: Options, reporter: Reporter) -> None:
    failed = []
    for name in names:
        start = time.perf_counter()
        try:
            rows = run_experiment(read_experiment(name), options, reporter)
        except (ValueError, OSError, FloatingPointError) as error:
            if len(names) == 1:
                raise
            # The others may well run: the data of one are missing, for instance.
            reporter.line(f"{name}: not run: {error}")
            failed.append(name)
            continue
        reporter.line(
            f"{name}: {len(rows)} rows in {options.results} "
            f"({duration(time.perf_counter() - start)})"
        )
    if failed:
        raise ConfigError(f"{len(failed)} of {len(names)} not run: {', '.join(failed)}")


def _shard(text: str) -> tuple[int, int]:
    try:
        number, of = (int(part) for part in text.split("/"))
    except ValueError:
        raise ConfigError(
            f"Expected `shard` as i/n, such as 1/4, got {text!r}."
        ) from None
    return number, of
