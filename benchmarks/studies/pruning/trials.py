"""All searches of the study, each in a folder of its own, several at a time."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from benchmarks import data
from benchmarks.data.frames import EventFrames
from benchmarks.data.planted_steps import pooled
from benchmarks.data.splits import read_split
from benchmarks.runs.config import CacheConfig
from benchmarks.runs.device import device_of
from benchmarks.runs.environment import describe_environment
from benchmarks.runs.folder import CheckpointError, RunFolder
from benchmarks.runs.progress import Reporter, duration
from benchmarks.runs.workers import done_by_workers, one_thread
from benchmarks.studies.pruning.arms import (
    ARMS,
    WITH_ALL_SEEDS,
    Arm,
    stages,
)
from benchmarks.studies.pruning.config import PruningConfig, Trial


def trials(config: PruningConfig) -> list[Trial]:
    """List the searches of a study, seed after seed, so that any part is balanced."""
    found = []
    for seed in range(max(config.seeds, config.other_seeds)):
        for arm in ARMS.values():
            wanted = config.other_seeds
            if arm.name in WITH_ALL_SEEDS:
                wanted = config.seeds
            if seed < wanted:
                found += [
                    Trial(config, arm.name, seed, t) for t in _targets(arm, config)
                ]
    return found


def run_trials(config: PruningConfig, reporter: Reporter) -> list[dict[str, Any]]:
    """Do the searches that are not done yet, and read all.

    Args:
        config: Of the study.
        reporter: Shows progress.

    Returns:
        Results of all searches, those of an arm and seed as one.
    """
    wanted = trials(config)
    missing = [trial for trial in wanted if not RunFolder(trial).is_complete]
    reporter.line(
        f"{config.name}: {len(missing)} of {len(wanted)} searches to do in "
        f"{config.folder}"
    )
    if missing:
        study_data(config)  # what is wrong is refused here, not by every worker
        epochs = [_epochs(trial) for trial in missing]
        with reporter.bar(config.name, round(sum(epochs)), "epochs") as bar:
            jobs = [(trial,) for trial in missing]
            for number in done_by_workers(do, jobs, config.workers):
                bar.advance(round(epochs[number]))
                result = RunFolder(missing[number]).read_result()
                reporter.line(f"{missing[number].name}: {_said(result)}")
    return merged([RunFolder(trial).read_result() for trial in wanted])


def do(trial: Trial) -> None:
    """Do one search, or go on with it, and write its result."""
    with one_thread():
        folder = RunFolder(trial)
        with folder.locked():
            if not folder.is_complete:
                _search(trial, folder)


def _search(trial: Trial, folder: RunFolder) -> None:
    from benchmarks.studies.pruning.search import Search

    frames, parts = study_data(trial.study)
    device = device_of(trial.study.train.device)
    search = Search(trial, frames, parts, device)
    checkpoint = folder.load_checkpoint()
    if checkpoint is None:
        folder.create()
    elif checkpoint["data"] != frames.checksum:
        raise CheckpointError(
            f"The search in {folder.path} was begun on other data. Delete the folder "
            "to start it afresh."
        )
    else:
        search.restore(checkpoint)
    folder.add_environment(
        {**describe_environment(), "device": str(device)},
        resumed_after=search.stage,
        resumed=checkpoint is not None,
    )
    while not search.finished:
        search.advance()
        folder.save_checkpoint({**search.state(), "data": frames.checksum})
    folder.add_end()
    folder.write_result(search.result())


def study_data(config: PruningConfig) -> tuple[EventFrames, dict[str, Tensor]]:
    """Load the pooled frames of a study and the parts of its split.

    Args:
        config: Of the study.

    Returns:
        Frames, and positions of "train", "validation" and "test".
    """
    found = config.train.data
    return _loaded(
        found.name,
        found.root,
        found.time_steps,
        found.cache,
        config.train.split,
        config.pool,
    )


def merged(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the runs of one arm and seed together, one for each sparsity, as one search.

    Args:
        results: As searches give them.

    Returns:
        One for each arm and seed.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for result in results:
        key = result["arm"], result["seed"]
        if key in found:
            found[key]["outcomes"] = [*found[key]["outcomes"], *result["outcomes"]]
        else:
            found[key] = dict(result)
    return list(found.values())


@cache
def _loaded(
    name: str,
    root: str,
    time_steps: int,
    cached: CacheConfig | None,
    split: str,
    pool: int,
) -> tuple[EventFrames, dict[str, Tensor]]:
    frames = data.load(name, root, time_steps, cached)
    # The set may be a reduced one.
    parts = read_split(split).restricted(frames.names).indices(frames.names)
    positions = {part: torch.as_tensor(found) for part, found in parts.items()}
    return (pooled(frames, pool) if pool > 1 else frames), positions


def _targets(arm: Arm, config: PruningConfig) -> list[float | None]:
    return list(config.reported) if arm.kind == "gradual" else [None]


def _epochs(trial: Trial) -> float:
    """Say how many epochs of training a search has at most."""
    each, arm = trial.study.round_epochs, ARMS[trial.arm]
    return sum(
        each if stage.epochs is None else stage.epochs
        for stage in stages(arm, trial.study, trial.target)
    )


def _said(result: dict[str, Any]) -> str:
    found = ", ".join(
        f"{one['test_accuracy']['selected']:.1%} at {one['sparsity']:.1%}"
        for one in result["outcomes"]
    )
    cost = result["outcomes"][-1]["cost"]
    seconds = sum(one["seconds"] for one in cost.values())
    return f"T' = {result['time_steps']}, {found} ({duration(seconds)})"
