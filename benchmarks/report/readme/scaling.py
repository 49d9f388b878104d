"""The worked example of `docs/scaling.md`: from `speed imagenet` to many devices."""

import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.report.markdown import table, where
from benchmarks.report.scaling import Workload, measured_by, report
from benchmarks.speed.masked.neurons import OURS
from benchmarks.speed.results import megabytes

_EPOCHS = 100
_BATCH = 256
_BANDWIDTH = 1e9
_DEVICES = (1, 8, 64)


def scaling_example(result: Mapping[str, Any]) -> str:
    """Write what one device took, and what follows for many such devices.

    Args:
        result: Content of the file of `speed imagenet`.

    Returns:
        Markdown: what was measured, and apart from it what was worked out.
    """
    measured = table(
        ("neurons", "batch", "s a sample", "forward pass", "peak MB", "ran on"),
        [
            (
                row["neuron"],
                str(row["batch"]),
                f"{row['seconds_per_sample']:.3g}",
                f"{row['forward_share']:.0%}",
                megabytes(row["peak_bytes"]),
                row["ran_on"],
            )
            for row in result["rows"]
        ],
    )
    size, environment = result["size"], result["environment"]
    device = environment["gpu"] or f"{environment['threads']} CPU threads"
    shown = (
        f"**Measured**: training steps of {result['network']} "
        f"({result['parameters']:,} parameters) with T = {result['T']} and images of "
        f"{size} x {size} in {result['precision']}, forward, backward and optimizer, "
        f"without loading; medians on {where(environment)}."
    )
    worked = (
        f"**Worked out**, not measured: {_EPOCHS} epochs on ImageNet with masked "
        f"neurons, if a device were as the one above ({device}) and exchanged "
        f"gradients at {_BANDWIDTH / 1e9:g} GB/s."
    )
    work = Workload(
        epochs=_EPOCHS,
        batch=_BATCH,
        bandwidth=_BANDWIDTH,
        **measured_by(result, OURS),
    )
    parts = (
        textwrap.fill(shown, 88),
        measured,
        textwrap.fill(worked, 88),
        report(work, _DEVICES).rstrip(),
    )
    return "\n\n".join(parts)
