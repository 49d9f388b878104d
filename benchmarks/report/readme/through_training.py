"""The README's tables of `python -m benchmarks fisher --config`: I_t and its nulls."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.markdown import table, where

_ERRORS = 2.0
"""How many standard errors two centroids differ by to be told apart."""


def fisher_training(result: Mapping[str, Any]) -> str:
    """Write the centroids of each run, and of several how often training moved them.

    Args:
        result: Content of a study's `result.json`.

    Returns:
        Markdown.
    """
    runs = result["runs"]
    (epochs,) = {max(map(int, run["profiles"]["network"])) for run in runs}
    circumstances = (
        "Centroids ± standard errors in time steps, before training and after "
        f"{epochs} epochs, exact on {result['samples']} test samples. Labels are drawn "
        "from the network; in the last three columns they are the true ones, as in the "
        "paper. Time-shuffled: the trained network, given the steps of each sample in "
        "an order of its own. Stateless: a linear readout without neurons, trained on "
        "steps that are independent draws from one distribution. Released: the squared "
        f"mean gradient of batches of {result['released_batch_size']}. One seed; "
        f"{result['seconds']:.0f} s on {where(result['environment'])}."
    )
    parts = [
        table(result["columns"], result["rows"]),
        textwrap.fill(circumstances, 88),
    ]
    # One run has its row.
    if len(runs) > 1:
        parts.append(textwrap.fill(_verdict(runs), 88))
    return "\n\n".join(parts)


def _verdict(runs: Sequence[Mapping[str, Any]]) -> str:
    """Count in how many runs a centroid is lower than another."""
    ends = [
        [_ends(run, name) for run in runs]
        for name in ("network", "stateless", "true-labels", "released")
    ]
    fell, null_fell, true_fell, released_fell = (
        sum(_is_below(after, before) for before, after in found) for found in ends
    )
    rose = sum(_is_below(after, before) for after, before in ends[0])
    return (
        f"By more than {_ERRORS:.0f} standard errors, training lowered the centroid of "
        f"the network in {fell} of {len(runs)} runs and raised it in {rose}; "
        f"{_beside_shuffled(runs)}. With "
        f"true labels it was lowered in {true_fell}, as the released procedure has it "
        f"in {released_fell}. Training lowered the centroid of the stateless null, "
        f"where nothing can happen in time, in {null_fell}."
    )


def _beside_shuffled(runs: Sequence[Mapping[str, Any]]) -> str:
    """Count how runs ended beside time-shuffled input, where that is another input."""
    pairs = [
        (_ends(run, "network")[1], _ends(run, "time-shuffled")[1])
        for run in runs
        if "time-shuffled" in run["profiles"]
    ]
    if not pairs:
        return (
            "all steps of the data are equal, so there is no null of time-shuffled "
            "input, and what is said rests on the stateless one"
        )
    below = sum(_is_below(one, other) for one, other in pairs)
    above = sum(_is_below(other, one) for one, other in pairs)
    of = "" if len(pairs) == len(runs) else f" of the {len(pairs)} whose steps differ"
    return (
        f"it ended below that on time-shuffled input in {below} and above it in "
        f"{above}{of}"
    )


def _ends(run: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], ...]:
    profiles = run["profiles"][name]
    epochs = sorted(profiles, key=int)
    return profiles[epochs[0]], profiles[epochs[-1]]


def _is_below(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    error = math.hypot(one["centroid_standard_error"], other["centroid_standard_error"])
    return bool(other["centroid"] - one["centroid"] > _ERRORS * error)
