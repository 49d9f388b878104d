"""Finding what is compared: folders of runs, or arms of an experiment by name."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.experiments.rows import Row
from benchmarks.runs.command_line import ConfigError
from benchmarks.statistics.items import Epoch, TestedRun, differences, read_run
from sj_ext.registry import UnknownNameError

METRICS: Mapping[Epoch, str] = {
    "selected": "test_accuracy",
    "last": "last_epoch_accuracy",
}
"""What the table of results calls the accuracy after each epoch."""


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes:
        label: What it is called.
        runs: Those whose folders were found.
        values: Accuracy in percent by split and seed, of the table of results.
    """

    label: str
    runs: tuple[TestedRun, ...]
    values: Mapping[tuple[str, int], float]


def find_arm(
    word: str, rows: Sequence[Row], folders: Mapping[str, Path], epoch: Epoch
) -> Arm:
    """Find what a word of the command line names.

    Args:
        word: The folder of a run, or `EXPERIMENT:ARM`.
        rows: Of the table of results, of one size.
        folders: Of runs by digest.
        epoch: After which epoch.

    Returns:
        The arm.

    Raises:
        ConfigError: If it is neither.
        UnknownNameError: If there is no such experiment, or arm of it; the message
            lists what exists.
    """
    if Path(word).is_dir():
        run = read_run(Path(word), epoch)
        return Arm(Path(word).name, (run,), {})
    experiment, colon, name = word.partition(":")
    if not colon:
        raise ConfigError(
            f"Expected the folder of a run, or EXPERIMENT:ARM, got {word!r}."
        )
    experiments = sorted({row.experiment for row in rows})
    if experiment not in experiments:
        raise UnknownNameError("an experiment with results", experiment, experiments)
    arms = sorted({row.arm for row in rows if row.experiment == experiment})
    if name not in arms:
        raise UnknownNameError(f"an arm of {experiment}", name, arms)
    found = [
        row
        for row in rows
        if (row.experiment, row.arm, row.metric) == (experiment, name, METRICS[epoch])
    ]
    runs = [folders[row.digest] for row in found if row.digest in folders]
    return Arm(
        word, tuple(read_run(path, epoch) for path in sorted(set(runs))), by_pair(found)
    )


def by_pair(rows: Sequence[Row]) -> dict[tuple[str, int], float]:
    """Arrange the rows of single runs by split and seed.

    Args:
        rows: Of one metric of one arm; those that stand for several runs are left out.

    Returns:
        What was measured.
    """
    return {
        (row.split_checksum, row.seeds[0]): row.measured
        for row in rows
        if len(row.seeds) == 1
    }


def run_folders(root: Path) -> dict[str, Path]:
    """Find the folders of finished training runs below another.

    Args:
        root: Where to look; it need not exist.

    Returns:
        The folders by the digest that ends their names; of several with the same, the
        first by path.
    """
    found: dict[str, Path] = {}
    for result in sorted(root.rglob("result.json")):
        folder = result.parent
        if (folder / "predictions.npz").exists():
            found.setdefault(folder.name.rpartition("-")[2], folder)
    return found


def compared_groups(first: Arm, second: Arm) -> tuple[list[NDArray[np.float64]], bool]:
    """Pair two arms, item by item where both have folders of runs.

    Args:
        first: One arm.
        second: The other.

    Returns:
        Differences in percent, as `paired_difference` takes them, and whether they are
        of single test recordings.

    Raises:
        ConfigError: If nothing matches.
    """
    if first.runs and second.runs:
        return [100 * values for values in differences(first.runs, second.runs)], True
    groups = paired_values(first.values, second.values)
    if not groups:
        raise ConfigError(
            f"Expected {first.label} and {second.label} to have runs of the same "
            "split and seed, got none: `--runs` names the folder of the runs."
        )
    return groups, False


def paired_values(
    first: Mapping[tuple[str, int], float], second: Mapping[tuple[str, int], float]
) -> list[NDArray[np.float64]]:
    """Pair the figures of whole runs by split and seed.

    Args:
        first: Of one arm, by split and seed.
        second: Of the other.

    Returns:
        Their differences, one `[seeds, 1]` a split.
    """
    groups: dict[str, list[float]] = {}
    for split, seed in sorted(first.keys() & second.keys()):
        value = first[split, seed] - second[split, seed]
        groups.setdefault(split, []).append(value)
    return [np.array(values)[:, None] for values in groups.values()]


def differing_settings(
    first: Sequence[TestedRun], second: Sequence[TestedRun]
) -> dict[str, tuple[Any, Any]]:
    """Find the settings in which two arms differ, seeds and places aside.

    Args:
        first: Runs of one arm.
        second: Runs of the other.

    Returns:
        Both values by the dotted key, of the first run of each.
    """
    if not first or not second:
        return {}
    one, other = (_flat(asdict(runs[0].config)) for runs in (first, second))
    return {
        key: (one.get(key), other.get(key))
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
        and key not in ("name", "seed", "output", "data.root", "data.split")
    }


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
