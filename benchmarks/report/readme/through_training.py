"""The README's tables of `python -m benchmarks fisher --config`: I_t and its nulls."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.markdown import table, where

_ERRORS = 2.0
"""How many standard errors two centroids differ by to be told apart."""


def fisher_training(result: Mapping[str, Any]) -> str:
    """Write the centroids of each run, and how often training moved them.

    Args:
        result: Content of a study's `result.json`.

    Returns:
        Markdown.
    """
    runs = result["runs"]
    (epochs,) = {max(map(int, run["profiles"]["network"])) for run in runs}
    circumstances = (
        f"Centroids ± standard errors in time steps, before training and after {epochs} "
        f"epochs, exact on {result['samples']} test samples; labels drawn from the "
        "network, except in the last three columns: true labels, as the paper has them. "
        "Time-shuffled: the trained network, given the steps of each sample in an order "
        "of its own. Stateless: a linear readout without neurons, trained on steps that "
        "are independent draws from one distribution. Released: the squared mean "
        f"gradient of batches of {result['released_batch_size']}. One seed; "
        f"{result['seconds']:.0f} s on {where(result['environment'])}."
    )
    parts = [
        table(result["columns"], result["rows"]),
        textwrap.fill(circumstances, 88),
        textwrap.fill(_verdict(runs), 88),
    ]
    return "\n\n".join(parts)


def _verdict(runs: Sequence[Mapping[str, Any]]) -> str:
    """Count in how many runs a centroid is lower than another."""
    network = [_ends(run, "network") for run in runs]
    shuffled = [_ends(run, "time-shuffled") for run in runs]
    null = [_ends(run, "stateless") for run in runs]
    fell = sum(_is_below(after, before) for before, after in network)
    rose = sum(_is_below(before, after) for before, after in network)
    below = sum(
        _is_below(a, b) for (_, a), (_, b) in zip(network, shuffled, strict=True)
    )
    above = sum(
        _is_below(b, a) for (_, a), (_, b) in zip(network, shuffled, strict=True)
    )
    null_fell = sum(_is_below(after, before) for before, after in null)
    of = f"of {len(runs)} run{'s' if len(runs) > 1 else ''}"
    return (
        f"By more than {_ERRORS:.0f} standard errors, training lowered the centroid of "
        f"the network in {fell} {of} and raised it in {rose}; it ended below that on "
        f"time-shuffled input in {below} and above it in {above}. Training lowered the "
        f"centroid of the stateless null, where nothing can happen in time, in "
        f"{null_fell}."
    )


def _ends(run: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], ...]:
    profiles = run["profiles"][name]
    epochs = sorted(profiles, key=int)
    return profiles[epochs[0]], profiles[epochs[-1]]


def _is_below(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    error = math.hypot(one["centroid_standard_error"], other["centroid_standard_error"])
    return bool(other["centroid"] - one["centroid"] > _ERRORS * error)
