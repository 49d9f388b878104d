"""The host's frame loader and the cache on the same files: rates, sizes, waiting."""

import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS
from spikingjelly.datasets.n_caltech101 import NCaltech101

from benchmarks.data.aedat2 import write_aedat2
from benchmarks.data.archives import read_in_threads
from benchmarks.data.cache import FrameCache
from benchmarks.data.event_sets import EventSet
from benchmarks.runs.progress import Reporter
from benchmarks.speed import results
from benchmarks.speed.data.loading import (
    UNCOUNTED,
    Reader,
    cold_rates,
    direct_rates,
    opening_seconds,
    training_step,
    waiting_share,
    warm_rates,
)
from benchmarks.speed.options import SpeedOptions
from sj_ext import register

HOST, MAPPED, COMPRESSED = "host", "cache", "cache, compressed"
_WORKERS = (0, 2)
# Two of the ten, in places that the host, which sees only these, has too.
_CLASSES = ("airplane", "automobile")
# Epochs of the warm measurement go over all recordings so many times.
_PASSES = 2
_STEPS = 22
# Of the order in which all readers go through the recordings.
_SEED = 0


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
        batch: Samples a batch.

    Raises:
        ValueError: If a number is too small, or as for `SpeedOptions`.
    """

    repetitions: int = 3
    recordings: int = 64
    events: int = 100_000
    T: int = 10
    batch: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("recordings", 2), ("events", 1), ("T", 1), ("batch", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Expected `{name}` of at least {least}, got {getattr(self, name)}."
                )


@register("speed", "data")
def run(options: DataOptions, reporter: Reporter) -> None:
    """Time the host's frame loader against the cache, cold and warm, in training."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        content = _measure(options, Path(folder), reporter)
    content["seconds"] = time.perf_counter() - start
    results.write("data", options, content, reporter)


def _measure(options: DataOptions, root: Path, reporter: Reporter) -> dict[str, Any]:
    _write_recordings(options, root)
    readers, seconds, sizes = _prepare(options, root)
    reporter.line("all candidates give the same frames")
    every = _order(options.recordings)
    rows = _rows("direct", 0, direct_rates(readers, every, options.repetitions))
    opening = opening_seconds(readers, options.repetitions)
    not_cold = None
    for workers in _WORKERS:
        order = every * _PASSES
        measured = (readers, order, options.batch, workers, options.repetitions)
        rows += _rows("warm", workers, warm_rates(*measured))
        reporter.line(f"warm, {workers} workers: done")
        measured = (readers, every, options.batch, workers, options.repetitions)
        rates, reason = cold_rates(*measured)
        not_cold = not_cold or reason
        rows += _rows("cold", workers, rates)
        reporter.line(f"cold, {workers} workers: {reason or 'done'}")
    # One for all: to compile it takes longer than to run it.
    step = training_step(len(_CLASSES))
    waiting = [
        {
            "reader": name,
            "workers": workers,
            **waiting_share(
                reader,
                _STEPS,
                every,
                options.batch,
                workers,
                step,
            ),
        }
        for workers in _WORKERS
        for name, reader in readers.items()
    ]
    content = {
        "recordings": options.recordings,
        "events": options.events,
        "T": options.T,
        "batch": options.batch,
        "rates": rows,
        "not_cold": not_cold,
        "waiting": waiting,
        "waiting_steps": _STEPS - UNCOUNTED,
        "opening_seconds": {n: statistics.median(t) for n, t in opening.items()},
        "bytes_per_sample": sizes,
        "preparation_seconds": seconds,
        "real_recording": _real_sizes(options.T, root / "real"),
    }
    reporter.console.print(_table(content))
    for name, took in content["opening_seconds"].items():
        reporter.line(f"opening, {name}: {took * 1e3:.0f} ms")
    for what, took in seconds.items():
        reporter.line(f"{what}: {took:.1f} s")
    return content


def _order(recordings: int) -> list[int]:
    """Draw an order as in training: the next sample is seldom the next in a file."""
    drawn: list[int] = np.random.default_rng(_SEED).permutation(recordings).tolist()
    return drawn


def _write_recordings(options: DataOptions, root: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(options.recordings):
        label = _CLASSES[number % len(_CLASSES)]
        path = root / "extract" / label / f"cifar10_{label}_{number}.aedat"
        write_aedat2(path, _events(rng, options.events))


def _prepare(
    options: DataOptions, root: Path
) -> tuple[dict[str, Reader], dict[str, float], dict[str, float]]:
    """Prepare the files in all three ways, and see that they give the same.

    Returns:
        Readers, seconds by what was done, bytes a sample.

    Raises:
        RuntimeError: Frames differ.
    """
    ours, T = EventSet("cifar10_dvs"), options.T
    seconds = {}
    host_raw = root / "host_raw"
    host_raw.mkdir()
    _, seconds["events, host"] = _timed(
        lambda: CIFAR10DVS.create_raw_from_extracted(root / "extract", host_raw)
    )
    mapped, both = _timed(
        lambda: (ours.prepare(root, time_steps=T), ours.cache(root, T))[1]
    )
    mapped.path.unlink()
    mapped, seconds["frames, cache"] = _timed(lambda: ours.cache(root, T))
    seconds["events, ours"] = both - seconds["frames, cache"]
    packed, seconds["frames, cache, compressed"] = _timed(
        lambda: ours.cache(root, T, compressed=True)
    )
    host, seconds["frames, host"] = _timed(lambda: _host(root, T))
    for index in range(len(host)):
        for cache in (mapped, packed):
            if not np.array_equal(cache[index][0], host[index][0]):
                raise RuntimeError(f"Expected {cache.path} to equal the host's frames.")
    host_files = [Path(path) for path, _ in host.samples]
    sizes = {
        HOST: sum(path.stat().st_size for path in host_files) / len(host),
        MAPPED: mapped.bytes_per_sample,
        COMPRESSED: packed.bytes_per_sample,
    }
    readers = {
        HOST: Reader(lambda: _host(root, T), host_files, in_batches=False),
        MAPPED: _cached(mapped.path),
        COMPRESSED: _cached(packed.path),
    }
    return readers, seconds, sizes


def _cached(path: Path) -> Reader:
    # What training opens once is opened anew for each cold measurement: the check of
    # the whole file is timed apart.
    return Reader(
        lambda: FrameCache(path, verify=False),
        [path],
        in_batches=True,
        verified=lambda: FrameCache(path),
    )


def _host(root: Path, time_steps: int) -> CIFAR10DVS:
    with read_in_threads():
        return CIFAR10DVS(
            str(root), "frame", frames_number=time_steps, split_by="number"
        )


def _rows(
    state: str, workers: int, rates: Mapping[str, list[float]]
) -> list[dict[str, Any]]:
    return [
        {
            "reader": name,
            "state": state,
            "workers": workers,
            "samples_per_second": statistics.median(found),
            "low": min(found),
            "high": max(found),
        }
        for name, found in rates.items()
    ]


def _real_sizes(time_steps: int, root: Path) -> dict[str, float] | None:
    """Give the bytes of the real N-Caltech101 recording, where there is one here."""
    source = Path(os.environ.get("SJ_EXT_DATA", "")) / "ncaltech101" / "Caltech101"
    if "SJ_EXT_DATA" not in os.environ or not source.is_dir():
        return None
    root.mkdir()
    (root / "extract").mkdir()
    (root / "extract" / "Caltech101").symlink_to(source)
    ours = EventSet("n_caltech101")
    ours.prepare(root, time_steps=time_steps)
    host = NCaltech101(str(root), "frame", frames_number=time_steps, split_by="number")
    ((path, _),) = host.samples
    # Without the header, which a whole set has once.
    frames, packed = (
        sum(ours.cache(root, time_steps, compressed=small).header["lengths"])
        for small in (False, True)
    )
    return {
        HOST: Path(path).stat().st_size,
        MAPPED: frames,
        COMPRESSED: packed,
    }


def _table(content: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    columns = [(state, n) for state in ("warm", "cold") for n in _WORKERS]
    columns.insert(0, ("direct", 0))
    table.add_column("samples/s")
    for state, workers in columns:
        table.add_column(f"{state}, {workers} w.", justify="right")
    for workers in _WORKERS:
        table.add_column(f"waits, {workers} w.", justify="right")
    table.add_column("kB", justify="right")
    rates = {
        (row["reader"], row["state"], row["workers"]): row["samples_per_second"]
        for row in content["rates"]
    }
    shares = {
        (row["reader"], row["workers"]): row["share"] for row in content["waiting"]
    }
    for name, size in content["bytes_per_sample"].items():
        found = [rates.get((name, *column)) for column in columns]
        table.add_row(
            name,
            *("-" if rate is None else f"{rate:.0f}" for rate in found),
            *(f"{shares[name, workers]:.1%}" for workers in _WORKERS),
            f"{size / 1e3:.0f}",
        )
    return table


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


def _timed(work: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start
