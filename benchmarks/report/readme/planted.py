"""The README's table of the planted study."""

import textwrap
from collections.abc import Mapping
from typing import Any


def planted_table(result: Mapping[str, Any]) -> str:
    """Write the counts and the verdict of a study.

    Args:
        result: Content of `fisher-planted-cpu.json`.

    Returns:
        Markdown.
    """
    from benchmarks.studies.planted.study import table

    found = table(result["rows"])
    header = list(found.columns)
    lines = [header, ["---"] * 2 + ["---:"] * (len(header) - 2), *found.rows]
    markdown = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    environment = result["environment"]
    circumstances = (
        f"{result['seeds']} seeds, {result['seconds']:.0f} s on a "
        f"{environment['cpu']}, SpikingJelly {environment['host']}, torch "
        f"{environment['packages']['torch']}, commit "
        f"{(environment['commit'] or 'unknown')[:10]}. A cell of a rule says in how "
        "many trials it names a planted step, and how many steps it is off on average."
    )
    verdict = "\n".join(
        textwrap.fill(sentence, 88, initial_indent="- ", subsequent_indent="  ")
        for sentence in result["verdict"]
    )
    return f"{markdown}\n\n{textwrap.fill(circumstances, 88)}\n\n{verdict}"
