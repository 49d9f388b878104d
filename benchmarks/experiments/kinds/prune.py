"""Pruning studies in an experiment."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.data.splits import read_split
from benchmarks.experiments.kinds.base import (
    Kind,
    Measured,
    Origin,
    Wanted,
    end_of,
)
from benchmarks.runs.command_line import ConfigError
from benchmarks.runs.config import TrainConfig
from benchmarks.runs.environment import as_committed
from benchmarks.runs.folder import RunFolder
from benchmarks.runs.progress import Reporter
from benchmarks.studies.pruning.config import PruningConfig
from benchmarks.studies.pruning.study import RESULT, is_written, study
from benchmarks.studies.pruning.summary import ledgers
from benchmarks.studies.pruning.trials import study_data, trials


class Prune(Kind):
    """One study of all seeds for each split; its searches are the arms."""

    config = PruningConfig
    all_seeds_at_once = True
    has_workers = True

    def settings(self, wanted: Wanted) -> dict[str, Any]:
        """Give the keys of the study.

        Args:
            wanted: Which job.

        Returns:
            Values by key.

        Raises:
            ConfigError: If seeds are not counted from 0, as the study does.
        """
        seeds = wanted.seeds
        if sorted(seeds) != list(range(len(seeds))):
            raise ConfigError(
                f"Expected `seeds` of pruning to be 0, 1, 2 and so on, got {seeds}."
            )
        return {
            "name": wanted.name,
            "seeds": len(seeds),
            "workers": wanted.workers,
            "output": str(wanted.runs / "prune"),
            **wanted.training("train."),
        }

    def trainings(self, config: PruningConfig) -> list[TrainConfig]:
        """Give what all searches train."""
        return [config.train]

    def is_done(self, config: PruningConfig) -> bool:
        """Say whether all searches are done and the study is written."""
        return is_written(config) and all(
            RunFolder(trial).is_complete for trial in trials(config)
        )

    def run(self, config: PruningConfig, reporter: Reporter) -> None:
        """Do the searches."""
        study(config, reporter)

    def results(self, config: PruningConfig) -> Iterator[tuple[Origin, Measured]]:
        """Read accuracies and costs of every search at every sparsity."""
        folder = config.folder
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        searches = json.loads((folder / "searches.json").read_text(encoding="utf-8"))
        frames, _ = study_data(config)
        train = config.train
        environments = {
            (trial.arm, trial.seed): RunFolder(trial).read_environment()
            for trial in trials(config)
        }
        origin = Origin(
            data=train.data.name,
            data_checksum=frames.checksum,
            split=Path(train.split).stem,
            split_checksum=read_split(train.split).checksum,
            epochs=train.optimization.epochs,
            environment={**result["environment"], "threads": 1},
            device="",
            ended=end_of(result, folder / RESULT),
            digest=config.digest(),
            clean=False,
        )
        for search in searches:
            environment = environments[search["arm"], search["seed"]]
            origin = replace(
                origin,
                environment={**environment, "threads": 1},
                device=environment["device"],
                clean=as_committed(environment, result["environment"]),
            )
            for outcome in search["outcomes"]:
                arm = f"{search['arm']}, {outcome['sparsity']:.0%}"
                accuracy = outcome["test_accuracy"]
                for metric, value in (
                    ("test_accuracy", 100 * accuracy["selected"]),
                    ("last_epoch_accuracy", 100 * accuracy["last"]),
                    ("sample_steps", ledgers(outcome["cost"])["sample_steps"]),
                    ("time_steps_of_rounds", float(search["time_steps"])),
                ):
                    yield origin, Measured(metric, value, (search["seed"],), arm)
