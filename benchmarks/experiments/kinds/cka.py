"""Comparisons of representations in an experiment."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
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
from benchmarks.studies.cka.arms import arms
from benchmarks.studies.cka.config import CkaConfig
from benchmarks.tasks.cka import compare


class Cka(Kind):
    """One comparison for each split, of two seeds; its sweep makes the arms."""

    config = CkaConfig
    all_seeds_at_once = True

    def settings(self, wanted: Wanted) -> dict[str, Any]:
        """Give the keys of the comparison."""
        return {
            "name": wanted.name,
            "seeds": list(wanted.seeds),
            "output": str(wanted.runs / "cka"),
            **wanted.training("train."),
        }

    def trainings(self, config: CkaConfig) -> list[TrainConfig]:
        """List the spiking networks, whose twins have the same data."""
        return [arm.snn[0] for arm in arms(config)]

    def _folder(self, config: CkaConfig) -> Path:
        return Path(config.output) / f"{config.name}-{config.digest()}"

    def is_done(self, config: CkaConfig) -> bool:
        """Say whether the result is written."""
        return (self._folder(config) / "result.json").exists()

    def run(self, config: CkaConfig, reporter: Reporter) -> None:
        """Do the comparison."""
        compare(config, reporter)

    def results(self, config: CkaConfig) -> Iterator[tuple[Origin, Measured]]:
        """Read accuracies, and means over layers of CKA and of change over time."""
        folder = self._folder(config)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        compared = arms(config)
        for arm, found in zip(compared, result["arms"], strict=True):
            origin = Origin.of_training(RunFolder(arm.snn[0])).in_study(
                result["environment"],
                end_of(result, folder / "result.json"),
                config.digest(),
            )
            figures: dict[str, tuple[float | None, float | None]] = {}
            for kind, accuracy in found["test_accuracy"].items():
                percent = [100 * share for share in accuracy]
                figures[f"{kind} test accuracy"] = fmean(percent), stdev(percent)
            for word, key in (
                ("cka", "mean_cka"),
                ("change over time", "mean_change"),
            ):
                for label, value in found[key].items():
                    figures[f"{word} {label}"] = value, None
            for kind, by_input in found.get("accuracy_under_attack", {}).items():
                for name, share in by_input.items():
                    figures[f"{kind} accuracy {name}"] = 100 * share, None
            for kind, curves in found.get("mean_cka_under_attack", {}).items():
                for label, value in curves.items():
                    figures[f"{kind} cka attacked {label}"] = value, None
            inner = found["label"] if len(compared) > 1 else ""
            for words, (value, deviation) in figures.items():
                if value is not None:
                    yield (
                        origin,
                        Measured(
                            as_metric(words),
                            value,
                            tuple(config.seeds),
                            inner,
                            deviation,
                        ),
                    )
