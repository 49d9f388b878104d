"""What the trials of a robustness study say together: figures, checks, plain words."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics.holm import holm
from benchmarks.statistics.paired import FEWEST_PAIRS, paired_difference
from benchmarks.statistics.power import ALPHA
from benchmarks.studies.robustness.config import RobustnessConfig
from benchmarks.studies.robustness.trial import MORE_STEPS

Trials = Sequence[Mapping[str, Any]]
"""As `benchmarks.studies.robustness.trial.trial` gives them."""

ALTERNATIVES = ("black_box", "transfer", "masked_gradients")
"""Attacks that the worst case must not be above, by their key in a trial."""

_BY_SEED = ("accuracy", "by_probe", "curve", *ALTERNATIVES, "unmasked_gradients")

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
    pairs = [(arm, config.reference) for arm in config.arms if arm != config.reference]
    pairs += [(one, other) for one, other in config.contrasts]
    return {
        "reference": config.reference,
        "seeds": list(config.seeds),
        "samples": trials[0]["samples"],
        "budgets": {name: list(a.budgets) for name, a in config.attacks.items()},
        "probes": trials[0]["attacks"][next(iter(config.attacks))]["probes"],
        "main": main,
        "arms": {arm: _arm(group, config) for arm, group in arms.items()},
        "own_surrogates": {arm: config.own_surrogate(arm) for arm in config.arms},
        "differences": _differences(arms, pairs, main),
        "checks": _checks(trials),
        "queries": {name: a.queries for name, a in config.attacks.items()},
        "restarts": {name: a.restarts for name, a in config.attacks.items()},
    }


def _arm(group: Trials, config: RobustnessConfig) -> dict[str, Any]:
    return {
        "test_accuracy": [t["test_accuracy"] for t in group],
        "centroid": None
        if any(t["centroid"] is None for t in group)
        else [t["centroid"] for t in group],
        "attacks": {
            name: {
                "clean": [t["attacks"][name]["clean_accuracy"] for t in group],
                **{
                    key: [t["attacks"][name][key] for t in group]
                    for key in _BY_SEED
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
    arms: Mapping[str, Trials],
    pairs: Sequence[tuple[str, str]],
    main: Mapping[str, int],
) -> list[dict[str, Any]]:
    """Compare arms by samples and seeds; p values take their number into account."""
    found: list[dict[str, Any]] = [
        {"arm": arm, "beside": other} for arm, other in pairs
    ]
    # Attacks ask one question, so that all of them are one family. Centroids ask none:
    # they say whether there was anything to ask about, each by itself.
    for family in (["centroid"], ["clean"], list(main)):
        compared = []
        for one in found:
            for key in family:
                ours, theirs = (
                    _values(arms[one[which]], key, main) for which in ("arm", "beside")
                )
                if ours is not None and theirs is not None:
                    one[key] = interval(ours - theirs)
                    compared.append(one[key])
        if family == ["centroid"]:
            continue
        # What gives no p value is asked all the same.
        asked = [1.0 if one["p_value"] is None else one["p_value"] for one in compared]
        for one, p_value in zip(compared, holm(asked), strict=True):
            if one["p_value"] is not None:
                one["adjusted"] = p_value
    return found


def _values(
    group: Trials, key: str, main: Mapping[str, int]
) -> NDArray[np.float64] | None:
    """Give `[seeds, samples]`, or one column where only a figure of each is known."""
    if key in main:
        right = [t["attacks"][key]["correct"][main[key]] for t in group]
        return np.array(right, dtype=np.float64)
    of_trial = {"clean": "test_accuracy", "centroid": "centroid"}[key]
    values = [t[of_trial] for t in group]
    if any(value is None for value in values):
        return None
    return np.array(values, dtype=np.float64)[:, None]


def interval(differences: NDArray[np.float64]) -> dict[str, Any]:
    """Give mean and 95% interval of differences over seeds, crossed with samples.

    Args:
        differences: `[seeds, samples]`, or `[seeds, 1]`.

    Returns:
        `mean`, `low`, `high`, the `p_value` of no difference and `adjusted`, the same
        for as many as there are; both are None where too few seeds, or none that
        differ, say how sure the mean is.
    """
    found = paired_difference([differences])
    low, high = found.interval
    p_value = found.p_value if found.testable else None
    return {
        "mean": found.estimate,
        "low": low,
        "high": high,
        "p_value": p_value,
        "adjusted": p_value,
    }


def _checks(trials: Trials) -> dict[str, Any]:
    """Count where gradients would have misled the attack."""
    counts = {key: {"beaten": 0, "of": 0, "most": 0.0} for key in ALTERNATIVES}
    attacks = [found for trial in trials for found in trial["attacks"].values()]
    for found in attacks:
        for key in ALTERNATIVES:
            for ours, theirs in zip(
                found["accuracy"], found.get(key, ()), strict=False
            ):
                counts[key]["of"] += 1
                counts[key]["beaten"] += theirs < ours - _TOLERANCE
                counts[key]["most"] = max(counts[key]["most"], ours - theirs)
    longer = [found["more_steps"] for found in attacks if "more_steps" in found]
    vanished = np.concatenate([np.ravel(found["vanished"]) for found in attacks])
    checks = {
        "last_step_above_best": max(found["last_above_best"] for found in attacks),
        "vanished": {"mean": float(vanished.mean()), "most": float(vanished.max())},
        **counts,
    }
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
        *_of_contrasts(summary),
        *_of_centroids(summary),
        *_of_masks(summary),
        *_of_corruptions(summary),
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
            f"({_said(_beside(summary, arm, reference)[name])})"
            for arm, found in summary["arms"].items()
            if arm != reference
        ]
        budget = summary["budgets"][name][number]
        others = f"; {', '.join(parts)}" if parts else ""
        yield (
            f"Under {name} attacks of budget {budget:g}, {reference} keeps "
            f"{left:.1%}{others}."
        )
    pairs = len(summary["differences"])
    if pairs:
        yield (
            "Intervals are over seeds, crossed with samples, of each comparison by "
            f"itself. Told apart means an adjusted p of at most {ALPHA:g} among all "
            f"{pairs * len(summary['main'])} comparisons under attack, for clean "
            f"accuracies among all {pairs} (Holm); fewer than {FEWEST_PAIRS} seeds "
            "give none."
        )


def _of_contrasts(summary: Mapping[str, Any]) -> Iterator[str]:
    for one in summary["differences"]:
        if one["beside"] == summary["reference"]:
            continue
        parts = [f"{name} {_said(one[name])}" for name in summary["main"]]
        yield (
            f"{one['arm']} beside {one['beside']}, at the same budgets: "
            f"{'; '.join(parts)}."
        )


def _of_centroids(summary: Mapping[str, Any]) -> Iterator[str]:
    reference = summary["reference"]
    of_reference = summary["arms"][reference]["centroid"]
    if of_reference is None:
        return
    parts = [
        f"{arm} {fmean(found['centroid']):.2f} "
        f"({_moved(_beside(summary, arm, reference)['centroid'])})"
        for arm, found in summary["arms"].items()
        if arm.startswith(_CONCENTRATED)
        and arm != reference
        and found["centroid"] is not None
    ]
    if parts:
        yield (
            "Information centroid on the attacked samples, through one dense surrogate "
            f"for all: {reference} {fmean(of_reference):.2f} time steps, "
            f"{', '.join(parts)}; each by itself."
        )


def _moved(difference: Mapping[str, Any]) -> str:
    low, mean, high = (difference[key] for key in ("low", "mean", "high"))
    word = {1: "later", -1: "earlier", 0: "not told apart"}[_sign(difference)]
    return f"{mean:+.2f}, 95% {low:+.2f} to {high:+.2f}: {word}"


def _said(difference: Mapping[str, Any]) -> str:
    low, mean, high = (100 * difference[key] for key in ("low", "mean", "high"))
    word = {1: "more robust", -1: "less robust", 0: "not told apart"}[_sign(difference)]
    return f"{mean:+.1f} points, 95% {low:+.1f} to {high:+.1f}: {word}"


def _beside(summary: Mapping[str, Any], arm: str, other: str) -> Mapping[str, Any]:
    """Find a comparison."""
    pairs = {(one["arm"], one["beside"]): one for one in summary["differences"]}
    found: Mapping[str, Any] = pairs[arm, other]
    return found


def _sign(difference: Mapping[str, Any]) -> int:
    """Say in which direction a difference is detected; 0 where it is not."""
    adjusted = difference["adjusted"]
    if adjusted is None or adjusted > ALPHA:
        return 0
    return 1 if difference["mean"] > 0 else -1


def _of_masks(summary: Mapping[str, Any]) -> Iterator[str]:
    reference = summary["reference"]
    for name, number in summary["main"].items():
        base = _mean(summary["arms"][reference]["attacks"][name]["accuracy"], number)
        for arm, found in summary["arms"].items():
            attack = found["attacks"][name]
            if "masked_gradients" not in attack or arm == reference:
                continue
            seems, without, is_ = (
                _mean(attack[key], number)
                for key in ("masked_gradients", "unmasked_gradients", "accuracy")
            )
            budget = summary["budgets"][name][number]
            more = _sign(_beside(summary, arm, reference)[name]) > 0
            yield (
                f"{name}, budget {budget:g}: attacked once through its own random "
                f"masks, {arm} seems to keep {seems:.1%}; by the same attack without "
                f"them {without:.1%}; the worst case through dense surrogates leaves "
                f"{is_:.1%}, where {reference} keeps {base:.1%}. "
                + (
                    "An advantage over it survives dense surrogates."
                    if more
                    else "No advantage over it survives dense surrogates."
                )
            )


def _of_corruptions(summary: Mapping[str, Any]) -> Iterator[str]:
    reference = summary["reference"]
    for kind in next(iter(summary["arms"].values()))["corruptions"]:
        if not kind.endswith("all steps"):
            continue
        strongest = [
            (arm, fmean(by_level[-1] for by_level in found["corruptions"][kind]))
            for arm, found in summary["arms"].items()
            if found["corruptions"][kind][0]
        ]
        if strongest:
            strongest.sort(key=lambda one: one[0] != reference)
            parts = ", ".join(f"{arm} {left:.1%}" for arm, left in strongest)
            yield f"Under the strongest {kind}, which nobody chooses: {parts}."


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
        "black_box": f"Random search without gradients ({_queries(summary)})",
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
    yield (
        f"Of the gradients {checks['vanished']['mean']:.1%} were zero for the whole of "
        "a sample, at most "
        f"{checks['vanished']['most']:.1%} through one surrogate at one budget: there "
        "an attack sees nothing."
    )
    if "more_steps" in checks:
        yield from _of_more_steps(checks["more_steps"])
    yield (
        "The last step of a single run is at most "
        f"{100 * checks['last_step_above_best']:.1f} points above its best one."
    )


def _queries(summary: Mapping[str, Any]) -> str:
    given = sorted({queries for queries in summary["queries"].values() if queries})
    return f"{' or '.join(map(str, given))} queries"


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
    reference = summary["reference"]
    if "masked" in summary["arms"] and reference != "masked":
        found = _beside(summary, "masked", reference)
        robust = [_sign(found[name]) for name in summary["main"]]
        clean = found["clean"]
        yield (
            "arXiv 2509.23762 says that sparse gradients help robustness and hurt "
            f"generalisation: beside {reference}, masked is "
            f"{_listed(robust, summary)} here, and its clean accuracy is "
            f"{_CLEAN[_sign(clean)]} ({100 * clean['mean']:+.1f} points). "
            + _agreement([*robust, _sign(clean)], [*[1] * len(robust), -1])
        )
    parts = []
    for arm in summary["arms"]:
        if not arm.startswith(_CONCENTRATED) or arm == reference:
            continue
        found = _beside(summary, arm, reference)
        if "centroid" not in found:
            parts.append(f"of {arm} no centroid was measured, so that it tests nothing")
            continue
        wanted = -1 if "early" in arm else 1
        if _sign(found["centroid"]) != wanted:
            parts.append(
                f"the centroid of {arm} is not shown to have moved there, so that it "
                "tests nothing"
            )
            continue
        robust = [_sign(found[name]) for name in summary["main"]]
        clean = found["clean"]
        parts.append(
            f"{arm} is {_listed(robust, summary)}, its clean accuracy "
            f"{_CLEAN[_sign(clean)]} ({100 * clean['mean']:+.1f} points)"
        )
    if parts:
        yield (
            "arXiv 2211.14406 says that temporal concentration matters for robustness "
            f"and hardly for accuracy: beside {reference}, {'; '.join(parts)}."
        )


_CONCENTRATED = ("concentrated early", "concentrated late")
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
