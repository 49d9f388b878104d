"""Masked neurons against the host's unmasked ones and the released procedure."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

from benchmarks.runs.progress import Reporter
from benchmarks.speed import results
from benchmarks.speed.bandwidth import copy_bandwidth, layer_bytes
from benchmarks.speed.masked.equality import check_equality
from benchmarks.speed.masked.neurons import (
    DROPPED,
    HOST,
    OURS,
    TORCH,
    host_kernels,
    neurons,
    ran_on,
)
from benchmarks.speed.masked.passes import (
    FLOOR,
    NETWORKS,
    Setting,
    candidate,
    growing,
)
from benchmarks.speed.options import SpeedOptions
from benchmarks.speed.peak import peak_bytes
from benchmarks.speed.timing import Timing, interleaved
from sj_ext import register


@dataclass
class MaskedOptions(SpeedOptions):
    """What `speed masked` can be told.

    Args:
        device: cpu or cuda.
        repetitions: Timed runs of each candidate; odd, for medians.
        output: Folder of the result.
        backend: What our masked neurons run on.
        T: Time steps of the layer and of the training steps.
        batch: Samples of a training step; the layer has four times as many.
        size: Height and width, which the networks halve four times.
        peak: Whether to measure peak memory, which takes a process for each candidate.

    Raises:
        ValueError: If a number is too small, or as for `SpeedOptions`.
    """

    backend: Literal["auto", "torch", "cpu", "triton", "cupy", "cuda"] = "auto"
    T: int = 10
    batch: int = 4
    size: int = 48
    peak: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("T", 1), ("batch", 1), ("size", 16)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Expected `{name}` of at least {least}, got {getattr(self, name)}."
                )


@register("speed", "masked")
def run(options: MaskedOptions, reporter: Reporter) -> None:
    """Time masked neurons against the host's, the released procedure and the floor."""
    base = base_setting(options)
    check_equality(neurons(base.backend, base.host_kernel), DROPPED, base.device)
    reporter.line("all candidates compute the same spikes and gradients")
    bandwidth = copy_bandwidth(base.device)
    reporter.line(f"copies move {bandwidth / 1e9:.1f} GB/s, reads and writes together")
    rows, growth = [], []
    for setting in _main_settings(options, base):
        row = measure(setting, options.repetitions, with_peak=options.peak)
        if setting.network is None:
            moved = layer_bytes(math.prod(setting.shape))
            row |= {"moved_bytes": moved, "floor_seconds": moved / bandwidth}
        else:
            row["floor_seconds"] = row["timings"][FLOOR].seconds
        _show(reporter, row)
        rows.append(row)
    for what, value, setting in growing(base):
        row = {"varied": f"{what} = {value}", **measure(setting, options.repetitions)}
        _show(reporter, row)
        growth.append(row)
    content = {
        "copy_bytes_per_second": bandwidth,
        "rows": [_plain(row) for row in rows],
        "growth": [_plain(row) for row in growth],
    }
    results.write("masked", options, content, reporter)


def base_setting(options: MaskedOptions) -> Setting:
    """Describe the single layer, on the fastest kernel that the host has.

    Args:
        options: What the benchmark was told.

    Returns:
        The setting that all others are made from.
    """
    base = Setting(
        T=options.T,
        batch=4 * options.batch,
        size=options.size,
        backend=options.backend,
        device=options.place(),
    )
    kernels = host_kernels(base.device)
    if len(kernels) == 1:
        return replace(base, host_kernel=kernels[0])
    small = replace(base, batch=4, channels=32)
    timings = interleaved(
        {
            kernel: candidate(replace(small, host_kernel=kernel), HOST).run
            for kernel in kernels
        },
        options.repetitions,
        base.device,
    )
    fastest = min(kernels, key=lambda kernel: timings[kernel].seconds)
    return replace(base, host_kernel=fastest)


def measure(
    setting: Setting, repetitions: int, with_peak: bool = False
) -> dict[str, Any]:
    """Time all candidates, and measure the peak memory of each if that is wanted.

    Args:
        setting: What is timed.
        repetitions: Timed runs of each candidate.
        with_peak: Whether to start a process for the peak memory of each candidate.

    Returns:
        `title`, `shape` and `channels_last`, the `timings` by candidate, and `ran_on`:
        the kernel by candidate.
    """
    passes = {name: candidate(setting, name) for name in setting.candidates}
    timings = interleaved(
        {name: one.run for name, one in passes.items()}, repetitions, setting.device
    )
    kernels = {HOST: setting.host_kernel}
    kernels |= {name: ran_on(passes[name].net) for name in (TORCH, OURS)}
    # Before the children start, so that two sets of networks need not fit.
    passes.clear()
    if with_peak:
        timings = {
            name: replace(timing, peak_bytes=peak(setting, name))
            for name, timing in timings.items()
        }
    return {
        "title": setting.title,
        "shape": list(setting.shape),
        "channels_last": setting.channels_last,
        "ran_on": kernels,
        "timings": timings,
    }


def peak(setting: Setting, name: str) -> int:
    """Measure the peak memory of one candidate in a process of its own.

    Args:
        setting: What runs.
        name: The candidate.

    Returns:
        Bytes above the network and its input; see `peak_bytes`.
    """
    tiny = replace(setting, T=2, batch=2, channels=min(setting.channels, 4), size=16)
    return peak_bytes(
        partial(_work, setting, name), partial(_work, tiny, name), setting.device
    )


def _main_settings(options: MaskedOptions, base: Setting) -> Iterator[Setting]:
    for channels_last in (False, True):
        layer = replace(base, channels_last=channels_last)
        yield layer
        for network in NETWORKS:
            yield replace(layer, network=network, batch=options.batch, channels=2)


def _work(setting: Setting, name: str) -> Callable[[], None]:
    return candidate(setting, name).run


def _show(reporter: Reporter, row: dict[str, Any]) -> None:
    title = ": ".join(row[key] for key in ("varied", "title") if key in row)
    results.show(reporter, title, row["timings"], HOST)
    if "moved_bytes" in row:
        milliseconds = row["floor_seconds"] * 1e3
        reporter.line(f"floor of the memory's speed: {milliseconds:.1f} ms")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    timings: dict[str, Timing] = row["timings"]
    plain = {name: asdict(timing) for name, timing in timings.items()}
    return {**row, "timings": plain}
