"""All networks of a robustness study: trained, then attacked, several at a time."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.runs.folder import RunFolder
from benchmarks.runs.progress import Reporter
from benchmarks.runs.workers import done_by_workers, one_thread
from benchmarks.studies.robustness.config import RobustnessConfig, as_file_name
from benchmarks.studies.robustness.trial import trial
from benchmarks.tasks.train import train
from sj_ext.files import write_text

Network = tuple[str, int]
"""Arm and seed."""


def train_missing(config: RobustnessConfig, reporter: Reporter) -> None:
    """Train the networks that are not trained yet; killed trainings go on.

    Args:
        config: Of the study.
        reporter: Shows progress.
    """
    missing = [
        (arm, seed)
        for arm, seed in networks(config)
        if not RunFolder(config.training(arm, seed)).is_complete
    ]
    _do_all(config, missing, _train, "training", reporter)


def run_trials(config: RobustnessConfig, reporter: Reporter) -> list[dict[str, Any]]:
    """Attack the networks that were not attacked yet, and read all trials.

    Args:
        config: Of the study; its networks are trained.
        reporter: Shows progress.

    Returns:
        A trial for each arm and seed.
    """
    missing = [
        network
        for network in networks(config)
        if not trial_file(config, *network).exists()
    ]
    # The reference first: what is found against it is tried on the others.
    first = [network for network in missing if network[0] == config.reference]
    others = [network for network in missing if network[0] != config.reference]
    for group in (first, others):
        _do_all(config, group, _attack, "attacks", reporter)
    return [
        json.loads(trial_file(config, *network).read_text(encoding="utf-8"))
        for network in networks(config)
    ]


def networks(config: RobustnessConfig) -> list[Network]:
    """List arms and seeds of a study."""
    return [(arm, seed) for arm in config.arms for seed in config.seeds]


def trial_file(config: RobustnessConfig, arm: str, seed: int) -> Path:
    """Name the file of a trial's result."""
    return config.folder / f"trial-{as_file_name(arm)}-seed-{seed}.json"


def _do_all(
    config: RobustnessConfig,
    tasks: Sequence[Network],
    do: Callable[[RobustnessConfig, str, int], None],
    name: str,
    reporter: Reporter,
) -> None:
    if not tasks:
        return
    with reporter.bar(f"{config.name}: {name}", len(tasks), "networks") as bar:
        jobs = [(config, arm, seed) for arm, seed in tasks]
        for _ in done_by_workers(do, jobs, config.workers):
            bar.advance()


def _train(config: RobustnessConfig, arm: str, seed: int) -> None:
    train(config.training(arm, seed), Reporter.silent())


def _attack(config: RobustnessConfig, arm: str, seed: int) -> None:
    with one_thread():
        transfer = config.folder / f"transfer-seed-{seed}.pt"
        found = trial(config, arm, seed, transfer)
    write_text(trial_file(config, arm, seed), json.dumps(found, indent=1) + "\n")
