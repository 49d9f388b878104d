"""`python -m benchmarks compare A B`: the paired difference of two runs or arms."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser

from benchmarks.experiments.rows import OWN_RESULTS, Row, read_rows
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.progress import Reporter
from benchmarks.statistics.arms import (
    compared_groups,
    differing_settings,
    find_arm,
    run_folders,
)
from benchmarks.statistics.paired import RESAMPLES, paired_difference
from benchmarks.statistics.sentences import verdict


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Compare two runs, or two arms of an experiment, and say what it shows."""
    parser = ArgumentParser(
        prog="python -m benchmarks compare", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("first", help="folder of a run, or EXPERIMENT:ARM")
    parser.add_argument("second", help="the same; it is subtracted from the first")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="where run folders lie"
    )
    parser.add_argument(
        "--results", type=Path, default=OWN_RESULTS, help="the table of results"
    )
    parser.add_argument(
        "--size", type=Literal["demo", "full"], help="of the experiment, if it has both"
    )
    parser.add_argument(
        "--epoch",
        type=Literal["selected", "last"],
        default="selected",
        help="the epoch that validation chose, or the last",
    )
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    options = parser.parse_args(list(arguments))
    words = (options.first, options.second)
    by_name = [word for word in words if not Path(word).is_dir()]
    rows = _rows(options.results, by_name, options.size) if by_name else []
    folders = run_folders(options.runs) if by_name else {}
    first, second = (find_arm(word, rows, folders, options.epoch) for word in words)
    groups, of_items = compared_groups(first, second)
    found = paired_difference(groups, options.resamples, options.seed)
    splits = "split" if found.splits == 1 else "splits"
    runs = "run" if found.runs == 1 else "runs"
    items = f", {sum(found.items)} test recordings" if of_items else ""
    reporter.line(f"{found.runs} paired {runs}, {found.splits} {splits}{items}")
    for arm in (first, second):
        for run in arm.runs:
            reporter.line(f"  {arm.label}: {run.accuracy:.2%}  {run.folder}")
    differing = differing_settings(first.runs, second.runs)
    for key, (one, other) in differing.items():
        reporter.line(f"  {key}: {one} against {other}")
    for sentence in verdict(
        found, first.label, second.label, "points of test accuracy"
    ):
        reporter.line(sentence)
    if found.varies:
        reporter.line(
            "Smallest detectable difference (5% two-sided, power 80%): "
            f"{found.smallest_detectable:.2f} points."
        )
    if found.effect is not None:
        size, low, high = found.effect
        reporter.line(
            f"In deviations of the paired {found.effect_of}: {size:+.2f}, 95% interval "
            f"{low:+.2f} to {high:+.2f}."
        )


def _rows(path: Path, words: Sequence[str], size: str | None) -> list[Row]:
    if not path.is_file():
        raise ConfigError(
            f"Expected {words[0]!r} to be the folder of a run, or `--results` to name "
            f"the table that has it as EXPERIMENT:ARM, got no file {path}."
        )
    experiments = {word.partition(":")[0] for word in words}
    rows = read_rows(path)
    sizes = sorted({row.size for row in rows if row.experiment in experiments})
    if size is None and len(sizes) > 1:
        raise ConfigError(
            f"Expected `--size`, as {' and '.join(sorted(experiments))} has results "
            f"of the sizes {' and '.join(sizes)}."
        )
    return [row for row in rows if size is None or row.size == size]
