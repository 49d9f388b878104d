"""Tables of the report for LaTeX (booktabs), and its figures as PDF."""

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report.experiments.figures import save_figures
from benchmarks.report.experiments.metrics import in_words
from benchmarks.report.experiments.page import provenance
from benchmarks.report.experiments.summary import ExperimentSummary
from benchmarks.report.experiments.tables import (
    Cell,
    Column,
    grouped,
    main_table,
    other_table,
    sentences,
)
from sj_ext.files import write_text

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
    }
)
_NEGATIVE = re.compile(r"(?<!\w)-(?=\d)")
_CONFIDENCE = re.compile(r"\(([^)]*)\)")


def write_latex(folder: Path, experiments: Sequence[ExperimentSummary]) -> list[Path]:
    """Write a table and figures for each experiment.

    Args:
        folder: Where to.
        experiments: In any order.

    Returns:
        The files: `EXPERIMENT-SIZE.tex` and, at one and two columns' width,
        `EXPERIMENT-SIZE-one-column.pdf` and `-two-columns.pdf`.
    """
    written = []
    for experiment in experiments:
        table = folder / f"{experiment.label}.tex"
        write_text(table, latex_tables(experiment))
        written += [table, *save_figures(folder, experiment)]
    return written


def latex_tables(experiment: ExperimentSummary) -> str:
    """Write the tables of an experiment.

    Args:
        experiment: At one size.

    Returns:
        A `table*` with mean and 95% interval of what the experiment asks about and of
        accuracies, and another with the other figures, if there are any; they need
        booktabs.
    """
    columns, others = main_table(experiment), other_table(experiment)
    caption = _caption(experiment, columns)
    tables = [_table(columns, caption, f"tab:{experiment.label}")]
    if others:
        caption = f"{experiment.outline.title} ({experiment.size} size): other figures."
        tables.append(_table(others, caption, f"tab:{experiment.label}-others"))
    return "\n".join([r"% needs \usepackage{booktabs}", *tables]) + "\n"


def _table(columns: Sequence[Column], caption: str, label: str) -> str:
    rows = [
        " & ".join(_cell(column, column.cells[row]) for column in columns) + r" \\"
        for row in range(len(columns[0].cells))
    ]
    kinds = "".join("l" if column.kind == "arm" else "r" for column in columns)
    lines = [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{{label}}}",
        r"\footnotesize",
        rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}",
        r"\toprule",
        *_groups(columns),
        " & ".join(_heading(column) for column in columns) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table*}",
    ]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Write a text so that LaTeX prints it as it is."""
    return text.translate(_ESCAPES)


def _groups(columns: Sequence[Column]) -> list[str]:
    cells, rules, start = [], [], 1
    for group, count in grouped(columns):
        if group:
            cells.append(rf"\multicolumn{{{count}}}{{c}}{{{escaped(group)}}}")
            rules.append(rf"\cmidrule(lr){{{start}-{start + count - 1}}}")
        else:
            cells += [""] * count
        start += count
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _heading(column: Column) -> str:
    words = column.heading.split(" ")
    if len(words) == 1:
        return escaped(column.heading)
    middle = (len(words) + 1) // 2
    lines = " ".join(words[:middle]), " ".join(words[middle:])
    return r"\shortstack[r]{" + r"\\".join(map(escaped, lines)) + "}"


def _cell(column: Column, cell: Cell) -> str:
    if column.kind == "arm" or not cell.text:
        return escaped(cell.text)
    text, note = (
        _NEGATIVE.sub("$-$", escaped(part)) for part in (cell.text, cell.note)
    )
    if column.kind == "optimistic":
        text = rf"\textit{{{text}}}"
    if column.kind == "reported":
        # The whole source is in the caption; how sure it is stands at the figure.
        note = "; ".join(dict.fromkeys(_CONFIDENCE.findall(note)))
    if not note or column.heading.startswith("p "):
        return text
    return rf"\shortstack[r]{{{text}\\{{\scriptsize {note}}}}}"


def _caption(experiment: ExperimentSummary, columns: Sequence[Column]) -> str:
    sources = [
        figure.source
        for arm in experiment.arms
        for figure in arm.reported
        if figure.source
    ]
    said = [
        f"{experiment.outline.title} ({experiment.size} size).",
        "Mean over splits and training seeds, 95% interval below.",
    ]
    if any(column.kind == "optimistic" for column in columns):
        said.append("Best on test chooses the epoch on the test part: optimistic.")
    if sources:
        said.append(
            "Reported figures are not ours: " + "; ".join(dict.fromkeys(sources)) + "."
        )
        if experiment.size == "demo":
            said.append("They are of the full size, with other data and networks.")
    if any(column.kind == "compared" for column in columns):
        said.append(
            f"Differences are of {in_words(experiment.primary)} and paired; p values "
            "by a hierarchical bootstrap after Holm; the smallest detectable "
            "difference has a power of 0.8."
        )
    said += sentences(experiment)
    found = provenance(experiment.rows)
    said.append(
        f"Commit {found['commit']}, SpikingJelly {found['SpikingJelly']}, torch "
        f"{found['torch']}."
    )
    return " ".join(said)
