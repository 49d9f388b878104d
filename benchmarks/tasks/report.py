"""`python -m benchmarks report`: all experiments on one page, reported and measured."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from benchmarks.experiments.rows import OWN_RESULTS, Row, read_rows
from benchmarks.report.experiments.heat_map import read_heat_map, stored_maps
from benchmarks.report.experiments.page import write_experiments
from benchmarks.report.experiments.summary import summarized
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.environment import describe_environment
from benchmarks.runs.progress import Reporter
from benchmarks.statistics.arms import run_folders


def main(arguments: Sequence[str], reporter: Reporter) -> None:
    """Read tables of results and write the page."""
    parser = ArgumentParser(
        prog="python -m benchmarks report", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=OWN_RESULTS,
        help="a table of results, or a folder whose tables are taken together",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/report"))
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        help="where run folders lie; arms whose runs are all there are compared "
        "recording by recording",
    )
    parser.add_argument(
        "--cka",
        type=list[Path] | None,
        help="comparisons as the cka task stores them (such as [snn-ann.npz]); "
        "by default those below `runs`",
    )
    parser.add_argument(
        "--latex",
        action="store_true",
        help="also write tables for LaTeX, and figures as PDF",
    )
    options = parser.parse_args(list(arguments))
    files = _tables(options.results)
    rows = _rows(files)
    experiments = summarized(rows, run_folders(options.runs))
    page = options.output / "report.html"
    write_experiments(
        page,
        experiments,
        stored_maps(options.runs)
        if options.cka is None
        else [read_heat_map(path) for path in options.cka],
        describe_environment(),
        [file.name for file in files],
    )
    reporter.line(f"report: {page.absolute()}")
    if options.latex:
        from benchmarks.report.experiments.latex import write_latex

        folder = options.output / "latex"
        written = write_latex(folder, experiments)
        reporter.line(f"latex:  {len(written)} files in {folder.absolute()}")


def _tables(path: Path) -> list[Path]:
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise ConfigError(
            f"Expected `results` to be a table of results (CSV) or a folder with some, "
            f"got {path}."
        )
    return files


def _rows(files: Sequence[Path]) -> list[Row]:
    """Read tables one after the other; a later one's row replaces an equal one's."""
    return list({row.key: row for file in files for row in read_rows(file)}.values())
