"""`python -m benchmarks.report.readme`: write the README's tables from the results.

A figure in the README stands between two marker comments and comes from a file under
`benchmarks/results`, written by the command that is named beside it.
"""

import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.runs.atomic import write_text
from benchmarks.speed import masked

_ROOT = Path(__file__).resolve().parents[2]
README = _ROOT / "README.md"
RESULTS = _ROOT / "benchmarks" / "results"


def filled(text: str) -> str:
    """Put the tables of the present results between their markers.

    Args:
        text: A README with `<!-- begin NAME -->` and `<!-- end NAME -->`.

    Returns:
        The same with all tables as the results give them.
    """
    for name, render in _TABLES.items():
        file = RESULTS / f"{name}.json"
        content = render(json.loads(file.read_text(encoding="utf-8")))
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        text = re.sub(
            pattern,
            lambda found, block=content: f"{found[1]}{block}\n{found[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


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

    table = "\n".join(line(cells) for cells in (result["columns"], *result["rows"]))
    text = (
        f"{result['seconds']:.0f} s with the preparation of the data, seed "
        f"{result['environment']['seed']}, {_where(result['environment'])}. One seed "
        "on 451 test recordings: the differences between the rows mean nothing. "
        "Derivatives and firing rate are those of the last training batch."
    )
    return f"```text\n{table}\n```\n\n{textwrap.fill(text, 88)}"


def _speed(result: Mapping[str, Any]) -> str:
    names = (masked.HOST, masked.TORCH, masked.RELEASED, masked.OURS)
    header = ["", *names, masked.FLOOR, "ours / host", "released / ours", "kept MB"]
    rows = [header, ["---", *["---:"] * (len(header) - 1)]]
    for title, timings in result["tables"].items():
        seconds = {name: timings[name]["seconds"] for name in names}
        ours = seconds[masked.OURS]
        floor = timings.get(masked.FLOOR)
        rows.append(
            [
                title,
                *(f"{seconds[name] * 1e3:.0f} ms" for name in names),
                f"{floor['seconds'] * 1e3:.0f} ms" if floor else "",
                f"{ours / seconds[masked.HOST]:.2f}",
                f"{seconds[masked.RELEASED] / ours:.2f}",
                " / ".join(
                    f"{timings[name]['saved_bytes'] / 1e6:.0f}"
                    for name in (masked.HOST, masked.OURS)
                ),
            ]
        )
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    text = (
        f"Forward and backward, medians of one run, {_where(result['environment'])}. "
        "Most of a training step are convolutions: the floor is the same step with the "
        "neurons taken out. Kept is what autograd holds for the backward pass, host / "
        "ours."
    )
    return f"{table}\n\n{textwrap.fill(text, 88)}"


def _where(environment: Mapping[str, Any]) -> str:
    return (
        f"{environment['threads']} threads of an {environment['cpu']}, SpikingJelly "
        f"{environment['host']}, torch {environment['packages']['torch']}, commit "
        f"{environment['commit'][:10]}"
    )


_TABLES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "quickstart-cpu": _quickstart,
    "speed-masked-cpu": _speed,
}


if __name__ == "__main__":
    write_text(README, filled(README.read_text(encoding="utf-8")))
