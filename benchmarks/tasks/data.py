"""`python -m benchmarks data`: state, preparation, verification; pictures."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from benchmarks import data
from benchmarks.data.picture import draw
from benchmarks.runs.progress import Bar, Reporter, duration

_TIME_STEPS = 10


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Read the command line and do as it says with a data set or a recording.

    Args:
        arguments: Action, name and options.
        reporter: Shows what comes out.

    Raises:
        DamagedDataError: With `check`, where something is wrong.
        ValueError: The set has no such frames, or the action no such option.
    """
    if arguments and arguments[0] == "draw":
        _draw(arguments[1:], reporter)
        return
    parser = ArgumentParser(
        prog="python -m benchmarks data",
        description=f"{__doc__} `draw FILE` makes a picture of one recording.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "action", choices=["status", "prepare", "check"], help="what to do"
    )
    parser.add_argument("name", choices=list(data.available()), help="which data set")
    parser.add_argument("--root", type=Path, required=True, help="folder of the set")
    parser.add_argument(
        "--time-steps",
        type=int,
        help=f"frames a recording: {_TIME_STEPS} if not given; status and check then "
        "take all that are there",
    )
    parser.add_argument(
        "--per-class", type=int, help="only so many recordings of each class"
    )
    parser.add_argument(
        "--size", type=int, help="height and width of the frames, of sets of events"
    )
    parser.add_argument(
        "--split-by", choices=["number", "time"], help="slices of equal what"
    )
    parser.add_argument(
        "--compressed", action="store_true", help="a file of fewer bytes"
    )
    options = parser.parse_args(list(arguments))
    settings = {
        "size": None if options.size is None else (options.size, options.size),
        "split_by": options.split_by,
        "compressed": options.compressed or None,
        "per_class": options.per_class,
    }
    settings = {key: value for key, value in settings.items() if value is not None}
    if settings and options.action != "prepare":
        given = ", ".join(f"--{key.replace('_', '-')}" for key in settings)
        raise ValueError(f"Expected {given} with prepare only, got {options.action}.")
    if options.action == "status":
        for line in data.status(options.name, options.root, options.time_steps):
            reporter.line(line)
        return
    if options.action == "check":
        with ExitStack() as stages:
            progress = _Stages(reporter, stages)
            problems = data.check(
                options.name, options.root, progress, options.time_steps
            )
        for line in problems:
            reporter.line(f"wrong: {line}")
        if problems:
            raise data.DamagedDataError(f"{len(problems)} problems in {options.root}.")
        reporter.line(f"data: all files of {options.name} are as they should be")
        return
    steps = _TIME_STEPS if options.time_steps is None else options.time_steps
    prepare(options.name, options.root, steps, reporter, **settings)


def _draw(arguments: Sequence[str], reporter: Reporter) -> None:
    parser = ArgumentParser(
        prog="python -m benchmarks data draw",
        description="Draw the densest stretch of a recording: ON blue, OFF red.",
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, help=".aedat, .bin or .npz")
    parser.add_argument("--output", type=Path, required=True, help="a PNG file")
    parser.add_argument(
        "--duration-ms", type=float, default=100.0, help="length of the stretch"
    )
    parser.add_argument(
        "--enlarged", type=int, default=4, help="pixels for one of the sensor"
    )
    options = parser.parse_args(list(arguments))
    drawn = draw(
        options.file,
        options.output,
        duration_ms=options.duration_ms,
        enlarged=options.enlarged,
    )
    reporter.line(f"data: {drawn:,} events of {options.file} drawn in {options.output}")


def prepare(
    name: str, root: Path, time_steps: int, reporter: Reporter, **kwargs: Any
) -> None:
    """Prepare a data set where that is not done yet, and show how far it is.

    Args:
        name: One of `benchmarks.data.available()`.
        root: Folder of this data set alone.
        time_steps: Frames a recording.
        reporter: Shows progress.
        **kwargs: Further arguments of the data set, such as `per_class`.

    Raises:
        DamagedDataError: Only a part of the set is there, which was prepared.
    """
    start = time.perf_counter()
    with ExitStack() as stages:
        progress = _Stages(reporter, stages)
        path = data.prepare(
            name, root, time_steps=time_steps, progress=progress, **kwargs
        )
    seconds = time.perf_counter() - start
    if lacking := data.missing(name, root):
        for line in lacking:
            reporter.line(f"missing: {line}")
        raise data.DamagedDataError(
            f"{name} is not complete in {root}: what is there was prepared, {path}."
        )
    reporter.line(f"data: {name} ready in {path} ({duration(seconds)})")


class _Stages:
    """Gives each stage that a preparation reports a bar of its own."""

    def __init__(self, reporter: Reporter, stack: ExitStack) -> None:
        self._reporter = reporter
        self._stack = stack
        self._stage: str | None = None
        self._bar: Bar
        self._done = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._stack.close()
            self._reporter.line(f"data: {stage} ({total})")
            bar = self._reporter.bar(stage, total, "files")
            self._stage, self._done = stage, 0
            self._bar = self._stack.enter_context(bar)
        self._bar.advance(done - self._done)
        self._done = done
