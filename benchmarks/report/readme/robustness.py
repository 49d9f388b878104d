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
    from benchmarks.studies.robustness.summary import verdict
    from benchmarks.tasks.robustness import table as of_study

    found = of_study(result)
    markdown = table(found.columns, found.rows)
    text = (
        f"Accuracy that no attack up to the budget took away, on {result['samples']} "
        f"simulated test recordings: mean and standard deviation of "
        f"{len(result['seeds'])} seeds, worst case of each sample over all steps of "
        f"attacks through {len(result['probes'])} surrogates "
        f"({', '.join(result['probes'])}).{_effort(result)} {_took(result)}; "
        f"{where(result['environment'])}."
    )
    sentences = "\n".join(
        textwrap.fill(sentence, 88, initial_indent="- ", subsequent_indent="  ")
        # Anew from the figures: what an older version said of them may be less.
        for sentence in verdict(result)
    )
    return f"{markdown}\n\n{textwrap.fill(text, 88)}\n\n{sentences}"


def _effort(result: Mapping[str, Any]) -> str:
    """Say how hard the attacks tried."""
    parts = []
    for name, restarts in result["restarts"].items():
        queries = result["queries"][name]
        search = "no random search" if queries is None else f"{queries} queries"
        parts.append(f"{name} {restarts} and {search}")
    return (
        " Restarts of each attack, and queries of the random search beside it: "
        f"{', '.join(parts)}."
    )


def _took(result: Mapping[str, Any]) -> str:
    cpu = f"{result['attack_cpu_seconds'] / 60:.0f} minutes of processor time"
    training, attacks = (
        result["wall_seconds"][key] / 60 for key in ("training", "attacks")
    )
    return f"Training took {training:.0f} minutes and the attacks {attacks:.0f} ({cpu})"
