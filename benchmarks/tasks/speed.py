"""`python -m benchmarks speed`: time ours against peers in one process run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from rich import box
from rich.table import Table

from benchmarks.runs.atomic import write_text
from benchmarks.runs.environment import describe_environment
from benchmarks.runs.progress import Reporter
from benchmarks.speed import masked
from benchmarks.speed.timing import Timing


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Check equality, time, print the tables, and write them with the environment."""
    parser = ArgumentParser(
        prog="python -m benchmarks speed", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("what", choices=["masked"], help="which benchmark")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repetitions", type=int, default=7, help="odd, for medians")
    parser.add_argument("--batch", type=int, default=4, help="of a training step")
    parser.add_argument("--output", type=Path, default=Path("runs/speed"))
    options = parser.parse_args(list(arguments))
    device, repetitions = torch.device(options.device), options.repetitions
    masked.check_equality(device)
    reporter.line("all candidates compute the same spikes and gradients")
    tables: dict[str, dict[str, Timing]] = {}
    for layout in (False, True):
        suffix = ", channels last" if layout else ""
        setting = masked.Setting(channels_last=layout)
        title = f"one layer [10, 16, 64, 48, 48]{suffix}"
        tables[title] = masked.time_layer(setting, device, repetitions)
        _show(reporter, title, tables[title])
        for network in ("VGGSNN", "ResNet-18"):
            setting = masked.Setting(batch=options.batch, channels_last=layout)
            title = f"training step of {network} [10, {options.batch}, 2, 48, 48]"
            title += suffix
            tables[title] = masked.time_training_step(
                network, setting, device, max(3, repetitions // 2)
            )
            _show(reporter, title, tables[title])
    for what, value, timing in masked.growth(device, repetitions):
        title = f"layer [10, 4, 32, 48, 48] with {what} = {value}"
        tables[title] = timing
        _show(reporter, title, timing)
    path = options.output / f"speed-masked-{device.type}.json"
    _write(path, tables)
    reporter.line(f"written to {path}")


def _show(reporter: Reporter, title: str, timings: Mapping[str, Timing]) -> None:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("", "median ms", "low", "high", "x host", "saved MB"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    host = timings[masked.HOST].seconds
    for name, timing in timings.items():
        table.add_row(
            name,
            f"{timing.seconds * 1e3:.1f}",
            f"{timing.low * 1e3:.1f}",
            f"{timing.high * 1e3:.1f}",
            f"{timing.seconds / host:.2f}",
            f"{timing.saved_bytes / 1e6:.0f}",
        )
    reporter.console.print(table)


def _write(path: Path, tables: Mapping[str, Mapping[str, Timing]]) -> None:
    content: dict[str, Any] = {
        "environment": describe_environment(),
        "tables": {
            title: {name: asdict(timing) for name, timing in timings.items()}
            for title, timings in tables.items()
        },
    }
    write_text(path, json.dumps(content, indent=1) + "\n")
