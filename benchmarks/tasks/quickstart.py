"""`python -m benchmarks quickstart`: three networks on the event digits, one report."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser
from rich import box
from rich.table import Table as ConsoleTable

from benchmarks import data
from benchmarks.data.event_digits import DESCRIPTION
from benchmarks.data.frames import EventFrames
from benchmarks.data.splits import read_split, write_split
from benchmarks.report.page import Picture, Table, write_page
from benchmarks.report.plots import (
    event_frames,
    layer_bars,
    learning_curves,
    readout_weights,
)
from benchmarks.runs.config import TrainConfig, read
from benchmarks.runs.folder import RunFolder
from benchmarks.runs.progress import Reporter, duration
from benchmarks.tasks.data import prepare
from benchmarks.tasks.train import train
from sj_ext.files import write_text

_CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "event_digits"
_ARMS = {
    "base": "base",
    "masked": "masked",
    "masked + weighted": "masked_weighted",
}
_COLUMNS = (
    "network",
    "test accuracy",
    "after last epoch",
    "non-zero derivatives",
    "firing rate",
    "s / epoch",
)
_DIGITS_SHOWN = (0, 3, 6, 8)


@dataclass(frozen=True)
class _Arm:
    """One trained network as the report shows it."""

    label: str
    folder: RunFolder
    result: dict[str, Any]
    history: list[dict[str, float]]


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Prepare the data, train the three networks, print the table, write the report."""
    parser = ArgumentParser(
        prog="python -m benchmarks quickstart", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--root", type=Path, default=Path("data/event_digits"), help="data folder"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/quickstart"), help="results folder"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--epochs", type=int, help="epochs instead of the configured number"
    )
    parser.add_argument(
        "--per-class",
        type=int,
        help="only so many recordings of each digit, for a look (needs its own --root)",
    )
    options = parser.parse_args(list(arguments))
    start = time.perf_counter()
    overrides = {
        "--data.root": options.root,
        "--output": options.output,
        "--seed": options.seed,
    }
    if options.epochs is not None:
        overrides["--optimization.epochs"] = options.epochs
    if options.per_class is not None:
        overrides["--data.split"] = options.output / "split.json"
    configs = {label: _config(file, overrides) for label, file in _ARMS.items()}
    first = next(iter(configs.values()))
    prepare(
        first.data.name,
        options.root,
        first.data.time_steps,
        reporter,
        per_class=options.per_class,
    )
    frames = data.load(first.data.name, options.root, first.data.time_steps)
    if options.per_class is not None:
        reduced = read_split(first.data.name).restricted(frames.names)
        write_split(reduced, first.split)
    arms = []
    for label, config in configs.items():
        folder = train(config, reporter)
        arms.append(_Arm(label, folder, folder.read_result(), folder.read_metrics()))
    rows = [_row(arm) for arm in arms]
    reporter.console.print(_console_table(rows))
    seconds = time.perf_counter() - start
    _write_summary(options.output / "quickstart-cpu.json", arms, rows, seconds)
    report = options.output / "report.html"
    _write_report(report, arms, rows, frames)
    reporter.line(f"report: {report.absolute()}")
    reporter.line(f"plots:  {(report.parent / 'plots').absolute()}")
    reporter.line(f"took {duration(seconds)}")


def _config(file: str, overrides: Mapping[str, Any]) -> TrainConfig:
    words = ["--config", _CONFIGS / f"{file}.yaml"]
    for pair in overrides.items():
        words += pair
    return read([str(word) for word in words])


def _row(arm: _Arm) -> tuple[str, ...]:
    accuracy = arm.result["test_accuracy"]
    return (
        arm.label,
        f"{accuracy['selected']:.2%}",
        f"{accuracy['last']:.2%}",
        f"{arm.result['gradient_density']:.1%}",
        f"{arm.result['firing_rate']:.3f}",
        f"{arm.result['seconds_per_epoch']:.1f}",
    )


def _write_summary(
    path: Path, arms: Sequence[_Arm], rows: Sequence[Sequence[str]], seconds: float
) -> None:
    content = {
        "columns": _COLUMNS,
        "rows": rows,
        "seconds": seconds,
        "environment": arms[-1].folder.read_environment(),
    }
    write_text(path, json.dumps(content, indent=1) + "\n")


def _console_table(rows: Sequence[Sequence[str]]) -> ConsoleTable:
    table = ConsoleTable(box=box.SIMPLE_HEAD)
    for number, column in enumerate(_COLUMNS):
        heading = column.replace(" ", "\n", 1)
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _write_report(
    path: Path,
    arms: Sequence[_Arm],
    rows: Sequence[Sequence[str]],
    frames: EventFrames,
) -> None:
    examples = [_first_of(frames.labels.numpy(), digit) for digit in _DIGITS_SHOWN]
    weighted = arms[-1]
    samples = len(weighted.folder.read_predictions()["target"])
    pictures = [
        Picture(
            "learning_curves",
            learning_curves({arm.label: arm.history for arm in arms}),
            "Accuracy and loss after each epoch: validation solid, training dotted. "
            "Training figures are means over the epoch, while the network still "
            "learns.",
        ),
        Picture(
            "readout_weights",
            readout_weights(weighted.history),
            "The weight that each time step had in training and validation, epoch by "
            "epoch. They start at 1, follow each step's training accuracy, and keep "
            "a mean of 1.",
        ),
        Picture(
            "gradient_density",
            layer_bars(
                {arm.label: arm.result["layers"] for arm in arms},
                "gradient_density",
                "share of non-zero surrogate derivatives",
            ),
            "Share of (sample, step, neuron) whose surrogate derivative is not zero, "
            "layer by layer, in the last training batch of the last epoch.",
        ),
        Picture(
            "event_frames",
            event_frames(
                frames.frames.numpy()[examples],
                [frames.classes[frames.labels[i]] for i in examples],
                DESCRIPTION,
            ),
            "One recording of some of the digits, events split into frames of equal "
            "number. ON events blue, OFF events red.",
        ),
    ]
    environment = _environment(weighted.folder)
    write_page(
        path,
        title="Quickstart: masked surrogate gradients on event digits",
        introduction=[
            f"{DESCRIPTION}: {len(frames):,} recordings in the on-disk format of "
            f"N-Caltech101, read through SpikingJelly's loader, {frames.time_steps} "
            f"frames each. Accuracy is measured on {samples} held-out recordings, one "
            "seed: differences of a point or two between the networks mean nothing "
            "here.",
            "Base: the triangular surrogate. Masked: its derivative is dropped with "
            "probability one half. Weighted: the logits of each time step count as "
            "much as the step was right in training.",
        ],
        table=Table(_COLUMNS, rows),
        pictures=pictures,
        facts=environment
        | {f"run: {arm.label}": arm.folder.path.absolute() for arm in arms},
    )


def _first_of(labels: np.ndarray, digit: int) -> int:
    return int(np.flatnonzero(labels == digit)[0])


def _environment(folder: RunFolder) -> Mapping[str, Any]:
    found = folder.read_environment()
    packages = found.pop("packages")
    found["earlier"] = len(found["earlier"])
    return found | {
        "packages": ", ".join(f"{name} {number}" for name, number in packages.items()),
        "command": " ".join(found["command"]),
    }
