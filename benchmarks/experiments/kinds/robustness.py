"""Robustness studies in an experiment."""

import csv
import json
from collections.abc import Iterator
from typing import Any

from benchmarks.experiments.kinds.base import (
    Kind,
    Measured,
    Origin,
    Wanted,
    as_metric,
    end_of,
)
from benchmarks.runs.config import TrainConfig
from benchmarks.runs.folder import RunFolder
from benchmarks.runs.progress import Reporter
from benchmarks.studies.robustness.config import RobustnessConfig
from benchmarks.studies.robustness.trials import networks, trial_file
from benchmarks.tasks.robustness import RESULT, attack, is_written

_MEASURES = ("test accuracy", "worst case", "black box")


class Robustness(Kind):
    """One study of all seeds for each split; it has arms of its own."""

    config = RobustnessConfig
    all_seeds_at_once = True
    has_workers = True

    def settings(self, wanted: Wanted) -> dict[str, Any]:
        """Give the keys of the study."""
        return {
            "name": wanted.name,
            "seeds": list(wanted.seeds),
            "workers": wanted.workers,
            "output": str(wanted.runs / "robustness"),
            **wanted.training("train."),
        }

    def trainings(self, config: RobustnessConfig) -> list[TrainConfig]:
        """List a training of each arm."""
        return [config.training(arm, config.seeds[0]) for arm in config.arms]

    def is_done(self, config: RobustnessConfig) -> bool:
        """Say whether all trials are done and the study is written."""
        return is_written(config) and all(
            trial_file(config, *network).exists() for network in networks(config)
        )

    def run(self, config: RobustnessConfig, reporter: Reporter) -> None:
        """Train and attack."""
        attack(config, reporter)

    def results(self, config: RobustnessConfig) -> Iterator[tuple[Origin, Measured]]:
        """Read clean, worst-case and black-box accuracies of every network."""
        folder = config.folder
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        with (folder / "robustness.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for arm, seed in networks(config):
            run = RunFolder(config.training(arm, seed))
            trial = json.loads(
                trial_file(config, arm, seed).read_text(encoding="utf-8")
            )
            # One that an older version attacked has neither.
            environment = trial.get("environment", result["environment"])
            origin = Origin.of_training(run).in_study(
                environment,
                end_of(result, folder / RESULT),
                config.digest(),
                threads=1,
                device=trial.get("device", "cpu"),
            )
            for row in rows:
                same = (row["arm"], int(row["seed"])) == (arm, seed)
                if not same or row["measure"] not in _MEASURES:
                    continue
                metric = as_metric(row["measure"])
                if row["attack"] != "none":
                    metric = f"{metric}_{row['attack']}_{row['budget']}"
                value = 100 * float(row["accuracy"])
                yield origin, Measured(metric, value, (seed,), arm)
