"""What a comparison shows, and what it does not, in plain words."""

from benchmarks.statistics.paired import PairedDifference


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
    low, high = found.interval
    said = [
        f"{first} less {second}: {signed(found.estimate)} {unit}, 95% interval "
        f"{signed(low)} to {signed(high)}, p {p_text(found.p_value)}."
    ]
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
    return said + cautions(found)


def cautions(found: PairedDifference) -> list[str]:
    """Say what the interval leaves out.

    Args:
        found: A comparison.

    Returns:
        Sentences; none where splits, seeds and items are all several.
    """
    said = []
    if max(found.seeds) == 1:
        said.append(
            "One training seed: the interval covers the choice of test recordings "
            "alone; two trainings of the same arm may differ by more."
        )
    elif max(found.seeds) < 3:
        said.append("Two training seeds say little about how much trainings differ.")
    if found.splits == 1:
        said.append("One split: how much others would differ is not covered.")
    elif found.splits == 2:
        said.append("Two splits say little about how much splits differ.")
    if max(found.items) == 1:
        said.append(
            "Only figures of whole runs were found: test recordings are not resampled."
        )
    return said


def signed(value: float) -> str:
    """Write a difference with its sign and two decimals."""
    return f"{value:+.2f}"


def p_text(p_value: float) -> str:
    """Write a p value, no smaller than the resamples can tell."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"
