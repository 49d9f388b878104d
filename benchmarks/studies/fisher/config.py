"""The typed configuration of a Fisher study: which runs, which measurements."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from benchmarks.runs.command_line import ConfigError, read_as
from benchmarks.runs.config import (
    TrainConfig,
    at_least,
    check_folder_name,
    check_left_open,
    digest_of,
    overridden,
)
from benchmarks.runs.labels import said
from sj_ext import host


@dataclass
class FisherConfig:
    """All that determines how Fisher information is followed through training.

    Attributes:
        name: What people call it; first part of its folder's name.
        train: How the networks are trained, as in a training run; name and output are
            set here.
        sweep: Values of keys of `train` that are tried, such as
            `{data.time_steps: [4, 10], neuron.kwargs.tau: [2.0, 4.0]}`. A value of a
            group, such as `data`, is a mapping of some of its keys.
        combine: `"all"` tries all combinations of swept values; `"one_at_a_time"`
            the run as configured, and each value alone against it.
        every: Epochs between measurements; before the first and after the last there
            is always one.
        samples: How many test samples are measured, the first of a fixed order.
        batch_size: Of the exact measurements.
        released_batch_size: Of the released procedure, whose bias depends on it.
        probe: A surrogate that all networks are measured with, by its name; None
            leaves each its own.
        output: Folder that the study's folder is made in.
    """

    name: str = "fisher"
    train: TrainConfig = field(default_factory=TrainConfig)
    sweep: dict[str, list[Any]] = field(default_factory=dict)
    combine: Literal["all", "one_at_a_time"] = "all"
    every: int = 2
    samples: int = 192
    batch_size: int = 64
    released_batch_size: int = 16
    probe: str | None = None
    output: str = "runs/fisher"

    def __post_init__(self) -> None:
        """Refuse what no study can have.

        Raises:
            ConfigError: The message names the key.
        """
        check_folder_name(self.name)
        for key, least in (
            ("every", 1),
            ("samples", 2),
            ("batch_size", 1),
            ("released_batch_size", 1),
        ):
            at_least(key, getattr(self, key), least)
        check_left_open(self.train, ("name", "output"), "the study")
        for key in ("name", "output"):
            if key in self.sweep:
                raise ConfigError(f"Expected no key `{key}` in `sweep`.")
        for key, values in self.sweep.items():
            different = {json.dumps(value, sort_keys=True) for value in values}
            if not values or len(different) < len(values):
                raise ConfigError(
                    f"Expected `sweep.{key}` to hold different values, at least one, "
                    f"got {values}."
                )
        self.arms()

    def arms(self) -> list["Arm"]:
        """List the runs of the study.

        Returns:
            One for each combination of swept values, or the run as configured and
            one for each value.

        Raises:
            ConfigError: If two of them would be the same.
        """
        if self.combine == "all":
            tried = [
                dict(zip(self.sweep, values, strict=True))
                for values in itertools.product(*self.sweep.values())
            ]
        else:
            tried = [{}, *({k: v} for k, vs in self.sweep.items() for v in vs)]
        arms = [_arm(self, settings) for settings in tried]
        trained = [replace(arm.train, name="run") for arm in arms]
        folders = [arm.folder for arm in arms]
        same = [
            arm.label
            for arm, train in zip(arms, trained, strict=True)
            if trained.count(train) > 1 or folders.count(arm.folder) > 1
        ]
        if same:
            raise ConfigError(
                f"Expected `sweep` to give runs that differ, got {'; '.join(same)}."
            )
        return arms

    def epochs(self, arm: "Arm") -> list[int]:
        """List after how many epochs a network is measured, from 0 to the last."""
        last = arm.train.optimization.epochs
        return sorted({*range(0, last + 1, self.every), last})

    def digest(self) -> str:
        """Hash what determines the result, the release of SpikingJelly included.

        Returns:
            Ten hexadecimal digits.
        """
        content = asdict(self) | {
            "train": self.train.digest(),
            "sweep": [arm.train.digest() for arm in self.arms()],
            "host": host.RELEASE,
        }
        # How values were combined shows in the runs that came of it.
        del content["output"], content["combine"]
        return digest_of(content)

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return Path(self.output) / f"{self.name}-{self.digest()}"

    def to_yaml(self) -> str:
        """Write all keys, defaults included, as `read` takes them."""
        content = asdict(self)
        for key in ("name", "output"):
            del content["train"][key]
        return yaml.safe_dump(content, sort_keys=False)


@dataclass(frozen=True)
class Arm:
    """One run of a study.

    Attributes:
        settings: The swept values by their keys.
        label: What people call it, such as `"T = 4, tau = 2.0"`.
        folder: Name of its folder, such as `"T-4-tau-2.0"`.
        train: How its network is trained; its `output` is left open.
    """

    settings: Mapping[str, Any]
    label: str
    folder: str
    train: TrainConfig


def read(arguments: Sequence[str]) -> FisherConfig:
    """Read a configuration from a command line.

    Args:
        arguments: `--config FILE.yaml` and overrides such as
            `--train.optimization.epochs 3`, the later ones winning.

    Returns:
        The checked configuration.
    """
    return read_as(FisherConfig, arguments, "python -m benchmarks fisher")


def _arm(config: FisherConfig, settings: Mapping[str, Any]) -> Arm:
    try:
        train = overridden(config.train, settings)
    except ConfigError as error:
        raise ConfigError(f"`sweep`: {error}") from error
    label = ", ".join(said(key, value) for key, value in settings.items())
    folder = re.sub(r"[^\w.]+", "-", label).strip("-") or "network"
    return Arm(settings, label or "as configured", folder, replace(train, name=folder))
