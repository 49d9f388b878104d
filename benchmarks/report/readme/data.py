"""The README's table of frame loading."""

import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.report.markdown import table, where

_LOADED = [(state, workers) for state in ("warm", "cold") for workers in (0, 2)]
_COLUMNS = [("direct", 0), *_LOADED]


def speed_data(result: Mapping[str, Any]) -> str:
    """Write samples per second, bytes a sample, and the share of steps spent waiting.

    Args:
        result: Content of `speed-data-cpu.json`.

    Returns:
        Markdown.
    """
    rates = {
        (row["reader"], row["state"], row["workers"]): row["samples_per_second"]
        for row in result["rates"]
    }
    shares = {(row["reader"], row["workers"]): row for row in result["waiting"]}
    sizes = result["bytes_per_sample"]
    rows = [
        (
            name,
            *(_rate(rates, name, *column) for column in _COLUMNS),
            f"{size / 1e3:.0f}",
            *(f"{shares[name, workers]['share']:.1%}" for workers in (0, 2)),
        )
        for name, size in sizes.items()
    ]
    step = min(row["step_seconds"] for row in result["waiting"])
    columns = (
        "samples/s (times the host's)",
        "one by one, warm",
        *(f"batches, {state}, {workers} workers" for state, workers in _LOADED),
        "kB a sample",
        "waiting, 0 workers",
        "waiting, 2 workers",
    )
    text = (
        f"{result['recordings']} simulated recordings of {result['events']:,} events "
        f"in the format of CIFAR10-DVS, {result['T']} frames of 128 x 128 each; one "
        "by one as they are kept, or as float32 in batches of "
        f"{result['batch']} through torch's loader, all in one random order; medians, "
        f"{where(result['environment'])}. {_cold(result)} Waiting is the share of a "
        f"training step that goes by until the batch is there, for the quickstart's "
        f"network at 48 x 48, warm, over {result['waiting_steps']} steps "
        f"({step * 1e3:.0f} ms a step at best); larger networks wait less. Opening, "
        f"once a run, takes {_opening(result)}; of the caches every sample is then "
        "compared with its checksum."
    )
    parts = [table(columns, rows), textwrap.fill(text, 88)]
    took = result["preparation_seconds"]
    parts.append(
        textwrap.fill(
            "Preparation: events "
            f"{took['events, ours']:.1f} s (host {took['events, host']:.1f} s), frames "
            f"{took['frames, cache']:.1f} s, compressed "
            f"{took['frames, cache, compressed']:.1f} s (host "
            f"{took['frames, host']:.1f} s).{_real(result)}",
            88,
        )
    )
    return "\n\n".join(parts)


def _opening(result: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{seconds * 1e3:.0f} ms ({name})"
        for name, seconds in result["opening_seconds"].items()
    )


def _rate(
    rates: Mapping[tuple[str, str, int], float], name: str, state: str, workers: int
) -> str:
    if (name, state, workers) not in rates:
        return "-"
    own, host = rates[name, state, workers], rates["host", state, workers]
    return f"{own:.0f}" + ("" if name == "host" else f" ({own / host:.1f})")


def _cold(result: Mapping[str, Any]) -> str:
    if result["not_cold"]:
        return f"Cold reads could not be measured: {result['not_cold']}."
    return (
        "Cold: with the files dropped from the page cache, read once, and with the "
        "start of the workers."
    )


def _real(result: Mapping[str, Any]) -> str:
    sizes = result["real_recording"]
    if sizes is None:
        return ""
    host, mapped, packed = (
        f"{sizes[name] / 1e3:.0f} kB" for name in ("host", "cache", "cache, compressed")
    )
    smaller = sizes["host"] / sizes["cache, compressed"]
    return (
        f" A real N-Caltech101 recording at 180 x 240 takes {mapped}, compressed "
        f"{packed}, {smaller:.1f} times less than the host's {host}."
    )
