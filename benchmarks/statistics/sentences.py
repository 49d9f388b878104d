"""What a comparison shows, and what it does not, in plain words."""

from collections.abc import Sequence

from benchmarks.statistics.paired import FEWEST_PAIRS, PairedDifference

UNTESTED = (
    f"Fewer than {FEWEST_PAIRS} paired runs give no p value: differences are "
    "described, not tested."
)
UNVARIED = (
    "The paired runs of an arm differ by the same in all that was compared: nothing "
    "says how sure that is."
)


def verdict(found: PairedDifference, first: str, second: str, unit: str) -> list[str]:
    """Say what a comparison found.

    Args:
        found: First arm less second.
        first: What the first is called.
        second: What the second is called.
        unit: Of the values, such as "points".

    Returns:
        Sentences.
    """
    if not found.varies:
        return [
            f"{first} less {second}: {signed(found.estimate)} {unit}. {UNVARIED}",
            *cautions([found]),
        ]
    low, high = found.interval
    p_value = f", p {p_text(found.p_value)}" if found.testable else ""
    said = [
        f"{first} less {second}: {signed(found.estimate)} {unit}, 95% interval "
        f"{signed(low)} to {signed(high)}{p_value}."
    ]
    if not found.testable:
        return [*said, UNTESTED, *cautions([found])]
    detectable = f"{found.smallest_detectable:.2f} {unit}"
    if found.significant:
        better, worse = (first, second) if found.estimate > 0 else (second, first)
        said.append(f"{better} is above {worse}: the difference is detected.")
    else:
        said.append(
            f"No difference is shown. That is not to say that there is none: one of "
            f"less than {detectable} would more often than in one case of five go "
            "undetected here."
        )
    return said + cautions([found])


def cautions(found: Sequence[PairedDifference]) -> list[str]:
    """Say what intervals leave out.

    Args:
        found: Comparisons of one experiment.

    Returns:
        Sentences.
    """
    said = []
    seeds = max(max(one.seeds) for one in found)
    splits = max(one.splits for one in found)
    if seeds == 1:
        said.append(
            "One training seed: the interval covers the choice of test recordings "
            "alone; two trainings of the same arm may differ by more."
        )
    elif seeds < 3:
        said.append("Two training seeds say little about how much trainings differ.")
    if splits == 1:
        said.append("One split: how much others would differ is not covered.")
    else:
        if splits == 2:
            said.append(
                "Two splits say little about how much splits differ, and give no "
                "effect size: runs on one split are not independent."
            )
        said.append(
            "Splits are drawn from the same recordings and share some of their test "
            "parts: they are not independent, so that intervals over several are "
            "rather too narrow."
        )
    if max(max(one.items) for one in found) == 1:
        said.append(
            "Only figures of whole runs are compared: "
            f"{'seeds' if splits == 1 else 'splits and seeds'} are resampled, test "
            "recordings are not."
        )
    return said


def signed(value: float) -> str:
    """Write a difference with its sign and two decimals."""
    return f"{value:+.2f}"


def p_text(p_value: float) -> str:
    """Write a p value, no smaller than the resamples can tell."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"
