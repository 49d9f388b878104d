"""How the README's tables are written: what their renderers share."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table whose first column is of words, and the others of figures.

    Args:
        header: A heading for each column.
        rows: As many cells as there are columns, each.

    Returns:
        Markdown.
    """
    line = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, line, *rows))


def in_ms(seconds: float) -> str:
    """Write seconds in milliseconds, with two decimals only where they matter."""
    milliseconds = seconds * 1e3
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"


def where(environment: Mapping[str, Any]) -> str:
    """Say what figures were measured on, and with which code.

    Args:
        environment: As `benchmarks.runs.environment.describe_environment` gives it.

    Returns:
        Part of a sentence.
    """
    processor = f"{environment['threads']} threads of an {environment['cpu']}"
    if environment["gpu"]:
        processor = f"an {environment['gpu']}, {processor}"
    return (
        f"{processor}, SpikingJelly {environment['host']}, torch "
        f"{environment['packages']['torch']}, commit {environment['commit'][:10]}"
    )
