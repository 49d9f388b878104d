"""Which test recordings a run has right, from the logits that its folder keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.experiments.metrics import TrainedRun
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import TrainConfig

Epoch = Literal["selected", "last"]
"""The epoch that validation chose, or the last one."""


@dataclass(frozen=True)
class TestedRun:
    """A finished run and what it has right.

    Attributes:
        folder: Where it lies.
        config: As it was run.
        split: Checksum of the split, which says what the test part is.
        names: Of the test recordings.
        correct: Whether each is right, bool.
    """

    # Not a test case, whatever its name begins with.
    __test__ = False

    folder: Path
    config: TrainConfig
    split: str
    names: tuple[str, ...]
    correct: NDArray[np.bool_]

    @property
    def accuracy(self) -> float:
        """Share of the test recordings that are right."""
        return float(self.correct.mean())


def read_run(path: Path, epoch: Epoch = "selected") -> TestedRun:
    """Read what a run has right, as its readout had weighed the steps.

    Args:
        path: The run's folder.
        epoch: After which epoch.

    Returns:
        The run.
    """
    run = TrainedRun.at(path)
    output = run.outputs(epoch)
    names = run.folder.read_predictions()["names"]
    return TestedRun(
        folder=path,
        config=run.config,
        split=run.folder.read_environment()["split"],
        names=tuple(names.tolist()),
        correct=(output.argmax(1) == run.target).numpy(),
    )


def differences(
    first: Sequence[TestedRun], second: Sequence[TestedRun]
) -> list[NDArray[np.float64]]:
    """Pair the runs of two arms by split and seed, and take their differences.

    Args:
        first: Runs of one arm.
        second: Runs of the other.

    Returns:
        One `[seeds, items]` a split, as `paired_difference` takes them: 1 where only
        the first arm is right, -1 where only the second is. Runs without a partner are
        left out.

    Raises:
        ConfigError: If no runs match, an arm has a seed twice, or two runs of a split
            were tested on different recordings.
    """
    by_pair = _by_pair(first, "first"), _by_pair(second, "second")
    common = sorted(by_pair[0].keys() & by_pair[1].keys())
    if not common:
        seeds = [sorted({seed for _, seed in arm}) for arm in by_pair]
        raise ConfigError(
            "Expected runs of both arms with the same split and seed, got none: the "
            f"first arm has seeds {seeds[0]}, the second {seeds[1]}, on "
            f"{len({split for arm in by_pair for split, _ in arm})} splits in all."
        )
    rows: dict[str, list[NDArray[np.float64]]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for split, seed in common:
        runs = [arm[split, seed] for arm in by_pair]
        for run in runs:
            if names.setdefault(split, run.names) != run.names:
                raise ConfigError(
                    f"Expected the runs of a split to be tested on the same "
                    f"recordings, got others in {run.folder}."
                )
        a, b = (run.correct.astype(np.float64) for run in runs)
        rows.setdefault(split, []).append(a - b)
    return [np.stack(found) for found in rows.values()]


def _by_pair(runs: Sequence[TestedRun], which: str) -> dict[tuple[str, int], TestedRun]:
    found: dict[tuple[str, int], TestedRun] = {}
    for run in runs:
        key = run.split, run.config.seed
        if key in found:
            raise ConfigError(
                f"Expected each seed once in the {which} arm, got seed {key[1]} in "
                f"{found[key].folder} and in {run.folder}."
            )
        found[key] = run
    return found
