"""The README's table of clean representations beside attacked ones."""

import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.report.markdown import table, where

_KINDS = {"snn": "SNN", "ann": "ANN"}
_INPUTS = ("clean", "attacked", "noisy")
_COMPARED = {
    "clean and attacked": "clean and attacked",
    "the same changes elsewhere": "changes elsewhere (ceiling)",
    "clean, permuted samples": "other samples (floor)",
}


def cka_attacked(result: Mapping[str, Any]) -> str:
    """Write accuracies and mean similarities, a row for each kind of network.

    Args:
        result: Content of the `result.json` of a comparison of one arm with an attack.

    Returns:
        Markdown.
    """
    (arm,) = result["arms"]
    rows = [
        (
            name,
            *(f"{arm['accuracy_under_attack'][kind][x]:.1%}" for x in _INPUTS),
            *(f"{arm['mean_cka_under_attack'][name][key]:.2f}" for key in _COMPARED),
        )
        for kind, name in _KINDS.items()
    ]
    header = (
        "",
        "accuracy",
        "attacked",
        "changed elsewhere",
        *(f"CKA, {words}" for words in _COMPARED.values()),
    )
    text = (
        "Linear CKA (unbiased, steps concatenated) of each layer on clean inputs with "
        f"itself on changed ones, mean over layers, on {arm['samples']} simulated test "
        f"recordings; one network a kind; {where(result['environment'])}."
    )
    return f"{table(header, rows)}\n\n{textwrap.fill(text, 88)}"
