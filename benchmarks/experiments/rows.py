"""The table of results: a CSV with a row for each run and metric, and its provenance.

Tables and figures are made from such files alone, so a row says where it comes from:
code, versions, device, data and split. Accuracies are in percent.
"""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.runs.locks import locked
from sj_ext.files import write_text

__all__ = [
    "COLUMNS",
    "OWN_RESULTS",
    "RESULTS",
    "TUNING",
    "Row",
    "RowError",
    "add_rows",
    "read_rows",
    "to_csv",
]

RESULTS = Path(__file__).resolve().parent.parent / "results" / "experiments.csv"
"""Published results, part of the repository."""
OWN_RESULTS = Path("runs/experiments.csv")
"""Where results of experiments are collected unless another file is named."""
TUNING = "tuning_validation_accuracy"
"""Metric of the runs that try settings for an arm before the study."""


class RowError(ValueError):
    """A row without provenance, or no row at all; the message names file and line."""


@dataclass(frozen=True)
class Row:
    """One metric of one run.

    Attributes:
        experiment: Name of the experiment's file.
        size: `"demo"` or `"full"`.
        arm: What the experiment compares, with the cell of its grid.
        metric: What was measured, such as `test_accuracy`.
        reported: What the paper reports for this arm and metric at full size.
        reported_deviation: With which deviation over seeds.
        reported_source: Where from, and how sure that is.
        measured: What came out; percent where it is a share.
        deviation: Standard deviation over the seeds, of a row that stands for several.
        seed: Of the run; several, separated by spaces, where they are summarised.
        split: Name of the split file.
        epochs: Of training.
        data: Name of the data set.
        data_checksum: Of its content.
        split_checksum: Of the lists.
        commit: Of the code.
        clean: Whether the code was as committed.
        spikingjelly: Version.
        torch: Version.
        python: Version.
        device: `"cpu"`, `"cuda:0"`, ...
        processor: Which CPU or GPU.
        threads: CPU threads of the process.
        date: On which the run ended (UTC).
        digest: Of the run's configuration; ends the name of its folder.
        settings: What tuning chose for the arm; of a run that tries a candidate
            (`tuning_validation_accuracy`), the candidate. Empty without tuning.
    """

    experiment: str
    size: str
    arm: str
    metric: str
    reported: float | None
    reported_deviation: float | None
    reported_source: str
    measured: float
    deviation: float | None
    seed: str
    split: str
    epochs: int
    data: str
    data_checksum: str
    split_checksum: str
    commit: str
    clean: bool
    spikingjelly: str
    torch: str
    python: str
    device: str
    processor: str
    threads: int
    date: str
    digest: str
    settings: str = ""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds as numbers."""
        return tuple(int(seed) for seed in self.seed.split())

    @property
    def key(self) -> tuple[Any, ...]:
        """What a row is about; a later result of the same replaces it."""
        return (
            self.experiment,
            self.size,
            self.arm,
            self.metric,
            self.split,
            self.seeds,
            # Candidates stand side by side; what was chosen anew replaces a result.
            self.settings if self.metric == TUNING else "",
        )


COLUMNS = tuple(field.name for field in fields(Row))
"""In the order of the file."""

_MAY_BE_EMPTY = {
    "reported",
    "reported_deviation",
    "reported_source",
    "deviation",
    "settings",
}


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Read a table of results and check that each row has its provenance.

    Args:
        path: Of the CSV.

    Returns:
        The rows, in the order of the file.

    Raises:
        RowError: If columns are missing or unknown, a cell of the provenance is empty,
            or one cannot be read as what it should be.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise RowError(
                f"Expected {path} to have the columns {', '.join(COLUMNS)}, got "
                f"{', '.join(reader.fieldnames or ()) or 'none'}."
            )
        return [_row(path, line, cells) for line, cells in enumerate(reader, start=2)]


def add_rows(path: str | os.PathLike[str], rows: Iterable[Row]) -> list[Row]:
    """Put rows into a table of results, in place of older ones of the same key.

    The file is replaced when it is complete; several processes may add to it.

    Args:
        path: Of the CSV; made where missing.
        rows: New ones.

    Returns:
        All rows of the file, sorted by key.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The folder itself is locked, which leaves no file beside the tables.
    with locked(path.parent):
        found = {row.key: row for row in (read_rows(path) if path.exists() else ())}
        found |= {row.key: row for row in rows}
        merged = [found[key] for key in sorted(found)]
        text = to_csv(merged)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
    return merged


def to_csv(rows: Sequence[Row]) -> str:
    """Write rows as CSV, with the header; the same rows give the same text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_written(value) for value in asdict(row).values()])
    return text.getvalue()


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.8g}"
    return str(value)


def _row(path: str | os.PathLike[str], line: int, cells: dict[str | None, Any]) -> Row:
    values: dict[str, Any] = {}
    for field in fields(Row):
        text = cells[field.name]
        if not text and field.name not in _MAY_BE_EMPTY:
            raise RowError(
                f"Expected a value of `{field.name}` in line {line} of {path}, got "
                "none."
            )
        try:
            values[field.name] = _read(field.type, text)
        except ValueError:
            raise RowError(
                f"Expected `{field.name}` in line {line} of {path} to be "
                f"{_SAID[field.type]}, got {text!r}."
            ) from None
    if None in cells:
        raise RowError(
            f"Expected {len(COLUMNS)} cells in line {line} of {path}, got more."
        )
    return Row(**values)


_SAID = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    float | None: "a number",
    str: "text",
}


def _read(kind: Any, text: str | None) -> Any:
    if kind is str:
        return text or ""
    if kind == float | None:
        return float(text) if text else None
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError
        return text == "true"
    return kind(text)
