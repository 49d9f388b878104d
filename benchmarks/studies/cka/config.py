"""The typed configuration of a comparison: which networks, which samples."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
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
from sj_ext.attack import Attack
from sj_ext.attack.search import build_attack


@dataclass
class SweepConfig:
    """Values that are tried in all combinations; what is None is not swept.

    Attributes:
        depth: `model.kwargs.depth`.
        width: `model.kwargs.width`.
        residual: `model.kwargs.residual`.
        time_steps: `data.time_steps`.
    """

    depth: list[int] | None = None
    width: list[float] | None = None
    residual: list[bool] | None = None
    time_steps: list[int] | None = None


@dataclass
class CkaConfig:
    """All that determines a comparison of spiking networks with their ANN twins.

    Attributes:
        name: What people call it; first part of its folder's name.
        train: How the spiking networks are trained, as in a training run; the ANNs
            differ in neuron and surrogate alone. Name, seed and output are set here.
        sweep: Which networks.
        seeds: Of the two networks of each kind.
        attack: None, or an attack under which each trained network is compared with
            itself on clean inputs: JSON form of one of `sj_ext.available("attack")`
            and its budget, `{name: pgd, steps: 20, budget: 0.2}`.
        batch_size: Samples that are compared with one another, at least 4.
        resamples: Of the bootstrap over batches.
        output: Folder of networks and comparisons.
    """

    name: str = "cka"
    train: TrainConfig = field(default_factory=TrainConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    seeds: list[int] = field(default_factory=lambda: [0, 1])
    attack: dict[str, Any] | None = None
    batch_size: int = 50
    resamples: int = 1000
    output: str = "runs/cka"

    def __post_init__(self) -> None:
        """Refuse what no comparison can have.

        Raises:
            ConfigError: The message names the key.
        """
        check_folder_name(self.name)
        seeds = self.seeds
        if len(seeds) != 2 or seeds[0] == seeds[1] or min(seeds) < 0:
            raise ConfigError(
                f"Expected `seeds` to be two different numbers >= 0, got {seeds}."
            )
        at_least("batch_size", self.batch_size, 4)
        at_least("resamples", self.resamples, 1)
        check_left_open(self.train, ("name", "seed", "output"), "the comparison")
        if self.attack is not None:
            self._check_attack(self.attack)
        for key, values in asdict(self.sweep).items():
            if values is not None and (not values or len(set(values)) < len(values)):
                raise ConfigError(
                    f"Expected `sweep.{key}` to hold different values, at least one, "
                    f"got {values}."
                )
            if values is not None and key in self.train.model.kwargs:
                raise ConfigError(
                    f"Expected `{key}` in `sweep` or in `train.model.kwargs`, got both."
                )

    def _check_attack(self, attack: dict[str, Any]) -> None:
        budget = attack.get("budget")
        if not isinstance(budget, (int, float)) or budget <= 0:
            raise ConfigError(
                f"Expected `attack.budget` to be positive, got {budget!r}."
            )
        try:
            self.built_attack()
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"`attack`: {error}") from error

    def built_attack(self) -> tuple[Attack, float]:
        """Build the attack.

        Returns:
            The attack and its budget.
        """
        assert self.attack is not None
        form = {k: v for k, v in self.attack.items() if k != "budget"}
        return build_attack(form), float(self.attack["budget"])

    def digest(self) -> str:
        """Hash what determines the result, the release of SpikingJelly included.

        Returns:
            Ten hexadecimal digits.
        """
        content = asdict(self) | {"train": self.train.digest(), "host": host.RELEASE}
        del content["output"]
        if self.attack is None:
            # As before there were attacks: those comparisons keep their folders.
            del content["attack"]
        return digest_of(content)

    def to_yaml(self) -> str:
        """Write all keys, defaults included, as `read` takes them."""
        content = asdict(self)
        for key in ("name", "seed", "output"):
            del content["train"][key]
        return yaml.safe_dump(content, sort_keys=False)


def read(arguments: Sequence[str]) -> CkaConfig:
    """Read a configuration from a command line.

    Args:
        arguments: `--config FILE.yaml` and overrides such as
            `--train.optimization.epochs 3`, the later ones winning.

    Returns:
        The checked configuration.
    """
    return read_as(CkaConfig, arguments, "python -m benchmarks cka")
