"""What a speed benchmark shows and leaves behind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.runs.environment import describe_environment
from benchmarks.runs.progress import Reporter
from benchmarks.speed.options import SpeedOptions
from benchmarks.speed.timing import Timing
from sj_ext.files import write_text


def show(
    reporter: Reporter, title: str, timings: Mapping[str, Timing], reference: str
) -> None:
    """Print a table of candidates.

    Args:
        reporter: Prints it.
        title: Says what was timed.
        timings: By candidate.
        reference: The candidate whose time the ratios are of.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    columns = ("", "median ms", "low", "high", "ratio", "kept MB", "peak MB")
    for column in columns:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    unit = timings[reference].seconds
    for name, timing in timings.items():
        table.add_row(
            name,
            f"{timing.seconds * 1e3:.1f}",
            f"{timing.low * 1e3:.1f}",
            f"{timing.high * 1e3:.1f}",
            f"{timing.seconds / unit:.2f}",
            megabytes(timing.saved_bytes),
            megabytes(timing.peak_bytes),
        )
    reporter.console.print(table)


def megabytes(size: int | None) -> str:
    """Write a number of bytes in MB (10^6), or nothing where there is none."""
    return "" if size is None else f"{size / 1e6:.0f}"


def write(
    name: str, options: SpeedOptions, content: Mapping[str, Any], reporter: Reporter
) -> Path:
    """Write the figures of a benchmark beside the environment that they come from.

    Args:
        name: Of the benchmark.
        options: What it was told.
        content: JSON-native.
        reporter: Says where the file lies.

    Returns:
        The file: `speed-<name>-<device>.json` in the folder `options.output`.
    """
    path = options.output / f"speed-{name}-{options.place().type}.json"
    result = {"environment": describe_environment(), **content}
    write_text(path, json.dumps(result, indent=1) + "\n")
    reporter.line(f"written to {path}")
    return path
