"""The README's table of `python -m benchmarks robustness`."""

import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.report.markdown import table, where


def robustness_table(result: Mapping[str, Any]) -> str:
    """Write robust accuracies and what they say.

    Args:
        result: Content of a study's `robustness-cpu.json`.

    Returns:
        Markdown.
    """
    from benchmarks.tasks.robustness import table as of_study

    found = of_study(result)
    markdown = table(found.columns, found.rows)
    text = (
        f"Accuracy that no attack up to the budget took away, on {result['samples']} "
        f"simulated test recordings: mean and standard deviation of "
        f"{len(result['seeds'])} seeds, worst case of each sample over all steps of "
        f"attacks through {len(result['probes'])} surrogates "
        f"({', '.join(result['probes'])}). The attacks took "
        f"{result['attack_cpu_seconds'] / 60:.0f} minutes of processor time; "
        f"{where(result['environment'])}."
    )
    verdict = "\n".join(
        textwrap.fill(sentence, 88, initial_indent="- ", subsequent_indent="  ")
        for sentence in result["verdict"]
    )
    return f"{markdown}\n\n{textwrap.fill(text, 88)}\n\n{verdict}"
