"""The README's table of the pruning study."""

import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.report.markdown import table as markdown_table


def pruning_table(result: Mapping[str, Any]) -> str:
    """Write the rows at 90% and at the last sparsity, and the verdict of a study.

    Args:
        result: Content of `pruning-cpu.json`.

    Returns:
        Markdown.
    """
    from benchmarks.studies.pruning.study import table
    from benchmarks.studies.pruning.summary import DENSE, verdict

    rows = result["rows"]
    sparsities = sorted({row["sparsity"] for row in rows if row["arm"] != DENSE})
    shown = {0.9, sparsities[-1]} if 0.9 in sparsities else set(sparsities)
    found = table([r for r in rows if r["arm"] == DENSE or r["sparsity"] in shown])
    settings, environment = result["settings"], result["environment"]
    circumstances = (
        "All sparsities are in the result file. "
        "Accuracy on the test recordings, mean and deviation over seeds; cost of a "
        "search that ends at the row's sparsity, its final training, probe and scores "
        "included, and in parentheses its share of the full-T magnitude search of the "
        "same seeds. Rounds "
        f"of {settings['round_epochs']} epochs, final training of "
        f"{settings['train']['optimization']['epochs']}; the Fisher rule with a share "
        f"of {settings['share']} and a loss gap of "
        f"{settings['max_prefix_loss_gap']} nats. {settings['workers']} searches at a "
        f"time, one thread each, on a {environment['cpu']}, SpikingJelly "
        f"{environment['host']}, torch {environment['packages']['torch']}, commit "
        f"{(environment['commit'] or 'unknown')[:10]}."
    )
    verdict = "\n".join(
        textwrap.fill(sentence, 88, initial_indent="- ", subsequent_indent="  ")
        for sentence in verdict(rows)
    )
    return (
        f"{markdown_table(found.columns, found.rows)}\n\n"
        f"{textwrap.fill(circumstances, 88)}\n\n{verdict}"
    )
