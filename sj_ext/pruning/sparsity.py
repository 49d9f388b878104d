"""How sparse a network is after each round: by shares of what remains, or in total."""

from collections.abc import Sequence

from sj_ext.registry import register


class SparsitySchedule:
    """The share of the prunable weights that is pruned after each round.

    Args:
        sparsities: One for each round, rising, in (0, 1).

    Raises:
        ValueError: If there is none, they do not rise, or one is outside (0, 1).
    """

    def __init__(self, sparsities: Sequence[float]) -> None:
        given = [float(sparsity) for sparsity in sparsities]
        inside = all(0 < sparsity < 1 for sparsity in given)
        if not given or not inside or given != sorted(set(given)):
            raise ValueError(
                "Expected `sparsities` in (0, 1), rising from round to round, got "
                f"{list(sparsities)!r}."
            )
        self.sparsities = tuple(given)

    def remaining(self, weights: int) -> list[int]:
        """Say how many weights remain after each round.

        Args:
            weights: How many there are before the first.

        Returns:
            One number a round.
        """
        return [weights - round(weights * sparsity) for sparsity in self.sparsities]

    def __repr__(self) -> str:
        """Show the sparsities."""
        shown = ", ".join(f"{sparsity:.4g}" for sparsity in self.sparsities)
        return f"{type(self).__name__}({shown})"


@register("sparsity_schedule", "listed")
class ListedSparsity(SparsitySchedule):
    """The sparsities of all rounds, one by one.

    Args:
        sparsities: In (0, 1), rising.
    """


@register("sparsity_schedule", "cubic")
class CubicSparsity(SparsitySchedule):
    """Quickly at first, then ever more slowly: s_r = s (1 - (1 - r / R)^3).

    Zhu and Gupta, arXiv 1710.01878, equation 1, from a dense network.

    Args:
        final: Sparsity s after the last round, in (0, 1).
        rounds: How many rounds, R.
    """

    def __init__(self, final: float, rounds: int) -> None:
        _check(final, rounds)
        super().__init__(
            [final * (1 - (1 - r / rounds) ** 3) for r in range(1, rounds + 1)]
        )


@register("sparsity_schedule", "geometric")
class GeometricSparsity(SparsitySchedule):
    """The same share of what remains in every round: s_r = 1 - (1 - s)^(r / R).

    Args:
        final: Sparsity s after the last round, in (0, 1).
        rounds: How many rounds, R.
    """

    def __init__(self, final: float, rounds: int) -> None:
        _check(final, rounds)
        super().__init__(
            [1 - (1 - final) ** (r / rounds) for r in range(1, rounds + 1)]
        )


def shrinking(weights: int, fraction: float, rounds: int) -> list[int]:
    """Take the same fraction of the remaining weights in each round.

    Args:
        weights: How many there are before the first round.
        fraction: Of those that remain, in (0, 1); rounded to whole weights.
        rounds: How many rounds.

    Returns:
        How many weights remain after each round.

    Raises:
        ValueError: If `fraction` is outside (0, 1), or a round would prune nothing.
    """
    if not isinstance(fraction, float) or not 0 < fraction < 1:
        raise ValueError(f"Expected `fraction` in (0, 1), got {fraction!r}.")
    found = []
    for number in range(1, rounds + 1):
        taken = round(weights * fraction)
        if not 0 < taken < weights:
            raise ValueError(
                f"Expected each round to prune some and leave some, got {taken} of "
                f"{weights} weights in round {number}: choose another `fraction` or "
                "fewer `rounds`."
            )
        weights -= taken
        found.append(weights)
    return found


def plan(
    weights: int,
    rounds: int | None,
    fraction: float,
    schedule: SparsitySchedule | Sequence[float] | None,
) -> list[int]:
    """Say how many weights remain after each round.

    Args:
        weights: How many there are before the first.
        rounds: How many rounds; None for those of `schedule`.
        fraction: Of what remains, where there is no schedule.
        schedule: Total sparsities.

    Returns:
        One number a round.

    Raises:
        ValueError: If the arguments do not fit together or a round prunes nothing.
    """
    if rounds is not None and (type(rounds) is not int or rounds < 1):
        raise ValueError(f"Expected `rounds` to be a positive integer, got {rounds!r}.")
    if schedule is None:
        if rounds is None:
            raise ValueError("Expected `rounds` or `schedule`, got neither.")
        return shrinking(weights, fraction, rounds)
    if not isinstance(schedule, SparsitySchedule):
        schedule = ListedSparsity(schedule)
    found = schedule.remaining(weights)
    if rounds is not None and rounds != len(found):
        raise ValueError(
            f"Expected `rounds` to be None or the {len(found)} of `schedule`, got "
            f"{rounds}."
        )
    if [*found, 0] != sorted({*found, 0, weights}, reverse=True)[1:]:
        raise ValueError(
            f"Expected `schedule` to prune some of the {weights} weights in every "
            f"round and to leave some, got {found} remaining."
        )
    return found


def _check(final: float, rounds: int) -> None:
    if not isinstance(final, (int, float)) or not 0 < final < 1:
        raise ValueError(f"Expected `final` in (0, 1), got {final!r}.")
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 1:
        raise ValueError(f"Expected `rounds` to be a positive integer, got {rounds!r}.")
