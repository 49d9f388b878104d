"""`python -m benchmarks fisher --planted`: does the profile find planted evidence?"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from benchmarks.report import planted as figures
from benchmarks.report.page import Picture, Table, write_page
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.environment import describe_environment
from benchmarks.runs.progress import Reporter, duration
from benchmarks.studies.planted import rules as planted_rules
from benchmarks.studies.planted.summary import summarized, verdict
from benchmarks.studies.planted.trial import NULL, StudySettings
from benchmarks.studies.planted.trials import run_trials, study_folder
from benchmarks.tasks.data import prepare
from sj_ext.files import write_text

_RESULT = "fisher-planted-cpu.json"


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Prepare the data, do the trials, print the verdict, write table and report."""
    parser = ArgumentParser(
        prog="python -m benchmarks fisher --planted",
        description=planted_rules.__doc__,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--root", type=Path, default=Path("data/event_digits"), help="data folder"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/fisher"), help="results folder"
    )
    parser.add_argument(
        "--seeds", type=int, default=20, help="trials of each position and of the null"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="trials at a time"
    )
    parser.add_argument(
        "--per-class",
        type=int,
        help="only so many recordings of each digit, for a look (needs its own --root)",
    )
    parser.add_argument("--epochs", type=int, help="instead of the usual number")
    options = parser.parse_args(list(arguments))
    for key in ("seeds", "workers"):
        if (value := getattr(options, key)) < 1:
            raise ConfigError(f"Expected `{key}` of at least 1, got {value}.")
    settings = StudySettings()
    if options.epochs is not None:
        settings.optimization.epochs = options.epochs
        settings.null_optimization.epochs = options.epochs
    start = time.perf_counter()
    prepare("event_digits", options.root, 10, reporter, per_class=options.per_class)
    folder = study_folder(options.output, options.root, settings)
    trials = run_trials(
        folder, options.root, settings, options.seeds, options.workers, reporter
    )
    rows = summarized(trials)
    sentences = verdict(rows)
    for sentence in sentences:
        reporter.line(f"- {sentence}")
    seconds = time.perf_counter() - start
    environment = describe_environment()
    content = {
        "seeds": options.seeds,
        "settings": settings.as_dict(),
        "rows": rows,
        "verdict": sentences,
        "seconds": seconds,
        "environment": environment,
    }
    write_text(folder / _RESULT, json.dumps(content, indent=1) + "\n")
    _write_report(folder / "report.html", trials, rows, sentences, environment)
    reporter.line(f"result: {(folder / _RESULT).absolute()}")
    reporter.line(f"report: {(folder / 'report.html').absolute()}")
    reporter.line(f"took {duration(seconds)}")


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Write the rows of a summary as a table.

    Args:
        rows: Of `summarized`.

    Returns:
        A row for each position and estimator.
    """
    rules = list(planted_rules.LOCATING)
    columns = (
        "evidence in steps",
        "estimator",
        "accuracy",
        *rules,
        "random step",
        "centroid before, after, shuffled",
        "claims: falls",
        "claims: below shuffled",
    )
    return Table(columns, [_cells(row, rules) for row in rows])


def _cells(row: Mapping[str, Any], rules: Sequence[str]) -> list[str]:
    trials = row["trials"]
    if row["evidence"] == NULL:
        evidence, found = "all alike, no state", ["-"] * (len(rules) + 1)
    else:
        evidence = row["evidence"].replace("-", " to ")
        found = [
            f"{f['hits']}/{trials}, off by {f['mean_distance']:.1f}"
            for f in (row["located"][rule] for rule in rules)
        ]
        guess = row["guess"]
        found.append(f"{guess['hits']:.0%}, off by {guess['mean_distance']:.1f}")
    return [
        evidence,
        row["estimator"],
        f"{row['test_accuracy']:.1%}",
        *found,
        " / ".join(f"{centroid:.2f}" for centroid in row["centroid"].values()),
        *(f"{claimed}/{trials}" for claimed in row["claims"].values()),
    ]


def _write_report(
    path: Path,
    trials: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    sentences: Sequence[str],
    environment: Mapping[str, Any],
) -> None:
    write_page(
        path,
        title="Does temporal Fisher information find planted evidence?",
        introduction=[
            "Small spiking networks learn event digits whose class evidence is in two "
            "known steps of ten; in the others the counts of every pixel are permuted "
            "among recordings. The null is a linear readout without states on steps "
            "that are independent draws from one distribution. Each cell of a rule "
            "says in how many trials it names a planted step, and how many steps it is "
            "off on average.",
            *sentences,
        ],
        table=table(rows),
        pictures=[
            Picture(
                "profiles",
                figures.profiles(trials),
                "Fisher information of the prefixes and their loss after training: "
                "thin lines are seeds, thick ones means, the planted steps shaded. "
                "Each seed's information is divided by its mean over the prefixes.",
            ),
            Picture(
                "centroids",
                figures.centroids(trials),
                "Information centroid of every seed before training, after it, and "
                "after it on time-shuffled input.",
            ),
        ],
        facts={k: v for k, v in environment.items() if not isinstance(v, (dict, list))},
    )
