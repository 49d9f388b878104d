"""The README's table of `speed cka`."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.markdown import where
from benchmarks.speed.cka.candidates import (
    BITS_FLOOR,
    BYTES_FLOOR,
    FLOOR,
    HALF_FLOOR,
    OURS,
    PEER,
    PER_STEP,
    RELEASED,
)
from benchmarks.speed.results import megabytes

_COLUMNS = (OURS, PER_STEP, PEER, RELEASED)
_FLOORS = (
    BITS_FLOOR,
    BYTES_FLOOR,
    HALF_FLOOR,
    FLOOR,
    "one product alone",
    "the network alone",
)


def speed_cka(result: Mapping[str, Any]) -> str:
    """Write the result of `speed cka` as a table with its circumstances.

    Args:
        result: Content of `speed-cka-<device>.json`.

    Returns:
        Markdown.
    """
    header = ("", *_COLUMNS, "floor", f"{PEER} / ours", "peak MB, in this order")
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    lines += [_row(row["title"], row["timings"]) for row in result["rows"]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    text = [_errors(result["accuracy"])]
    if result["exact"]:
        text.append(_exact(result["exact"]))
    environment = result["environment"]
    processor = environment["gpu"] or (
        f"{environment['threads']} threads of an {environment['cpu']}"
    )
    text.append(
        f"Medians of one run, {processor}, torch "
        f"{environment['packages']['torch']}, commit {environment['commit'][:10]}; "
        "features are in memory before the clock starts, each in its own layout. The "
        "floor is the fastest of the Gram matrices alone, or the passes of the "
        "network alone. Peak is what a fresh process needs above features or network."
    )
    return f"{table}\n\n{textwrap.fill(' '.join(text), 88)}"


def cka_growth(result: Mapping[str, Any]) -> str:
    """Say where the picture of growth comes from.

    Args:
        result: Content of `speed-cka-growth-<device>.json`.

    Returns:
        Markdown.
    """
    values: dict[str, list[int]] = {}
    for row in result["rows"]:
        values.setdefault(row["symbol"], []).append(row["value"])
    varied = ", ".join(f"{k} from {min(v)} to {max(v)}" for k, v in values.items())
    text = f"Medians of one run with {varied}; {where(result['environment'])}."
    return textwrap.fill(text, 88)


def _row(title: str, timings: Mapping[str, Any]) -> Sequence[str]:
    floors = [timings[name]["seconds"] for name in _FLOORS if name in timings]
    ratio = ""
    if PEER in timings:
        ratio = f"{timings[PEER]['seconds'] / timings[OURS]['seconds']:.2f}"
    peaks = [megabytes(timings[n]["peak_bytes"]) for n in _COLUMNS if n in timings]
    return (
        title,
        *(
            _in_ms(timings[name]["seconds"]) if name in timings else ""
            for name in _COLUMNS
        ),
        _in_ms(min(floors)) if floors else "",
        ratio,
        " / ".join(peaks) if any(peaks) else "",
    )


def _in_ms(seconds: float) -> str:
    milliseconds = seconds * 1e3
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"


def _errors(accuracy: Mapping[str, Any]) -> str:
    listed = []
    for kind, by_name in accuracy.items():
        parts = []
        for name in (OURS, PEER, RELEASED):
            if (one := by_name.get(name)) is None:
                continue
            bad = one["nan"] + one["impossible"]
            wrong = f", {bad} of {one['entries']} NaN or impossible" if bad else ""
            parts.append(f"{name} {one['error']:.0e}{wrong}")
        listed.append(f"{kind}: {'; '.join(parts)}")
    return f"Largest error to float64, {'. '.join(listed)}."


def _exact(exact: Mapping[str, Any]) -> str:
    error = f" (off by {exact['error']:.0e})" if "error" in exact else ""
    return (
        f"{exact['title'].replace('exact', 'Exact', 1)} from memory-mapped files, with "
        f"float32 products{error}: {exact['seconds']:.1f} s (the products alone "
        f"{exact['floor_seconds']:.1f} s),"
        f" the process at most {exact['peak_resident_bytes'] / 1e9:.1f} GB."
    )
