"""The typed configuration of a pruning study: the searches and their sizes."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.runs.command_line import ConfigError, read_as
from benchmarks.runs.config import (
    TrainConfig,
    at_least,
    check_folder_name,
    check_left_open,
    digest_of,
)
from sj_ext import host


@dataclass
class PruningConfig:
    """All that determines a study, how many seeds it has, and where it is written.

    Attributes:
        name: What people call it; first part of its folder's name.
        train: Network, data and optimizer, as in a training run;
            `train.optimization.epochs` are those of a final training. Name, seed,
            readout and output are set by the study.
        pool: Side of the squares of pixels whose events are added up.
        schedule: Share of the prunable weights that is pruned after each round.
        reported: Those of `schedule` after which a copy is trained to the end and
            tested.
        rewind_epochs: Epochs at full T before the rewind point.
        round_epochs: Epochs of each round.
        gradual_epochs: Epochs of a gradual run with a pruning before each; it has as
            many before and after as a search has before its rewind point and in its
            final training.
        share: Of the Fisher rule.
        max_prefix_loss_gap: Of the Fisher rule, in nats.
        kl_threshold: Of the KL rule, in nats.
        constant_steps: T' chosen blind; None is half of T.
        probe_samples: Training recordings that a rule looks at.
        score_samples: Training recordings that Fisher scores are measured on.
        operation_samples: Validation recordings that synaptic operations are counted
            on, after each epoch; for the account only, so charged to none.
        seeds: Searches of each arm that the claim rests on.
        other_seeds: Searches of each other arm.
        workers: Searches at a time, each with one thread.
        output: Folder that the study's folder is made in.
    """

    name: str = "pruning"
    train: TrainConfig = field(default_factory=TrainConfig)
    pool: int = 1
    schedule: list[float] = field(
        default_factory=lambda: [0.4, 0.6, 0.75, 0.84, 0.9, 0.95, 0.98]
    )
    reported: list[float] = field(default_factory=lambda: [0.75, 0.9, 0.95, 0.98])
    rewind_epochs: int = 2
    round_epochs: int = 6
    gradual_epochs: int = 6
    share: float = 0.9
    max_prefix_loss_gap: float = 0.1
    kl_threshold: float = 0.1
    constant_steps: int | None = None
    probe_samples: int = 192
    score_samples: int = 128
    operation_samples: int = 64
    seeds: int = 8
    other_seeds: int = 2
    workers: int = 2
    output: str = "runs/prune"

    def __post_init__(self) -> None:
        """Refuse what no study can have.

        Raises:
            ConfigError: The message names the key.
        """
        check_folder_name(self.name)
        for key in (
            "pool",
            "rewind_epochs",
            "round_epochs",
            "gradual_epochs",
            "probe_samples",
            "score_samples",
            "operation_samples",
            "seeds",
            "workers",
        ):
            at_least(key, getattr(self, key), 1)
        at_least("other_seeds", self.other_seeds, 0)
        check_left_open(self.train, ("name", "output", "seed", "readout"), "the study")
        if not self.reported or not set(self.reported) <= set(self.schedule):
            raise ConfigError(
                "Expected `reported` to hold some of `schedule`, "
                f"{self.schedule}, got {self.reported}."
            )
        if self.constant_steps is None:
            self.constant_steps = (self.train.data.time_steps + 1) // 2
        if not 1 <= self.constant_steps <= self.train.data.time_steps:
            raise ConfigError(
                f"Expected `constant_steps` in 1 to {self.train.data.time_steps}, the "
                f"number of steps, got {self.constant_steps}."
            )

    def digest(self) -> str:
        """Hash what determines a search, the release of SpikingJelly included.

        Returns:
            Ten hexadecimal digits.
        """
        content = asdict(self) | {"train": self.train.digest(), "host": host.RELEASE}
        for key in ("name", "output", "seeds", "other_seeds", "workers"):
            del content[key]
        return digest_of(content)

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return Path(self.output) / f"{self.name}-{self.digest()}"

    def as_dict(self) -> dict[str, Any]:
        """Give all values as JSON has them."""
        return asdict(self)

    def to_yaml(self) -> str:
        """Write all keys, defaults included, as `read` takes them."""
        content = asdict(self)
        for key in ("name", "output", "seed", "readout"):
            del content["train"][key]
        return yaml.safe_dump(content, sort_keys=False)


@dataclass(frozen=True)
class Trial:
    """One search of a study, with what its folder needs to know.

    Attributes:
        study: All but which arm and seed.
        arm: Name of the arm.
        seed: Of weights, order of samples, draws and random masks.
        target: The sparsity of a gradual run; None where one search passes all.
    """

    study: PruningConfig
    arm: str
    seed: int
    target: float | None = None

    @property
    def name(self) -> str:
        """First part of the folder's name."""
        words = re.sub(r"\W+", "-", self.arm)
        at = "" if self.target is None else f"-{self.target:g}"
        return f"{words}{at}-seed-{self.seed:02d}"

    @property
    def output(self) -> str:
        """The folder that the search's folder is made in."""
        return str(self.study.folder)

    def digest(self) -> str:
        """Hash what determines the search.

        Returns:
            Ten hexadecimal digits.
        """
        return digest_of(
            {
                "study": self.study.digest(),
                "arm": self.arm,
                "seed": self.seed,
                "target": self.target,
            }
        )

    def to_yaml(self) -> str:
        """Write which search it is."""
        content = {"arm": self.arm, "seed": self.seed, "target": self.target}
        return yaml.safe_dump(content, sort_keys=False) + self.study.to_yaml()


def read(arguments: Sequence[str]) -> PruningConfig:
    """Read a configuration from a command line.

    Args:
        arguments: `--config FILE.yaml` and overrides such as `--seeds 3`, the later
            ones winning.

    Returns:
        The checked configuration.
    """
    return read_as(PruningConfig, arguments, "python -m benchmarks prune")
