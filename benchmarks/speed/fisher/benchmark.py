"""Temporal Fisher information against the released procedure and exact peers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.runs.progress import Reporter
from benchmarks.speed import results
from benchmarks.speed.fisher.candidates import (
    FIRST,
    MAIN,
    PEERS,
    RELEASED,
    TRAINING,
    Units,
    execution,
    refusal,
    units,
    work,
)
from benchmarks.speed.fisher.equality import check_equality
from benchmarks.speed.fisher.network import Setting, passes
from benchmarks.speed.options import SpeedOptions
from benchmarks.speed.peak import peak_bytes
from benchmarks.speed.timing import Timing, interleaved
from sj_ext import register


@dataclass
class FisherOptions(SpeedOptions):
    """What `speed fisher` can be told.

    Args:
        device: cpu or cuda.
        repetitions: Timed runs of each candidate; odd, for medians.
        output: Folder of the result.
        T: Numbers of time steps.
        batch: Samples.
        peer_repetitions: Timed runs of each exact peer, most of which are slow; 0
            leaves them out.
        peak: Whether to measure peak memory, which takes a process for each candidate.

    Raises:
        ValueError: If a number is not positive, or `peer_repetitions` is even.
    """

    T: list[int] = field(default_factory=lambda: [4, 10, 20])
    batch: int = 32
    peer_repetitions: int = 3
    peak: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.T or min(self.T) < 1:
            raise ValueError(f"Expected `T` to be positive numbers, got {self.T}.")
        if self.batch < 1:
            raise ValueError(f"Expected `batch` to be positive, got {self.batch}.")
        peers = self.peer_repetitions
        if peers < 0 or (peers and peers % 2 == 0):
            raise ValueError(
                f"Expected `peer_repetitions` to be 0 or an odd number, got {peers}."
            )


@register("speed", "fisher")
def run(options: FisherOptions, reporter: Reporter) -> None:
    """Time Fisher information of all prefixes against the released procedure."""
    base = Setting(batch=options.batch, device=options.place())
    settings = [replace(base, T=T) for T in options.T]
    peers = PEERS if options.peer_repetitions else ()
    refusals = {name: reason for name in peers if (reason := refusal(base, name))}
    peers = tuple(name for name in peers if name not in refusals)
    errors = check_equality(
        [replace(one, batch=min(8, base.batch)) for one in settings],
        replace(base, T=3, batch=3),
        peers,
    )
    reporter.line("largest errors, relative, in float64:")
    for name, error in errors.items():
        reporter.line(f"  {name:<24}{error:.0e}")
    for name, reason in refusals.items():
        reporter.line(f"{name} does not run: {reason}")
    rows = []
    for setting in settings:
        row = measure(setting, options, peers)
        show(reporter, row)
        rows.append(row)
    content = {
        "frames": "random counts of events, in the shape of event digits",
        "errors": errors,
        "refusals": refusals,
        "rows": [_plain(row) for row in rows],
    }
    results.write("fisher", options, content, reporter)


def measure(
    setting: Setting, options: FisherOptions, peers: tuple[str, ...]
) -> dict[str, Any]:
    """Time all candidates, and measure the peak memory of each if that is wanted.

    Args:
        setting: What is timed.
        options: How often, and whether peaks are wanted.
        peers: The exact peers that run here.

    Returns:
        `T`, `shape`, how ours ran the network (`execution`), `units` and `timings` by
        candidate, the seconds of one step forward and backward (`step_seconds`), and
        by candidate the seconds that its units take at that rate
        (`arithmetic_seconds`).
    """
    timed = partial(interleaved, device=setting.device, with_saved=False)
    single = timed(passes(setting), options.repetitions)
    forward = single["forward"].seconds / setting.T
    backward = single["both"].seconds / setting.T - forward
    main = {name: work(setting, name) for name in MAIN}
    timings = timed(main, options.repetitions)
    main.clear()
    if peers:
        exact = {name: work(setting, name) for name in peers}
        timings |= timed(exact, options.peer_repetitions)
        exact.clear()
    ran = execution(setting)
    counts = {name: units(name, setting.T, ran) for name in timings}
    if options.peak:
        timings = {
            # The peak of a first batch is that of its estimator.
            name: timing
            if name in FIRST
            else replace(timing, peak_bytes=peak(setting, name))
            for name, timing in timings.items()
        }
    return {
        "T": setting.T,
        "shape": list(setting.shape),
        "execution": ran,
        "step_seconds": {"forward": forward, "backward": backward},
        "units": counts,
        "arithmetic_seconds": {
            name: count.forward * forward + count.backward * backward
            for name, count in counts.items()
            if count is not None
        },
        "timings": timings,
    }


def peak(setting: Setting, name: str) -> int:
    """Measure the peak memory of one candidate in a process of its own.

    Args:
        setting: What runs.
        name: The candidate.

    Returns:
        Bytes above the network and its frames; see `peak_bytes`.
    """
    tiny = replace(setting, T=2, batch=2)
    return peak_bytes(
        partial(work, setting, name), partial(work, tiny, name), setting.device
    )


def show(reporter: Reporter, row: Mapping[str, Any]) -> None:
    """Print the candidates of one T: step-units, times, and memory.

    Args:
        reporter: Prints it.
        row: From `measure`.
    """
    title = f"Fisher information {row['shape']}; ours ran by {row['execution']!r}"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    columns = ("", "steps", "ms", "spread", "speed", "peak MB", "/ train")
    for column in columns:
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    timings: Mapping[str, Timing] = row["timings"]
    released, training = timings[RELEASED], timings[TRAINING]
    for name, timing in timings.items():
        count: Units | None = row["units"][name]
        ratio = ""
        if timing.peak_bytes is not None and training.peak_bytes:
            ratio = f"{timing.peak_bytes / training.peak_bytes:.2f}"
        table.add_row(
            name,
            "" if count is None else f"{count.forward}+{count.backward}",
            f"{timing.seconds * 1e3:.0f}",
            f"{(timing.high - timing.low) / timing.seconds:.0%}",
            "" if name == TRAINING else f"{released.seconds / timing.seconds:.2f}",
            results.megabytes(timing.peak_bytes),
            ratio,
        )
    reporter.console.print(table)
    step = row["step_seconds"]
    arithmetic = row["arithmetic_seconds"]
    ceiling = arithmetic[RELEASED] / arithmetic["batch_mean"]
    reporter.line(
        "steps: forward + backward; ms: median; spread: of all repetitions; speed: "
        "the released procedure's time over this one's; train: the training step. A "
        f"step takes {step['forward'] * 1e3:.1f} ms forward and "
        f"{step['backward'] * 1e3:.1f} ms backward, so the steps alone give "
        f"{ceiling:.2f}."
    )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    timings: dict[str, Timing] = row["timings"]
    counts: dict[str, Units | None] = row["units"]
    return {
        **row,
        "units": {n: None if u is None else u._asdict() for n, u in counts.items()},
        "timings": {name: asdict(timing) for name, timing in timings.items()},
    }
