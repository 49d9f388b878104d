"""The README's tables of experiments, from rows of the table of results."""

import textwrap
from collections.abc import Sequence

from benchmarks.experiments.rows import Row
from benchmarks.report.experiments.metrics import in_words
from benchmarks.report.experiments.page import provenance
from benchmarks.report.experiments.summary import ExperimentSummary, summarized
from benchmarks.report.experiments.tables import Column, main_table, sentences
from benchmarks.report.markdown import table


def experiments_tables(rows: Sequence[Row]) -> str:
    """Write a table for each experiment, with what it shows and where it is from.

    Args:
        rows: Of a table of results. Whole runs are compared, as the README is written
            where their folders need not be.

    Returns:
        Markdown.
    """
    return "\n\n".join(_experiment(found) for found in summarized(rows))


def _experiment(experiment: ExperimentSummary) -> str:
    columns = main_table(experiment)
    lines = [
        [_cell(column, row) for column in columns]
        for row in range(len(columns[0].cells))
    ]
    found = provenance(experiment.rows)
    text = [
        *sentences(experiment),
        "Below each figure its 95% interval, of the t distribution over splits and "
        "seeds.",
    ]
    if any(column.kind == "compared" for column in columns):
        text.append(
            f"Differences are of {in_words(experiment.primary)}, paired by split and "
            "seed; p values after Holm; the smallest detectable difference has a "
            "power of 0.8."
        )
    if any(column.kind == "reported" for column in columns):
        text.append("Reported figures are the papers', of their own data and recipe.")
    text.append(
        f"Data: {found['data']}; {found['epochs']} epochs; {found['device']}; "
        f"SpikingJelly {found['SpikingJelly']}, torch {found['torch']}, commit "
        f"{found['commit']}."
    )
    heading = f"**{_plain(experiment.outline.title)}** ({experiment.size} size)"
    header = [_plain(column.heading) for column in columns]
    return (
        f"{heading}\n\n{table(header, lines)}\n\n"
        f"{textwrap.fill(_plain(' '.join(text)), 88, break_on_hyphens=False)}"
    )


def _cell(column: Column, row: int) -> str:
    cell = column.cells[row]
    if not cell.note or column.heading.startswith("p "):
        return _plain(cell.text)
    return f"{_plain(cell.text)}<br><sub>{_plain(cell.note)}</sub>"


def _plain(text: str) -> str:
    """Keep a text from being read as markup."""
    for sign in ("&", "<", ">", "|", "*"):
        text = text.replace(sign, f"&#{ord(sign)};")
    return text
