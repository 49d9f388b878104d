"""`python -m benchmarks.report.readme`: write the tables and pictures of the documents.

A figure in the README or in `docs` stands between two marker comments and comes from a
file under `benchmarks/results`, written by the command that is named beside it.
"""

import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.experiments.rows import read_rows
from benchmarks.report.markdown import in_ms, table, where
from benchmarks.report.readme.attacked import cka_attacked
from benchmarks.report.readme.cka import cka_growth, speed_cka
from benchmarks.report.readme.concentration import concentration_table
from benchmarks.report.readme.data import speed_data
from benchmarks.report.readme.experiments import experiments_tables
from benchmarks.report.readme.fisher import speed_fisher
from benchmarks.report.readme.objects import objects_table
from benchmarks.report.readme.pictures import write_pictures
from benchmarks.report.readme.planted import planted_table
from benchmarks.report.readme.pruning import pruning_table
from benchmarks.report.readme.robustness import robustness_table
from benchmarks.report.readme.scaling import scaling_example
from benchmarks.report.readme.through_training import fisher_training
from benchmarks.report.readme.twins import cka_twins
from benchmarks.speed.masked.neurons import HOST, OURS, RELEASED, TORCH
from benchmarks.speed.results import megabytes
from sj_ext.files import write_text

_ROOT = Path(__file__).resolve().parents[3]
README = _ROOT / "README.md"
SCALING = _ROOT / "docs" / "scaling.md"
RESULTS = _ROOT / "benchmarks" / "results"


def document_of(result: Path) -> Path:
    """Say in which document a result is shown."""
    return SCALING if result.stem.startswith("speed-imagenet-") else README


def filled(text: str, document: Path = README) -> str:
    """Put the tables of the present results between their markers.

    Args:
        text: Of a document, with `<!-- begin NAME -->` and `<!-- end NAME -->`, where
            NAME is that of a result file.
        document: Its path.

    Returns:
        The same with all tables as the results give them.

    Raises:
        ValueError: If a result file has no place in the text.
    """
    for file in sorted([*RESULTS.glob("*.json"), *RESULTS.glob("*.csv")]):
        if document_of(file) != document:
            continue
        if file.suffix == ".csv":
            block = experiments_tables(read_rows(file))
        else:
            block = rendered(file.stem, json.loads(file.read_text(encoding="utf-8")))
        pattern = rf"(<!-- begin {file.stem} -->\n).*?(<!-- end {file.stem} -->)"
        text, places = re.subn(
            pattern,
            lambda found, block=block: f"{found[1]}{block}\n{found[2]}",
            text,
            flags=re.DOTALL,
        )
        if not places:
            raise ValueError(f"Expected <!-- begin {file.stem} --> in {document}.")
    return text


def rendered(name: str, result: Mapping[str, Any]) -> str:
    """Write a result as a table with its circumstances.

    Args:
        name: Of the result file, such as `"speed-masked-cpu"`: what comes before the
            device says how it is rendered.
        result: Its content.

    Returns:
        Markdown.
    """
    render = next(_TABLES[kind] for kind in _TABLES if name.startswith(f"{kind}-"))
    return render(result)


def _quickstart(result: Mapping[str, Any]) -> str:
    widths = [
        max(map(len, column))
        for column in zip(result["columns"], *result["rows"], strict=True)
    ]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    lines = "\n".join(line(cells) for cells in (result["columns"], *result["rows"]))
    text = (
        f"{result['seconds']:.0f} s with the preparation of the data, seed "
        f"{result['environment']['seed']}, {where(result['environment'])}. One seed "
        "on 451 test recordings: the differences between the rows mean nothing. "
        "Derivatives and firing rate are those of the last training batch."
    )
    return f"```text\n{lines}\n```\n\n{textwrap.fill(text, 88)}"


def _speed_masked(result: Mapping[str, Any]) -> str:
    names = (HOST, TORCH, RELEASED, OURS)
    rows, growth = result["rows"], result["growth"]
    comparison = ("ours / host", "released / ours")
    main_table = table(
        ("", *names, "floor", *comparison, "peak MB, in this order"),
        [
            (
                row["title"],
                *_milliseconds(row, names),
                in_ms(row["floor_seconds"]),
                *_ratios(row),
                " / ".join(
                    megabytes(row["timings"][name]["peak_bytes"]) for name in names
                ),
            )
            for row in rows
        ],
    )
    growth_table = table(
        ("growing", "layer", *names, *comparison),
        [
            (
                row["varied"],
                str(row["shape"]),
                *_milliseconds(row, names),
                *_ratios(row),
            )
            for row in growth
        ],
    )
    kernels = sorted({row["ran_on"][OURS] for row in rows})
    host_kernels = sorted({row["ran_on"][HOST] for row in rows})
    bandwidth = result["copy_bytes_per_second"] / 1e9
    text = (
        f"Forward and backward, medians of one run, {where(result['environment'])}; "
        f"the host ran on {', '.join(host_kernels)}, ours on {', '.join(kernels)}. The "
        "floor of a layer is the time to move five tensors of its size (input, spikes, "
        "input again, two gradients) at the speed of a plain copy, "
        f"{bandwidth:.1f} GB/s; that of a training step is the same step with the "
        "neurons taken out. Peak is what a fresh process needs above network and "
        "input."
    )
    return f"{main_table}\n\n{textwrap.fill(text, 88)}\n\n{growth_table}"


def _milliseconds(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [in_ms(row["timings"][name]["seconds"]) for name in names]


def _ratios(row: Mapping[str, Any]) -> tuple[str, str]:
    host, ours, released = (
        row["timings"][name]["seconds"] for name in (HOST, OURS, RELEASED)
    )
    return f"{ours / host:.2f}", f"{released / ours:.2f}"


_TABLES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "cka-attacked": cka_attacked,
    "cka-twins": cka_twins,
    "fisher-concentration": concentration_table,
    "fisher-planted": planted_table,
    "fisher-sweep": fisher_training,
    "fisher-training": fisher_training,
    "objects": objects_table,
    "pruning": pruning_table,
    "speed-cka-growth": cka_growth,
    "speed-cka": speed_cka,
    "speed-data": speed_data,
    "quickstart": _quickstart,
    "robustness": robustness_table,
    "speed-fisher": speed_fisher,
    "speed-imagenet": scaling_example,
    "speed-masked": _speed_masked,
}


if __name__ == "__main__":
    for document in (README, SCALING):
        text = filled(document.read_text(encoding="utf-8"), document)
        write_text(document, text)
    write_pictures(RESULTS)
