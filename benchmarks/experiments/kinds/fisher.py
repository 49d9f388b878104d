"""Fisher studies in an experiment."""

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
from benchmarks.studies.fisher.config import FisherConfig
from benchmarks.studies.fisher.study import study


class Fisher(Kind):
    """A study for each seed and split; its sweep makes the arms."""

    config = FisherConfig

    def settings(self, wanted: Wanted) -> dict[str, Any]:
        """Give the keys of the study of one seed."""
        (seed,) = wanted.seeds
        return {
            "name": wanted.name,
            "train.seed": seed,
            "output": str(wanted.runs / "fisher"),
            **wanted.training("train."),
        }

    def trainings(self, config: FisherConfig) -> list[TrainConfig]:
        """List those of the sweep."""
        return [arm.train for arm in config.arms()]

    def is_done(self, config: FisherConfig) -> bool:
        """Say whether the result is written."""
        return (config.folder / "result.json").exists()

    def run(self, config: FisherConfig, reporter: Reporter) -> None:
        """Do the study."""
        study(config, reporter)

    def results(self, config: FisherConfig) -> Iterator[tuple[Origin, Measured]]:
        """Read accuracies, and centroids before training and after it."""
        result = json.loads((config.folder / "result.json").read_text(encoding="utf-8"))
        arms = config.arms()
        for arm, found in zip(arms, result["runs"], strict=True):
            path = config.folder / "networks" / found["network"]
            origin = Origin.of_training(RunFolder(arm.train, path)).in_study(
                result["environment"],
                end_of(result, config.folder / "result.json"),
                config.digest(),
            )

            def measured(
                metric: str, value: float, label: str = found["label"]
            ) -> Measured:
                arm = label if len(arms) > 1 else ""
                return Measured(metric, value, (config.train.seed,), arm)

            accuracy = found["test_accuracy"]
            yield origin, measured("test_accuracy", 100 * accuracy["selected"])
            yield origin, measured("last_epoch_accuracy", 100 * accuracy["last"])
            for name, profiles in found["profiles"].items():
                epochs = sorted(profiles, key=int)
                for when, epoch in (("before", epochs[0]), ("after", epochs[-1])):
                    centroid = profiles[epoch]["centroid"]
                    if centroid is None:
                        continue
                    words = f"centroid {name} {when}".replace("-", " ")
                    yield origin, measured(as_metric(words), centroid)
                    steps = len(profiles[epoch]["information"])
                    if steps > 1:
                        # Of networks with more steps or fewer, too: percent of the
                        # way from the first step to the last.
                        way = 100 * (centroid - 1) / (steps - 1)
                        yield origin, measured(as_metric(f"relative {words}"), way)
