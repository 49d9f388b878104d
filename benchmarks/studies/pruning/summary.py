"""The searches of a study, averaged and compared: accuracy and three accounts.

Every difference is paired by seed, which gives an arm and what it is compared with the
same first weights and order of samples, and has a 95% t interval.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from scipy import stats

from benchmarks.studies.pruning.arms import ARMS, CLAIM, DENSE, MAGNITUDE, RANDOM

MARGIN = 0.01
"""By how much non-inferior may be worse, in accuracy: one point."""
TARGET = 0.4
"""Share of the sample-steps that were to be saved."""
LEDGERS = ("sample_steps", "seconds", "operations")

Results = Sequence[Mapping[str, Any]]
"""One for each arm and seed."""


def ledgers(cost: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Add up the purposes of a cost, each account by itself.

    Args:
        cost: As the state dict of a `CostLedger`.

    Returns:
        By the names of `LEDGERS`.
    """
    found = dict.fromkeys(LEDGERS, 0.0)
    for one in cost.values():
        found["sample_steps"] += one["forward"] + one["backward"]
        found["seconds"] += one["seconds"]
        found["operations"] += one["accumulates"] + one["multiply_accumulates"]
    return found


def interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """Give the 95% t interval of a mean; None of fewer than two values."""
    n = len(differences)
    if n < 2:
        return None
    half = float(stats.t.ppf(0.975, n - 1)) * stdev(differences) / math.sqrt(n)
    return fmean(differences) - half, fmean(differences) + half


def summarized(results: Results, sparsities: Sequence[float]) -> list[dict[str, Any]]:
    """Average every arm at every sparsity, and compare it with full-T magnitude.

    Args:
        results: As `run_trials` gives them.
        sparsities: Those after which a network was tested.

    Returns:
        Rows as JSON has them: `arm`, `sparsity`, `seeds`, `time_steps` of the rounds,
        seed by seed, `test_accuracy` (`selected` and `last`: mean, deviation, all),
        the three `cost` accounts by purpose and in total, `relative` cost (paired),
        `difference` in accuracy to the full-T magnitude search (`selected`, `last`:
        mean and interval), `accumulates` and `multiply_accumulates` per sample of the
        network, and the share that remains of each layer.
    """
    by_arm: dict[str, dict[int, Mapping[str, Any]]] = {}
    for result in results:
        by_arm.setdefault(result["arm"], {})[result["seed"]] = result
    rows = []
    for sparsity in sparsities:
        reference = _outcomes(by_arm.get(MAGNITUDE, {}), sparsity)
        for arm in ARMS:
            found = _outcomes(by_arm.get(arm, {}), sparsity)
            if found and arm != DENSE:
                rows.append(_row(arm, sparsity, by_arm[arm], found, reference))
    dense = {seed: r["outcomes"][-1] for seed, r in by_arm.get(DENSE, {}).items()}
    if dense:
        rows.append(_row(DENSE, 0.0, by_arm[DENSE], dense, {}))
    return rows


def verdict(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in plain sentences what the rows show.

    Args:
        rows: Of `summarized`.

    Returns:
        Sentences.
    """
    sentences = []
    for row in rows:
        if row["arm"] == CLAIM:
            sentences.append(_claimed(row))
    sentences += _power(rows)
    controls = [
        row
        for row in rows
        if row["arm"] not in (MAGNITUDE, CLAIM, RANDOM, DENSE)
        and row["sparsity"] == _claim_sparsity(rows)
    ]
    sentences += [_said(row) for row in controls]
    return sentences


def _claimed(row: Mapping[str, Any]) -> str:
    difference = row["difference"]["selected"]
    relative = row["relative"]
    steps = row["time_steps"]
    text = (
        f"At {row['sparsity']:.0%} sparsity, rounds at the steps of the Fisher rule "
        f"(T' from {min(steps)} to {max(steps)}) change the accuracy of the magnitude "
        f"search by {_points(difference)} over {difference['pairs']} seeds"
    )
    bounds = difference["interval"]
    if bounds is None:
        text += ", too few for an interval"
    elif bounds[0] > -MARGIN:
        text += ": non-inferior at a margin of 1.0 point"
    elif bounds[1] < -MARGIN:
        text += ": inferior by more than 1.0 point"
    else:
        text += ": not shown to be non-inferior at a margin of 1.0 point"
    saved = 1 - relative["sample_steps"]
    reached = "the target of 40% is reached" if saved >= TARGET else "short of 40%"
    return (
        f"{text}. It saves {saved:.0%} of the sample-steps, final training and probe "
        f"included ({reached}), {1 - relative['seconds']:.0%} of the wall-clock time "
        f"and {1 - relative['operations']:.0%} of the theoretical operations."
    )


def _power(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say where random pruning is clearly worse: elsewhere, nothing is tested."""
    clear, unclear = [], []
    for row in rows:
        if row["arm"] != RANDOM or not row["difference"]:
            continue
        bounds = row["difference"]["selected"]["interval"]
        worse = bounds is not None and bounds[1] < 0
        name = f"{row['sparsity']:.0%} ({_points(row['difference']['selected'])})"
        (clear if worse else unclear).append(name)
    sentences = []
    if clear:
        sentences.append(
            f"Random pruning is clearly worse at {', '.join(clear)}: there the "
            "comparison can tell searches apart."
        )
    if unclear:
        sentences.append(
            f"Random pruning is not clearly worse at {', '.join(unclear)}: there the "
            "comparison has no power."
        )
    return sentences


def _said(row: Mapping[str, Any]) -> str:
    difference = row["difference"]["selected"]
    pairs = difference["pairs"]
    seeds = f"{pairs} {'seed' if pairs == 1 else 'seeds'}"
    return (
        f"At {row['sparsity']:.0%}, {row['arm']}: {_points(difference)} over "
        f"{seeds} at {row['relative']['sample_steps']:.0%} of the "
        "sample-steps."
    )


def _claim_sparsity(rows: Sequence[Mapping[str, Any]]) -> float:
    """Choose where controls are told of: 90%, or what comes nearest."""
    found = {row["sparsity"] for row in rows if row["arm"] != DENSE}
    return min(found, key=lambda sparsity: abs(sparsity - 0.9), default=0.0)


def _points(difference: Mapping[str, Any]) -> str:
    text = f"{100 * difference['mean']:+.2f} points"
    if difference["interval"] is not None:
        low, high = difference["interval"]
        text += f" (95% interval {100 * low:+.2f} to {100 * high:+.2f})"
    return text


def _outcomes(
    searches: Mapping[int, Mapping[str, Any]], sparsity: float
) -> dict[int, Mapping[str, Any]]:
    """Give what was tested at a sparsity, which is rounded to whole weights."""
    return {
        seed: one
        for seed, search in searches.items()
        for one in search["outcomes"]
        if abs(one["sparsity"] - sparsity) < 0.005
    }


def _row(
    arm: str,
    sparsity: float,
    searches: Mapping[int, Mapping[str, Any]],
    found: Mapping[int, Mapping[str, Any]],
    reference: Mapping[int, Mapping[str, Any]],
) -> dict[str, Any]:
    seeds = sorted(found)
    costs = {seed: ledgers(found[seed]["cost"]) for seed in seeds}
    pairs = [seed for seed in seeds if seed in reference]
    compared = {seed: ledgers(reference[seed]["cost"]) for seed in pairs}
    layers = found[seeds[0]]["layers"]
    return {
        "arm": arm,
        "sparsity": sparsity,
        "seeds": len(seeds),
        "time_steps": [searches[seed]["time_steps"] for seed in seeds],
        "round_epochs": fmean(searches[seed]["round_epochs"] for seed in seeds),
        "test_accuracy": {
            which: _spread([found[seed]["test_accuracy"][which] for seed in seeds])
            for which in ("selected", "last")
        },
        "cost": {key: fmean(costs[seed][key] for seed in seeds) for key in LEDGERS},
        "cost_by_purpose": {
            purpose: {
                key: fmean(
                    ledgers({purpose: found[seed]["cost"][purpose]})[key]
                    for seed in seeds
                )
                for key in LEDGERS
            }
            for purpose in found[seeds[0]]["cost"]
        },
        "relative": {
            key: fmean(costs[seed][key] / compared[seed][key] for seed in pairs)
            for key in LEDGERS
        }
        if pairs
        else {},
        "difference": {
            which: _difference(found, reference, pairs, which)
            for which in ("selected", "last")
        }
        if pairs
        else {},
        **{
            key: fmean(found[seed][key] for seed in seeds)
            for key in ("accumulates", "multiply_accumulates")
        },
        "remaining": {
            name: fmean(
                found[seed]["layers"][name]["remaining"] / layer["weights"]
                for seed in seeds
            )
            for name, layer in layers.items()
        },
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": fmean(values),
        "deviation": stdev(values) if len(values) > 1 else None,
        "all": list(values),
    }


def _difference(
    found: Mapping[int, Mapping[str, Any]],
    reference: Mapping[int, Mapping[str, Any]],
    pairs: Sequence[int],
    which: str,
) -> dict[str, Any]:
    each = [
        found[seed]["test_accuracy"][which] - reference[seed]["test_accuracy"][which]
        for seed in pairs
    ]
    return {"mean": fmean(each), "interval": interval(each), "pairs": len(each)}
