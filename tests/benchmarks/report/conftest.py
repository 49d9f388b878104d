"""The example's report, written once."""

import io
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from benchmarks.experiments.rows import add_rows
from benchmarks.runs.progress import Reporter
from benchmarks.tasks.report import main
from tests.benchmarks.report import example
from tests.benchmarks.statistics.conftest import made_run as made_run


class Written(NamedTuple):
    """What the task has written, and said."""

    page: Path
    folder: Path
    said: str


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Write the example's page, tables and figures."""
    folder = tmp_path_factory.mktemp("report")
    add_rows(folder / "experiments.csv", example.rows())
    example.comparison().save(folder / "snn-ann.npz")
    words = {
        "results": folder / "experiments.csv",
        "output": folder / "output",
        "runs": folder / "none",
        "cka": f"[{folder / 'snn-ann.npz'}]",
    }
    said = io.StringIO()
    main(
        [*(str(w) for k, v in words.items() for w in (f"--{k}", v)), "--latex"],
        Reporter(Console(file=said, highlight=False)),
    )
    output = folder / "output"
    return Written(output / "report.html", output, said.getvalue())
