"""The README's table of frame loading."""

import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.report.markdown import table, where


def speed_data(result: Mapping[str, Any]) -> str:
    """Write samples per second and bytes a sample.

    Args:
        result: Content of `speed-data-cpu.json`.

    Returns:
        Markdown.
    """
    rates, sizes = result["samples_per_second"], result["bytes_per_sample"]
    rows = [
        (name, f"{rate:.0f}", f"{rate / rates['host']:.1f}", f"{sizes[name] / 1e3:.0f}")
        for name, rate in rates.items()
    ]
    text = (
        f"{result['recordings']} simulated recordings of {result['events']:,} events "
        f"in the format of CIFAR10-DVS, {result['T']} frames of 128 x 128 each, read "
        f"one by one, warm, without workers, {where(result['environment'])}."
    )
    columns = ("", "samples/s", "ratio", "kB a sample")
    return f"{table(columns, rows)}\n\n{textwrap.fill(text, 88)}"
