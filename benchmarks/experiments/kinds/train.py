"""Training runs in an experiment."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.experiments.kinds.base import Kind, Measured, Origin, Wanted
from benchmarks.experiments.metrics import TrainedRun, measure
from benchmarks.runs.config import TrainConfig
from benchmarks.runs.folder import RunFolder
from benchmarks.runs.progress import Reporter
from benchmarks.tasks.train import train


class Train(Kind):
    """One network for each seed and split."""

    config = TrainConfig

    def settings(self, wanted: Wanted) -> dict[str, Any]:
        """Give the keys of one run; its folder is shared by experiments."""
        (seed,) = wanted.seeds
        return {
            "name": f"seed-{seed}",
            "seed": seed,
            "output": str(wanted.runs / "train"),
            **wanted.training(),
        }

    def trainings(self, config: TrainConfig) -> list[TrainConfig]:
        """It is one."""
        return [config]

    def is_done(self, config: TrainConfig) -> bool:
        """Say whether the run is complete."""
        return RunFolder(config).is_complete

    def run(self, config: TrainConfig, reporter: Reporter) -> None:
        """Train; on several devices in a process of its own.

        The processes beside the first are started with the command line of that one,
        which must therefore be that of the training and not of the queue.

        Args:
            config: Of the run.
            reporter: Shows progress of a training on one device.

        Raises:
            FolderInUseError: If somebody else trains in the folder, the processes of a
                killed queue for instance.
            OSError: If the other process has failed; it has said why.
        """
        if config.device.devices == 1:
            train(config, reporter)
            return
        with RunFolder(config).locked():
            pass  # free: the child does not have to fail
        with TemporaryDirectory() as folder:
            path = Path(folder) / "config.yaml"
            path.write_text(config.to_yaml(), encoding="utf-8")
            words = ["-m", "benchmarks", "train", "--config", str(path)]
            done = subprocess.run([sys.executable, *words])
        if done.returncode != 0:
            raise OSError(
                f"The training on {config.device.devices} devices ended with status "
                f"{done.returncode}; what it said stands above."
            )

    def results(self, config: TrainConfig) -> Iterator[tuple[Origin, Measured]]:
        """Judge the stored logits."""
        folder = RunFolder(config)
        origin = Origin.of_training(folder)
        for metric, value in measure(TrainedRun(folder)).items():
            if isinstance(value, float):
                yield origin, Measured(metric, value, (config.seed,))
        result = folder.read_result()
        if result["validation_accuracy"] is not None:
            accuracy = 100 * result["validation_accuracy"]
            yield origin, Measured("validation_accuracy", accuracy, (config.seed,))
        if "gradient_density" in result:
            density = 100 * result["gradient_density"]
            yield origin, Measured("gradient_density", density, (config.seed,))
