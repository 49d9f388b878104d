"""The README's table of the concentration study."""

import textwrap
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from benchmarks.report.markdown import table, where

_PLAIN = "cross entropy"
_HEADER = (
    "loss",
    "accuracy",
    "centroid before",
    "after",
    "after, time-shuffled",
    "after, no state",
    "after, true labels",
)


def concentration_table(result: Mapping[str, Any]) -> str:
    """Write centroids and accuracy of each loss, over seeds.

    Args:
        result: Of a Fisher study whose sweep is over `seed` and `loss`.

    Returns:
        Markdown.
    """
    by_loss: dict[str, list[Mapping[str, Any]]] = {}
    for run in result["runs"]:
        by_loss.setdefault(_name(run["settings"]["loss"]), []).append(run)
    rows = [(name, *_cells(runs)) for name, runs in by_loss.items()]
    seeds = min(map(len, by_loss.values()))
    text = (
        f"Means and standard deviations over {seeds} seeds; {result['samples']} test "
        "samples, labels drawn from the network where nothing else is said, exact by "
        f"sample; {where(result['environment'])}. Without "
        "state: a linear readout trained with the same loss on steps that are "
        "independent draws from one distribution."
    )
    sentences = "\n".join(
        textwrap.fill(one, 88, initial_indent="- ", subsequent_indent="  ")
        for one in _shifts(by_loss)
    )
    return f"{table(_HEADER, rows)}\n\n{textwrap.fill(text, 88)}\n\n{sentences}"


def _shifts(by_loss: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Compare each loss with the cross-entropy of the same seeds."""
    plain = {run["settings"]["seed"]: run for run in by_loss.get(_PLAIN, ())}
    sentences = []
    for name, runs in by_loss.items():
        pairs = [
            (run, plain[run["settings"]["seed"]])
            for run in runs
            if run["settings"]["seed"] in plain
        ]
        if name == _PLAIN or not pairs:
            continue
        moved = {
            which: _spread(
                [_centroids(a, which)[-1] - _centroids(b, which)[-1] for a, b in pairs],
                sign=True,
            )
            for which in ("network", "time-shuffled", "stateless", "true-labels")
            if _has(runs, which)
        }
        shuffled = (
            f"on time-shuffled input by {moved['time-shuffled']}, "
            if "time-shuffled" in moved
            else ""
        )
        accuracy = _spread(
            [
                100 * (a["test_accuracy"]["last"] - b["test_accuracy"]["last"])
                for a, b in pairs
            ],
            1,
            " points",
            sign=True,
        )
        sentences.append(
            f"{name}, beside {_PLAIN} of the same seeds: the centroid moves by "
            f"{moved['network']} steps, {shuffled}without state by "
            f"{moved['stateless']}, with true labels by {moved['true-labels']}; "
            f"accuracy by {accuracy}."
        )
    return sentences


def _name(loss: Mapping[str, Any]) -> str:
    kwargs = loss.get("kwargs", {})
    if "direction" not in kwargs:
        return str(loss["name"]).replace("_", " ")
    name = f"concentration {kwargs['direction']}"
    if "strength" in kwargs:
        name += f", strength {kwargs['strength']:g}"
    if "pairs" in kwargs:
        name += f", pairs {kwargs['pairs']}"
    return name + (", true labels" if kwargs.get("labels") == "empirical" else "")


def _cells(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    accuracy = [100 * run["test_accuracy"]["last"] for run in runs]
    return [
        _spread(accuracy, 1, " %"),
        _spread([_centroids(run, "network")[0] for run in runs]),
        *(
            _spread([_centroids(run, name)[-1] for run in runs])
            if _has(runs, name)
            else "none: equal steps"
            for name in ("network", "time-shuffled", "stateless", "true-labels")
        ),
    ]


def _has(runs: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Images that stand still have no time-shuffled input."""
    return all(name in run["profiles"] for run in runs)


def _centroids(run: Mapping[str, Any], name: str) -> list[float]:
    """Give the centroids of a measurement, epoch by epoch."""
    return [found["centroid"] for found in run["profiles"][name].values()]


def _spread(
    values: Sequence[float], digits: int = 2, unit: str = "", sign: bool = False
) -> str:
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):{'+' if sign else ''}.{digits}f}{deviation}{unit}"
