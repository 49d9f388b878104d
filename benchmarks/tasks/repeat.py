"""`python -m benchmarks repeat`: one configuration, several seeds, and their spread."""

import json
import os
import statistics
import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from benchmarks import data
from benchmarks.data.splits import SEEDS, Split, read_split
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import TrainConfig, read
from benchmarks.runs.folder import RunFolder
from benchmarks.runs.progress import Reporter, duration
from benchmarks.runs.workers import done_by_workers
from benchmarks.tasks.train import train
from sj_ext.files import write_text


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Train with every seed that is not done yet, print the spread, write the result.

    Args:
        arguments: Options, and keys of the configuration.
        reporter: Shows progress.

    Raises:
        ConfigError: A number is out of range, or the runs are of several versions.
    """
    # The words that it does not know are keys of the configuration.
    parser = ArgumentParser(
        prog="python -m benchmarks repeat",
        description=f"{__doc__} Further words are keys of `train`, --config first.",
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", type=int, default=5, help="runs: seeds 0, 1, ...")
    parser.add_argument(
        "--vary-split",
        action="store_true",
        help="seed k takes the k-th of the data set's splits",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="runs at a time"
    )
    options, words = parser.parse_known_args(list(arguments))
    for key in ("seeds", "workers"):
        if (value := getattr(options, key)) < 1:
            raise ConfigError(f"Expected `{key}` of at least 1, got {value}.")
    first = read(words, prog=parser.prog)
    configs = repeated(first, options.seeds, options.vary_split)
    start = time.perf_counter()
    _train_all(configs, options.workers, reporter)
    seconds = time.perf_counter() - start
    content = summary(first, configs) | {"seconds": seconds}
    reporter.console.print(_console_table(content))
    path = Path(first.output) / f"{first.name}-{first.device.accelerator}.json"
    write_text(path, json.dumps(content, indent=1) + "\n")
    reporter.line(f"result: {path.absolute()}")
    reporter.line(f"took {duration(seconds)}")


def repeated(first: TrainConfig, seeds: int, vary_split: bool) -> list[TrainConfig]:
    """Make the configuration of each run.

    Args:
        first: Says all but seed and split.
        seeds: How many runs.
        vary_split: Whether seed k takes the k-th split of the data set.

    Returns:
        One for each seed.

    Raises:
        ConfigError: There are not as many splits, or a file of one is missing.
    """
    if not vary_split:
        return [replace(first, seed=seed) for seed in range(seeds)]
    if seeds > SEEDS:
        raise ConfigError(
            f"Expected at most {SEEDS} `seeds` with `vary_split`, got {seeds}."
        )
    path = Path(first.split)
    found = []
    for seed in range(seeds):
        name = path.with_stem(path.stem + (f"_{seed}" if seed else ""))
        settings = replace(first.data, split=str(name))
        try:
            # Before the first run: hours may lie between it and the last.
            read_split(settings.split, settings.root)
        except (FileNotFoundError, data.DamagedDataError) as error:
            raise ConfigError(f"`vary_split`, seed {seed}: {error}") from error
        found.append(replace(first, seed=seed, data=settings))
    return found


def _train_all(
    configs: Sequence[TrainConfig], workers: int, reporter: Reporter
) -> None:
    missing = [config for config in configs if not RunFolder(config).is_complete]
    if not missing:
        return
    # Once, so that the runs find the frames built.
    data.load_configured(missing[0].data)
    name = configs[0].name
    reporter.line(f"{name}: {len(missing)} of {len(configs)} runs to do")
    with reporter.bar(name, len(missing), "runs") as bar:
        jobs = [(config,) for config in missing]
        for _ in done_by_workers(_train, jobs, workers):
            bar.advance()


def _train(config: TrainConfig) -> None:
    train(config, Reporter.silent())


def summary(first: TrainConfig, configs: Sequence[TrainConfig]) -> dict[str, Any]:
    """Read the runs' results and say how they spread.

    Args:
        first: What they have in common.
        configs: Of the runs, all complete.

    Returns:
        As JSON has it: `config`, `classes`, a row for each of `runs` with the number
        of `samples` of each part, `mean` and `deviation` (of n - 1; None of one run)
        of the accuracies, and `environment`.

    Raises:
        ConfigError: The runs are of several versions of the project.
    """
    folders = [RunFolder(config) for config in configs]
    environments = [folder.read_environment() for folder in folders]
    commits = {str(found["commit"]) for found in environments}
    if len(commits) > 1:
        raise ConfigError(
            f"Expected runs of one version, got those of {', '.join(sorted(commits))}: "
            "choose another `output`."
        )
    runs = [_row(*found) for found in zip(configs, folders, environments, strict=True)]
    keys = ("test_selected", "test_last", "validation")
    figures = {key: [run[key] for run in runs if run[key] is not None] for key in keys}
    of_one_run = ("earlier", "resumed_after", "seed", "data", "split")
    environment = {k: v for k, v in environments[-1].items() if k not in of_one_run}
    # Where things lie says nothing about the result.
    settings = asdict(first)
    del settings["output"], settings["data"]["root"], settings["seed"]
    return {
        "config": settings,
        "classes": list(read_split(first.split).classes),
        "runs": runs,
        "mean": {k: statistics.fmean(v) if v else None for k, v in figures.items()},
        "deviation": {
            k: statistics.stdev(v) if len(v) > 1 else None for k, v in figures.items()
        },
        "environment": environment
        | {
            "dirty": any(found["dirty"] for found in environments),
            "seeds": [config.seed for config in configs],
        },
    }


def _samples(split: Split) -> dict[str, int]:
    return {part: len(getattr(split, part)) for part in ("train", "validation", "test")}


def _row(
    config: TrainConfig, folder: RunFolder, environment: Mapping[str, Any]
) -> dict[str, Any]:
    result = folder.read_result()
    accuracy = result["test_accuracy"]
    return {
        "seed": config.seed,
        "split": Path(config.split).stem,
        "split_checksum": environment["split"],
        "samples": _samples(read_split(config.split)),
        "data_checksum": environment["data"],
        "test_selected": accuracy["selected"],
        "test_last": accuracy["last"],
        "validation": result["validation_accuracy"],
        "selected_epoch": result["selected_epoch"],
        "epochs": result["epochs"],
        "test_of_classes": _of_classes(folder),
    }


def _of_classes(folder: RunFolder) -> list[float | None]:
    """Give the share of each class that the last network classifies rightly."""
    found = folder.read_predictions()
    # As the readout has it: by the weights of the steps where it is a weighted mean.
    weight = found["readout_weight_last"]
    logits = found["logits_last"]
    if np.isnan(weight).any():
        return []
    answer = (logits * weight[:, None]).mean(1).argmax(1)
    target = found["target"]
    return [
        float((answer[target == label] == label).mean())
        if (target == label).any()
        else None
        for label in range(logits.shape[-1])
    ]


def _console_table(content: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("", "validation", "test, selected epoch", "test, last epoch"):
        table.add_column(column, justify="right" if column else "left")
    keys = ("validation", "test_selected", "test_last")
    for run in content["runs"]:
        label = f"seed {run['seed']}, {run['split']}"
        table.add_row(label, *(_percent(run[key]) for key in keys))
    for name in ("mean", "deviation"):
        table.add_row(name, *(_percent(content[name][key]) for key in keys))
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
