"""What the queue asks of a task: how it is configured, run, and read."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.runs.config import TrainConfig
from benchmarks.runs.environment import as_committed
from benchmarks.runs.folder import FolderInUseError, RunFolder
from benchmarks.runs.progress import Reporter

Config = Any
"""Configuration of a task, such as `TrainConfig` or `CkaConfig`."""

_WAIT = 1.0


@dataclass(frozen=True)
class Measured:
    """One figure.

    Attributes:
        metric: What was measured.
        value: What came out; percent where it is a share.
        seeds: Of the networks that it is of.
        arm: Within a study; empty where the study has none of its own.
        deviation: Over the seeds, where there are several.
    """

    metric: str
    value: float
    seeds: tuple[int, ...]
    arm: str = ""
    deviation: float | None = None


@dataclass(frozen=True)
class Origin:
    """Where figures come from.

    Attributes:
        data: Name of the data set.
        data_checksum: Of its content.
        split: Name of the split.
        split_checksum: Of its lists.
        epochs: Of training.
        environment: As `describe_environment` gives it.
        device: Of the computation.
        ended: On which day (UTC).
        digest: Of the configuration.
        clean: Whether all processes that had a part ran one commit without changes.
    """

    data: str
    data_checksum: str
    split: str
    split_checksum: str
    epochs: int
    environment: Mapping[str, Any]
    device: str
    ended: str
    digest: str
    clean: bool

    @classmethod
    def of_training(cls, folder: RunFolder) -> "Origin":
        """Read the origin of a training run from its folder."""
        config: Any = folder.config
        environment = folder.read_environment()
        ended = environment.get("ended") or _modified(folder.path / "result.json")
        return cls(
            data=config.data.name,
            data_checksum=environment["data"],
            split=Path(config.split).stem,
            split_checksum=environment["split"],
            epochs=folder.read_result()["epochs"],
            environment=environment,
            device=environment["device"],
            ended=ended[:10],
            digest=config.digest(),
            clean=as_committed(environment),
        )

    def in_study(
        self,
        environment: Mapping[str, Any],
        ended: str,
        digest: str,
        threads: int | None = None,
        device: str | None = None,
    ) -> "Origin":
        """Give the origin of figures that a study found with a trained network.

        Args:
            environment: Of the study.
            ended: On which day.
            digest: Of the study's configuration.
            threads: CPU threads, where not those of `environment`.
            device: Of the study, where not that of the training.

        Returns:
            The origin: clean where network and study are, of the same commit.
        """
        threads = threads or environment["threads"]
        return replace(
            self,
            environment={**environment, "threads": threads},
            device=device or self.device,
            ended=ended,
            digest=digest,
            clean=self.clean and as_committed(self.environment, environment),
        )


@dataclass(frozen=True)
class Wanted:
    """What makes a job of an experiment's configuration.

    Attributes:
        name: Of the experiment.
        seeds: One, or all where the task takes them at once.
        split: Name of a split file; None leaves the configured one.
        runs: Folder for everything that is written.
        workers: Processes at a time.
    """

    name: str
    seeds: Sequence[int]
    split: str | None
    runs: Path
    workers: int

    def training(self, prefix: str = "") -> dict[str, Any]:
        """Give the key of the split, if there is one to set."""
        return {} if self.split is None else {f"{prefix}data.split": self.split}


class Kind(ABC):
    """A task that experiments can have."""

    config: ClassVar[type]
    """Dataclass of its configuration."""
    all_seeds_at_once: ClassVar[bool] = False
    """Whether one job takes all seeds."""
    has_workers: ClassVar[bool] = False
    """Whether it starts workers of its own, so that jobs run one after the other."""

    @abstractmethod
    def settings(self, wanted: Wanted) -> dict[str, Any]:
        """Give the dotted keys that make a job of the experiment's configuration."""

    @abstractmethod
    def trainings(self, config: Config) -> list[TrainConfig]:
        """List training runs that between them use all data of a job."""

    @abstractmethod
    def is_done(self, config: Config) -> bool:
        """Say whether nothing is left to do for a job."""

    @abstractmethod
    def run(self, config: Config, reporter: Reporter) -> None:
        """Do a job, or go on with it."""

    @abstractmethod
    def results(self, config: Config) -> Iterator[tuple[Origin, Measured]]:
        """Read all figures of a job that is done."""

    def run_when_free(self, config: Config, reporter: Reporter) -> None:
        """Do a job; wait while another process is in a folder that both need."""
        while True:
            try:
                return self.run(config, reporter)
            except FolderInUseError:
                time.sleep(_WAIT)


def end_of(result: Mapping[str, Any], path: Path) -> str:
    """Give the day on which a study ended, as its result says.

    Args:
        result: Of the study.
        path: Its file, whose date is taken where an older version wrote it.

    Returns:
        The day (UTC).
    """
    return (result.get("ended") or _modified(path))[:10]


def _modified(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()


def as_metric(words: str) -> str:
    """Make a metric's name of a label: `"SNN and ANN"` is `"snn_and_ann"`."""
    return "_".join(words.lower().replace(",", " ").split())
