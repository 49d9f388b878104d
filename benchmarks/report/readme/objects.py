"""The README's table of `python -m benchmarks repeat` on the object recordings."""

import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.report.markdown import table, where


def objects_table(result: Mapping[str, Any]) -> str:
    """Write the accuracy within a session and in the other one, over seeds.

    Args:
        result: Content of `objects-cpu.json`.

    Returns:
        Markdown.
    """
    runs, classes = result["runs"], result["classes"]
    nothing = [""] * len(classes)
    of_classes = [
        _range([run["test_of_classes"][number] for run in runs])
        for number in range(len(classes))
    ]
    rows = [
        (title, _spread(result, key), *shares)
        for title, key, shares in (
            ("session 1, a stretch left out", "validation", nothing),
            ("session 2, epoch selected in session 1", "test_selected", nothing),
            ("session 2, last epoch", "test_last", of_classes),
        )
    ]
    data = result["config"]["data"]
    samples = {
        part: _numbers([run["samples"][part] for run in runs])
        for part in ("train", "validation", "test")
    }
    text = (
        f"Mean and deviation over {len(runs)} seeds, each with another stretch of "
        f"session 1 for validation; by class, lowest to highest seed; chance is "
        f"{1 / len(classes):.0%}. {samples['train']} windows of 100 ms to train, "
        f"{samples['validation']} to validate, {samples['test']} to test, "
        f"{data['time_steps']} frames of {data['cache']['size']} x "
        f"{data['cache']['size']} each, {result['config']['optimization']['epochs']} "
        f"epochs; {where(result['environment'])}."
    )
    columns = ("", "accuracy", *classes)
    return f"{table(columns, rows)}\n\n{textwrap.fill(text, 88)}"


def _spread(result: Mapping[str, Any], key: str) -> str:
    mean, deviation = result["mean"][key], result["deviation"][key]
    return f"{mean:.1%}" + ("" if deviation is None else f" (sd {deviation * 100:.1f})")


def _numbers(found: list[int]) -> str:
    low, high = min(found), max(found)
    return f"{low}" if low == high else f"{low} to {high}"


def _range(shares: list[float | None]) -> str:
    known = [share for share in shares if share is not None]
    return f"{min(known):.0%} to {max(known):.0%}" if known else "-"
