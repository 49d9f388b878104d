"""The README's table of `python -m benchmarks cka`: SNNs and their ANN twins."""

import textwrap
from collections.abc import Mapping
from typing import Any

from benchmarks.report.markdown import table, where

_COMPARED = {
    "SNN and ANN": "SNN and ANN",
    "two SNNs": "two SNNs (ceiling)",
    "two ANNs": "two ANNs (ceiling)",
    "untrained SNN and ANN": "untrained (floor)",
    "SNN and ANN, permuted samples": "permuted (floor)",
}


def cka_twins(result: Mapping[str, Any]) -> str:
    """Write the mean similarity of matching layers, a row for each kind of network.

    Args:
        result: Content of a comparison's `result.json`.

    Returns:
        Markdown.
    """
    rows = [
        (
            arm["label"],
            *(_accuracies(arm["test_accuracy"][kind]) for kind in ("snn", "ann")),
            *(f"{arm['mean_cka'][name]:.2f}" for name in _COMPARED),
        )
        for arm in result["arms"]
    ]
    header = ("", "SNN accuracy", "ANN accuracy", *_COMPARED.values())
    first = result["arms"][0]
    text = (
        "Linear CKA (unbiased, steps concatenated), mean over the matching layers, on "
        f"{first['samples']} simulated test recordings in {first['batches']} batches; "
        f"two seeds a kind; {where(result['environment'])}. Two seeds and a small data "
        "set show how to read such figures, not how spiking networks are in general."
    )
    return f"{table(header, rows)}\n\n{textwrap.fill(text, 88)}"


def _accuracies(shares: list[float]) -> str:
    return " / ".join(f"{share:.1%}" for share in shares)
