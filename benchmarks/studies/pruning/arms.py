"""The kinds of searches that the study compares, and the stages of each.

`MAGNITUDE` is what others are compared with and `CLAIM` what the claim is about: the
same search with its rounds at the steps that the Fisher rule chose. Both were named
before any result was seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.studies.pruning.config import PruningConfig

MAGNITUDE = "magnitude, full T"
CLAIM = "magnitude, Fisher rule"
RANDOM = "random"
DENSE = "dense"
GRADUAL = "gradual magnitude"

_RULES = {
    "full T": None,
    "Fisher rule": "fisher",
    "KL rule": "kl",
    "constant": "constant",
}


@dataclass(frozen=True)
class Arm:
    """One kind of search.

    Attributes:
        name: What tables call it.
        scores: How weights are scored, as the scheduler names it.
        rule: How T' is chosen: `"fisher"`, `"kl"`, `"constant"`; None is full T.
        kind: `"iterative"` rounds with rewinding; `"gradual"`, one run for each
            sparsity; `"dense"`, nothing pruned.
        trains_rounds: Whether a round trains; random masks do not need it.
        at_equal_cost: Whether its rounds run at full T, but only as long as the same
            search with the Fisher rule costs in sample-steps, its probe included.
    """

    name: str
    scores: str = "magnitude"
    rule: str | None = None
    kind: Literal["iterative", "gradual", "dense"] = "iterative"
    trains_rounds: bool = True
    at_equal_cost: bool = False


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        *(
            Arm(f"{scores}, {words}", scores, rule)
            for scores in ("magnitude", "fisher")
            for words, rule in _RULES.items()
        ),
        Arm("magnitude, full T, fewer epochs", at_equal_cost=True),
        Arm(GRADUAL, kind="gradual"),
        Arm(RANDOM, "random", trains_rounds=False),
        Arm(DENSE, kind="dense"),
    )
}
"""All arms by name, in the order of tables."""

WITH_ALL_SEEDS = (MAGNITUDE, CLAIM, RANDOM, DENSE)
"""Those that the claim and the power of the test rest on."""


@dataclass(frozen=True)
class Stage:
    """One piece of a search.

    Attributes:
        kind: `"train"`, `"mark"` (set the rewind point and probe), `"prune"`, or
            `"judge"`: train to the end, validate every epoch, and test; of a copy
            where the search goes on after it.
        epochs: Of training; None is as many as a round takes.
        full: Whether training runs at full T, not T'.
        decays: Whether the learning rate falls to zero within the stage.
        order: First epoch of the order of samples; the same in all arms.
        part: Which part of one schedule of the learning rate the stage is, as first
            epoch and number of all; None is all of it.
    """

    kind: Literal["train", "mark", "prune", "judge"]
    epochs: float | None = 0
    full: bool = False
    decays: bool = True
    order: int = 0
    part: tuple[int, int] | None = None


def stages(arm: Arm, config: PruningConfig, target: float | None) -> list[Stage]:
    """List what a search does, one thing after the other.

    Args:
        arm: Which kind.
        config: Of the study.
        target: The sparsity of a gradual run.

    Returns:
        The stages.
    """
    if arm.kind == "gradual":
        return list(_gradual(config))
    return list(_iterative(arm, config))


def _iterative(arm: Arm, config: PruningConfig) -> Iterator[Stage]:
    warm = config.rewind_epochs
    final = Stage(
        "judge", config.train.optimization.epochs, full=True, order=1000 + warm
    )
    yield Stage("train", warm, full=True, decays=False)
    if arm.kind == "dense":
        yield final
        return
    yield Stage("mark")
    for number, sparsity in enumerate(config.schedule, start=1):
        if arm.trains_rounds:
            yield Stage("train", None, order=100 * number)
        yield Stage("prune")
        if sparsity in config.reported:
            yield final


def _gradual(config: PruningConfig) -> Iterator[Stage]:
    warm, pruning = config.rewind_epochs, config.gradual_epochs
    last = config.train.optimization.epochs
    total = warm + pruning + last
    yield Stage("train", warm, full=True, part=(0, total))
    for epoch in range(warm, warm + pruning):
        yield Stage("prune")
        yield Stage("train", 1, full=True, order=epoch, part=(epoch, total))
    yield Stage(
        "judge", last, full=True, order=1000 + warm, part=(warm + pruning, total)
    )
