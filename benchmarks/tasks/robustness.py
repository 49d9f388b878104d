"""`python -m benchmarks robustness`: accuracy under attack, with its checks."""

import csv
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.report import robustness as figures
from benchmarks.report.page import Picture, Table, write_page
from benchmarks.runs.environment import describe_environment
from benchmarks.runs.folder import now
from benchmarks.runs.progress import Reporter, duration
from benchmarks.studies.robustness.config import RobustnessConfig, read
from benchmarks.studies.robustness.summary import (
    ALTERNATIVES,
    summarized,
    verdict,
)
from benchmarks.studies.robustness.trials import run_trials, train_missing
from sj_ext.files import write_text

RESULT = "robustness-cpu.json"


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Read a configuration from the command line, train, attack, and report."""
    attack(read(arguments), reporter)


def attack(config: RobustnessConfig, reporter: Reporter) -> Path:
    """Do a study, or go on where it stopped.

    Written into the study's folder: `config.yaml`, a file for each trial,
    `robustness.csv`, `plots/`, `report.html` and, last, `robustness-cpu.json`.

    Args:
        config: All that determines the study.
        reporter: Shows progress.

    Returns:
        The study's folder.
    """
    folder = config.folder
    write_text(folder / "config.yaml", config.to_yaml())
    start = time.perf_counter()
    train_missing(config, reporter)
    trained = time.perf_counter()
    trials = run_trials(config, reporter)
    attacked = time.perf_counter()
    summary = summarized(trials, config)
    sentences = verdict(summary)
    for sentence in sentences:
        reporter.line(f"- {sentence}")
    environment = describe_environment()
    content = {
        **summary,
        "noise": config.noise,
        "blur": config.blur,
        "verdict": sentences,
        "attack_cpu_seconds": sum(trial["cpu_seconds"] for trial in trials),
        "wall_seconds": _add_seconds(
            folder / "seconds.json",
            {"training": trained - start, "attacks": attacked - trained},
        ),
        "environment": environment,
    }
    write_text(folder / "robustness.csv", _csv(trials))
    _write_report(folder / "report.html", config, summary, sentences, environment)
    # Last: what has it is complete.
    content["ended"] = now()
    write_text(folder / RESULT, json.dumps(content, indent=1) + "\n")
    reporter.line(f"report: {(folder / 'report.html').absolute()}")
    reporter.line(f"plots:  {(folder / 'plots').absolute()}")
    took = content["wall_seconds"]
    reporter.line(
        f"took {duration(took['training'])} of training, "
        f"{duration(took['attacks'])} of attacks"
    )
    return folder


def _add_seconds(path: Path, seconds: Mapping[str, float]) -> dict[str, float]:
    """Add up over the calls that a study took; one that was killed is not in it."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    total = {key: before.get(key, 0.0) + more for key, more in seconds.items()}
    write_text(path, json.dumps(total) + "\n")
    return total


def is_written(config: RobustnessConfig) -> bool:
    """Say whether the result is there, of the seeds and pairs that are wanted."""
    path = config.folder / RESULT
    if not path.exists():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    compared = [
        [one["arm"], one["beside"]]
        for one in found["differences"]
        if one["beside"] != config.reference
    ]
    return found["seeds"] == list(config.seeds) and compared == config.contrasts


def table(summary: Mapping[str, Any]) -> Table:
    """Write robust accuracies as a table.

    Args:
        summary: Of `summarized`.

    Returns:
        A row for each arm: means over seeds and their standard deviations.
    """
    columns = ["network", "test accuracy"]
    for name, budgets in summary["budgets"].items():
        columns += [f"{name} {budget:g}" for budget in budgets]
    rows = []
    for arm, found in summary["arms"].items():
        row = [arm, _deviating(found["test_accuracy"])]
        for name, budgets in summary["budgets"].items():
            left = found["attacks"][name]["accuracy"]
            row += [
                _deviating([values[number] for values in left])
                for number in range(len(budgets))
            ]
        rows.append(row)
    return Table(columns, rows)


def _deviating(shares: Sequence[float]) -> str:
    return f"{fmean(shares):.1%} ± {100 * stdev(shares):.1f}"


def _csv(trials: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["arm", "seed", "attack", "budget", "measure", "accuracy"])
    for trial in trials:
        for row in _rows(trial):
            writer.writerow([trial["arm"], trial["seed"], *row])
    return text.getvalue()


def _rows(trial: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    yield ("none", 0, "test accuracy", trial["test_accuracy"])
    for name, found in trial["attacks"].items():
        yield (name, 0, "worst case", found["clean_accuracy"])
        for number, budget in enumerate(found["budgets"]):
            yield (name, budget, "worst case", found["accuracy"][number])
            for probe, left in zip(
                found["probes"], found["by_probe"][number], strict=True
            ):
                yield (name, budget, f"through {probe}", left)
            for key in (*ALTERNATIVES, "unmasked_gradients"):
                if key in found:
                    yield (name, budget, key.replace("_", " "), found[key][number])
        for which in ("before", "after") if "more_steps" in found else ():
            longer = found["more_steps"]
            measure = f"{longer['steps']} steps, {which}"
            yield (name, longer["budget"], measure, longer[which])
    for kind, by_level in trial["corruptions"].items():
        for number, left in enumerate(by_level, start=1):
            yield (kind, number, "level", left)


def _write_report(
    path: Path,
    config: RobustnessConfig,
    summary: Mapping[str, Any],
    sentences: Sequence[str],
    environment: Mapping[str, Any],
) -> None:
    seeds = len(summary["seeds"])
    pictures = [
        Picture(
            "budget",
            figures.against_budget(summary),
            f"Robust accuracy against the budget: mean and standard deviation of "
            f"{seeds} seeds. A sample counts if no step of any run through any of the "
            f"{len(summary['probes'])} surrogates made it wrong.",
        ),
        Picture(
            "steps",
            figures.over_steps(summary),
            "Accuracy over the steps: the worst case so far (black), which cannot "
            "rise, and the iterates of each surrogate alone, means over seeds.",
        ),
        Picture(
            "checks",
            figures.checks(summary),
            "Is the worst case the worst? Random search, inputs transferred from "
            f"{summary['reference']}, and an attack through the network's own random "
            "masks, which is what overrates masked networks. Dots are seeds.",
        ),
        Picture(
            "surrogates",
            figures.by_surrogate(summary),
            "What an attack through each surrogate alone leaves, and all together.",
        ),
    ]
    if config.noise or config.blur:
        pictures.append(
            Picture(
                "corruptions",
                figures.corruptions(summary, config.noise, config.blur),
                "Accuracy under corruptions that nobody chooses, on all time steps or, "
                "of recordings, on half of them: mean and standard deviation over "
                "seeds.",
            )
        )
    write_page(
        path,
        title=f"Accuracy under attack: {config.name}",
        introduction=[
            f"Networks trained in {len(config.arms)} ways with {seeds} seeds each, "
            f"attacked on {summary['samples']} test samples. Attacks differentiate "
            "through dense surrogates, never through the masks of training.",
            *sentences,
        ],
        table=table(summary),
        pictures=pictures,
        facts={
            "attacks": ", ".join(
                f"{name}: {settings.built()}"
                for name, settings in config.attacks.items()
            ),
            "surrogates": ", ".join(summary["probes"]),
            "seeds": ", ".join(map(str, summary["seeds"])),
            **{k: v for k, v in environment.items() if not isinstance(v, (dict, list))},
        },
    )
