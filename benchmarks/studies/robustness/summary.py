"""What the trials of a robustness study say together: figures, checks, plain words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.studies.robustness.config import RobustnessConfig
from benchmarks.studies.robustness.trial import MORE_STEPS

Trials = Sequence[Mapping[str, Any]]
"""As `benchmarks.studies.robustness.trial.trial` gives them."""

ALTERNATIVES = ("black_box", "transfer", "masked_gradients")
"""Attacks that the worst case must not be above, by their key in a trial."""

# A rounding of one sample in a hundred is no rise.
_TOLERANCE = 1e-9


def summarized(trials: Trials, config: RobustnessConfig) -> dict[str, Any]:
    """Average over seeds.

    Args:
        trials: Of all arms and seeds.
        config: Of the study.

    Returns:
        As JSON has it: by arm, with values of each seed; the main budget of each
        attack; differences to the reference; checks.
    """
    arms = {arm: [t for t in trials if t["arm"] == arm] for arm in config.arms}
    main = {name: _main_budget(arms[config.reference], name) for name in config.attacks}
    return {
        "reference": config.reference,
        "seeds": list(config.seeds),
        "samples": trials[0]["samples"],
        "budgets": {name: list(a.budgets) for name, a in config.attacks.items()},
        "probes": trials[0]["attacks"][next(iter(config.attacks))]["probes"],
        "main": main,
        "arms": {arm: _arm(group, config) for arm, group in arms.items()},
        "differences": {
            arm: _differences(group, arms[config.reference], main)
            for arm, group in arms.items()
            if arm != config.reference
        },
        "checks": _checks(trials),
        "queries": {name: a.queries for name, a in config.attacks.items()},
        "restarts": {name: a.restarts for name, a in config.attacks.items()},
    }


def _arm(group: Trials, config: RobustnessConfig) -> dict[str, Any]:
    return {
        "test_accuracy": [t["test_accuracy"] for t in group],
        "attacks": {
            name: {
                "clean": [t["attacks"][name]["clean_accuracy"] for t in group],
                **{
                    key: [t["attacks"][name][key] for t in group]
                    for key in ("accuracy", "by_probe", "curve", *ALTERNATIVES)
                    if key in group[0]["attacks"][name]
                },
                "raw_curve": np.mean(
                    [t["attacks"][name]["raw_curve"] for t in group], axis=0
                )
                .round(4)
                .tolist(),
            }
            for name in config.attacks
        },
        "corruptions": {
            name: [t["corruptions"][name] for t in group]
            for name in group[0]["corruptions"]
        },
    }


def _main_budget(reference: Trials, name: str) -> int:
    """Choose the budget at which the reference is right on about half."""
    left = np.mean([t["attacks"][name]["accuracy"] for t in reference], axis=0)
    return int(np.abs(left - 0.5).argmin())


def _differences(
    group: Trials, reference: Trials, main: Mapping[str, int]
) -> dict[str, Any]:
    pairs = list(zip(group, reference, strict=True))
    found = {
        name: interval(
            [
                t["attacks"][name]["accuracy"][budget]
                - r["attacks"][name]["accuracy"][budget]
                for t, r in pairs
            ]
        )
        for name, budget in main.items()
    }
    clean = interval([t["test_accuracy"] - r["test_accuracy"] for t, r in pairs])
    return {"clean": clean, **found}


def interval(differences: Sequence[float]) -> dict[str, float]:
    """Give mean and 95% interval of differences, one for each seed (Student's t).

    Args:
        differences: Two or more.

    Returns:
        `mean`, `low`, `high`.
    """
    n = len(differences)
    mean = fmean(differences)
    half = float(stats.t.ppf(0.975, n - 1)) * stdev(differences) / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _checks(trials: Trials) -> dict[str, Any]:
    """Count where gradients would have misled the attack."""
    counts = {key: {"beaten": 0, "of": 0, "most": 0.0} for key in ALTERNATIVES}
    rises = 0.0
    for trial in trials:
        for found in trial["attacks"].values():
            for key in ALTERNATIVES:
                for ours, theirs in zip(
                    found["accuracy"], found.get(key, ()), strict=False
                ):
                    counts[key]["of"] += 1
                    counts[key]["beaten"] += theirs < ours - _TOLERANCE
                    counts[key]["most"] = max(counts[key]["most"], ours - theirs)
            raw = np.array(found["raw_curve"])
            # The start counts as well: it may be the best that a run has seen.
            best = raw.min(axis=2)
            rises = max(rises, float((raw[..., -1] - best).max()))
    longer = [
        found["more_steps"]
        for trial in trials
        for found in trial["attacks"].values()
        # A trial of an older version has none.
        if "more_steps" in found
    ]
    checks = {"last_step_above_best": rises, **counts}
    return checks | ({"more_steps": _longer(longer)} if longer else {})


def _longer(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Say what attacks with more steps changed, in shares of the samples."""
    changes = [one["after"] - one["before"] for one in found]
    lost = [one["worst_before"] - one["worst_after"] for one in found]
    return {
        "times": MORE_STEPS,
        "of": len(found),
        "change": fmean(changes),
        "most": max(changes),
        "least": min(changes),
        "beaten": sum(one > _TOLERANCE for one in lost),
        "worst_lost": fmean(lost),
        "worst_lost_most": max(lost),
    }


def verdict(summary: Mapping[str, Any]) -> list[str]:
    """Say in plain words what was found, also where papers say otherwise.

    Args:
        summary: Of `summarized`.

    Returns:
        Sentences.
    """
    return [
        *_of_attacks(summary),
        *_of_masks(summary),
        *_of_surrogates(summary),
        *_of_checks(summary),
        *_of_papers(summary),
    ]


def _of_attacks(summary: Mapping[str, Any]) -> Iterator[str]:
    reference = summary["reference"]
    for name, number in summary["main"].items():
        left = _mean(summary["arms"][reference]["attacks"][name]["accuracy"], number)
        parts = [
            f"{arm} {_mean(found['attacks'][name]['accuracy'], number):.1%} "
            f"({_said(summary['differences'][arm][name])})"
            for arm, found in summary["arms"].items()
            if arm != reference
        ]
        budget = summary["budgets"][name][number]
        yield (
            f"Under {name} attacks of budget {budget:g}, {reference} keeps "
            f"{left:.1%}; {', '.join(parts)}."
        )


def _said(difference: Mapping[str, float]) -> str:
    low, mean, high = (100 * difference[key] for key in ("low", "mean", "high"))
    word = {1: "more robust", -1: "less robust", 0: "not told apart"}[_sign(difference)]
    return f"{mean:+.1f} points, 95% {low:+.1f} to {high:+.1f}: {word}"


def _sign(difference: Mapping[str, float]) -> int:
    return (difference["low"] > 0) - (difference["high"] < 0)


def _of_masks(summary: Mapping[str, Any]) -> Iterator[str]:
    for name, number in summary["main"].items():
        base = _mean(
            summary["arms"][summary["reference"]]["attacks"][name]["accuracy"], number
        )
        for arm, found in summary["arms"].items():
            attack = found["attacks"][name]
            if "masked_gradients" not in attack:
                continue
            seems, is_ = (
                _mean(attack[key], number) for key in ("masked_gradients", "accuracy")
            )
            twin = _own_dense(summary, attack, number)
            budget = summary["budgets"][name][number]
            survives = _sign(summary["differences"][arm][name]) > 0
            yield (
                f"{name}, budget {budget:g}: attacked once through its own random "
                f"masks, {arm} seems to keep {seems:.1%}; "
                + (
                    ""
                    if twin is None
                    else f"through its own surrogate without them {twin:.1%}; "
                )
                + f"the worst case through dense surrogates leaves {is_:.1%}, where "
                f"{summary['reference']} keeps {base:.1%}. "
                + (
                    "An advantage over it survives dense surrogates."
                    if survives
                    else "No advantage over it survives dense surrogates."
                )
            )


def _own_dense(
    summary: Mapping[str, Any], attack: Mapping[str, Any], number: int
) -> float | None:
    """Give what the network's own surrogate leaves, dense: masks alone differ."""
    if "own" not in summary["probes"]:
        return None
    own = summary["probes"].index("own")
    return fmean(by_budget[number][own] for by_budget in attack["by_probe"])


def _of_surrogates(summary: Mapping[str, Any]) -> Iterator[str]:
    for name, number in summary["main"].items():
        gaps: list[float] = []
        best: list[int | None] = []
        for found in summary["arms"].values():
            attack = found["attacks"][name]
            for probes, worst in zip(
                attack["by_probe"], attack["accuracy"], strict=True
            ):
                alone = probes[number]
                gaps.append(min(alone) - worst[number])
                winners = [i for i, a in enumerate(alone) if a <= min(alone)]
                best.append(winners[0] if len(winners) == 1 else None)
        names = summary["probes"]
        wins = ", ".join(f"{n} {best.count(i)}" for i, n in enumerate(names))
        wins += f", tied {best.count(None)}"
        yield (
            f"{name}: the strongest single surrogate leaves {100 * fmean(gaps):.1f} "
            f"points more than all together. Networks of which each was strongest: "
            f"{wins}."
        )


def _of_checks(summary: Mapping[str, Any]) -> Iterator[str]:
    checks = summary["checks"]
    words = {
        "black_box": "Random search without gradients",
        "transfer": f"What was found against {summary['reference']} of the same seed",
        "masked_gradients": "An attack through the network's own masks",
    }
    for key, subject in words.items():
        counted = checks[key]
        if not counted["of"]:
            continue
        if counted["beaten"]:
            yield (
                f"{subject} finds more than the gradient attacks in "
                f"{counted['beaten']} of {counted['of']} cases, by at most "
                f"{100 * counted['most']:.1f} points: there the robust accuracy is "
                "still too high."
            )
        else:
            yield (
                f"{subject} finds more than the gradient attacks in none of "
                f"{counted['of']} cases."
            )
    if "more_steps" in checks:
        yield from _of_more_steps(checks["more_steps"])
    yield (
        "The last step of a single run is at most "
        f"{100 * checks['last_step_above_best']:.1f} points above its best one."
    )


def _of_more_steps(longer: Mapping[str, Any]) -> Iterator[str]:
    beaten = (
        f"in {longer['beaten']} of {longer['of']} cases, by at most "
        f"{100 * longer['worst_lost_most']:.1f} points: there the robust accuracy is "
        "still too high"
        if longer["beaten"]
        else f"in none of {longer['of']} cases"
    )
    yield (
        f"With {longer['times']} times the steps, the surrogate that was strongest "
        f"leaves {100 * longer['change']:+.1f} points beside what it left before "
        f"({100 * longer['least']:+.1f} to {100 * longer['most']:+.1f}). They take "
        f"samples from the worst case {beaten}."
    )


def _of_papers(summary: Mapping[str, Any]) -> Iterator[str]:
    arms = summary["differences"]
    if "masked" in arms:
        robust = [_sign(arms["masked"][name]) for name in summary["main"]]
        clean = arms["masked"]["clean"]
        yield (
            "arXiv 2509.23762 says that sparse gradients help robustness and hurt "
            f"generalisation: beside {summary['reference']}, masked is "
            f"{_listed(robust, summary)} here, and its clean accuracy is "
            f"{_CLEAN[_sign(clean)]} ({100 * clean['mean']:+.1f} points). "
            + _agreement([*robust, _sign(clean)], [*[1] * len(robust), -1])
        )
    parts = []
    for arm in arms:
        if arm.startswith("concentrated"):
            robust = [_sign(arms[arm][name]) for name in summary["main"]]
            clean = arms[arm]["clean"]
            parts.append(
                f"{arm} is {_listed(robust, summary)}, its clean accuracy "
                f"{_CLEAN[_sign(clean)]} ({100 * clean['mean']:+.1f} points)"
            )
    if parts:
        yield (
            "arXiv 2211.14406 says that temporal concentration matters for robustness "
            f"and hardly for accuracy: beside {summary['reference']}, "
            f"{'; '.join(parts)}."
        )


_CLEAN = {1: "higher", -1: "lower", 0: "not told apart"}


def _listed(signs: Sequence[int], summary: Mapping[str, Any]) -> str:
    word = {
        1: "more robust",
        -1: "less robust",
        0: "not told apart in robustness",
    }
    if len(set(signs)) == 1:
        return word[signs[0]]
    return " and ".join(
        f"{word[sign]} under {name}"
        for name, sign in zip(summary["main"], signs, strict=True)
    )


def _agreement(found: Sequence[int], expected: Sequence[int]) -> str:
    if list(found) == list(expected):
        return "Both agree with it."
    if any(f == -e for f, e in zip(found, expected, strict=True)):
        return "That contradicts it."
    return "That neither confirms nor refutes it."


def _mean(by_seed: Sequence[Sequence[float]], number: int) -> float:
    return fmean(values[number] for values in by_seed)
