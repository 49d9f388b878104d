"""The README's table of `python -m benchmarks speed fisher`."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.report.markdown import table, where
from benchmarks.speed.fisher.candidates import FIRST, RELEASED, TRAINING
from benchmarks.speed.results import megabytes


def speed_fisher(result: Mapping[str, Any]) -> str:
    """Write the candidates against each other, the numbers of steps in one cell.

    Args:
        result: Of `benchmarks.speed.fisher.benchmark`.

    Returns:
        Markdown.
    """
    rows = result["rows"]
    steps = " / ".join(str(row["T"]) for row in rows)
    lines = [
        (
            name,
            _units(rows, name),
            _each(rows, name, _in_ms),
            "" if name == TRAINING else _each(rows, name, _ratio),
            _each(rows, name, lambda timing, _: megabytes(timing["peak_bytes"])),
        )
        for name in rows[0]["timings"]
        if name not in FIRST
    ]
    refused = [
        (name, "", f"does not run: {reason.partition(':')[0]}", "", "")
        for name, reason in result["refusals"].items()
    ]
    header = (
        f"T = {steps}",
        "steps forward + backward",
        "ms",
        "released / this",
        "peak MB",
    )
    errors = result["errors"]
    ceilings = " / ".join(
        f"{seconds[RELEASED] / seconds['batch_mean']:.2f}"
        for seconds in (row["arithmetic_seconds"] for row in rows)
    )
    shape = ", ".join(map(str, rows[0]["shape"][1:]))
    first = "; ".join(
        f"{estimator} {_each(rows, name, _in_ms)} ms"
        for name, estimator in FIRST.items()
    )
    text = (
        f"All prefixes of one batch [T, {shape}] (random counts, "
        "the shape of event digits) in the quickstart's network; medians of one run, "
        f"{where(result['environment'])}. In float64 batch_mean is the released value "
        f"to {errors['batch_mean']:.0e}, and per_sample that of a loop over samples to "
        f"{errors['per_sample']:.0e}, relative. Counted in steps, batch_mean would be "
        f"{ceilings} times as fast as the released procedure. The first batch of a "
        f"measurement is also examined: {first}. Opacus leaves the parameters of "
        "batch norm out, which it does not support; vmap needs a surrogate written "
        "for it, which the host's are not. Peak is what a fresh process needs above "
        "network and frames, a first batch included."
    )
    return f"{table(header, [*lines, *refused])}\n\n{textwrap.fill(text, 88)}"


def _each(
    rows: list[Mapping[str, Any]],
    name: str,
    write: Callable[[Mapping[str, Any], Mapping[str, Any]], str],
) -> str:
    return " / ".join(write(row["timings"][name], row) for row in rows)


def _in_ms(timing: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    return f"{timing['seconds'] * 1e3:.0f}"


def _ratio(timing: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    return f"{row['timings'][RELEASED]['seconds'] / timing['seconds']:.2f}"


def _units(rows: list[Mapping[str, Any]], name: str) -> str:
    found = [row["units"][name] for row in rows]
    return " / ".join(f"{count['forward']} + {count['backward']}" for count in found)
