"""The trials of the planted study, counted: how often each rule is right."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.studies.planted.rules import LOCATING, guess, off_by
from benchmarks.studies.planted.trial import ESTIMATORS, NULL


def summarized(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Count hits, distances and claims for every position and estimator.

    Args:
        trials: As `trial` gives them.

    Returns:
        Rows as JSON has them, the null last: `evidence` ("2-3", or `NULL`),
        `estimator`, `trials`, `test_accuracy`, `centroid` (before training, after,
        time-shuffled), `claims` (how many trials, by rule) and, but for the null,
        `located` (`hits`, `within_one` and `mean_distance` by rule) with `guess`
        (share of hits and mean distance of a random step).
    """
    positions = list(dict.fromkeys(_key(trial) for trial in trials))
    positions.sort(key=lambda key: (key == NULL, key))
    return [
        _row(position, estimator, [t for t in trials if _key(t) == position])
        for position in positions
        for estimator in ESTIMATORS
    ]


def verdict(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in plain sentences what the rows show.

    Args:
        rows: Of `summarized`.

    Returns:
        Sentences.
    """
    null = [row for row in rows if row["evidence"] == NULL]
    planted = [row for row in rows if row["evidence"] != NULL]
    sentences = []
    if planted:
        sentences += [_located(rule, planted) for rule in LOCATING]
        share = fmean(row["guess"]["hits"] for row in planted)
        distance = fmean(row["guess"]["mean_distance"] for row in planted)
        sentences.append(
            f"A random step would be inside for {share:.0%} and off by {distance:.1f}."
        )
    if null:
        sentences += [
            "On the null, where nothing can happen in time, training lowers the "
            f"centroid in {_claimed('falls', null)}: as many false claims of "
            "concentration.",
            "Held against the same network on time-shuffled input, the null claims it "
            f"in {_claimed('below shuffled', null)}.",
        ]
    return sentences


def _located(rule: str, rows: Sequence[Mapping[str, Any]]) -> str:
    # The loss of a prefix has nothing to do with how information is estimated.
    shown = ["exact"] if rule == "prefix loss" else list(ESTIMATORS)
    hits, distances = [], []
    for estimator in shown:
        chosen = [row for row in rows if row["estimator"] == estimator]
        of = f" ({estimator})" if len(shown) > 1 else ""
        found = [row["located"][rule] for row in chosen]
        trials = sum(row["trials"] for row in chosen)
        hits.append(f"{sum(f['hits'] for f in found)} of {trials}{of}")
        distances.append(f"{fmean(f['mean_distance'] for f in found):.1f}")
    return (
        f"The rule `{rule}` names a planted step in {', '.join(hits)} trials; on "
        f"average it is off by {', '.join(distances)} steps."
    )


def _claimed(rule: str, rows: Sequence[Mapping[str, Any]]) -> str:
    counts = [
        f"{row['claims'][rule]} of {row['trials']} ({row['estimator']})" for row in rows
    ]
    return f"{', '.join(counts)} trials"


def _key(trial: Mapping[str, Any]) -> str:
    position = trial["position"]
    return NULL if position == NULL else "-".join(map(str, position))


def _row(
    position: str, estimator: str, trials: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    readings = [trial["readings"][estimator] for trial in trials]
    row: dict[str, Any] = {
        "evidence": position,
        "estimator": estimator,
        "trials": len(trials),
        "test_accuracy": fmean(trial["test_accuracy"] for trial in trials),
        "centroid": {
            when: fmean(reading[when]["centroid"] for reading in readings)
            for when in ("before", "after", "shuffled")
        },
        "claims": {
            rule: sum(reading["claims"][rule] for reading in readings)
            for rule in readings[0]["claims"]
        },
    }
    if position != NULL:
        first, last = trials[0]["position"]
        T = len(readings[0]["after"]["information"])
        hits, distance = guess(T, first, last)
        row["guess"] = {"hits": hits, "mean_distance": distance}
        row["located"] = dict(_counted(readings, first, last))
    return row


def _counted(
    readings: Sequence[Mapping[str, Any]], first: int, last: int
) -> Iterator[tuple[str, dict[str, float]]]:
    for rule in LOCATING:
        distances = [off_by(r["located"][rule], first, last) for r in readings]
        yield (
            rule,
            {
                "hits": distances.count(0),
                "within_one": sum(distance <= 1 for distance in distances),
                "mean_distance": fmean(distances),
            },
        )
