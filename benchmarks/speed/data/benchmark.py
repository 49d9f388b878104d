"""Samples per second of the host's frame loader and of the cache, on the same files."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS

from benchmarks.data.aedat2 import write_aedat2
from benchmarks.data.event_sets import EventSet
from benchmarks.runs.progress import Reporter
from benchmarks.speed import results
from benchmarks.speed.options import SpeedOptions
from benchmarks.speed.timing import interleaved
from sj_ext import register

HOST, MAPPED, COMPRESSED = "host", "cache", "cache, compressed"


@dataclass
class DataOptions(SpeedOptions):
    """What `speed data` can be told.

    Args:
        device: cpu.
        repetitions: Timed runs of each candidate; odd, for medians.
        output: Folder of the result.
        recordings: How many simulated recordings are made.
        events: Events of each; CIFAR10-DVS has some 200,000.
        T: Frames a recording.

    Raises:
        ValueError: If a number is too small, or as for `SpeedOptions`.
    """

    recordings: int = 32
    events: int = 100_000
    T: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("recordings", "events", "T"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"Expected `{name}` of at least 1, got {getattr(self, name)}."
                )


@register("speed", "data")
def run(options: DataOptions, reporter: Reporter) -> None:
    """Time the host's frame loader against the cache, warm, without workers."""
    with tempfile.TemporaryDirectory() as folder:
        content = _measure(options, Path(folder), reporter)
    results.write("data", options, content, reporter)


def _measure(options: DataOptions, root: Path, reporter: Reporter) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    for number in range(options.recordings):
        path = root / "extract" / "cat" / f"cifar10_cat_{number}.aedat"
        write_aedat2(path, _events(rng, options.events))
    ours = EventSet("cifar10_dvs")
    mapped, own_seconds = _timed(
        lambda: (ours.prepare(root, time_steps=options.T), ours.cache(root, options.T))
    )
    compressed, packing = _timed(lambda: ours.cache(root, options.T, compressed=True))
    host, building = _timed(
        lambda: CIFAR10DVS(
            str(root), "frame", frames_number=options.T, split_by="number"
        )
    )
    caches = {MAPPED: mapped[1], COMPRESSED: compressed}
    every = range(options.recordings)
    for index in every:
        for name, cache in caches.items():
            if not np.array_equal(cache[index][0], host[index][0]):
                raise RuntimeError(f"Expected {name} to equal the host's frames.")
    reporter.line("all candidates give the same frames")
    candidates: dict[str, Callable[[], object]] = {
        HOST: lambda: [host[index] for index in every],
        **{
            name: lambda cache=cache: [cache[index] for index in every]
            for name, cache in caches.items()
        },
    }
    timings = interleaved(
        candidates, options.repetitions, options.place(), with_saved=False
    )
    sizes = {name: cache.bytes_per_sample for name, cache in caches.items()}
    sizes[HOST] = sum(Path(path).stat().st_size for path, _ in host.samples) / len(host)
    rates = {name: len(host) / one.seconds for name, one in timings.items()}
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("", "samples/s", "ratio", "bytes a sample"):
        table.add_column(column, justify="right" if column else "left")
    for name, rate in rates.items():
        ratio = f"{rate / rates[HOST]:.1f}"
        table.add_row(name, f"{rate:.0f}", ratio, f"{sizes[name]:.0f}")
    reporter.console.print(table)
    return {
        "recordings": options.recordings,
        "events": options.events,
        "T": options.T,
        "samples_per_second": rates,
        "bytes_per_sample": sizes,
        "preparation_seconds": {
            "conversion and cache": own_seconds,
            COMPRESSED: packing,
            HOST: building,
        },
        "timings": {name: asdict(one) for name, one in timings.items()},
    }


def _events(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """Simulate events around a moving edge: as uneven as real ones, roughly."""
    t = np.sort(rng.integers(0, 1_300_000, n))
    middle = 64 + 30 * np.sin(t / 200_000)
    return {
        "t": t,
        "x": np.clip(rng.normal(middle, 20), 0, 127).astype(np.int64),
        "y": np.clip(rng.normal(64, 25, n), 0, 127).astype(np.int64),
        "p": rng.integers(0, 2, n),
    }


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start
