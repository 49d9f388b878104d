"""`python -m benchmarks prune`: can a search run its rounds at fewer steps?"""

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import pruning as figures
from benchmarks.report.page import Picture, Table, write_page
from benchmarks.runs.environment import describe_environment
from benchmarks.runs.folder import now
from benchmarks.runs.progress import Reporter, duration
from benchmarks.studies.pruning.config import PruningConfig, read
from benchmarks.studies.pruning.summary import LEDGERS, summarized, verdict
from benchmarks.studies.pruning.trials import run_trials
from sj_ext.files import write_text

RESULT = "pruning-cpu.json"


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Read a configuration from the command line and do its study."""
    study(read(arguments), reporter)


def study(config: PruningConfig, reporter: Reporter) -> Path:
    """Do the searches, print the verdict, write tables and report.

    Args:
        config: Of the study.
        reporter: Shows progress.

    Returns:
        The study's folder.
    """
    start = time.perf_counter()
    results = run_trials(config, reporter)
    rows = summarized(results, config.reported)
    sentences = verdict(rows)
    for sentence in sentences:
        reporter.line(f"- {sentence}")
    seconds = time.perf_counter() - start
    environment = describe_environment()
    folder = config.folder
    settings = config.as_dict()
    for key in ("name", "seed", "readout", "output"):
        del settings["train"][key]
    content = {
        "settings": settings,
        "seeds": seeds_of(config),
        "rows": rows,
        "verdict": sentences,
        "seconds": seconds,
        "environment": environment,
    }
    write_text(folder / "config.yaml", config.to_yaml())
    write_text(folder / "searches.json", json.dumps(results, indent=1) + "\n")
    write_text(folder / "table.csv", _csv(rows))
    _write_report(folder / "report.html", results, rows, sentences, environment)
    # Last: what has it is complete.
    content["ended"] = now()
    write_text(folder / RESULT, json.dumps(content, indent=1) + "\n")
    for what, name in (("result", RESULT), ("report", "report.html")):
        reporter.line(f"{what}: {(folder / name).absolute()}")
    reporter.line(f"took {duration(seconds)}")
    return folder


def seeds_of(config: PruningConfig) -> list[int]:
    """Say how many seeds a result is of: for the claim, and of the other arms."""
    return [config.seeds, config.other_seeds]


def is_written(config: PruningConfig) -> bool:
    """Say whether the study's result is there, and of as many seeds as are wanted."""
    path = config.folder / RESULT
    if not path.exists():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    return found.get("seeds") == seeds_of(config)


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Write the rows of a summary as a table.

    Args:
        rows: Of `summarized`.

    Returns:
        A row for each sparsity and arm.
    """
    columns = (
        "search",
        "sparsity",
        "seeds",
        "T' of the rounds",
        "accuracy, selected epoch",
        "accuracy, last epoch",
        "difference to full-T magnitude, points (95%)",
        "sample-steps",
        "seconds",
        "theoretical operations",
    )
    return Table(columns, [_cells(row) for row in rows])


def _cells(row: Mapping[str, Any]) -> list[str]:
    accuracy = [
        _accuracy(row["test_accuracy"][which]) for which in ("selected", "last")
    ]
    relative = [_relative(row, key) for key in LEDGERS]
    return [
        row["arm"],
        f"{row['sparsity']:.0%}",
        str(row["seeds"]),
        _span(row["time_steps"]),
        *accuracy,
        _difference(row),
        *relative,
    ]


def _accuracy(found: Mapping[str, Any]) -> str:
    text, deviation = f"{found['mean']:.1%}", found["deviation"]
    return text if deviation is None else f"{text} (sd {100 * deviation:.1f})"


def _span(steps: Sequence[int]) -> str:
    low, high = min(steps), max(steps)
    return str(low) if low == high else f"{low} to {high}"


def _difference(row: Mapping[str, Any]) -> str:
    if not row["difference"]:
        return "-"
    found = row["difference"]["selected"]
    text = f"{100 * found['mean']:+.2f}"
    if found["interval"] is None:
        return text
    low, high = found["interval"]
    return f"{text} ({100 * low:+.2f} to {100 * high:+.2f})"


def _relative(row: Mapping[str, Any], key: str) -> str:
    """Write a cost, and its share of what the full-T magnitude search costs."""
    cost = row["cost"][key]
    text = f"{cost:.0f} s" if key == "seconds" else f"{cost:.3g}"
    return f"{text} ({row['relative'][key]:.0%})" if row["relative"] else text


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write a line for each row, with plain numbers."""
    out = io.StringIO()
    purposes = list(rows[0]["cost_by_purpose"])
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "arm",
            "sparsity",
            "seeds",
            "time_steps",
            "accuracy_selected",
            "accuracy_last",
            "difference",
            "difference_low",
            "difference_high",
            *LEDGERS,
            *(f"{purpose}_{key}" for purpose in purposes for key in LEDGERS),
        ]
    )
    for row in rows:
        found = row["difference"].get("selected", {"mean": "", "interval": None})
        accuracy = row["test_accuracy"]
        writer.writerow(
            [
                row["arm"],
                row["sparsity"],
                row["seeds"],
                " ".join(map(str, row["time_steps"])),
                accuracy["selected"]["mean"],
                accuracy["last"]["mean"],
                found["mean"],
                *(found["interval"] or ("", "")),
                *(row["cost"][key] for key in LEDGERS),
                *(
                    row["cost_by_purpose"][purpose][key]
                    for purpose in purposes
                    for key in LEDGERS
                ),
            ]
        )
    return out.getvalue()


def _write_report(
    path: Path,
    results: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    sentences: Sequence[str],
    environment: Mapping[str, Any],
) -> None:
    write_page(
        path,
        title="Can the rounds of a pruning search run at fewer time steps?",
        introduction=[
            "Searches prune single weights in rounds: train, score, prune, rewind. "
            "Some run their rounds at all T steps, others at the T' that a rule chose "
            "from one look at the network at its rewind point. Whatever the search, "
            "every network is then trained to its end at full T, and that is in its "
            "cost, as are scoring, probing and rewinding. A cost is that of a search "
            "which ends at the sparsity of its row.",
            "Three accounts, never mixed: dense sample-steps, forward and backward; "
            "seconds of searches that ran several at a time; and synaptic operations "
            "in theory, which leave out pruned weights and absent spikes, a backward "
            "pass counted as two forward ones. Dense hardware saves none of the last. "
            "In parentheses is the share of what the full-T magnitude search costs.",
            *sentences,
        ],
        table=table(rows),
        pictures=[
            Picture(
                "accuracy-against-cost",
                figures.accuracy_against_cost(rows),
                "Test accuracy with the epoch selected on validation, against each of "
                "the three accounts, a panel column for each sparsity. Bars are "
                "standard deviations over seeds.",
            ),
            Picture(
                "layers",
                figures.layers(rows),
                "Which layers went: the share of each layer's weights that remains.",
            ),
            Picture(
                "rules",
                figures.rules(results),
                "What the rules saw at the rewind point: the share of the Fisher "
                "information of all prefixes that the first t hold, the loss of the "
                "prefixes, and the divergence of their answers from the full ones. "
                "Dots are the T' that was chosen.",
            ),
        ],
        facts={k: v for k, v in environment.items() if not isinstance(v, (dict, list))},
    )
